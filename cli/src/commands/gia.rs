//! `glmeval gia`: what motifs add to the predictions of a trained network, averaged over backgrounds.

mod experiments;
mod many;
mod network;
mod summary;

use crate::interruption::{self, Interruption};
use crate::model_arguments::{DeviceArguments, ModelArguments};
use crate::opening::NamedProbe;
use crate::output::{Format, complain};
use crate::progress::rows::RowProgress;
use crate::{opening, sequences, writing};
use clap::{ArgGroup, Args};
use experiments::{Group, Planned, Scan, Spacing};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::readers::{self, ExampleReader};
use glmeval_worker::importance::{
    Analysis, Experiment, Importance, PlacedMotif, Predict, figure, interaction, read_maps,
    shuffles,
};
use glmeval_worker::row_table::{Cell, ColumnKind};
use network::Network;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Violins of a figure at most.
const VIOLINS_MAX: usize = 24;
/// Sequences of one read of a FASTA file.
const ROWS_PER_READ: usize = 1_024;

/// Arguments of `gia`.
#[derive(Args)]
#[command(mut_arg("model", |model| model.required(false)))]
#[command(group(ArgGroup::new("network").required(true).args(["probe", "embedding_probe"])))]
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
  glmeval gia --probe cnn.json --fasta test.fa --top 500 --maps saliency.safetensors \\
      --out kept.parquet --per-sequence effects.tsv
      The same in each of the 500 sequences with the highest predictions; means over them are printed.
  glmeval gia --model my-gpn --embedding-probe glmeval-store/probes/FULL-FIT --fasta test.fa --all \\
      --motifs ETS=ACTTCCGCC@19 --out gia.tsv
      A network that reads the states of a gLM.

Backgrounds are shuffles of the sequence that keep its first and last letter and every count of two
neighbouring letters; each such sequence is equally likely. Motifs overwrite at their place, which
counts from 0; a later motif overwrites an earlier one. Flanks are part of the letters of a motif.
Importance is the mean of f(background with the motifs) - f(background), f being the value before a
final sigmoid. U and p are of the two-sided Mann-Whitney test. The same seed gives the same bytes.")]
pub(crate) struct Arguments {
    /// A trained network of one-hot sequences: a fit of a store (STORE/probes/FIT), the safetensors
    /// file it left, or a JSON file with layers as Keras names them.
    #[arg(long, value_name = "PROBE")]
    probe: Option<PathBuf>,
    /// A trained network of all states of a layer of --model (pooling full), named as --probe.
    #[arg(long, value_name = "PROBE", requires = "model")]
    embedding_probe: Option<PathBuf>,
    /// Weights of a JSON file [default: the .safetensors beside it].
    #[arg(long, value_name = "FILE")]
    probe_weights: Option<PathBuf>,
    /// Layer that a JSON file's network of --embedding-probe reads [default: last].
    #[arg(long, value_name = "LAYER", requires = "embedding_probe")]
    embedding_layer: Option<u32>,
    #[command(flatten)]
    model: Option<ModelArguments>,
    #[command(flatten)]
    device: DeviceArguments,
    /// The sequence, as letters.
    #[arg(long, value_name = "LETTERS", value_parser = letters)]
    sequence: Option<DnaSequence>,
    /// FASTA that has the sequence, plain, gzip or bgzip.
    #[arg(long)]
    fasta: Option<PathBuf>,
    /// Id of the sequence in --fasta [default: the first].
    #[arg(long, value_name = "ID", requires = "fasta")]
    record: Option<String>,
    /// The sequences of --fasta with the highest predictions, highest first, instead of one.
    #[arg(long, value_name = "N", requires = "fasta", conflicts_with_all = ["record", "all"])]
    top: Option<usize>,
    /// Every sequence of --fasta instead of one.
    #[arg(long, requires = "fasta", conflicts_with = "record")]
    all: bool,
    /// With --top or --all: a row for each sequence and experiment, .tsv, .csv or .parquet.
    #[arg(long, value_name = "FILE", requires = "fasta")]
    per_sequence: Option<PathBuf>,
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
    /// Maps of the sequences of --fasta, safetensors [sequences, length], found by id where the file has
    /// ids: bases above the 95th percentile and 2 nt on each side are kept, of the map and of its absolute
    /// values.
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

impl Arguments {
    /// What is named as the network.
    fn network(&self) -> Option<&Path> {
        self.probe.as_deref().or(self.embedding_probe.as_deref())
    }

