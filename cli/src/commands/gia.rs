//! `glmeval gia`: what motifs add to the predictions of a trained network, averaged over backgrounds.

mod experiments;
mod summary;

use crate::interruption::{self, Interruption};
use crate::output::{Format, complain};
use crate::progress::rows::RowProgress;
use crate::{opening, sequences, writing};
use clap::{ArgGroup, Args};
use experiments::{Group, Planned, Scan, Spacing};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::readers::{self, ExampleReader};
use glmeval_worker::importance::{
    Analysis, Experiment, Importance, PlacedMotif, figure, interaction, shuffles,
};
use glmeval_worker::row_table::{Cell, ColumnKind};
use glmeval_worker::variants::{ProbeReads, VariantProbe};
use std::path::PathBuf;
use std::process::ExitCode;

/// Violins of a figure at most.
const VIOLINS_MAX: usize = 24;
/// Sequences of one read of a FASTA file.
const ROWS_PER_READ: usize = 1_024;

/// Arguments of `gia`.
#[derive(Args)]
#[command(group(ArgGroup::new("wild_type").required(true).args(["sequence", "fasta"])))]
#[command(group(ArgGroup::new("what").required(true).multiple(true)
    .args(["motifs", "scans", "spacings", "interactions", "maps"])))]
#[command(after_help = "Examples:
  glmeval gia --probe glmeval-store/probes/FIT --fasta top.fa --record seq384 --out gia.tsv \\
      --motifs CNN=ACTTCCGCC@19,GATTGGATTGG@104,AGCCAATCA@148 \\
      --motifs GPN=ACTTCCGCC@19,AGCCAATCA@148,GTTCCCAGCAT@207 --figure gia.svg
      Two sets of motifs, against the backgrounds and against each other.
  glmeval gia --probe cnn.json --fasta top.fa --scan ETS=ACTTCCGCC@0..221/5 --out scan.parquet
      One motif at every fifth place.
  glmeval gia --probe cnn.json --fasta top.fa --spacing pair=ACTTCCGCC@90,AGCCAATCA+0+1+5+12 \\
      --interaction both=ACTTCCGCC@90,AGCCAATCA@104 --out pairs.csv
      A second motif 0, 1, 5 and 12 nt behind the first; and what two do beyond what each does alone.
  glmeval gia --probe cnn.json --fasta top.fa --maps saliency.safetensors --out kept.tsv
      The bases that a map calls important, kept while the rest is shuffled.

Backgrounds are shuffles of the sequence that keep its first and last letter and every count of two
neighbouring letters; each such sequence is equally likely. Motifs overwrite at their place, which
counts from 0; a later motif overwrites an earlier one. Flanks are part of the letters of a motif.
Importance is the mean of f(background with the motifs) - f(background), f being the value before a
final sigmoid. U and p are of the two-sided Mann-Whitney test. The same seed gives the same bytes.")]
pub(crate) struct Arguments {
    /// A trained network of one-hot sequences: a fit of a store (STORE/probes/FIT), the safetensors
    /// file it left, or a JSON file with layers as Keras names them.
    #[arg(long, value_name = "PROBE")]
    probe: PathBuf,
    /// Weights of a JSON file [default: the .safetensors beside it].
    #[arg(long, value_name = "FILE")]
    probe_weights: Option<PathBuf>,
    /// The sequence, as letters.
    #[arg(long, value_name = "LETTERS", value_parser = letters)]
    sequence: Option<DnaSequence>,
    /// FASTA that has the sequence, plain, gzip or bgzip.
    #[arg(long)]
    fasta: Option<PathBuf>,
    /// Id of the sequence in --fasta [default: the first].
    #[arg(long, value_name = "ID", requires = "fasta")]
    record: Option<String>,
    /// Motifs that are embedded together: NAME=LETTERS@START,LETTERS@START…; repeat for more sets.
    #[arg(long = "motifs", value_name = "SET", value_parser = Experiment::parse)]
    motifs: Vec<Experiment>,
    /// A motif at many places: NAME=LETTERS@FROM..TO, TO excluded, with /STEP; repeat for more.
    #[arg(long = "scan", value_name = "SCAN", value_parser = Scan::parse)]
    scans: Vec<Scan>,
    /// Two motifs at several distances: NAME=LETTERS@START,LETTERS+GAP+GAP…; repeat for more.
    #[arg(long = "spacing", value_name = "SPACING", value_parser = Spacing::parse)]
    spacings: Vec<Spacing>,
    /// Two motifs together and each alone: NAME=LETTERS@START,LETTERS@START; repeat for more.
    #[arg(long = "interaction", value_name = "PAIR", value_parser = Experiment::parse)]
    interactions: Vec<Experiment>,
    /// Maps of the sequences of --fasta, safetensors [sequences, length]: bases above the 95th percentile
    /// and 2 nt on each side are kept, of the map and of its absolute values.
    #[arg(long, value_name = "FILE")]
    maps: Option<PathBuf>,
    /// Tensor of --maps [default: the only one].
    #[arg(long, value_name = "NAME", requires = "maps")]
    maps_name: Option<String>,
    /// Shuffled backgrounds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    shuffles: u64,
    /// Seed of the shuffles.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// FASTA of backgrounds instead of shuffles.
    #[arg(long, value_name = "FASTA", conflicts_with_all = ["shuffles", "seed"])]
    backgrounds: Option<PathBuf>,
    /// The file of predictions to write: .tsv, .csv or .parquet.
    #[arg(long)]
    out: PathBuf,
    /// A figure to write: a violin for each set, the wild type as a line.
    #[arg(long, value_name = "SVG")]
    figure: Option<PathBuf>,
    /// How the summary is printed; json has all digits.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all].
    #[arg(long)]
    threads: Option<usize>,
}

