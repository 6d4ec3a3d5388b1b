//! Peaks and drawn negatives: what must hold of every draw, on a genome made for it.

use crate::drain;
use glmeval_common::dataset::{Negatives, PeakSet};
use glmeval_common::dna::{DnaSequence, Strand};
use glmeval_common::error::Result;
use glmeval_common::example::{Example, Split};
use glmeval_common::readers::genome::Genome;
use glmeval_common::readers::peaks::PeakReader;
use glmeval_common::rng::Rng;
use glmeval_tests::{golden, hostile};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Window of the tests, odd so that its middle is not its half.
const WINDOW: u64 = 41;
const CONTIGS: [(&str, u64); 3] = [("chrA", 30_000), ("chrB", 12_000), ("chrC", 9_000)];
/// Contig that has no peak.
const EMPTY: &str = "chrC";

/// A genome whose GC content rises along each contig, with a run of N; peaks in its GC-rich half.
struct World {
    folder: tempfile::TempDir,
    peaks: Vec<(String, u64, u64, u64, char)>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = Rng::derive(3, "world");
        let mut fasta = String::new();
        let mut peaks = Vec::new();
        for (name, length) in CONTIGS {
            let base = |at: u64| match at {
                500..560 => 'N',
                at if rng.uniform() < 0.2 + 0.6 * at as f64 / length as f64 => {
                    ['G', 'c'][rng.below(2) as usize]
                }
                _ => ['a', 'T'][rng.below(2) as usize],
            };
            let bases: String = (0..length).map(base).collect();
            fasta.push_str(&format!(">{name} note\n"));
            for line in bases.as_bytes().chunks(70) {
                fasta.push_str(std::str::from_utf8(line).unwrap());
                fasta.push('\n');
            }
        }
        for (name, length) in CONTIGS.into_iter().filter(|(name, _)| *name != EMPTY) {
            for index in 0..length / 400 {
                let start = length / 2 + index * 190 + rng.below(40);
                let end = start + 30 + rng.below(60);
                let strand = ['+', '-', '.'][rng.below(3) as usize];
                peaks.push((name.to_owned(), start, end, rng.below(end - start), strand));
            }
        }
        std::fs::write(folder.path().join("genome.fa"), fasta).unwrap();
        let world = Self { folder, peaks };
        world.write("peaks.narrowPeak", &world.lines());
        world
    }

    fn lines(&self) -> String {
        let line = |(name, start, end, summit, strand): &(String, u64, u64, u64, char)| {
            format!("{name}\t{start}\t{end}\t.\t0\t{strand}\t1.5\t-1\t-1\t{summit}\n")
        };
        self.peaks.iter().map(line).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn set(&self) -> PeakSet {
        PeakSet {
            peaks: vec![self.path("peaks.narrowPeak")],
            genome: self.path("genome.fa"),
            window: WINDOW,
            seed: 5,
            ..PeakSet::default()
        }
    }
}

fn read(set: &PeakSet, is_stranded: bool) -> Result<Vec<Example>> {
    drain(&mut PeakReader::open(set, is_stranded)?)
}

fn place(example: &Example) -> (&str, u64, u64) {
    let interval = example.interval.as_ref().unwrap();
    (&interval.chromosome, interval.start, interval.end)
}

fn overlap(a: (&str, u64, u64), b: (&str, u64, u64)) -> bool {
    a.0 == b.0 && a.1 < b.2 && b.1 < a.2
}

fn of_class(examples: &[Example], class: f32) -> Vec<&Example> {
    examples.iter().filter(|example| example.targets == [class]).collect()
}

fn gc(example: &Example) -> f64 {
    let letters = example.sequences[0].as_bytes();
    letters.iter().filter(|base| b"GC".contains(base)).count() as f64 / letters.len() as f64
}

