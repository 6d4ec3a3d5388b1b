use super::enrichment::{fisher, fold};
use super::*;
use crate::importance::MapForm;
use crate::statistics::benjamini_hochberg;
use glmeval_common::dna::{DnaSequence, Strand};
use glmeval_common::error::Result;
use glmeval_common::readers::motifs::Motif;
use glmeval_common::rng::Rng;

fn motif(probabilities: Vec<[f64; 4]>) -> Motif {
    Motif { id: "M".to_owned(), name: None, probabilities, sites: Some(10.0) }
}

/// A motif of `letters`, each at nine sites of ten.
fn of_letters(letters: &str) -> Motif {
    let row = |letter: u8| "ACGT".bytes().map(move |b| if b == letter { 0.91 } else { 0.03 });
    let rows = letters.bytes().map(|letter| row(letter).collect::<Vec<f64>>().try_into().unwrap());
    motif(rows.collect())
}

fn dna(seed: u64, length: usize) -> DnaSequence {
    let mut rng = Rng::derive(seed, "dna");
    let letters: Vec<u8> = (0..length).map(|_| b"ACGT"[rng.below(4) as usize]).collect();
    DnaSequence::new(letters).unwrap()
}

/// All windows of `width` letters with their chance.
fn all_windows(width: u32, background: [f64; 4]) -> Vec<(Vec<u8>, f64)> {
    let window = |number: u32| {
        let bases = (0..width).map(|place| (number >> (2 * place)) as usize % 4);
        let chance = bases.clone().map(|base| background[base]).product();
        (bases.map(|base| b"ACGT"[base]).collect(), chance)
    };
    (0..4_u32.pow(width)).map(window).collect()
}

#[test]
fn chances_are_those_of_all_windows_counted_one_by_one() {
    let background = [0.3, 0.2, 0.1, 0.4];
    let motif = motif(vec![
        [0.5, 0.2, 0.2, 0.1],
        [0.0, 1.0, 0.0, 0.0],
        [0.25, 0.25, 0.3, 0.2],
        [0.1, 0.1, 0.1, 0.7],
        [0.4, 0.4, 0.1, 0.1],
    ]);
    let matrix = ScoreMatrix::new(&motif, Background(background), 0.1);
    let windows = all_windows(5, background);
    let steps: Vec<usize> = windows.iter().map(|(w, _)| matrix.steps(w).unwrap()).collect();
    for &k in steps.iter().step_by(37) {
        let above = windows.iter().zip(&steps).filter(|(_, steps)| **steps >= k);
        let expected: f64 = above.map(|((_, chance), _)| chance).sum();
        assert!((matrix.p(k) - expected).abs() < 1e-12, "{k}");
    }
    assert!((matrix.p(0) - 1.0).abs() < 1e-12);
    assert_eq!(matrix.p(matrix.steps_max() + 1), 0.0);
}

#[test]
fn scores_are_log_odds_to_the_size_of_a_step() {
    let motif = of_letters("ACGTT");
    let matrix = ScoreMatrix::new(&motif, Background::UNIFORM, 0.1);
    let with_pseudocount = |p: f64| ((10.0 * p + 0.1 * 0.25) / 10.1 / 0.25).log2();
    let (hit, miss) = (with_pseudocount(0.91), with_pseudocount(0.03));
    let score = |window: &[u8]| matrix.score(matrix.steps(window).unwrap());
    assert!((score(b"ACGTT") - 5.0 * hit).abs() < 0.02);
    assert!((score(b"ACGTA") - 4.0 * hit - miss).abs() < 0.02);
    assert_eq!(matrix.steps_reverse(b"AACGT"), matrix.steps(b"ACGTT"));
    assert_eq!((matrix.steps(b"ACGNT"), matrix.steps(b"ACG")), (None, None));
}

#[test]
fn a_motif_without_preference_is_everywhere_and_nowhere() {
    let matrix = ScoreMatrix::new(&motif(vec![[0.25; 4]; 3]), Background::UNIFORM, 0.1);
    assert_eq!((matrix.steps(b"ACG"), matrix.p(0)), (Some(0), 1.0));
    assert!(matrix.threshold(0.5) > 0);
}

#[test]
fn hits_are_found_on_both_strands_where_they_are() {
    let text = format!("{}GATTACAGT{}ACTGTAATCNN", dna(1, 40).as_str(), dna(2, 31).as_str());
    let sequences = [dna(3, 60), DnaSequence::new(text).unwrap()];
    let motifs = [of_letters("TTTTTTTTTTTT"), of_letters("GATTACAGT")];
    let scanner = Scanner::new(&motifs, Background::UNIFORM, ScanOptions::default());
    let scan = scanner.scan(&sequences);
    let exact: Vec<_> = scan
        .hits
        .iter()
        .filter(|hit| hit.score > 14.0)
        .map(|hit| (hit.motif, hit.sequence, hit.start, hit.end, hit.strand))
        .collect();
    assert_eq!(exact, [(1, 1, 40, 49, Strand::Forward), (1, 1, 80, 89, Strand::Reverse)]);
    assert!(scan.hits.iter().all(|hit| hit.p <= 1e-4 && hit.q >= hit.p));
    // Windows with an N are none.
    assert_eq!(scan.windows[1], 2 * (52 + 81));
    let one = ScanOptions { both_strands: false, ..ScanOptions::default() };
    let one = Scanner::new(&motifs, Background::UNIFORM, one).scan(&sequences);
    assert!(one.hits.iter().all(|hit| hit.strand == Strand::Forward));
    assert_eq!(one.windows[1], 52 + 81);
}

