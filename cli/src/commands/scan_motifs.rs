//! `glmeval scan-motifs`: occurrences of motifs in sequences, or at the peaks of their maps.

mod summary;

use crate::interruption::{self, Interruption};
use crate::output::Format;
use crate::progress::rows::RowProgress;
use crate::sequences::{SequenceArguments, Sequences};
use crate::writing;
use clap::{Args, ValueEnum};
use glmeval_common::dna::{DnaSequence, Strand};
use glmeval_common::error::{InputError, Result};
use glmeval_common::readers::motifs::{self, MotifSet};
use glmeval_worker::importance::{MapForm, read_maps};
use glmeval_worker::motifs::{
    Background, Enrichment, Hit, PeakScan, Scan, ScanOptions, Scanner, enrichment, peak_windows,
};
use glmeval_worker::row_table::{Cell, ColumnKind, TableFormat};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What letters are drawn from where there is no motif.
#[derive(Clone, Copy, Default, ValueEnum)]
enum BackgroundName {
    /// The frequencies of the motif file, or a quarter each where it has none.
    #[default]
    File,
    /// A quarter each.
    Uniform,
    /// The frequencies of the sequences.
    Sequences,
}

/// Start and end of the stretches of each sequence.
type Peaks = Vec<Vec<(usize, usize)>>;

/// Arguments of `scan-motifs`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval scan-motifs --motifs JASPAR.meme.gz --fasta regions.fa --out hits.tsv
      Every occurrence with p of at most 1e-4, on both strands.
  glmeval scan-motifs --motifs JASPAR.meme.gz --tsv oligos.tsv:sequence --q-max 0.05 --out hits.parquet
  glmeval scan-motifs --motifs HOCOMOCO.meme.gz --fasta top.fa --maps maps.safetensors \\
      --maps-name saliency --out hits.tsv --enrichment motifs.tsv
      Only where the maps have their peaks; and which motifs are there more often than in shuffles.

Motif files are MEME (versions 3 to 5) or JASPAR counts, plain or gzip. A score is the sum of
log2(p / background), p with a tenth of a site of the background; p is exact for letters drawn from
the background, in steps of a thousandth of the range of one position; q is Benjamini and Hochberg's over
all windows of the motif. Windows with other letters than A, C, G, T are passed over. `start` counts
from 0, `end` is one past the last nucleotide, `matched` reads on the motif's strand.

With --maps, peaks are the nucleotides above the 95th percentile of their sequence's map and --reach
nt on each side; motifs must lie within one peak. Enrichment compares sequences that have the motif at a
peak with shuffles of the same sequences, which keep all counts of two neighbouring letters, at the same
places: Fisher's exact test, one-sided.")]
pub(crate) struct Arguments {
    /// MEME or JASPAR file, plain or gzip.
    #[arg(long, value_name = "FILE")]
    motifs: PathBuf,
    #[command(flatten)]
    sequences: SequenceArguments,
    /// Largest p that is reported.
    #[arg(long, default_value_t = 1e-4, value_parser = share)]
    p_max: f64,
    /// Largest q that is reported.
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    q_max: f64,
    /// Scan the strand of the sequences only.
    #[arg(long)]
    one_strand: bool,
    /// What letters are drawn from where there is no motif.
    #[arg(long, value_enum, default_value_t)]
    background: BackgroundName,
    /// Sites of the background that are added to those of a motif.
    #[arg(long, default_value_t = 0.1, value_parser = pseudocount)]
    pseudocount: f64,
    /// Maps of the sequences, safetensors [sequences, length], found by id where the file has ids: only
    /// their peaks are scanned.
    #[arg(long, value_name = "FILE")]
    maps: Option<PathBuf>,
    /// Tensor of --maps [default: the only one].
    #[arg(long, value_name = "NAME", requires = "maps")]
    maps_name: Option<String>,
    /// Peaks of the absolute values of the maps.
    #[arg(long, requires = "maps")]
    absolute: bool,
    /// Nucleotides on each side of a peak.
    #[arg(long, default_value_t = 10, requires = "maps")]
    reach: usize,
    /// Shuffles of each sequence that enrichment compares with.
    #[arg(long, default_value_t = 20, requires = "maps",
        value_parser = clap::value_parser!(u64).range(1..=10_000))]
    shuffles: u64,
    /// Seed of the shuffles.
    #[arg(long, default_value_t = 0, requires = "maps")]
    seed: u64,
    /// A file of enrichment to write, a row for each motif: .tsv, .csv or .parquet.
    #[arg(long, value_name = "FILE", requires = "maps")]
    enrichment: Option<PathBuf>,
    /// The file of occurrences to write: .tsv, .csv or .parquet.
    #[arg(long)]
    out: PathBuf,
    /// How the summary is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all].
    #[arg(long)]
    threads: Option<usize>,
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| *value > 0.0 && *value <= 1.0);
    value.ok_or_else(|| "expected a number above 0 and at most 1".to_owned())
}

