//! `glmeval attribute`: which nucleotides a trained network or a gLM rests on.

mod input;
mod maps;
mod output;
mod summary;

use crate::interruption::{self, Interruption};
use crate::model_arguments::{DeviceArguments, ModelArguments};
use crate::opening::{self, NamedProbe};
use crate::output::Format;
use crate::progress::rows::RowProgress;
use crate::source_arguments::SourceArguments;
use clap::{ArgGroup, Args};
use glmeval_common::error::{Error, InputError, Result};
use glmeval_worker::attribution::{EntropySpool, MapStage, Mapped, Mapper, Named, map_all};
use glmeval_worker::model::Model;
use glmeval_worker::row_table::TableFormat;
use input::{Handed, Input};
use output::{Files, Folder};
use std::path::PathBuf;
use std::process::ExitCode;
use summary::Summary;

/// Sequences that are mapped when a network ranks them, as in the published study.
const TOP: usize = 500;

/// Arguments of `attribute`.
#[derive(Args)]
#[command(mut_arg("model", |model| model.required(false)))]
#[command(group(ArgGroup::new("explained").required(true).multiple(true).args(["model", "probe"])))]
#[command(after_help = "Examples:
  glmeval attribute --probe glmeval-store/probes/FIT --hdf5 CTCF_200.h5:x_test --out maps
      Gradients of a network that `glmeval run` trained on one-hot sequences.
  glmeval attribute --probe glmeval-store/probes/FIT --model my-gpn \\
      --tsv peaks.tsv:sequence --split-column split --out maps
      The same, and how much less uncertain a masked gLM is of each token than at worst.
  glmeval attribute --probe glmeval-store/probes/ONE-HOT-FIT --model my-nt \\
      --embedding-probe glmeval-store/probes/FULL-FIT --fasta test.fa --table maps.parquet --out maps
      The same, and information times the gradient of a network of all states of the gLM.
  glmeval attribute --model my-nt --fasta regions.fa --out maps
      Information alone, of every sequence in the order of the file.

Kinds of maps, one number for each nucleotide:
  saliency              gradient of the output before a sigmoid at the base that is there, less its mean
                        over the four bases (--probe)
  information           the set's largest entropy less that of the token, masked (--model)
  information_gradient  information times the norm of the gradient at the token (--embedding-probe)

--out becomes a folder with maps.safetensors (one [sequences, length] tensor for each kind), maps.tsv (a
row for each nucleotide), sequences.tsv, correlations.tsv and attribution.json.")]
pub(crate) struct Arguments {
    /// A trained network of one-hot sequences: a fit of a store (STORE/probes/FIT), the safetensors
    /// file it left, or a JSON file with layers as Keras names them. It ranks the sequences.
    #[arg(long, value_name = "PROBE")]
    probe: Option<PathBuf>,
    /// Weights of a JSON file [default: the .safetensors beside it].
    #[arg(long, value_name = "FILE", requires = "probe")]
    probe_weights: Option<PathBuf>,
    #[command(flatten)]
    model: Option<ModelArguments>,
    #[command(flatten)]
    device: DeviceArguments,
    /// A trained network of all states of a layer of --model (pooling full), named as --probe.
    #[arg(long, value_name = "PROBE", requires = "model")]
    embedding_probe: Option<PathBuf>,
    /// Weights of a JSON file [default: the .safetensors beside it].
    #[arg(long, value_name = "FILE", requires = "embedding_probe")]
    embedding_probe_weights: Option<PathBuf>,
    /// Layer that a JSON file's network reads [default: last].
    #[arg(long, value_name = "LAYER", requires = "embedding_probe")]
    embedding_layer: Option<u32>,
    #[command(flatten)]
    source: SourceArguments,
    /// Column of the split of --tsv: only rows of the test split are read.
    #[arg(long, value_name = "COLUMN", requires = "tsv")]
    split_column: Option<String>,
    /// Sequences with the highest output of --probe, highest first [default: 500].
    #[arg(long, value_name = "N", requires = "probe", conflicts_with = "all")]
    top: Option<usize>,
    /// Every sequence, in the order of the file [default without --probe].
    #[arg(long)]
    all: bool,
    /// Name of the long table in the folder: .tsv, .csv or .parquet.
    #[arg(long, value_name = "NAME", default_value = "maps.tsv")]
    table: String,
    /// The folder to write, which must not exist or be empty.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How correlations are printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all].
    #[arg(long)]
    threads: Option<usize>,
}

