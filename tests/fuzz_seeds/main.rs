//! The targets of the fuzzer over the files that it starts from, and over those files damaged.
//!
//! Leaves out: searching for inputs (`cargo xtask fuzz`). Invariant: what is damaged where follows from
//! the bytes alone.

#[path = "../../xtask/src/fuzz/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::path::Path;

/// Places of a file that are damaged.
const PLACES: usize = 6;

/// The file cut short, with a byte turned over and with a run of bytes repeated, at several places.
fn damaged(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for place in 1..=PLACES {
        let at = bytes.len() * place / (PLACES + 1);
        all.push(bytes[..at].to_vec());
        let mut turned = bytes.to_vec();
        if let Some(byte) = turned.get_mut(at) {
            *byte ^= 1 << (place % 8);
        }
        all.push(turned);
        let run = &bytes[at..bytes.len().min(at + 9)];
        all.push([&bytes[..at], run, run, &bytes[at..]].concat());
    }
    all
}

/// Runs a target over its seeds; the names make tests of their own.
fn replay(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root");
    let (_, ends) = seeds::ALL.iter().find(|(known, _)| *known == name).expect("seeds");
    let target = targets::ALL.iter().find(|target| target.name == name).expect("a target");
    let folder = tempfile::tempdir().expect("a folder");
    let files = seeds::files(root, ends);
    assert!(!files.is_empty(), "{name}: no file ends with any of {ends:?}");
    for file in files {
        let bytes = std::fs::read(&file).expect("a seed");
        (target.read)(folder.path(), &bytes);
        for bytes in damaged(&bytes) {
            (target.read)(folder.path(), &bytes);
        }
    }
}

#[test]
fn every_target_has_seeds_of_its_own() {
    let names: Vec<_> = targets::ALL.iter().map(|target| target.name).collect();
    assert_eq!(names, seeds::ALL.map(|(name, _)| name));
}

#[test]
fn readers_of_weights_take_or_refuse_whatever_they_are_given() {
    for reader in ["torch", "pickle", "safetensors", "keras"] {
        replay(reader);
    }
}

#[test]
fn readers_of_examples_take_or_refuse_whatever_they_are_given() {
    for reader in ["hdf5", "fasta", "bed", "narrow-peak", "table"] {
        replay(reader);
    }
}

#[test]
fn readers_of_variants_and_motifs_take_or_refuse_whatever_they_are_given() {
    for reader in ["vcf", "variant-table", "cagi", "motifs"] {
        replay(reader);
    }
}

#[test]
fn readers_of_jobs_and_messages_take_or_refuse_whatever_they_are_given() {
    for reader in ["tokenizer", "job", "shard", "unit", "plan"] {
        replay(reader);
    }
}