/// What holds of every draw.
fn check(world: &World, examples: &[Example], excluded: &[(&str, u64, u64)]) {
    let (positives, negatives) = (of_class(examples, 1.0), of_class(examples, 0.0));
    assert_eq!((positives.len(), negatives.len() * 2), (negatives.len(), examples.len()));
    let genome = Genome::open(&world.path("genome.fa")).unwrap();
    for example in examples {
        let (chromosome, start, end) = place(example);
        let letters = DnaSequence::new(genome.fetch(chromosome, start, end).unwrap()).unwrap();
        let letters = match example.interval.as_ref().unwrap().strand {
            Strand::Forward => letters,
            Strand::Reverse => letters.reverse_complement(),
        };
        assert_eq!(example.sequences.first(), Some(&letters), "{}", example.id);
        assert_eq!((letters.undefined_count(), end - start), (0, WINDOW), "{}", example.id);
        let is_hit = excluded.iter().any(|&region| overlap(region, place(example)));
        assert!(!is_hit, "{} is excluded", example.id);
    }
    for (index, negative) in negatives.iter().enumerate() {
        for (name, start, end, summit, _) in &world.peaks {
            let from = start + summit - WINDOW / 2;
            for peak in [(name.as_str(), *start, *end), (name, from, from + WINDOW)] {
                assert!(!overlap(peak, place(negative)), "{} on a peak", negative.id);
            }
        }
        for other in &negatives[..index] {
            assert!(!overlap(place(other), place(negative)), "{} twice", negative.id);
        }
    }
    let ids: BTreeSet<&str> = examples.iter().map(|example| example.id.as_str()).collect();
    assert_eq!(ids.len(), examples.len(), "ids are unique");
    let count = |split| examples.iter().filter(|example| example.split == Some(split)).count();
    let total = examples.len();
    assert_eq!(Split::ALL.map(count)[..2], [total * 7 / 10, total / 10]);
    assert!(examples.is_sorted_by_key(|example| example.split));
}

#[test]
fn negatives_from_the_genome_stay_apart_and_have_the_gc_contents_of_the_positives() {
    let world = World::new();
    let examples = read(&world.set(), false).unwrap();
    check(&world, &examples, &[]);
    let histogram = |class| {
        let mut bins = BTreeMap::new();
        for example in of_class(&examples, class) {
            *bins.entry((gc(example) * 20.0) as u64).or_insert(0) += 1;
        }
        bins
    };
    assert_eq!(histogram(1.0), histogram(0.0));
    let of_empty = examples.iter().filter(|example| place(example).0 == EMPTY).count();
    assert_eq!(of_empty, 0, "a contig without peaks gives no negatives");
    // Peaks lie in the GC-rich half: without matching, negatives would be poorer by a quarter.
    let mean = |class| {
        let all = of_class(&examples, class);
        all.iter().map(|example| gc(example)).sum::<f64>() / all.len() as f64
    };
    assert!((mean(1.0) - mean(0.0)).abs() < 0.02, "{} {}", mean(1.0), mean(0.0));
}

#[test]
fn chromosomes_may_lack_the_prefix_that_the_genome_has_or_have_one_that_it_lacks() {
    let world = World::new();
    let expected = read(&world.set(), false).unwrap();
    let line = |line: &str| match line.strip_prefix("chr") {
        Some(bare) => format!("{bare}\n"),
        None => format!("chr{line}\n"),
    };
    let peaks: String = world.lines().lines().map(line).collect();
    let set = PeakSet { peaks: vec![world.write("bare.narrowPeak", &peaks)], ..world.set() };
    let found = read(&set, false).unwrap();
    assert_eq!(found, expected, "named as the genome names them");
    let peaks = vec![world.write("other.narrowPeak", &peaks.replacen(|_| true, "x", 1))];
    let error = read(&PeakSet { peaks, ..world.set() }, false).unwrap_err().chain();
    assert!(error.contains("line 1") && error.contains("with or without \"chr\""), "{error}");
}

#[test]
fn positives_are_centred_on_summits() {
    let world = World::new();
    let examples = read(&world.set(), false).unwrap();
    let found: BTreeSet<_> = of_class(&examples, 1.0).into_iter().map(place).collect();
    let window = |(name, start, _, summit, _): &(String, u64, u64, u64, char)| {
        let from = start + summit - WINDOW / 2;
        (name.clone(), from, from + WINDOW)
    };
    let expected: BTreeSet<_> = world.peaks.iter().map(window).collect();
    assert_eq!(
        found,
        expected.iter().map(|(name, from, to)| (name.as_str(), *from, *to)).collect()
    );
}

