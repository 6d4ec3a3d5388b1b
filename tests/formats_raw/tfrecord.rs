//! TFRecord folders against their descriptions; damaged ones are refused.

use crate::{drain, folders_with};
use glmeval_common::example::Split;
use glmeval_common::readers::tfrecord::{Record, RecordReader, TfrecordReader, list};
use glmeval_tests::golden::assert_close;
use glmeval_tests::{golden, hostile};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

fn folders() -> Vec<PathBuf> {
    folders_with("layouts", |name| name == "statistics.json")
}

fn records(reader: &mut RecordReader) -> glmeval_common::error::Result<Vec<Record>> {
    let mut all = Vec::new();
    while let Some(record) = reader.next_record()? {
        all.push(record);
    }
    Ok(all)
}

fn check_values(found: &[f32], expected: &Value, what: &str) {
    let bytes: Vec<u8> = found.iter().flat_map(|value| value.to_le_bytes()).collect();
    let digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(Some(digest.as_str()), expected["f32_sha256"].as_str(), "{what}");
    let sum: f64 = found.iter().map(|&value| f64::from(value)).sum();
    assert_close(&[sum as f32], &[expected["sum_f64"].as_f64().unwrap()], 1e-6, what);
    let extents = expected["shape"].as_array().unwrap().iter();
    let count: u64 = extents.map(|extent| extent.as_u64().unwrap()).product();
    assert_eq!(found.len() as u64, count, "{what}");
}

#[test]
fn stored_embeddings_and_targets_are_those_of_the_description() {
    for folder in folders() {
        let description = golden::json(&folder.join("expected.json"));
        for (split, part) in description["splits"].as_object().expect("splits") {
            let what = format!("{} {split}", folder.display());
            let mut reader = RecordReader::open(&folder, Split::parse(split).unwrap()).unwrap();
            let found = records(&mut reader).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(Some(found.len() as u64), part["n"].as_u64(), "{what}");
            let statistics = reader.statistics();
            let row = statistics.embed_length * statistics.embed_dim;
            assert!(found.iter().all(|record| record.embedding.len() == row), "{what}");
            let values: Vec<f32> = found.iter().flat_map(|r| r.embedding.clone()).collect();
            check_values(&values, &part["x"], &what);
            let targets: Vec<f32> = found.iter().flat_map(|r| r.targets.clone()).collect();
            check_values(&targets, &part["targets_f16"], &what);
            for (record, key) in
                [(found.first(), "first_sequence"), (found.last(), "last_sequence")]
            {
                let sequence = record.unwrap().sequence.as_ref().map(|s| s.as_str().to_owned());
                assert_eq!(sequence.as_deref(), part[key].as_str(), "{what} {key}");
            }
        }
    }
}

#[test]
fn folders_with_one_hot_are_data_sets_and_others_are_refused() {
    for folder in folders() {
        let description = golden::json(&folder.join("expected.json"));
        let files = list(&folder).unwrap();
        let splits = description["splits"].as_object().expect("splits");
        let has_sequences = splits.values().all(|part| part["first_sequence"].is_string());
        let mut reader = match TfrecordReader::open(&files) {
            Ok(reader) if has_sequences => reader,
            Err(error) if !has_sequences => {
                assert!(error.to_string().contains("onehot_length"), "{error}");
                continue;
            }
            other => panic!("{}: {:?}", folder.display(), other.map(drop)),
        };
        let examples = drain(&mut reader).unwrap();
        let mut expected = Vec::new();
        for split in Split::ALL {
            let rows = splits.get(split.name()).and_then(|part| part["n"].as_u64()).unwrap_or(0);
            expected.extend((0..rows).map(|row| format!("{split}-{row}")));
        }
        assert!(examples.iter().map(|e| e.id.clone()).eq(expected), "{}", folder.display());
        for (split, part) in splits {
            let mut of_split = examples.iter().filter(|e| e.split == Split::parse(split));
            let first = of_split.next().unwrap();
            assert_eq!(Some(first.sequences[0].as_str()), part["first_sequence"].as_str());
            let target = part["first_target"].as_f64().unwrap();
            assert_close(&first.targets[..1], &[target], 1e-6, &first.id);
        }
    }
}

#[test]
fn a_gap_in_the_numbers_of_the_files_is_refused() {
    for folder in folders() {
        let copy = tempfile::tempdir().unwrap();
        for file in list(&folder).unwrap() {
            let name = file.file_name().unwrap().to_str().unwrap().replace("valid-0", "valid-1");
            std::fs::copy(&file, copy.path().join(name)).unwrap();
        }
        let error = list(copy.path()).unwrap_err().to_string();
        assert!(error.contains("valid-0.tfr"), "{error}");
    }
}

#[test]
fn every_hostile_record_is_refused_with_file_and_place() {
    hostile::check(&["tfrecord"], |case| {
        let (folder, name) = (case.path.parent().unwrap(), case.path.file_name().unwrap());
        let split = name.to_str().unwrap().split('-').next().unwrap();
        let split = Split::parse(split).expect("a split");
        let read = RecordReader::open(folder, split).and_then(|mut r| records(&mut r));
        read.map(drop).map_err(|error| error.chain())
    });
}

#[test]
fn a_damaged_folder_is_read_or_refused_and_never_panics() {
    let mut rng = glmeval_common::rng::Rng::derive(1, "damage");
    for folder in folders() {
        let files = list(&folder).unwrap();
        for _ in 0..40 {
            let copy = tempfile::tempdir().unwrap();
            for file in &files {
                let mut bytes = std::fs::read(file).unwrap();
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
                let cut = rng.below(4) == 0;
                bytes.truncate(if cut { at } else { bytes.len() });
                std::fs::write(copy.path().join(file.file_name().unwrap()), bytes).unwrap();
            }
            for split in Split::ALL {
                drop(RecordReader::open(copy.path(), split).and_then(|mut r| records(&mut r)));
            }
        }
    }
}