fn pseudocount(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| *value > 0.0 && value.is_finite());
    value.ok_or_else(|| "expected a number above 0".to_owned())
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    glmeval_worker::start_threads(arguments.threads)?;
    interruption::run(|interruption| scan(&arguments, interruption)).await
}

fn scan(arguments: &Arguments, interruption: &Interruption) -> Result<ExitCode> {
    let format = writing::table_format("--out", &arguments.out)?;
    let enriched = match arguments.enrichment.as_deref() {
        Some(path) => Some((path, writing::table_format("--enrichment", path)?)),
        None => None,
    };
    check_outputs(arguments)?;
    let set = motifs::read(&arguments.motifs)?;
    let given = arguments.sequences.read()?;
    let options = ScanOptions {
        p_max: arguments.p_max,
        pseudocount: arguments.pseudocount,
        both_strands: !arguments.one_strand,
    };
    let background = match arguments.background {
        BackgroundName::File => set.background.map_or(Background::UNIFORM, Background),
        BackgroundName::Uniform => Background::UNIFORM,
        BackgroundName::Sequences => {
            Background::of(given.sequences.iter().map(DnaSequence::as_bytes))
        }
    };
    let scanner = Scanner::new(&set.motifs, background, options);
    interruption.check()?;
    let (mut scan, found) = match peaks(arguments, &given)? {
        None => (scanner.scan(&given.sequences), None),
        Some(peaks) => {
            let (shuffles, seed) = (arguments.shuffles, arguments.seed);
            let sequences = given.sequences.as_slice();
            let at = PeakScan { sequences, peaks: &peaks, shuffles, seed };
            let with_peaks = peaks.iter().filter(|peaks| !peaks.is_empty()).count();
            let mut progress = RowProgress::new("shuffle", with_peaks as u64);
            let mut told = |sequences: usize| {
                progress.advance(sequences as u64);
                interruption.check()
            };
            let (scan, found) = enrichment(&scanner, &at, &mut told)?;
            progress.finish();
            (scan, Some(found))
        }
    };
    interruption.check()?;
    scan.hits.retain(|hit| hit.q <= arguments.q_max);
    write_hits((&arguments.out, format), &set, &given, &scan.hits)?;
    if let (Some((path, format)), Some(found)) = (enriched, &found) {
        write_enrichment((path, format), &set, &scan, found)?;
    }
    summary::tell(arguments, &set, &scan, found.as_deref())
}

/// Refuses outputs that would take the place of something else.
fn check_outputs(arguments: &Arguments) -> Result<()> {
    let mut outputs = vec![("--out", arguments.out.as_path())];
    outputs.extend(arguments.enrichment.as_deref().map(|path| ("--enrichment", path)));
    let mut inputs = vec![("--motifs", arguments.motifs.as_path())];
    inputs.extend(arguments.sequences.file());
    inputs.extend(arguments.maps.as_deref().map(|path| ("--maps", path)));
    writing::check_outputs(&outputs, &inputs)
}