fn letters(text: &str) -> Result<DnaSequence, String> {
    let sequence = DnaSequence::new(text).map_err(|bad| format!("expected DNA, found {bad}"))?;
    if sequence.is_empty() { Err("expected letters, found none".to_owned()) } else { Ok(sequence) }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    glmeval_worker::start_threads(arguments.threads)?;
    let named = opening::probe(&arguments.probe, arguments.probe_weights.as_deref()).await?;
    let probe = named.of_letters()?;
    interruption::run(|interruption| analyse(&arguments, probe, interruption)).await
}

/// What was found.
struct Findings {
    /// Name of the sequence.
    id: String,
    wild_type: f64,
    analysis: Analysis,
    experiments: Vec<(Planned, Importance)>,
    /// Names and values.
    interactions: Vec<(String, f64)>,
}

fn analyse(
    arguments: &Arguments,
    mut probe: VariantProbe,
    interruption: &Interruption,
) -> Result<ExitCode> {
    let format = writing::table_format("--out", &arguments.out)?;
    let (id, place, sequence) = wild_type(arguments)?;
    check_network(arguments, &probe, &id, &sequence)?;
    let planned = experiments::planned(arguments, place, &sequence)?;
    let backgrounds = match &arguments.backgrounds {
        Some(path) => fasta(path)?.1,
        None => shuffles(&sequence, arguments.seed, arguments.shuffles),
    };
    let runs = (planned.len() + 3 * arguments.interactions.len() + 1) as u64;
    let mut progress = RowProgress::new("predict", runs * backgrounds.len() as u64);
    let mut predict = |sequences: &[DnaSequence]| -> Result<Vec<f64>> {
        interruption.check()?;
        let found = probe.predict_sequences(sequences)?;
        progress.advance(sequences.len() as u64);
        Ok(found.into_iter().map(f64::from).collect())
    };
    let analysis = Analysis::new(backgrounds, &mut predict)?;
    let mut experiments = Vec::with_capacity(planned.len());
    for planned in planned {
        let importance = analysis.run(&planned.experiment, &mut predict)?;
        experiments.push((planned, importance));
    }
    let mut interactions = Vec::new();
    for pair in &arguments.interactions {
        let mut alone = |motif: Option<&PlacedMotif>| {
            let motifs = motif.cloned().into_iter().collect();
            analysis.run(&Experiment { name: pair.name.clone(), motifs }, &mut predict)
        };
        let (first, second) = (alone(pair.motifs.first())?, alone(pair.motifs.get(1))?);
        let both = analysis.run(pair, &mut predict)?;
        interactions.push((pair.name.clone(), interaction(&analysis, &both, &first, &second)));
    }
    let wild_type = predict(&[sequence])?.first().copied().unwrap_or(f64::NAN);
    progress.finish();
    let findings = Findings { id, wild_type, analysis, experiments, interactions };
    write(arguments, format, &findings)?;
    summary::tell(arguments, &findings)
}

