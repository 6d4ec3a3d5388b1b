//! Defects of sequences and weights given to `embed`: one line, before anything is written.

use glmeval_tests::glmeval::{glmeval, model, succeeds};
use glmeval_tests::jobs::Draw;
use glmeval_tests::results::listing;
use std::path::Path;

/// Runs `embed`, which must refuse with one line holding all of `wanted`, leaving no trace.
async fn refused(folder: &Path, model: &Path, source: &[&str], wanted: &[&str]) {
    let before = listing(folder);
    let model = model.display().to_string();
    let line = [&["embed", "--model", &model, "--out", "out"], source].concat();
    let ended = glmeval(folder, &line).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    for wanted in wanted {
        assert!(ended.stderr.contains(wanted), "{wanted}: {ended:?}");
    }
    assert_eq!(listing(folder), before, "{ended:?}");
}

#[tokio::test]
async fn defects_of_sequences_are_told_by_file_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("stray.fa", ">a\nACGT>AC\nGT\n");
    write("genome.fa", &format!(">chr1\n{}\n", Draw::new(1).dna(900)));
    write("past.bed", "chr1\t10\t60\nchr1\t880\t950\n");
    write("nowhere.bed", "chr1\t10\t60\nchr2\t10\t60\n");
    let hdf5 = model().parent().unwrap().parent().unwrap().join("data/REST_200.h5");
    let (targets, no_key) = (format!("{}:y_test", hdf5.display()), format!("{}:x", hdf5.display()));
    let genome = ["--genome", "genome.fa"];
    let cases: [(Vec<&str>, &[&str]); 7] = [
        (vec!["--fasta", "stray.fa"], &["stray.fa: line 2, record a", "'>'", "column 5"]),
        (vec!["--fasta", "absent.fa"], &["absent.fa"]),
        ([&["--bed", "past.bed"], &genome[..]].concat(), &["past.bed: line 2", "900", "950"]),
        ([&["--bed", "nowhere.bed"], &genome[..]].concat(), &["nowhere.bed: line 2", "chr2"]),
        (vec!["--bed", "past.bed"], &["dataset[0]", "genome"]),
        (vec!["--hdf5", &targets], &["REST_200.h5: y_test: expected rank 3", "(2588, 1)"]),
        (vec!["--hdf5", &no_key], &["REST_200.h5", "x_test, x_train, x_valid"]),
    ];
    for (source, wanted) in cases {
        refused(folder, &model(), &source, wanted).await;
    }
}

/// A copy of the small gLM's folder with other weights.
fn model_with(folder: &Path, name: &str, weights: &[u8]) -> std::path::PathBuf {
    let copy = folder.join(name);
    std::fs::create_dir(&copy).unwrap();
    for file in ["config.json", "vocab.txt"] {
        std::fs::copy(model().join(file), copy.join(file)).unwrap();
    }
    std::fs::write(copy.join("model.safetensors"), weights).unwrap();
    copy
}

const LOST: &str = "esm.encoder.layer.1.LayerNorm.bias";

/// The weights with one tensor under another name.
fn renamed(weights: &[u8]) -> Vec<u8> {
    let at = weights.windows(LOST.len()).position(|window| window == LOST.as_bytes()).unwrap();
    let mut weights = weights.to_vec();
    weights[at + LOST.len() - 1] = b'z';
    weights
}

#[tokio::test]
async fn damaged_weights_are_told_by_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a.fa"), ">a\nACGTACGTACGT\n").unwrap();
    let weights = std::fs::read(model().join("model.safetensors")).unwrap();
    let cut = model_with(folder, "cut", &weights[..900_000]);
    let lost = model_with(folder, "lost", &renamed(&weights));
    let source = ["--fasta", "a.fa"];
    refused(folder, &cut, &source, &["cut/model.safetensors: header: tensor", "truncated"]).await;
    refused(folder, &lost, &source, &["lost/model.safetensors", LOST, "missing"]).await;
    refused(folder, &folder.join("absent"), &source, &["absent"]).await;

    let inspected = glmeval(folder, &["inspect", "lost", "--format", "json"]).await;
    assert_eq!(inspected.code, Some(1), "{inspected:?}");
    let found: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(found["missing"], serde_json::json!([format!("{LOST} [64]")]));
    assert_eq!(found["unexpected"].as_array().unwrap().len(), 1);
    let inspected = glmeval(folder, &["inspect", "lost"]).await;
    assert_eq!(inspected.code, Some(1), "{inspected:?}");
    assert!(inspected.stdout.contains(&format!("missing: {LOST}")), "{inspected:?}");
    let whole = model().display().to_string();
    let facts = succeeds(folder, &["inspect", &whole, "--format", "json"]).await;
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    assert_eq!((&facts["missing"], &facts["facts"]["width"]), (&serde_json::json!([]), &64.into()));
}
