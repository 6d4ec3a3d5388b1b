//! Data sets built from public inputs: exons with PSI, peaks, TFRecord; each against its description.
//!
//! Leaves out: ready-made files (`formats_text`, `formats_hdf5`). Fixtures are found by folder and
//! described by their JSON, so others of the same kinds run unchanged.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod jobs;
mod peaks;
mod splicing;
mod tfrecord;

use glmeval_common::error::Result;
use glmeval_common::example::Example;
use glmeval_common::readers::ExampleReader;
use glmeval_tests::golden;
use std::path::{Path, PathBuf};

/// Every example, read a few at a time.
fn drain(reader: &mut dyn ExampleReader) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    loop {
        let mut batch = reader.read(7)?;
        if batch.is_empty() {
            return Ok(examples);
        }
        for example in &batch {
            assert_eq!(example.sequences.len(), reader.schema().sequences.len());
            assert_eq!(example.targets.len(), reader.schema().targets.len());
            assert_eq!(example.split.is_some(), reader.schema().has_splits);
            assert_eq!(example.interval.is_some(), reader.schema().has_intervals);
        }
        examples.append(&mut batch);
    }
}

/// Folders below `root()/part`, at any depth, that hold a file for which `is_wanted`.
fn folders_with(part: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![golden::root().join(part)];
    while let Some(folder) = open.pop() {
        let mut is_found = false;
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            }
            is_found |= entry.file_name().to_str().is_some_and(&is_wanted);
        }
        if is_found {
            found.push(folder);
        }
    }
    found.sort();
    assert!(golden::is_elsewhere() || !found.is_empty(), "no such folder below {part}");
    found
}

/// A path as a TOML or Rust string.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