/// Stretches around the peaks of each sequence; none without maps.
fn peaks(arguments: &Arguments, given: &Sequences) -> Result<Option<Peaks>> {
    let Some(path) = &arguments.maps else { return Ok(None) };
    let maps = read_maps(path, arguments.maps_name.as_deref(), &given.ids)?;
    let form = if arguments.absolute { MapForm::Absolute } else { MapForm::Signed };
    let records = given.ids.iter().zip(&given.sequences).enumerate();
    let peaks = records.map(|(place, (id, sequence))| {
        let map = maps.of((place, id), sequence.len())?;
        peak_windows(map, form, arguments.reach)
            .map_err(|error| error.context(format!("{}: sequence {id}", path.display())))
    });
    peaks.collect::<Result<Vec<_>>>().map(Some)
}

fn write_hits(
    (path, format): (&Path, TableFormat),
    set: &MotifSet,
    given: &Sequences,
    hits: &[Hit],
) -> Result<()> {
    let columns = [
        ("sequence", ColumnKind::Text),
        ("start", ColumnKind::Whole),
        ("end", ColumnKind::Whole),
        ("strand", ColumnKind::Text),
        ("motif", ColumnKind::Text),
        ("name", ColumnKind::Text),
        ("score", ColumnKind::Real),
        ("p", ColumnKind::Real),
        ("q", ColumnKind::Real),
        ("matched", ColumnKind::Text),
    ];
    writing::table(path, format, &columns, |push| {
        for hit in hits {
            let (Some(motif), Some(id)) = (set.motifs.get(hit.motif), given.ids.get(hit.sequence))
            else {
                continue;
            };
            let letters = given.sequences.get(hit.sequence).map(DnaSequence::as_bytes);
            let window = letters.and_then(|letters| letters.get(hit.start..hit.end));
            let matched = DnaSequence::new(window.unwrap_or_default())
                .map_err(|bad| InputError::new(given.path.display(), id, "DNA", bad))?;
            let matched = match hit.strand {
                Strand::Forward => matched,
                Strand::Reverse => matched.reverse_complement(),
            };
            push(&[vec![
                Cell::Text(Some(id)),
                Cell::Whole(hit.start as u64),
                Cell::Whole(hit.end as u64),
                Cell::Text(Some(hit.strand.symbol())),
                Cell::Text(Some(&motif.id)),
                Cell::Text(motif.name.as_deref()),
                Cell::Real(Some(hit.score)),
                Cell::Real(Some(hit.p)),
                Cell::Real(Some(hit.q)),
                Cell::Text(Some(matched.as_str())),
            ]])?;
        }
        Ok(())
    })
}

fn write_enrichment(
    (path, format): (&Path, TableFormat),
    set: &MotifSet,
    scan: &Scan,
    found: &[Enrichment],
) -> Result<()> {
    let columns = [
        ("motif", ColumnKind::Text),
        ("name", ColumnKind::Text),
        ("windows", ColumnKind::Whole),
        ("sequences", ColumnKind::Whole),
        ("shuffled_share", ColumnKind::Real),
        ("fold", ColumnKind::Real),
        ("p", ColumnKind::Real),
        ("q", ColumnKind::Real),
    ];
    writing::table(path, format, &columns, |push| {
        for ((motif, found), windows) in set.motifs.iter().zip(found).zip(&scan.windows) {
            push(&[vec![
                Cell::Text(Some(&motif.id)),
                Cell::Text(motif.name.as_deref()),
                Cell::Whole(*windows),
                Cell::Whole(found.sequences),
                Cell::Real(Some(found.shuffled_share)),
                Cell::Real(Some(found.fold)),
                Cell::Real(Some(found.p)),
                Cell::Real(Some(found.q)),
            ]])?;
        }
        Ok(())
    })
}