#[test]
fn corrected_chances_are_those_of_all_windows_together() {
    let sequences = [dna(7, 300), dna(8, 200)];
    let options = ScanOptions { p_max: 1.0, ..ScanOptions::default() };
    let scan = Scanner::new(&[of_letters("ACGT")], Background::UNIFORM, options).scan(&sequences);
    assert_eq!(scan.hits.len() as u64, scan.windows[0]);
    let p: Vec<f64> = scan.hits.iter().map(|hit| hit.p).collect();
    for (hit, expected) in scan.hits.iter().zip(benjamini_hochberg(&p)) {
        assert!((hit.q - expected).abs() < 1e-12, "{hit:?} {expected}");
    }
    // Fewer are reported, with the same values.
    let options = ScanOptions { p_max: 0.1, ..options };
    let few = Scanner::new(&[of_letters("ACGT")], Background::UNIFORM, options).scan(&sequences);
    let expected: Vec<Hit> = scan.hits.into_iter().filter(|hit| hit.p <= 0.1).collect();
    assert!(!expected.is_empty() && few.hits == expected);
}

#[test]
fn peaks_are_the_highest_values_and_their_neighbours() {
    // The threshold is value 57 of 60 in ascending order: 1, and 1.5 of absolute values.
    let mut map = vec![0.0; 60];
    (map[10], map[11], map[40], map[59]) = (1.0, 2.0, -3.0, 1.5);
    assert_eq!(peak_windows(&map, MapForm::Signed, 2).unwrap(), [(9, 14), (57, 60)]);
    let absolute = peak_windows(&map, MapForm::Absolute, 1).unwrap();
    assert_eq!(absolute, [(10, 13), (39, 42)]);
    assert!(peak_windows(&[], MapForm::Signed, 1).is_err());
    assert!(peak_windows(&[f64::NAN], MapForm::Signed, 1).is_err());
}

#[test]
fn a_planted_motif_is_enriched_at_peaks_and_another_is_not() {
    let planted = "GATTACAGT";
    let sequence = |i: u64| {
        let mut letters = dna(100 + i, 120).as_bytes().to_vec();
        letters[50..59].copy_from_slice(planted.as_bytes());
        DnaSequence::new(letters).unwrap()
    };
    let sequences: Vec<DnaSequence> = (0..12).map(sequence).collect();
    let peaks = vec![vec![(45, 65)]; 12];
    let motifs = [of_letters(planted), of_letters("CCGGAAGTG")];
    let scanner = Scanner::new(&motifs, Background::UNIFORM, ScanOptions::default());
    let given = PeakScan { sequences: &sequences, peaks: &peaks, shuffles: 5, seed: 1 };
    let mut told = 0;
    let mut count = |sequences: usize| -> Result<()> {
        told += sequences;
        Ok(())
    };
    let (scan, found) = enrichment(&scanner, &given, &mut count).unwrap();
    assert!(scan.hits.iter().all(|hit| hit.start >= 45 && hit.end <= 65));
    assert_eq!(found[0].sequences, 12);
    assert!(found[0].p < 1e-9 && found[0].q < 1e-8 && found[0].fold > 5.0, "{:?}", found[0]);
    assert!(found[1].p > 0.01, "{:?}", found[1]);
    assert_eq!(enrichment(&scanner, &given, &mut |_| Ok(())).unwrap().1, found);
}

#[test]
fn a_motif_that_is_nowhere_is_not_enriched() {
    // Without hits, and with as many in each set of shuffles as in the sequences.
    assert_eq!((fold(0, 0, 20), fold(12, 240, 20)), (1.0, 1.0));
    assert_eq!((fold(12, 0, 20), fold(0, 50, 20)), (25.0, 1.0 / 6.0));
    let sequences: Vec<DnaSequence> = (0..40).map(|i| dna(500 + i, 60)).collect();
    let peaks = vec![vec![(0, 60)]; 40];
    let motifs = [of_letters("ACGTTGCATGACCATG")];
    let options = ScanOptions { p_max: 1e-9, ..ScanOptions::default() };
    let scanner = Scanner::new(&motifs, Background::UNIFORM, options);
    let given = PeakScan { sequences: &sequences, peaks: &peaks, shuffles: 20, seed: 1 };
    let (scan, found) = enrichment(&scanner, &given, &mut |_| Ok(())).unwrap();
    assert!(scan.hits.is_empty());
    assert_eq!((found[0].fold, found[0].p), (1.0, 1.0));
}

#[test]
fn fisher_agrees_with_sums_by_hand() {
    // C(4,3) C(4,1) / C(8,4) + 1 / C(8,4) = 17/70: the lady who tasted tea.
    assert!((fisher((3, 4), (1, 4)) - 17.0 / 70.0).abs() < 1e-12);
    assert!((fisher((4, 4), (0, 4)) - 1.0 / 70.0).abs() < 1e-12);
    assert_eq!(fisher((0, 4), (3, 4)), 1.0);
    assert!((fisher((2, 2), (4, 4)) - 1.0).abs() < 1e-12);
}