/// Id, place in its file and letters of the sequence.
fn wild_type(arguments: &Arguments) -> Result<(String, usize, DnaSequence)> {
    if let Some(sequence) = &arguments.sequence {
        return Ok(("sequence".to_owned(), 0, sequence.clone()));
    }
    let path = arguments.fasta.clone().ok_or_else(|| Error::bug("no sequence"))?;
    let (ids, sequences) = fasta(&path)?;
    let all = sequences::Sequences { path, ids, sequences };
    let (place, sequence) = all.pick(arguments.record.as_deref())?;
    let id = all.ids.get(place).cloned().unwrap_or_default();
    Ok((id, place, sequence.clone()))
}

/// Ids and sequences of a FASTA file.
fn fasta(path: &std::path::Path) -> Result<(Vec<String>, Vec<DnaSequence>)> {
    let mut reader = readers::fasta::FastaReader::open(path, None)?;
    let (mut ids, mut found) = (Vec::new(), Vec::new());
    loop {
        let examples = reader.read(ROWS_PER_READ)?;
        if examples.is_empty() {
            return Ok((ids, found));
        }
        for example in examples {
            ids.push(example.id);
            found.extend(example.sequences);
        }
    }
}

/// Refuses a network that reads no letters, or sequences of another length.
fn check_network(
    arguments: &Arguments,
    probe: &VariantProbe,
    id: &str,
    sequence: &DnaSequence,
) -> Result<()> {
    if let ProbeReads::States { name, .. } = probe.reads() {
        let (file, expected) = (arguments.probe.display(), "a network of one-hot sequences");
        let found = format!("one that reads states of the gLM {name}");
        return Err(InputError::new(file, "", expected, found).into());
    }
    match probe.window() {
        Some(length) if length != sequence.len() as u64 => {
            let file =
                arguments.fasta.as_deref().map_or("--sequence".into(), |p| p.to_string_lossy());
            let place = format!("record {id}");
            let expected = format!("{length} nucleotides, which the network reads");
            Err(InputError::new(file, place, expected, sequence.len()).into())
        }
        _ => Ok(()),
    }
}

/// Writes predictions and figure.
fn write(
    arguments: &Arguments,
    format: glmeval_worker::row_table::TableFormat,
    findings: &Findings,
) -> Result<()> {
    let columns = [
        ("experiment", ColumnKind::Text),
        ("group", ColumnKind::Text),
        ("background", ColumnKind::Whole),
        ("prediction", ColumnKind::Real),
        ("difference", ColumnKind::Real),
        ("sequence", ColumnKind::Text),
    ];
    let analysis = &findings.analysis;
    writing::table(&arguments.out, format, &columns, |push| {
        let without = Experiment { name: "shuffled".to_owned(), motifs: Vec::new() };
        let groups = findings.experiments.iter();
        let groups = groups.map(|(planned, importance)| {
            (&planned.experiment, planned.group.name(), &importance.predictions)
        });
        let first = (&without, "background", &analysis.predictions);
        for (experiment, group, predictions) in std::iter::once(first).chain(groups) {
            let pairs = predictions.iter().zip(&analysis.predictions);
            for (row, (found, before)) in pairs.enumerate() {
                let Some(background) = analysis.backgrounds().get(row) else { continue };
                let sequence = experiment.embed(background)?;
                push(&[vec![
                    Cell::Text(Some(&experiment.name)),
                    Cell::Text(Some(group)),
                    Cell::Whole(row as u64),
                    Cell::Real(Some(*found)),
                    Cell::Real(Some(found - before)),
                    Cell::Text(Some(sequence.as_str())),
                ]])?;
            }
        }
        Ok(())
    })?;
    let Some(path) = &arguments.figure else { return Ok(()) };
    let is_set = |planned: &Planned| matches!(planned.group, Group::Set | Group::Kept);
    let sets = findings.experiments.iter().any(|(planned, _)| is_set(planned));
    let shown = findings.experiments.iter().filter(|(planned, _)| !sets || is_set(planned));
    let mut violins: Vec<(&str, &[f64])> = vec![("shuffled", &analysis.predictions)];
    violins.extend(shown.map(|(planned, importance)| {
        (planned.experiment.name.as_str(), importance.predictions.as_slice())
    }));
    if violins.len() > VIOLINS_MAX {
        complain(&format!("figure: the first {VIOLINS_MAX} of {} are drawn", violins.len()));
        violins.truncate(VIOLINS_MAX);
    }
    writing::text(path, &figure(&violins, Some(findings.wild_type)))
}
