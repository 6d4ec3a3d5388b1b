//! Text formats of genomics: every fixture decodes to what its description says, and every damaged
//! file is refused with file, place, expected and found.

use glmeval_common::dataset::{TableColumns, TaskName};
use glmeval_common::example::{Example, Split};
use glmeval_common::readers::ExampleReader;
use glmeval_common::readers::bed::BedReader;
use glmeval_common::readers::fasta::FastaReader;
use glmeval_common::readers::genome::Genome;
use glmeval_common::readers::narrow_peak::NarrowPeakReader;
use glmeval_common::readers::table::TableReader;
use glmeval_common::readers::windows::{WindowOptions, WindowReader};
use glmeval_tests::{golden, hostile};
use serde_json::Value;
use std::path::{Path, PathBuf};

type Error = glmeval_common::error::Error;

fn layouts() -> PathBuf {
    golden::root().join("layouts")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no whole number in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list"))
}

/// The files that a folder's description lists, after a check that no other lies there.
fn listed(folder: &Path, expected: &Value) -> Vec<PathBuf> {
    let names: Vec<_> = list(expected, "files_with_equal_content")
        .iter()
        .map(|name| name.as_str().expect("a file name").to_owned())
        .collect();
    for entry in std::fs::read_dir(folder).expect("the folder lies in the fixtures").flatten() {
        let name = entry.file_name().into_string().expect("fixture names are text");
        let is_companion = [".json", ".fai", ".gzi"].iter().any(|end| name.ends_with(end));
        assert!(is_companion || names.contains(&name), "{name} is not described");
    }
    names.iter().map(|name| folder.join(name)).collect()
}

/// Every example, read a few at a time.
fn drain(mut reader: impl ExampleReader) -> Result<Vec<Example>, Error> {
    let mut examples = Vec::new();
    loop {
        let batch = reader.read(7)?;
        if batch.is_empty() {
            return Ok(examples);
        }
        examples.extend(batch);
    }
}

fn sequence(example: &Example) -> &str {
    example.sequences[0].as_str()
}

#[test]
fn every_fasta_notation_gives_the_same_records() {
    let folder = layouts().join("fasta");
    let expected = golden::json(&folder.join("expected.json"));
    for path in listed(&folder, &expected) {
        let examples = drain(FastaReader::open(&path, None).unwrap()).unwrap();
        let found: Vec<_> = examples.iter().map(|e| (e.id.as_str(), sequence(e))).collect();
        let records: Vec<_> = list(&expected, "records")
            .iter()
            .map(|record| (text(record, "id"), text(record, "sequence")))
            .collect();
        assert_eq!(found, records, "{}", path.display());
    }
}

#[test]
fn every_packing_of_a_genome_gives_the_same_bases() {
    let folder = layouts().join("genome");
    let expected = golden::json(&folder.join("expected.json"));
    for path in listed(&folder, &expected) {
        let genome = Genome::open(&path).unwrap();
        let lengths = expected["lengths"].as_object().unwrap();
        assert_eq!(genome.contigs().len(), lengths.len(), "{}", path.display());
        for contig in genome.contigs() {
            assert_eq!(lengths[&contig.name].as_u64(), Some(contig.length), "{}", contig.name);
            let bases = genome.fetch(&contig.name, 0, contig.length).unwrap();
            for (base, count) in expected["upper_case_counts"][&contig.name].as_object().unwrap() {
                let found = bases.iter().filter(|&&b| b == base.as_bytes()[0]).count() as u64;
                assert_eq!(Some(found), count.as_u64(), "{base} in {}", contig.name);
            }
        }
        for fetch in list(&expected, "fetches_as_stored") {
            let (start, end) = (number(fetch, "start0"), number(fetch, "end0"));
            let bases = genome.fetch(text(fetch, "chrom"), start, end).unwrap();
            assert_eq!(bases, text(fetch, "sequence").to_ascii_uppercase().as_bytes());
        }
    }
}

#[test]
fn a_genome_is_the_same_with_and_without_its_indexes() {
    let folder = layouts().join("genome");
    let expected = golden::json(&folder.join("expected.json"));
    let bare = tempfile::tempdir().unwrap();
    for path in listed(&folder, &expected) {
        let copy = bare.path().join(path.file_name().unwrap());
        std::fs::copy(&path, &copy).unwrap();
        let (with, without) = (Genome::open(&path).unwrap(), Genome::open(&copy).unwrap());
        assert_eq!(with.contigs(), without.contigs());
        for contig in with.contigs() {
            let whole = |genome: &Genome| genome.fetch(&contig.name, 0, contig.length).unwrap();
            assert!(whole(&with) == whole(&without), "{} of {}", contig.name, path.display());
        }
    }
}

#[test]
fn every_packing_of_a_genome_gives_the_same_windows() {
    let folder = layouts().join("genome");
    let expected = golden::json(&folder.join("expected.json"));
    let options = WindowOptions { window: 200, stride: 77, undefined_share_max: 0.1 };
    let windows = listed(&folder, &expected)
        .iter()
        .map(|path| drain(WindowReader::open(path, options, None).unwrap()).unwrap())
        .collect::<Vec<_>>();
    assert!(windows.iter().all(|examples| !examples.is_empty() && *examples == windows[0]));
}

