//! Shuffles that keep pairs of letters: what must stay, and that nothing is preferred.
//!
//! Leaves out: exact strings, which no fixture prescribes.

use super::{dna, list};
use glmeval_common::dna::DnaSequence;
use glmeval_tests::golden;
use glmeval_worker::importance::{shuffled, shuffles};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Draws for each sequence that can be reached.
const DRAWS: u64 = 100;
/// Sequences that are drawn so often that none can be missed.
const REACHABLE_MAX: u64 = 2_000;
/// Deviations of the normal distribution that are exceeded once in a million.
const DEVIATIONS_MAX: f64 = 4.76;

fn counts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for part in parts {
        *counts.entry(String::from_utf8_lossy(part).into_owned()).or_default() += 1;
    }
    counts
}

fn described(value: &Value) -> BTreeMap<String, u64> {
    let entries = value.as_object().unwrap().iter();
    entries.map(|(key, count)| (key.clone(), count.as_u64().unwrap())).collect()
}

fn check_invariants(shuffle: &DnaSequence, case: &Value) {
    let letters = shuffle.as_bytes();
    assert_eq!(counts(letters.chunks(1)), described(&case["mononucleotides"]));
    assert_eq!(counts(letters.windows(2)), described(&case["dinucleotides"]));
    assert!(shuffle.as_str().starts_with(case["first"].as_str().unwrap()));
    assert!(shuffle.as_str().ends_with(case["last"].as_str().unwrap()));
}

/// Every sequence that can be reached is reached, equally often: chi-square by Wilson and Hilferty.
fn check_uniform(sequence: &DnaSequence, case: &Value, reachable: u64) {
    let mut drawn: BTreeMap<DnaSequence, u64> = BTreeMap::new();
    for number in 0..reachable * DRAWS {
        *drawn.entry(shuffled(sequence, 11, number)).or_default() += 1;
    }
    assert_eq!(drawn.len() as u64, reachable, "{}", sequence.as_str());
    if let Some(listed) = case["reachable"].as_array() {
        let listed: BTreeSet<DnaSequence> = listed.iter().map(dna).collect();
        assert!(drawn.keys().all(|shuffle| listed.contains(shuffle)));
    }
    if reachable > 1 {
        let expected = DRAWS as f64;
        let terms = drawn.values().map(|count| (*count as f64 - expected).powi(2) / expected);
        let (chi, freedom) = (terms.sum::<f64>(), (reachable - 1) as f64);
        let width = 2.0 / (9.0 * freedom);
        let deviations = ((chi / freedom).cbrt() - (1.0 - width)) / width.sqrt();
        assert!(deviations < DEVIATIONS_MAX, "{}: {chi} of {freedom}", sequence.as_str());
    }
}

#[test]
fn shuffles_keep_pairs_and_prefer_no_sequence() {
    let mut compared = 0;
    for path in golden::descriptions("science/gia") {
        let description = golden::json(&path);
        if description["cases"].is_null() {
            continue;
        }
        for case in list(&description, "cases") {
            let sequence = dna(&case["sequence"]);
            let drawn = shuffles(&sequence, 3, 300);
            assert_eq!(shuffles(&sequence, 3, 300), drawn, "the same seed");
            drawn.iter().for_each(|shuffle| check_invariants(shuffle, case));
            match case["reachable_count"].as_u64() {
                Some(1) => assert!(drawn.iter().all(|shuffle| *shuffle == sequence)),
                Some(count) if count <= REACHABLE_MAX => check_uniform(&sequence, case, count),
                _ => assert!(drawn.iter().any(|shuffle| *shuffle != drawn[0])),
            }
            compared += 1;
        }
    }
    assert!(compared > 0 || golden::is_elsewhere(), "nothing was compared");
}