    /// Refuses outputs that would take the place of something else.
    fn check_outputs(&self) -> Result<()> {
        let outputs = [
            ("--out", Some(&self.out)),
            ("--per-sequence", self.per_sequence.as_ref()),
            ("--figure", self.figure.as_ref()),
        ];
        let inputs = [
            ("--probe", self.probe.as_ref()),
            ("--embedding-probe", self.embedding_probe.as_ref()),
            ("--probe-weights", self.probe_weights.as_ref()),
            ("--fasta", self.fasta.as_ref()),
            ("--maps", self.maps.as_ref()),
            ("--backgrounds", self.backgrounds.as_ref()),
        ];
        let outputs: Vec<_> = outputs.into_iter().filter_map(given).collect();
        let inputs: Vec<_> = inputs.into_iter().filter_map(given).collect();
        writing::check_outputs(&outputs, &inputs)
    }

    /// Whether there may be several sequences.
    fn is_set(&self) -> bool {
        self.all || self.top.is_some()
    }
}

/// An argument's name with its path, if it is there.
fn given<'p>(
    (name, path): (&'static str, Option<&'p PathBuf>),
) -> Option<(&'static str, &'p Path)> {
    path.map(|path| (name, path.as_path()))
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    glmeval_worker::start_threads(arguments.threads)?;
    let wrong = |argument: &str, expected: &str, found: &str| -> Error {
        InputError::new("command line", argument, expected, found).into()
    };
    if arguments.probe.is_some() && arguments.model.is_some() {
        return Err(wrong("--model", "--embedding-probe beside it", "--probe"));
    }
    if arguments.top == Some(0) {
        return Err(wrong("--top", "at least one sequence", "0"));
    }
    if arguments.is_set() && !arguments.interactions.is_empty() {
        return Err(wrong("--interaction", "one sequence", "--top or --all"));
    }
    if arguments.per_sequence.is_some() && !arguments.is_set() {
        return Err(wrong("--per-sequence", "--top or --all", "one sequence"));
    }
    let path = arguments.network().ok_or_else(|| Error::bug("no network"))?;
    arguments.check_outputs()?;
    let named = opening::probe(path, arguments.probe_weights.as_deref()).await?;
    interruption::run(|interruption| analyse(&arguments, named, interruption)).await
}

/// What was found in one sequence.
struct Findings {
    /// Name of the sequence.
    id: String,
    wild_type: f64,
    analysis: Analysis,
    experiments: Vec<(Planned, Importance)>,
    /// Names and values.
    interactions: Vec<(String, f64)>,
}

/// A sequence, where it stands in its file, and its id.
type Record = (usize, String, DnaSequence);

fn analyse(
    arguments: &Arguments,
    named: NamedProbe,
    interruption: &Interruption,
) -> Result<ExitCode> {
    let format = writing::table_format("--out", &arguments.out)?;
    let model = arguments.model.as_ref();
    let model = model.map(|model| opening::model(model, &arguments.device)).transpose()?;
    let mut network = Network::new(arguments, named, model.as_ref())?;
    let (records, ids) = records(arguments, &mut network, interruption)?;
    let (maps, name) = (arguments.maps.as_deref(), arguments.maps_name.as_deref());
    let maps = maps.map(|path| read_maps(path, name, &ids)).transpose()?;
    // A motif without room is told of before anything is predicted.
    let mut planned = Vec::with_capacity(records.len());
    for record in &records {
        planned.push(experiments::planned(arguments, maps.as_ref(), record)?);
    }
    let given = arguments.backgrounds.as_deref().map(fasta).transpose()?.map(|found| found.1);
    let count = given.as_ref().map_or(arguments.shuffles, |given| given.len() as u64);
    let runs = planned.iter().map(|list| list.len() + 3 * arguments.interactions.len() + 1);
    // Beside runs over the backgrounds, each sequence as it is.
    let rows = runs.sum::<usize>() as u64 * count + records.len() as u64;
    let mut progress = RowProgress::new("predict", rows);
    let mut predict = |sequences: &[DnaSequence]| -> Result<Vec<f64>> {
        interruption.check()?;
        let found = network.predict(sequences)?;
        progress.advance(sequences.len() as u64);
        Ok(found)
    };
    let (mut effects, mut last) = (Vec::new(), None);
    let all = records.len();
    writing::table(&arguments.out, format, &COLUMNS, |push| {
        for (record, planned) in records.into_iter().zip(planned) {
            let backgrounds = match &given {
                Some(given) => given.clone(),
                None => shuffles(&record.2, arguments.seed, arguments.shuffles),
            };
            let found = of_record(arguments, (record, planned), backgrounds, &mut predict)?;
            write_rows(&found, push)?;
            effects.extend(many::effects(&found));
            last = Some(found);
        }
        Ok(())
    })?;
    progress.finish();
    match last {
        Some(findings) if !arguments.is_set() => {
            write_figure(arguments, &findings)?;
            summary::tell(arguments, &findings)
        }
        _ => many::tell(arguments, effects, (all, usize::try_from(count).unwrap_or(usize::MAX))),
    }
}

