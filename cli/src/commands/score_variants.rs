//! `glmeval score-variants`: zero-shot effects of variants, or those that a trained network predicts.

mod engine;
mod input;
mod summary;

use crate::interruption::{self, Interruption};
use crate::model_arguments::{DeviceArguments, ModelArguments};
use crate::output::Format;
use crate::progress::rows::RowProgress;
use crate::{opening, writing};
use clap::{ArgGroup, Args, ValueEnum};
use engine::Engine;
use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::rng::random_token;
use glmeval_common::variant::Variant;
use glmeval_worker::variants::{
    Evaluation, Outcome, Score, TableFormat, TokenSet, VariantProbe, VariantTable, Window,
};
use input::{Input, InputArguments};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use summary::Summary;

/// Variants in memory at a time; those at one place share a pass over the reference within them.
const VARIANTS_PER_READ: usize = 256;

/// What is computed of a variant.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScoreName {
    /// Cosine of the states of both windows, as `cos` and, without cancellation, `one_minus_cos`.
    #[value(alias = "cos")]
    Cosine,
    /// Sum of products of the states.
    Dot,
    /// Sum of absolute differences of the states.
    L1,
    /// Sum of squared differences of the states (no root).
    L2,
    /// Logit of the alternative less that of the reference at the masked variant.
    #[value(alias = "logit-ratio")]
    MaskedLlr,
    /// Log-likelihood of the alternative's window less that of the reference's.
    CausalLlr,
    /// Every score that the gLM has.
    All,
}

/// Tokens whose states are compared.
#[derive(Clone, Copy, Default, ValueEnum)]
enum TokenSetName {
    /// As in the published study (NT: all but CLS).
    #[default]
    Published,
    /// Every token.
    All,
    /// Tokens that stand for nucleotides.
    Nucleotides,
}

