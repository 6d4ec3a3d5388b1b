use super::*;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::Result;
use std::collections::BTreeMap;

fn dna(text: &str) -> DnaSequence {
    DnaSequence::new(text).unwrap()
}

fn pairs(sequence: &DnaSequence) -> BTreeMap<[u8; 2], usize> {
    let mut counts = BTreeMap::new();
    for pair in sequence.as_bytes().windows(2) {
        *counts.entry([pair[0], pair[1]]).or_default() += 1;
    }
    counts
}

/// Counts the Gs, weighted by place: any network that reads letters.
fn predict(sequences: &[DnaSequence]) -> Result<Vec<f64>> {
    let value = |sequence: &DnaSequence| {
        let letters = sequence.as_bytes().iter().enumerate();
        letters.map(|(place, letter)| if *letter == b'G' { 1.0 + place as f64 } else { 0.0 }).sum()
    };
    Ok(sequences.iter().map(value).collect())
}

#[test]
fn shuffles_keep_pairs_ends_and_other_letters() {
    for text in ["", "A", "AC", "ACGTNNRACGGTCANNNTTGACCATGGA", "TTTTTTTT", "ACACACAC"] {
        let sequence = dna(text);
        for shuffle in shuffles(&sequence, 3, 40) {
            assert_eq!(pairs(&shuffle), pairs(&sequence), "{text}");
            let ends =
                |s: &DnaSequence| (s.as_bytes().first().copied(), s.as_bytes().last().copied());
            assert_eq!((ends(&shuffle), shuffle.len()), (ends(&sequence), text.len()));
        }
    }
}

#[test]
fn a_shuffle_depends_on_seed_sequence_and_number_alone() {
    let sequence = dna("ACGTTGCATGCCATAGCTAGGATCCAT");
    let all = shuffles(&sequence, 5, 10);
    assert_eq!(shuffled(&sequence, 5, 7), all[7]);
    assert_ne!(shuffles(&sequence, 6, 10), all);
    assert!(all.iter().any(|other| *other != all[0]));
}

#[test]
fn every_sequence_with_the_same_pairs_is_drawn_as_often() {
    // With parallel edges, loops and an N; all arrangements are found by drawing.
    let sequence = dna("AACANACCA");
    let mut counts: BTreeMap<DnaSequence, u64> = BTreeMap::new();
    let draws = 6_000;
    for number in 0..draws {
        *counts.entry(shuffled(&sequence, 1, number)).or_default() += 1;
    }
    let expected = draws as f64 / counts.len() as f64;
    let chi: f64 = counts.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
    let freedom = (counts.len() - 1) as f64;
    assert!(counts.len() > 5, "{counts:?}");
    assert!(chi < freedom + 5.0 * (2.0 * freedom).sqrt(), "{chi} of {freedom}: {counts:?}");
}

#[test]
fn later_motifs_overwrite_and_none_may_end_behind_the_sequence() {
    let experiment = Experiment::parse("both=AAAA@1,CCC@3").unwrap();
    assert_eq!(experiment.embed(&dna("GGGGGGG")).unwrap(), dna("GAACCCG"));
    let error = experiment.embed(&dna("GGGGG")).unwrap_err().chain();
    assert!(error.contains("both: CCC@3: expected a motif that ends within 5 nt"), "{error}");
    assert_eq!(Experiment::parse("ac@1").unwrap().name, "ac@1");
    for wrong in ["", "=A@1", "x=A", "x=A@", "x=@1", "x=AZ@1", "x=A@-1", "x=A@1,"] {
        assert!(Experiment::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn families_of_experiments_place_their_motifs() {
    let motif = PlacedMotif::parse("ACG@5").unwrap();
    let scan = position_scan("m", &motif.letters, &[0, 9]);
    assert_eq!((scan[1].name.as_str(), scan[1].motifs[0].start), ("m@9", 9));
    let flanked = flanks("m", &motif, &[(dna("TT"), dna("C"))]).unwrap();
    assert_eq!(flanked[0].motifs[0].to_string(), "TTACGC@3");
    assert!(flanks("m", &motif, &[(dna("TTTTTT"), dna("C"))]).is_err());
    let spaced = spacings("m", &motif, &dna("GG"), &[0, 4]);
    assert_eq!(spaced[1].motifs[1].to_string(), "GG@12");
    assert_eq!(spaced[0].motifs[1].start, 8);
}

#[test]
fn importance_is_the_mean_of_paired_differences() {
    let backgrounds = vec![dna("GCCCC"), dna("CCGCC"), dna("GCGCC")];
    let analysis = Analysis::new(backgrounds, &mut predict).unwrap();
    assert_eq!(analysis.predictions, [1.0, 3.0, 4.0]);
    let run = |text: &str| analysis.run(&Experiment::parse(text).unwrap(), &mut predict).unwrap();
    let found = run("g=G@4");
    assert_eq!((found.predictions.as_slice(), found.importance), (&[6.0, 8.0, 9.0][..], 5.0));
    assert_eq!((found.median, found.importance_sd), (8.0, Some(0.0)));
    // Sums of places do not interact; a motif over another does.
    let (first, second) = (run("a=G@3"), run("b=G@4"));
    let both = run("ab=G@3,G@4");
    assert!(interaction(&analysis, &both, &first, &second).abs() < 1e-12);
    let over = run("ab=G@3,C@3");
    let lost = interaction(&analysis, &over, &first, &run("c=C@3"));
    assert!((lost + 4.0).abs() < 1e-12, "{lost}");
    let tests = compare(&analysis.predictions, &found.predictions).unwrap();
    assert_eq!((tests.asymptotic.u, tests.exact.unwrap().p), (0.0, 0.1));
    assert!(Analysis::new(Vec::new(), &mut predict).is_err());
}

#[test]
fn sites_are_above_the_percentile_and_kept_with_their_neighbours() {
    let map: Vec<f64> = (0..40).map(|i| if i == 0 { 9.0 } else { -f64::from(i) / 40.0 }).collect();
    let found = important_sites(&map, MapForm::Signed, 2).unwrap();
    // 0.95 * 40 = 38: the second highest value is the threshold.
    assert_eq!((found.threshold, found.sites.as_slice()), (-1.0 / 40.0, &[0][..]));
    assert_eq!(found.kept, [0, 1, 2]);
    let found = important_sites(&map, MapForm::Absolute, 1).unwrap();
    assert_eq!((found.sites.as_slice(), found.kept.as_slice()), (&[0][..], &[0, 1][..]));
    let kept = kept("k", &dna("ACGTACGT"), &[0, 1, 5, 7]);
    let motifs: Vec<String> = kept.motifs.iter().map(ToString::to_string).collect();
    assert_eq!(motifs, ["AC@0", "C@5", "T@7"]);
}

#[test]
fn a_figure_has_a_violin_for_each_group_and_the_line_of_the_wild_type() {
    let values: Vec<f64> = (0..20).map(|i| f64::from(i * i)).collect();
    let svg = figure(&[("shuffled", &values), ("a<b", &values[..1])], Some(30.0));
    assert_eq!(svg.matches("<polygon").count(), 1, "one value has no density");
    assert_eq!(svg.matches("<circle").count(), 2);
    assert!(svg.contains("wild type") && svg.contains("a&lt;b") && !svg.contains("NaN"));
    assert!(!figure(&[], None).contains("NaN"));
}