impl Arguments {
    /// Sequences to keep; `None` = all.
    fn top(&self) -> Option<usize> {
        match (self.all, &self.probe) {
            (false, Some(_)) => Some(self.top.unwrap_or(TOP)),
            _ => None,
        }
    }

    /// The name of the long table and its format.
    fn table(&self) -> Result<(&str, TableFormat)> {
        let wrong = || -> Error {
            let expected = "a name that ends in .tsv, .csv or .parquet, without a folder";
            InputError::new("command line", "--table", expected, &self.table).into()
        };
        let taken = ["sequences.tsv", "correlations.tsv"].contains(&self.table.as_str());
        let format = TableFormat::of(self.table.as_ref()).ok_or_else(wrong)?;
        let is_plain = !self.table.contains(['/', '\\']) && !taken;
        if is_plain { Ok((&self.table, format)) } else { Err(wrong()) }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    glmeval_worker::start_threads(arguments.threads)?;
    arguments.table()?;
    if arguments.top == Some(0) {
        let expected = "at least one sequence";
        return Err(InputError::new("command line", "--top", expected, 0).into());
    }
    output::check_free(&arguments.out)?;
    let probe = match &arguments.probe {
        Some(path) => Some(opening::probe(path, arguments.probe_weights.as_deref()).await?),
        None => None,
    };
    let weights = arguments.embedding_probe_weights.as_deref();
    let embedding_probe = match &arguments.embedding_probe {
        Some(path) => Some(opening::probe(path, weights).await?),
        None => None,
    };
    interruption::run(|interrupted| attribute(&arguments, (probe, embedding_probe), interrupted))
        .await
}

fn attribute(
    arguments: &Arguments,
    (probe, embedding_probe): (Option<NamedProbe>, Option<NamedProbe>),
    interrupted: &Interruption,
) -> Result<ExitCode> {
    let model = arguments.model.as_ref();
    let model = model.map(|model| opening::model(model, &arguments.device)).transpose()?;
    let layer = arguments.embedding_layer;
    let mut mapper = maps::mapper(model.as_ref(), probe, (embedding_probe, layer))?;
    let input = Input::open(&arguments.source, arguments.split_column.as_deref())?;
    let chosen = input.choose(arguments.top(), &mut mapper, interrupted)?;
    let folder = Folder::new(&arguments.out)?;
    let known = (&mut mapper, model.as_ref());
    let summary = write(arguments, known, &Handed(&input, &chosen), &folder, interrupted)?;
    folder.finish()?;
    summary.tell(arguments)
}

/// Fills the folder.
fn write(
    arguments: &Arguments,
    (mapper, model): (&mut Mapper<'_>, Option<&Model>),
    handed: &Handed<'_>,
    folder: &Folder,
    interrupted: &Interruption,
) -> Result<Summary> {
    let chosen = handed.1;
    let mut files = Files::new(folder, arguments.table()?, &mapper.kinds(), chosen)?;
    let spool = || EntropySpool::new(&folder.file("entropies"));
    let mut progress = None;
    let mut watch = |stage: MapStage, count: u64| {
        interrupted.check()?;
        let name = if stage == MapStage::Mask { "mask" } else { "map" };
        if progress.as_ref().is_none_or(|(of, _)| *of != name) {
            let before = progress.replace((name, RowProgress::new(name, chosen.count)));
            before.into_iter().for_each(|(_, before): (_, RowProgress)| before.finish());
        }
        progress.iter_mut().for_each(|(_, progress)| progress.advance(count));
        Ok(())
    };
    let mut push = |sequences: &[Named], mapped: &[Mapped]| files.push(sequences, mapped);
    let maximum = map_all(mapper, handed, spool, &mut watch, &mut push)?;
    progress.into_iter().for_each(|(_, progress)| progress.finish());
    folder.remove("entropies")?;
    files.finish(|found| Summary::new(arguments, (mapper, model), chosen, maximum, found))
}