/// Everything about one sequence; it does not depend on the others.
fn of_record(
    arguments: &Arguments,
    ((_, id, sequence), planned): (Record, Vec<Planned>),
    backgrounds: Vec<DnaSequence>,
    mut predict: &mut Predict<'_>,
) -> Result<Findings> {
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
    Ok(Findings { id, wild_type, analysis, experiments, interactions })
}

/// The sequences that are looked at, each checked; and the ids of all there were.
fn records(
    arguments: &Arguments,
    network: &mut Network<'_>,
    interruption: &Interruption,
) -> Result<(Vec<Record>, Vec<String>)> {
    let Some(path) = arguments.fasta.clone() else {
        let sequence = arguments.sequence.clone().ok_or_else(|| Error::bug("no sequence"))?;
        network.check("--sequence", "sequence", &sequence)?;
        let id = "sequence".to_owned();
        return Ok((vec![(0, id.clone(), sequence)], vec![id]));
    };
    let file = path.display().to_string();
    let (ids, sequences) = fasta(&path)?;
    if !arguments.is_set() {
        let all = sequences::Sequences { path, ids, sequences };
        let (place, sequence) = all.pick(arguments.record.as_deref())?;
        let id = all.ids.get(place).cloned().unwrap_or_default();
        network.check(&file, &id, sequence)?;
        let record = (place, id, sequence.clone());
        return Ok((vec![record], all.ids));
    }
    for (id, sequence) in ids.iter().zip(&sequences) {
        network.check(&file, id, sequence)?;
    }
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    if let Some(top) = arguments.top {
        let mut outputs = Vec::with_capacity(sequences.len());
        let mut progress = RowProgress::new("rank", sequences.len() as u64);
        for part in sequences.chunks(ROWS_PER_READ) {
            interruption.check()?;
            outputs.extend(network.predict(part)?);
            progress.advance(part.len() as u64);
        }
        progress.finish();
        let output = |row: &usize| outputs.get(*row).copied().unwrap_or(f64::NAN);
        // Equal ones stay in the order of the file.
        order.sort_by(|a, b| output(b).total_cmp(&output(a)));
        order.truncate(top);
    }
    let record = |row: usize| Some((row, ids.get(row)?.clone(), sequences.get(row)?.clone()));
    let found: Vec<Record> = order.into_iter().filter_map(record).collect();
    if found.is_empty() {
        return Err(InputError::new(file, "", "at least one record", "none").into());
    }
    Ok((found, ids))
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

const COLUMNS: [(&str, ColumnKind); 7] = [
    ("experiment", ColumnKind::Text),
    ("group", ColumnKind::Text),
    ("background", ColumnKind::Whole),
    ("prediction", ColumnKind::Real),
    ("difference", ColumnKind::Real),
    ("sequence", ColumnKind::Text),
    ("record", ColumnKind::Text),
];

/// Writes the predictions of one sequence.
fn write_rows(
    findings: &Findings,
    push: &mut dyn FnMut(&[Vec<Cell<'_>>]) -> Result<()>,
) -> Result<()> {
    let analysis = &findings.analysis;
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
                Cell::Text(Some(&findings.id)),
            ]])?;
        }
    }
    Ok(())
}

/// Draws a violin for each set.
fn write_figure(arguments: &Arguments, findings: &Findings) -> Result<()> {
    let analysis = &findings.analysis;
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