#[test]
fn a_draw_repeats_for_a_seed_and_differs_for_another() {
    let world = World::new();
    let set = world.set();
    let first = read(&set, true).unwrap();
    assert_eq!(first, read(&set, true).unwrap());
    let other = read(&PeakSet { seed: 6, ..set }, true).unwrap();
    let negatives = |examples: &[Example]| -> BTreeSet<String> {
        of_class(examples, 0.0).iter().map(|example| example.id.clone()).collect()
    };
    assert_ne!(negatives(&first), negatives(&other));
}

#[test]
fn chromosomes_are_those_of_the_positives_where_asked() {
    let world = World::new();
    let examples = read(&PeakSet { same_chromosomes: true, ..world.set() }, false).unwrap();
    check(&world, &examples, &[]);
    let count = |class| {
        let mut count: BTreeMap<String, u32> = BTreeMap::new();
        for example in of_class(&examples, class) {
            *count.entry(place(example).0.to_owned()).or_default() += 1;
        }
        count
    };
    assert_eq!(count(1.0), count(0.0));
}

#[test]
fn strands_count_where_asked_and_both_classes_have_the_same() {
    let world = World::new();
    let stranded = read(&world.set(), true).unwrap();
    check(&world, &stranded, &[]);
    let reverse = |class| {
        let strand = |example: &&Example| example.interval.as_ref().unwrap().strand;
        let all = of_class(&stranded, class);
        all.iter().filter(|example| strand(example) == Strand::Reverse).count()
    };
    let expected = world.peaks.iter().filter(|peak| peak.4 == '-').count();
    assert!(expected > 0 && (reverse(1.0), reverse(0.0)) == (expected, expected));
    let plain = read(&world.set(), false).unwrap();
    let is_forward =
        |example: &Example| example.interval.as_ref().unwrap().strand == Strand::Forward;
    assert!(plain.iter().all(is_forward));
}

#[test]
fn accessible_negatives_are_centred_on_accessible_regions() {
    let world = World::new();
    let mut bed = String::new();
    for (name, length) in CONTIGS {
        for start in (0..length - 50).step_by(60) {
            bed.push_str(&format!("{name}\t{start}\t{}\n", start + 20));
        }
    }
    let accessible = Some(world.write("dnase.bed", &bed));
    for negatives in [Negatives::Accessible, Negatives::GcMatched] {
        let set = PeakSet { negatives, accessible: accessible.clone(), ..world.set() };
        let examples = read(&set, false).unwrap();
        check(&world, &examples, &[]);
        for negative in of_class(&examples, 0.0) {
            assert_eq!((place(negative).1 + WINDOW / 2) % 60, 10, "{}", negative.id);
        }
    }
}

#[test]
fn excluded_regions_are_touched_by_no_example() {
    let world = World::new();
    let excluded = [("chrA", 0, 9_000), ("chrA", 17_000, 18_000)];
    let lines = excluded.iter().map(|(name, start, end)| format!("{name}\t{start}\t{end}\n"));
    let exclude = Some(world.write("exclude.bed", &lines.collect::<String>()));
    let set = PeakSet { exclude, ..world.set() };
    let examples = read(&set, false).unwrap();
    check(&world, &examples, &excluded);
    let reader = PeakReader::open(&set, false).unwrap();
    let kept = of_class(&examples, 1.0).len() as u64;
    assert!(reader.left_out() > 0);
    assert_eq!(kept + reader.left_out(), world.peaks.len() as u64);
}

#[test]
fn a_set_without_the_random_split_has_the_same_examples_and_no_split() {
    let world = World::new();
    let mut split = read(&world.set(), false).unwrap();
    split.iter_mut().for_each(|example| example.split = None);
    assert_eq!(read(&PeakSet { random_split: false, ..world.set() }, false).unwrap(), split);
}

