//! Which readers are fuzzed, and the files each is started from.
//!
//! Leaves out: the readers (`targets.rs`). Invariant: needs nothing but the standard
//! library, so that xtask, which runs the fuzzer, and the test that replays seeds share it.

use std::path::{Path, PathBuf};

/// Names of targets, with ends of the names of files that they are started from.
pub(crate) const ALL: [(&str, &[&str]); 18] = [
    ("torch", &[".bin", ".ckpt", ".pth", ".pt"]),
    ("pickle", &["data.pkl"]),
    ("safetensors", &[".safetensors"]),
    ("keras", &[".h5"]),
    ("hdf5", &[".h5"]),
    ("tokenizer", &["tokenizer.json"]),
    ("job", &[".toml"]),
    ("fasta", &[".fa", ".fasta", ".fa.gz"]),
    ("bed", &[".bed"]),
    ("narrow-peak", &[".narrowPeak"]),
    ("table", &[".tsv", ".csv"]),
    ("vcf", &[".vcf"]),
    ("variant-table", &[".tsv", ".csv"]),
    ("cagi", &[".tsv"]),
    ("motifs", &[".meme", ".jaspar"]),
    ("shard", &[".safetensors"]),
    ("unit", &[".msgpack"]),
    ("plan", &[".msgpack"]),
];

/// Folders below the root that hold files to start from.
const FOLDERS: [&str; 3] = ["tests", "examples", "fuzz/seeds"];
/// Larger files leave the fuzzer too little time for each change.
const BYTES_MAX: u64 = 128 << 10;

/// Files of at most 128 KiB whose names end with one of `ends`, sorted.
pub(crate) fn files(root: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        below(&root.join(folder), ends, &mut found);
    }
    found.sort();
    found
}

fn below(folder: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_small = || path.metadata().is_ok_and(|metadata| metadata.len() <= BYTES_MAX);
        if path.is_dir() {
            below(&path, ends, found);
        } else if ends.iter().any(|end| name.ends_with(end)) && is_small() {
            found.push(path);
        }
    }
}
