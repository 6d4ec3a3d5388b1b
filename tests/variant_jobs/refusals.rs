//! What a job over variants refuses before anything is computed.

use super::{WINDOW, write_job, write_variants};
use glmeval_tests::glmeval::glmeval;
use std::path::Path;

/// What `plan` says of the job after a change of its text.
async fn refused(folder: &Path, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(folder.join("job.toml")).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    std::fs::write(folder.join("changed.toml"), text.replace(from, to)).unwrap();
    let ended = glmeval(folder, &["plan", "changed.toml"]).await;
    assert_eq!(ended.code, Some(1), "{to}: {ended:?}");
    ended.stderr
}

#[tokio::test]
async fn defects_of_a_job_over_variants_are_named_when_it_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_variants(folder);
    write_job(folder, "job.toml", 100);
    let window = format!("window = {WINDOW}");
    let scores = "scores = [\"cosine\", \"dot\", \"l1\", \"l2\", \"masked-llr\"]";
    for (from, to, message) in [
        (window.as_str(), "window = 61", "window: expected an even window length, found 61"),
        (&window, "window = 62", "expected windows as in activity"),
        (scores, "scores = [\"causal-llr\"]", "its tokens are no single nucleotides"),
        ("\"F9\"]", "\"MYC\"]", "targets: expected elements of CAGI5"),
        ("\"var*.tsv\"", "\"x*.tsv\"", "variants: expected at least one file"),
        ("trained_on = \"activity\"", "trained_on = \"CAGI5\"", "expected fits of affine or ridge"),
        ("[\"affine\", \"ridge\"]", "[\"resnet\"]", "expected fits of resnet on activity"),
        (&window, "window = 60\nelements = [\"MYC\"]", "expected elements that the files have"),
    ] {
        let said = refused(folder, from, to).await;
        assert!(said.contains(message), "{to}: {said}");
    }
    let text = std::fs::read_to_string(folder.join("variants.tsv")).unwrap();
    let line = text.lines().nth(4).unwrap().to_owned();
    let torn = line.rsplit_once('\t').unwrap().0;
    std::fs::write(folder.join("variants.tsv"), text.replace(&line, &format!("{torn}\tmuch")))
        .unwrap();
    let ended = glmeval(folder, &["run", "job.toml", "--store", "store"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("variants.tsv: line 5, column effect"), "{ended:?}");
}
