//! Damaged and hostile files: which there are, and whether an error says what it must.

use crate::golden;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One entry of `hostile/index.json`.
pub struct Case {
    /// Path below `hostile/`.
    pub name: String,
    /// Full path.
    pub path: PathBuf,
    /// Which reader it is for.
    pub reader: String,
    /// The whole entry, for `genome`, `companion`, `put_over`, `context`, `ask`.
    pub entry: Value,
}

impl Case {
    /// A text field of the entry.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entry.get(key).and_then(Value::as_str)
    }

    /// Whether a lenient behaviour is allowed as well.
    pub fn may_also(&self) -> Option<&str> {
        self.text("may_also")
    }

    /// A copy below `home` of the folder that `put_over` names, with this file over its namesake.
    ///
    /// # Panics
    /// If the entry has no `put_over` or files cannot be copied.
    pub fn put_over(&self, home: &Path) -> PathBuf {
        let replaced = golden::fixture(self.text("put_over").expect("put_over"));
        let (good, name) = (replaced.parent().expect("a folder"), replaced.file_name());
        let folder = home.join(self.path.file_name().expect("a name"));
        std::fs::create_dir(&folder).expect("a new folder");
        for entry in std::fs::read_dir(good).expect("a folder").flatten() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
        }
        std::fs::copy(&self.path, folder.join(name.expect("a name"))).expect("a copy");
        folder
    }

    /// What the message lacks; empty = it says everything it must.
    pub fn missing(&self, message: &str) -> Vec<String> {
        let must = &self.entry["error_must_mention"];
        let lower = message.to_lowercase();
        let mut missing = Vec::new();
        let file = must["file"].as_str().unwrap_or_default();
        if !lower.contains(&file.to_lowercase()) {
            missing.push(format!("file {file}"));
        }
        for part in ["place", "expected", "found"] {
            for wanted in must[part].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !wanted.split('|').any(|choice| mentions(&lower, &choice.to_lowercase())) {
                    missing.push(format!("{part} {wanted}"));
                }
            }
        }
        missing
    }
}

fn mentions(message: &str, wanted: &str) -> bool {
    message.contains(wanted)
        || (wanted.contains("\\d")
            && regex::Regex::new(wanted).is_ok_and(|pattern| pattern.is_match(message)))
}

/// Every hostile file for one of `readers` (`"fasta"`, `"torch"`, …).
///
/// # Panics
/// If the index cannot be read.
pub fn cases(readers: &[&str]) -> Vec<Case> {
    let folder = golden::root().join("hostile");
    let path = folder.join("index.json");
    if golden::is_elsewhere() && !path.exists() {
        return Vec::new();
    }
    let index = golden::json(&path);
    let files = index["files"].as_array().expect("hostile/index.json: files is a list");
    files
        .iter()
        .map(|entry| {
            let name = entry["file"].as_str().expect("file is a text").to_owned();
            let reader = entry["reader"].as_str().expect("reader is a text").to_owned();
            Case { path: folder.join(&name), name, reader, entry: entry.clone() }
        })
        .filter(|case| readers.contains(&case.reader.as_str()))
        .collect()
}

/// Runs `read` over the hostile files of `readers`: it must return the error's text.
///
/// # Panics
/// With one line per file that was accepted or whose message lacks something.
pub fn check(readers: &[&str], read: impl Fn(&Case) -> Result<(), String>) {
    let mut complaints = Vec::new();
    let cases = cases(readers);
    assert!(golden::is_elsewhere() || !cases.is_empty(), "no hostile file for {readers:?}");
    for case in &cases {
        match read(case) {
            Ok(())
                if case.may_also().is_some_and(|also| {
                    also.contains("accept")
                        || also.contains("read it")
                        || also.contains("drop")
                        || also.contains("open")
                }) => {}
            Ok(()) => complaints.push(format!("{}: accepted", case.name)),
            Err(message) => {
                let missing = case.missing(&message);
                if !missing.is_empty() {
                    complaints.push(format!("{}: {message:?} lacks {missing:?}", case.name));
                }
            }
        }
    }
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}
