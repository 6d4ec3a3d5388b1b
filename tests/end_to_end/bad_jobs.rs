//! Defects of a job file and of the tables it names: one line, before anything is written.

use glmeval_tests::glmeval::glmeval;
use glmeval_tests::jobs::write_small_job;
use glmeval_tests::results::listing;
use std::io::Write;
use std::path::Path;

/// Runs a job that must be refused with one line holding all of `wanted`, leaving no trace.
async fn refused(folder: &Path, job: &str, wanted: &[&str]) {
    std::fs::write(folder.join("bad.toml"), job).unwrap();
    let before = listing(folder);
    for command in ["run", "plan"] {
        let store = ["--store", "store", "--report", "report"];
        let more = if command == "run" { &store[..] } else { &[] };
        let ended = glmeval(folder, &[&[command, "bad.toml"], more].concat()).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        for wanted in wanted {
            assert!(ended.stderr.contains(wanted), "{wanted}: {ended:?}");
        }
        assert_eq!(listing(folder), before, "{ended:?}");
    }
}

/// The small job with `old` replaced by `new`.
fn changed(folder: &Path, old: &str, new: &str) -> String {
    let text = std::fs::read_to_string(folder.join("job.toml")).unwrap();
    assert!(text.contains(old));
    text.replace(old, new)
}

#[tokio::test]
async fn defects_of_a_job_file_are_told_by_line_or_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 64);
    let cases: [(&str, &str, &[&str]); 9] = [
        ("seed = 3", "sedd = 3", &["bad.toml: line 2: expected one of `name`, `seed`", "`sedd`"]),
        ("seed = 3", "seed = ", &["bad.toml: line 2"]),
        ("name = \"small\"\n", "", &["bad.toml", "expected field `name`"]),
        ("layers = [0, 2, 4]", "layers = [9]", &["representation[0].layers: expected 0 to 4", "9"]),
        ("model = \"NT\"", "model = \"DNABERT\"", &["representation[0].model", "NT", "DNABERT"]),
        ("\"bound\"", "\"bond\"", &["data.tsv", "bond", "\"bound\", \"activity\""]),
        ("data.tsv", "nowhere.tsv", &["bad.toml: dataset[0].table", "nowhere.tsv"]),
        ("nt-v1-random", "nt-v0", &["nt-v0"]),
        ("kind = \"ridge\"", "kind = \"rigde\"", &["probe[1].kind", "ridge", "rigde"]),
    ];
    for (old, new, wanted) in cases {
        refused(folder, &changed(folder, old, new), wanted).await;
    }
    let absent = glmeval(folder, &["run", "absent.toml"]).await;
    assert_eq!((absent.code, absent.stderr.lines().count()), (Some(1), 1));
    assert!(absent.stderr.contains("absent.toml"), "{absent:?}");
}

#[tokio::test]
async fn defects_of_a_table_are_told_by_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 64);
    let table = std::fs::read_to_string(folder.join("data.tsv")).unwrap();
    let mut lines: Vec<&str> = table.lines().collect();
    let (line, _) = lines[19].rsplit_once('\t').unwrap();
    let text = format!("{line}\thigh");
    lines[19] = &text;
    std::fs::write(folder.join("text.tsv"), lines.join("\n")).unwrap();
    let job = changed(folder, "data.tsv", "text.tsv");
    refused(folder, &job, &["text.tsv: line 20, column activity", "\"high\""]).await;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(table.as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    std::fs::write(folder.join("cut.tsv.gz"), &whole[..whole.len() / 2]).unwrap();
    let job = changed(folder, "data.tsv", "cut.tsv.gz");
    refused(folder, &job, &["cut.tsv.gz", "byte", "truncated"]).await;
}