#[test]
fn replicates_are_one_set_and_a_peak_of_both_is_one_example() {
    let world = World::new();
    let second = world.write("second.narrowPeak", &world.lines());
    let mut set = world.set();
    set.peaks.push(second);
    assert_eq!(read(&set, true).unwrap(), read(&world.set(), true).unwrap());
}

#[test]
fn peaks_at_the_ends_and_on_undefined_letters_are_left_out() {
    let world = World::new();
    let mut set = world.set();
    let more = "chrA\t0\t10\nchrA\t29990\t30000\nchrA\t520\t540\n";
    set.peaks.push(world.write("more.bed", more));
    let reader = PeakReader::open(&set, false).unwrap();
    assert_eq!(reader.left_out(), 3);
}

#[test]
fn a_genome_without_room_and_peaks_without_a_window_are_refused_with_numbers() {
    let world = World::new();
    let refused = |set: PeakSet| read(&set, false).unwrap_err().to_string();
    let accessible = Some(world.write("few.bed", "chrA\t1000\t1020\n"));
    let error = refused(PeakSet { accessible, ..world.set() });
    assert!(error.contains("few.bed") && error.contains("1 negatives"), "{error}");
    let exclude = world.write("all.bed", "chrA\t0\t14000\nchrB\t0\t5900\n");
    let error = refused(PeakSet { exclude: Some(exclude), window: 1_501, ..world.set() });
    assert!(error.contains("genome.fa") && error.contains("room for"), "{error}");
    let end = world.write("end.bed", "chrA\t0\t10\n");
    let error = refused(PeakSet { peaks: vec![end], ..world.set() });
    assert!(error.contains("end.bed") && error.contains("1 without"), "{error}");
}

#[test]
fn every_hostile_interval_is_refused_with_its_line() {
    hostile::check(&["bed", "narrowPeak"], |case| {
        let genome = case.text("genome").unwrap_or("layouts/genome/genome.fa");
        let set = PeakSet {
            peaks: vec![case.path.clone()],
            genome: golden::fixture(genome),
            window: 10,
            ..PeakSet::default()
        };
        read(&set, false).map(drop).map_err(|error| error.chain())
    });
}

#[test]
fn windows_of_the_described_peaks_are_the_positives() {
    let folder = golden::root().join("layouts/intervals");
    let path = folder.join("peaks.expected.json");
    if golden::is_elsewhere() && !path.exists() {
        return;
    }
    let expected = golden::json(&path);
    let peaks = expected["peaks"].as_array().unwrap();
    let number = |peak: &serde_json::Value, key: &str| peak[key].as_u64().unwrap();
    let window =
        number(&peaks[0], "summit_window_end0") - number(&peaks[0], "summit_window_start0");
    // Long contigs give negatives room whatever the fixture's peaks take.
    let home = tempfile::tempdir().unwrap();
    let genome =
        roomy(&folder.parent().unwrap().join(expected["genome"].as_str().unwrap()), home.path());
    let set = PeakSet {
        peaks: vec![folder.join("peaks.narrowPeak")],
        genome,
        window,
        ..PeakSet::default()
    };
    let examples = read(&set, true).unwrap();
    let found: BTreeSet<&str> =
        of_class(&examples, 1.0).iter().map(|example| example.sequences[0].as_str()).collect();
    let described = peaks.iter().map(|peak| peak["window_sequence"].as_str().unwrap());
    let described: BTreeSet<&str> = described.filter(|letters| !letters.contains('N')).collect();
    assert_eq!(found, described);
}

/// The genome with 50,000 bases behind each contig.
fn roomy(path: &Path, home: &Path) -> PathBuf {
    let genome = Genome::open(path).unwrap();
    let mut rng = Rng::derive(1, "room");
    let mut fasta = String::new();
    for contig in genome.contigs() {
        let bases = genome.fetch(&contig.name, 0, contig.length).unwrap();
        let tail: String =
            (0..50_000).map(|_| char::from(b"ACGT"[rng.below(4) as usize])).collect();
        fasta.push_str(&format!(">{}\n{}{tail}\n", contig.name, String::from_utf8(bases).unwrap()));
    }
    let roomy = home.join("genome.fa");
    std::fs::write(&roomy, fasta).unwrap();
    roomy
}