fn assert_cut(example: &Example, described: &Value, start_end: [&str; 2], letters: &str) {
    let interval = example.interval.as_ref().expect("an interval");
    assert_eq!(interval.chromosome, text(described, "chrom"));
    assert_eq!([interval.start, interval.end], start_end.map(|key| number(described, key)));
    let strand = described["strand"].as_str().unwrap_or(".");
    assert_eq!(interval.strand.symbol(), if strand == "-" { "-" } else { "+" });
    assert_eq!(sequence(example), text(described, letters), "{}", example.id);
}

#[test]
fn every_bed_file_is_cut_as_described() {
    let folder = layouts().join("intervals");
    let expected = golden::json(&folder.join("regions.expected.json"));
    let genome = layouts().join(text(&expected, "genome"));
    let files = expected.as_object().unwrap().keys().filter(|name| name.ends_with(".bed"));
    for name in files {
        let examples = drain(BedReader::open(&folder.join(name), &genome, None).unwrap()).unwrap();
        let regions = list(&expected, name);
        assert_eq!(examples.len(), regions.len(), "{name}");
        for (example, region) in examples.iter().zip(regions) {
            assert_cut(example, region, ["start0", "end0"], "sequence");
            let (chromosome, start) = (text(region, "chrom"), number(region, "start0"));
            let unnamed = format!("{chromosome}:{start}-{}", number(region, "end0"));
            assert_eq!(example.id, region["name"].as_str().unwrap_or(&unnamed));
        }
    }
}

#[test]
fn every_peak_is_cut_around_its_summit() {
    let folder = layouts().join("intervals");
    let expected = golden::json(&folder.join("peaks.expected.json"));
    let genome = layouts().join(text(&expected, "genome"));
    let peaks = list(&expected, "peaks");
    let [start, end] = ["summit_window_start0", "summit_window_end0"];
    let window = number(&peaks[0], end) - number(&peaks[0], start);
    let path = folder.join("peaks.narrowPeak");
    let cut = |window| drain(NarrowPeakReader::open(&path, &genome, window).unwrap()).unwrap();
    let (windows, whole) = (cut(Some(window)), cut(None));
    assert_eq!((windows.len(), whole.len()), (peaks.len(), peaks.len()));
    for ((example, whole), peak) in windows.iter().zip(&whole).zip(peaks) {
        assert_cut(example, peak, [start, end], "window_sequence");
        let interval = whole.interval.as_ref().expect("an interval");
        let bounds = [interval.start, interval.end];
        assert_eq!(bounds, ["start0", "end0"].map(|key| number(peak, key)));
    }
}

fn table_columns() -> TableColumns {
    TableColumns {
        sequence: "sequence".to_owned(),
        id: Some("id".to_owned()),
        split: Some("split".to_owned()),
        targets: vec!["target".to_owned()],
        missing: false,
    }
}

#[test]
fn every_table_notation_gives_the_same_rows() {
    let folder = layouts().join("tables");
    let expected = golden::json(&folder.join("expected.json"));
    for path in listed(&folder, &expected) {
        let reader = TableReader::open(&path, &table_columns(), TaskName::Regression).unwrap();
        let examples = drain(reader).unwrap();
        assert_eq!(examples.len(), list(&expected, "ids").len(), "{}", path.display());
        for (row, example) in examples.iter().enumerate() {
            assert_eq!(Some(example.id.as_str()), expected["ids"][row].as_str());
            assert_eq!(Some(sequence(example)), expected["sequences"][row].as_str());
            assert_eq!(example.split.map(Split::name), expected["splits"][row].as_str());
            let target = golden::number(&expected["targets"][row]).expect("a target") as f32;
            assert_eq!(example.targets, [target]);
        }
    }
}

/// Reads a damaged file to its end, the way its entry asks.
fn read_hostile(case: &hostile::Case) -> Result<(), Error> {
    let genome = golden::fixture(case.text("genome").unwrap_or("layouts/genome/genome.fa"));
    match case.reader.as_str() {
        "fasta" if case.text("companion").is_none() => {
            // Task 1 has sequences of 230 nucleotides.
            let length = case.text("context").map(|_| 230);
            drain(FastaReader::open(&case.path, length)?).map(drop)
        }
        "fasta" | "fasta.bgzip" => {
            let genome = Genome::open(&case.path)?;
            genome
                .contigs()
                .iter()
                .try_for_each(|contig| genome.fetch(&contig.name, 0, contig.length).map(drop))
        }
        "bed" => drain(BedReader::open(&case.path, &genome, None)?).map(drop),
        "narrowPeak" => drain(NarrowPeakReader::open(&case.path, &genome, None)?).map(drop),
        "table" => {
            let mut columns = table_columns();
            if let Some(column) = case.text("ask") {
                column.clone_into(&mut columns.sequence);
            }
            drain(TableReader::open(&case.path, &columns, TaskName::Regression)?).map(drop)
        }
        other => panic!("{other} is no reader of text"),
    }
}

#[test]
fn damaged_text_files_are_refused_with_the_place() {
    hostile::check(&["fasta", "fasta.bgzip", "bed", "narrowPeak", "table"], |case| {
        read_hostile(case).map_err(|error| error.chain())
    });
    // Each test runs in a process of its own under nextest; elsewhere this bounds all tests here.
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = peak.and_then(|kib| kib.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
        assert!(kib < 256 << 10, "peak memory is {kib} KiB");
    }
}