/// Arguments of `score-variants`.
#[derive(Args)]
#[command(mut_arg("model", |model| model.required(false)))]
#[command(group(ArgGroup::new("scorer").required(true).multiple(true).args(["model", "probe"])))]
#[command(after_help = "Examples:
  glmeval score-variants --model my-nt --genome hg38.fa --variants calls.vcf.gz --out scores.parquet
  glmeval score-variants --model my-gpn --genome hg19.fa --variants raw/*.tsv --out scores.tsv
      CAGI5's raw tables (challenge_LDLR.tsv, release_LDLR.tsv …): effects are compared with scores.
  glmeval score-variants --model my-hyena --score all --both-strands --genome hg38.fa \\
      --variants mpra.csv --column pos=pos_hg38 --column effect=log2_ratio --out scores.csv
  glmeval score-variants --probe resnet.json --genome hg19.fa --variants raw/*.tsv --out scores.tsv
  glmeval score-variants --probe glmeval-store/probes/FIT --model my-nt --genome hg19.fa \\
      --variants raw/*.tsv --out scores.tsv
      A probe that `glmeval run` trained, on one-hot sequences or (with --model) on a gLM.

A table needs the columns chrom, pos (from 1), ref and alt; id, element, cell, part, confidence and
effect are kept where they are there. The window is pos - L/2 to pos + L/2, the variant at L/2 - 1.
Every row of the input has a row in the output, in its order; `status` tells why one has no score.
With effects, Pearson's r of score and |effect| is printed for each element, and its mean for each
cell line. Scores do not depend on threads or on other rows.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: Option<ModelArguments>,
    #[command(flatten)]
    device: DeviceArguments,
    /// A trained network, scores are f(alt) - f(ref): a fit of a store (STORE/probes/FIT), the
    /// safetensors file it left, or a JSON file with layers as Keras names them; with --model where
    /// it reads the states of a gLM.
    #[arg(long, value_name = "PROBE")]
    probe: Option<PathBuf>,
    /// Weights of a JSON file [default: the .safetensors beside it].
    #[arg(long, value_name = "FILE", requires = "probe")]
    probe_weights: Option<PathBuf>,
    #[command(flatten)]
    input: InputArguments,
    /// Window length in nucleotides, even [default: the published study's for the gLM].
    #[arg(long, value_name = "NT")]
    window: Option<u64>,
    /// Scores; repeat for more [default: the published study's for the gLM].
    #[arg(long = "score", value_enum, conflicts_with = "probe")]
    scores: Vec<ScoreName>,
    /// Tokens whose states are compared.
    #[arg(long, value_enum, default_value_t, conflicts_with = "probe")]
    token_set: TokenSetName,
    /// Average each score with that of the reverse complements.
    #[arg(long, conflicts_with = "probe")]
    both_strands: bool,
    /// The file to write: .tsv, .csv or .parquet.
    #[arg(long)]
    out: PathBuf,
    /// How correlations are printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all].
    #[arg(long)]
    threads: Option<usize>,
}

impl From<TokenSetName> for TokenSet {
    fn from(name: TokenSetName) -> Self {
        match name {
            TokenSetName::Published => Self::Published,
            TokenSetName::All => Self::All,
            TokenSetName::Nucleotides => Self::Nucleotides,
        }
    }
}

impl ScoreName {
    /// The score; `None` for all of them.
    fn score(self) -> Option<Score> {
        match self {
            Self::Cosine => Some(Score::Cosine),
            Self::Dot => Some(Score::Dot),
            Self::L1 => Some(Score::L1),
            Self::L2 => Some(Score::L2),
            Self::MaskedLlr => Some(Score::MaskedLlr),
            Self::CausalLlr => Some(Score::CausalLlr),
            Self::All => None,
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    glmeval_worker::start_threads(arguments.threads)?;
    check_out(&arguments)?;
    let probe = match &arguments.probe {
        None => None,
        Some(path) => {
            let named = opening::probe(path, arguments.probe_weights.as_deref()).await?;
            Some(named.of_letters()?)
        }
    };
    interruption::run(|interrupted| score(&arguments, probe, interrupted)).await
}

/// Refuses to write over what is read.
fn check_out(arguments: &Arguments) -> Result<()> {
    let mut inputs = arguments.input.files();
    let probes = [("--probe", &arguments.probe), ("--probe-weights", &arguments.probe_weights)];
    inputs.extend(probes.into_iter().filter_map(|(name, path)| Some((name, path.clone()?))));
    let inputs: Vec<_> = inputs.iter().map(|(name, path)| (*name, path.as_path())).collect();
    writing::check_outputs(&[("--out", &arguments.out)], &inputs)
}

fn score(
    arguments: &Arguments,
    probe: Option<VariantProbe>,
    interrupted: &Interruption,
) -> Result<ExitCode> {
    let format = TableFormat::of(&arguments.out).ok_or_else(|| {
        let found = arguments.out.display();
        let expected = "a name that ends in .tsv, .csv or .parquet";
        Error::from(InputError::new("command line", "--out", expected, found))
    })?;
    let model = arguments.model.as_ref();
    let model = model.map(|model| opening::model(model, &arguments.device)).transpose()?;
    let mut engine = Engine::new(arguments, model.as_ref(), probe)?;
    let input = Input::open(&arguments.input, engine.window())?;
    let survey = input.survey(&mut |windows| {
        interrupted.check()?;
        engine.look(windows)
    })?;
    engine.finish_looking(input.window());
    let mut run = Run {
        summary: Summary::default(),
        evaluation: Evaluation::new(engine.forms()),
        progress: RowProgress::new("score", survey.rows),
        interrupted,
    };
    let partial = arguments.out.with_extension(format!("{}.partial", random_token()));
    let written = write(&input, &mut engine, &mut run, (format, &partial));
    let moved = written.and_then(|()| {
        std::fs::rename(&partial, &arguments.out).map_err(|e| io_error(&arguments.out, e))
    });
    if let Err(error) = moved {
        // The half-written file is of no use; the first error is the one to tell.
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    run.progress.finish();
    let correlations = survey.fields.effect.then(|| run.evaluation.correlations());
    run.summary.tell(arguments, &engine, input.window(), correlations.as_ref())
}

/// What is gathered while rows are written.
struct Run<'a> {
    summary: Summary,
    evaluation: Evaluation,
    progress: RowProgress,
    interrupted: &'a Interruption,
}

/// Scores all rows into the file `path`.
fn write(
    input: &Input,
    engine: &mut Engine<'_>,
    run: &mut Run<'_>,
    (format, path): (TableFormat, &Path),
) -> Result<()> {
    let failed = |e| io_error(path, e);
    let named = |e: Error| e.context(path.display().to_string());
    let file = BufWriter::new(File::create(path).map_err(failed)?);
    let columns = engine.columns();
    let mut table = VariantTable::new(file, format, input.fields()?, &columns).map_err(named)?;
    input.each(VARIANTS_PER_READ, &mut |rows| {
        let scored = score_rows(engine, run, rows)?;
        table.push(&scored).map_err(named)
    })?;
    let file = table.finish().map_err(named)?.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}

/// Scores what was read; rows without a window keep their reason.
fn score_rows(
    engine: &mut Engine<'_>,
    run: &mut Run<'_>,
    rows: Vec<(Variant, Result<Window, String>)>,
) -> Result<Vec<(Variant, Outcome)>> {
    run.interrupted.check()?;
    let windows: Vec<&Window> =
        rows.iter().filter_map(|(_, window)| window.as_ref().ok()).collect();
    let count = rows.len() as u64;
    let mut advanced = 0;
    let (progress, interrupted) = (&mut run.progress, run.interrupted);
    let outcomes = engine.score(&windows, &mut |finished| {
        advanced += finished;
        progress.advance(finished);
        interrupted.check()
    })?;
    run.progress.advance(count.saturating_sub(advanced));
    let mut outcomes = outcomes.into_iter();
    let mut scored = Vec::with_capacity(rows.len());
    for (variant, window) in rows {
        let outcome = match window {
            Ok(_) => outcomes.next().ok_or_else(|| Error::bug("a window without an outcome"))?,
            Err(reason) => Outcome::Dropped(reason),
        };
        if let Outcome::Scored(scores) = &outcome {
            run.evaluation.add(&variant, scores);
        }
        run.summary.count(&outcome);
        scored.push((variant, outcome));
    }
    Ok(scored)
}
