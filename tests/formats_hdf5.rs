//! Every HDF5 fixture decodes to what its description says; every hostile one is refused.
//!
//! Leaves out: CSV and TSV that lie beside (`formats_text`). Which layout a file has is read off
//! its description, never off its name, so other fixtures of the same kinds run unchanged.

use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::dataset::{Hdf5Layout, TaskName};
use glmeval_common::error::Result;
use glmeval_common::example::{Example, Split};
use glmeval_common::readers::ExampleReader;
use glmeval_common::readers::hdf5::{Hdf5Reader, read_array};
use glmeval_tests::golden::{assert_close, numbers, texts};
use glmeval_tests::{golden, hostile};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Examples asked for at a time; small and odd, so that several reads cross splits.
const ROWS_PER_READ: usize = 7;
const HOSTILE_PEAK_BYTES_MAX: u64 = 256 << 20;
const HOSTILE_MS_MAX: u64 = 5_000;

fn read_all(path: &Path, layout: &Hdf5Layout, task: TaskName) -> Result<Vec<Example>> {
    drain(Hdf5Reader::open(path, layout, task, None)?)
}

fn drain(mut reader: Hdf5Reader) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    loop {
        let mut batch = reader.read(ROWS_PER_READ)?;
        if batch.is_empty() {
            return Ok(examples);
        }
        for example in &batch {
            assert_eq!(example.sequences.len(), reader.schema().sequences.len());
            assert_eq!(example.targets.len(), reader.schema().targets.len());
            assert_eq!(example.split.is_some(), reader.schema().has_splits);
        }
        examples.append(&mut batch);
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sequences(examples: &[Example], side: usize) -> Vec<&str> {
    examples.iter().map(|example| example.sequences[side].as_str()).collect()
}

/// Files below `folder` with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.append(&mut files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// `X.expected.json` beside `X.h5`, else the `expected.json` of the folder.
fn description(path: &Path) -> Option<Value> {
    let own = path.with_extension("expected.json");
    let shared = path.with_file_name("expected.json");
    [own, shared].iter().find(|json| json.exists()).map(|json| golden::json(json))
}

#[test]
fn every_layout_file_decodes_to_its_description() {
    let root = golden::root().join("layouts");
    let all = files(&root, "h5");
    assert!(!all.is_empty(), "no HDF5 file below {}", root.display());
    for path in &all {
        let expected = description(path).unwrap_or(Value::Null);
        let handled = check_splits(path, &expected)
            || check_pair(path, &expected)
            || check_unsplit(path, &expected)
            || check_encodings(path, &expected)
            || check_texts(path, &expected)
            || check_splicing(path);
        assert!(handled, "{}: no description", path.display());
    }
}

/// Files whose description lists values by split.
fn check_splits(path: &Path, expected: &Value) -> bool {
    let Some(splits) = expected["splits"].as_object() else { return false };
    if !path.with_extension("expected.json").exists() {
        return false;
    }
    let first = splits.values().next().expect("a split");
    if first.get("sequences").is_none() {
        for (split, part) in splits {
            check_embedding_split(path, split, part);
        }
        return true;
    }
    let (layout, task) = if first.get("labels").is_some() {
        (Hdf5Layout::Binary, TaskName::ChipSeq)
    } else if first.get("label_rows_as_set_bit_indices").is_some() {
        (Hdf5Layout::Binary, TaskName::Classification)
    } else if first.get("targets_ln_y_plus_1").is_some() {
        (Hdf5Layout::Insert, TaskName::InsertSeq)
    } else if expected.get("fold_sizes").is_some() {
        (Hdf5Layout::Folds, TaskName::LentiMpra)
    } else {
        (Hdf5Layout::Regression, TaskName::LentiMpra)
    };
    let examples = read_all(path, &layout, task).unwrap_or_else(|e| panic!("{e}"));
    let mut rest = examples.as_slice();
    for (split, part) in splits {
        let n = texts(&part["sequences"]).len();
        let (rows, after) = rest.split_at(n);
        rest = after;
        assert!(rows.iter().all(|row| row.split == Split::parse(split)), "{}", path.display());
        assert_eq!(sequences(rows, 0), texts(&part["sequences"]), "{} {split}", path.display());
        check_targets(path, rows, part);
    }
    assert!(rest.is_empty(), "{}: {} rows too many", path.display(), rest.len());
    let ids: Vec<&str> = examples.iter().map(|example| example.id.as_str()).collect();
    let expected_ids = expected_ids(expected, splits);
    assert_eq!(ids, expected_ids, "{}", path.display());
    true
}

fn expected_ids(expected: &Value, splits: &serde_json::Map<String, Value>) -> Vec<String> {
    if let Some(folds) = expected["fold_sizes"].as_array() {
        let folds = folds.iter().map(|size| size.as_u64().expect("a fold size"));
        return folds
            .zip(1..)
            .flat_map(|(size, fold)| (0..size).map(move |row| format!("fold{fold}-{row}")))
            .collect();
    }
    let sizes = splits.iter().map(|(split, part)| (split, texts(&part["sequences"]).len()));
    sizes.flat_map(|(split, n)| (0..n).map(move |row| format!("{split}-{row}"))).collect()
}

fn check_targets(path: &Path, rows: &[Example], part: &Value) {
    let what = path.display().to_string();
    if let Some(list) = part["label_rows_as_set_bit_indices"].as_array() {
        for (row, expected) in rows.iter().zip(list) {
            let set = row.targets.iter().enumerate().filter(|(_, target)| **target == 1.0);
            let set: Vec<f64> = set.map(|(index, _)| index as f64).collect();
            assert_eq!(set, numbers(expected), "{what}: {}", row.id);
        }
        return;
    }
    let key = ["labels", "targets", "targets_ln_y_plus_1"];
    let key = key.into_iter().find(|key| part.get(key).is_some()).expect("targets");
    let found: Vec<f32> = rows.iter().flat_map(|row| row.targets.clone()).collect();
    assert_close(&found, &numbers(&part[key]), 1e-6, &what);
}

/// Embeddings: `x`, `xl` or `xr` by shape, digest and sum; targets as they lie.
fn check_embedding_split(path: &Path, split: &str, part: &Value) {
    for (stem, expected) in part.as_object().expect("a split") {
        if expected.get("f32_sha256").is_some() {
            check_embedding(path, &format!("{stem}_{split}"), expected);
        }
    }
    let mut y = read_array(path, &format!("y_{split}")).unwrap_or_else(|e| panic!("{e}"));
    let what = format!("{} y_{split}", path.display());
    let columns = y.values_per_row();
    let values = y.read(usize::MAX).unwrap_or_else(|e| panic!("{e}"));
    let column0: Vec<f32> = values.iter().copied().step_by(columns.max(1)).collect();
    if let Some(expected) = part.get("labels").or(part.get("targets")) {
        assert_close(&column0, &numbers(expected), 1e-6, &what);
    } else if let Some(expected) = part.get("targets_ln_y_plus_1") {
        let found: Vec<f32> = column0.iter().map(|y| y.ln_1p()).collect();
        assert_close(&found, &numbers(expected), 1e-6, &what);
    } else {
        let nan = values.iter().step_by(2).filter(|value| value.is_nan()).count() as u64;
        assert_eq!(Some(nan), part["y_nan_count"].as_u64(), "{what}");
        let row0: Vec<f32> = values.iter().copied().step_by(2).take(columns / 2).collect();
        assert_close(&row0, &numbers(&part["y_row0"]), 1e-6, &what);
    }
}

fn check_embedding(path: &Path, key: &str, expected: &Value) {
    let what = format!("{} {key}", path.display());
    let mut array = read_array(path, key).unwrap_or_else(|e| panic!("{e}"));
    let shape: Vec<f64> = array.shape().iter().map(|&extent| extent as f64).collect();
    assert_eq!(shape, numbers(&expected["shape"]), "{what}");
    let mut values = Vec::new();
    loop {
        let mut rows = array.read(3).unwrap_or_else(|e| panic!("{e}"));
        if rows.is_empty() {
            break;
        }
        values.append(&mut rows);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(Some(hex(&bytes).as_str()), expected["f32_sha256"].as_str(), "{what}");
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    let expected_sum = golden::number(&expected["sum_f64"]).expect("a sum");
    assert!((sum - expected_sum).abs() < 1e-6, "{what}: sum {sum}");
}

/// `ref` and `alt`, as sequences, as digests of them, or as embeddings.
fn check_pair(path: &Path, expected: &Value) -> bool {
    if expected["ref"].get("f32_sha256").is_some() {
        check_embedding(path, "ref", &expected["ref"]);
        check_embedding(path, "alt", &expected["alt"]);
        return true;
    }
    let digests = expected.get("ref_sha256").is_some();
    if !digests && expected.get("ref_sequences").is_none() {
        return false;
    }
    let examples = read_all(path, &Hdf5Layout::RefAlt, TaskName::VariantEffect)
        .unwrap_or_else(|e| panic!("{e}"));
    for (side, name) in ["ref", "alt"].into_iter().enumerate() {
        let found = sequences(&examples, side);
        if digests {
            let found: Vec<String> = found.iter().map(|text| hex(text.as_bytes())).collect();
            assert_eq!(found, texts(&expected[&format!("{name}_sha256")]), "{}", path.display());
        } else {
            assert_eq!(found, texts(&expected[&format!("{name}_sequences")]), "{}", path.display());
        }
    }
    true
}

/// The file of the preprint, which stores no split: the test rows are certain, of the others the
/// number.
fn check_unsplit(path: &Path, expected: &Value) -> bool {
    let Some(splits) = expected["split_indices"].as_object() else { return false };
    let examples = read_all(path, &Hdf5Layout::Regression, TaskName::LentiMpra)
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(sequences(&examples, 0), texts(&expected["sequences"]), "{}", path.display());
    let targets: Vec<f32> = examples.iter().flat_map(|row| row.targets.clone()).collect();
    assert_close(&targets, &numbers(&expected["targets"]), 1e-6, &path.display().to_string());
    for (split, rows) in splits {
        let members = examples.iter().enumerate().zip(std::iter::repeat(Split::parse(split)));
        let found: Vec<f64> = members
            .filter(|((_, example), split)| example.split == *split)
            .map(|((row, _), _)| row as f64)
            .collect();
        let mut rows = numbers(rows);
        rows.sort_by(f64::total_cmp);
        assert_eq!(found.len(), rows.len(), "{} {split}", path.display());
        assert!(split != "test" || found == rows, "{} {split}: {found:?}", path.display());
    }
    true
}

/// One content in many encodings.
fn check_encodings(path: &Path, expected: &Value) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a file name");
    let files = expected["files"].as_array().into_iter().flatten();
    let Some(entry) = files.into_iter().find(|entry| entry["file"] == *name) else { return false };
    let key = |key: &str| entry[key].as_str().expect("a key").to_owned();
    let layout = Hdf5Layout::Key(key("x_key").to_lowercase());
    let examples =
        read_all(path, &layout, TaskName::None).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(sequences(&examples, 0), texts(&expected["sequences"]), "{name}");
    let labels = read_array(path, &key("y_key").to_uppercase())
        .and_then(|mut array| array.read(usize::MAX))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_close(&labels, &numbers(&expected["labels"]), 0.0, name);
    true
}

/// The same sequences as text under several keys, which an error message lists.
fn check_texts(path: &Path, expected: &Value) -> bool {
    let Some(wanted) = expected.get("every_key_equals") else { return false };
    for key in keys(path) {
        let layout = Hdf5Layout::Key(key.clone());
        let examples = read_all(path, &layout, TaskName::None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(sequences(&examples, 0), texts(wanted), "{} {key}", path.display());
    }
    true
}

/// `delta_logit.*`: values lie in the `expected.json` that the description names as its content.
fn check_splicing(path: &Path) -> bool {
    let stem = path.file_name().and_then(|name| name.to_str()).expect("a file name");
    let stem = stem.split('.').next().expect("a stem");
    let described = path.with_file_name(format!("{stem}.expected.json"));
    if !described.exists() || golden::json(&described)["content"].is_null() {
        return false;
    }
    let is_small = path.file_stem().is_some_and(|name| name != stem);
    let content = golden::json(&path.with_file_name("expected.json"));
    let examples = read_all(path, &Hdf5Layout::DeltaLogit, TaskName::Splicing)
        .unwrap_or_else(|e| panic!("{e}"));
    let mut rest = examples.as_slice();
    for (split, part) in content["splits"].as_object().expect("splits") {
        let n = texts(&part["left"]).len().min(if is_small { 3 } else { usize::MAX });
        let (rows, after) = rest.split_at(n);
        rest = after;
        assert!(rows.iter().all(|row| row.split == Split::parse(split)));
        assert_eq!(sequences(rows, 0), texts(&part["left"])[..n], "{}", path.display());
        assert_eq!(sequences(rows, 1), texts(&part["right"])[..n], "{}", path.display());
        let means = numbers(&part["logit_mean"]);
        for (row, (example, mean)) in rows.iter().zip(means).enumerate() {
            let what = format!("{} {}", path.display(), example.id);
            let (delta, logit_mean) = example.targets.split_at(example.targets.len() / 2);
            assert_close(delta, &numbers(&part["delta_logit"][row]), 1e-6, &what);
            assert_close(logit_mean, &vec![mean; logit_mean.len()], 1e-6, &what);
        }
    }
    assert!(rest.is_empty(), "{}: {} rows too many", path.display(), rest.len());
    true
}

/// The smallest fixtures with their keys, to be damaged.
fn small_files() -> Vec<(Vec<u8>, Vec<String>)> {
    let mut all = files(&golden::root().join("layouts"), "h5");
    all.sort_by_key(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
    let read = |path: &PathBuf| (std::fs::read(path).expect("a readable fixture"), keys(path));
    all.iter().take(24).map(read).collect()
}

/// Keys of a file, as the error for a key that is not there lists them.
fn keys(path: &Path) -> Vec<String> {
    let absent = Hdf5Layout::Key("no such key".to_owned());
    let error = read_all(path, &absent, TaskName::None).expect_err("no such key").to_string();
    let keys = error.split("keys: ").nth(1).expect("an error that lists the keys");
    keys.split(", ").map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_fixture_is_read_or_refused_in_little_memory_and_time(
        choice in any::<Index>(),
        flips in prop::collection::vec((any::<Index>(), any::<bool>(), any::<u8>()), 1..6),
    ) {
        let (mut bytes, keys) = choice.get(&small_files()).clone();
        for (index, is_header, byte) in flips {
            // Half of the damage goes where the structures are.
            let at = index.index(if is_header { bytes.len().min(3_000) } else { bytes.len() });
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("damaged.h5");
        std::fs::write(&path, &bytes).expect("a written file");
        let (clock, idle) = (SystemClock::default(), peak_bytes());
        for key in &keys {
            drop(read_all(&path, &Hdf5Layout::Key(key.clone()), TaskName::None));
            drop(read_array(&path, key).and_then(|mut array| array.read(50)));
        }
        drop(read_all(&path, &Hdf5Layout::Binary, TaskName::ChipSeq));
        prop_assert!(clock.now_ms() < HOSTILE_MS_MAX, "{} ms", clock.now_ms());
        let peak = peak_bytes().saturating_sub(idle);
        prop_assert!(peak < HOSTILE_PEAK_BYTES_MAX, "{peak} bytes above idle");
    }
}

/// Peak memory of this process in bytes, where the system tells.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[test]
fn every_hostile_file_is_refused_with_place_expected_and_found_in_little_memory_and_time() {
    let readers = [
        "hdf5.binary_task",
        "hdf5.lentimpra_raw",
        "hdf5.cagi_onehot",
        "hdf5.delta_logit",
        "hdf5.insert",
    ];
    let idle = peak_bytes();
    hostile::check(&readers, |case| {
        let (layout, task, length) = match case.reader.as_str() {
            "hdf5.binary_task" => (Hdf5Layout::Binary, TaskName::ChipSeq, Some(200)),
            "hdf5.lentimpra_raw" => (Hdf5Layout::Folds, TaskName::LentiMpra, None),
            "hdf5.cagi_onehot" => (Hdf5Layout::RefAlt, TaskName::VariantEffect, None),
            "hdf5.delta_logit" => (Hdf5Layout::DeltaLogit, TaskName::Splicing, None),
            _ => (Hdf5Layout::Insert, TaskName::InsertSeq, None),
        };
        let clock = SystemClock::default();
        let start = clock.now_ms();
        let outcome = Hdf5Reader::open(&case.path, &layout, task, length).and_then(drain);
        assert!(clock.now_ms() - start < HOSTILE_MS_MAX, "{} took too long", case.name);
        outcome.map(drop).map_err(|error| error.chain())
    });
    let peak = peak_bytes().saturating_sub(idle);
    assert!(peak < HOSTILE_PEAK_BYTES_MAX, "{peak} bytes above idle");
}
