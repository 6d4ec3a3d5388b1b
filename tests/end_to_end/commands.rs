//! Every subcommand explains itself; wrong usage is told apart from failure.

use glmeval_tests::glmeval::{glmeval, model, succeeds};
use glmeval_tests::jobs::write_small_job;
use serde_json::Value;

/// Names below `Commands:` of a help text.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names = lines.take_while(|line| line.starts_with("  "));
    let names = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

#[tokio::test]
async fn every_subcommand_has_help_with_an_example() {
    let folder = tempfile::tempdir().unwrap();
    let help = succeeds(folder.path(), &["--help"]).await;
    assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    let names = subcommands(&help);
    assert!(names.len() >= 15, "{names:?}");
    for name in names {
        let mut line = vec![name.as_str()];
        if name == "store" {
            line.push("gc");
        }
        line.push("--help");
        let help = succeeds(folder.path(), &line).await;
        assert!(help.contains("Example") && help.contains("glmeval "), "{name}: {help}");
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_2_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lines: [&[&str]; 12] = [
        &[],
        &["frobnicate"],
        &["run"],
        &["run", "job.toml", "--workers", "0"],
        &["run", "job.toml", "--format", "xml"],
        &["embed", "--model", "m", "--out", "out"],
        &["embed", "--model", "m", "--out", "out", "--fasta", "a.fa", "--pool", "max"],
        &["worker", "--store", "out"],
        &["worker", "--store", "out", "--discover", "--coordinator", "head:7070"],
        &["worker", "--store", "out", "--partition", "0/2"],
        &["worker", "--store", "out", "--partition", "2/2", "job.toml"],
        &["embed", "--model", "m", "--out", "out", "--tsv", "a.tsv"],
    ];
    for line in lines {
        let ended = glmeval(folder.path(), line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{line:?}: {ended:?}");
        assert!(ended.stderr.contains("Usage:") || ended.stderr.contains("--help"), "{ended:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_plan_is_printed_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    write_small_job(folder.path(), 64);
    let json = succeeds(folder.path(), &["plan", "job.toml", "--format", "json"]).await;
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["plan"]["units"].as_array().unwrap().len() as u64, plan["units_total"]);
    let stages: Vec<_> = plan["stages"].as_array().unwrap().iter().map(|s| &s["units"]).collect();
    assert_eq!(stages[..2], [2, 8], "two data sets, four shards of 64 of 200 rows each");
    let table = succeeds(folder.path(), &["plan", "job.toml"]).await;
    assert!(table.contains("binding") && table.contains("extract"), "{table}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "the two input files");
}

#[tokio::test]
async fn a_store_is_examined_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = ["doctor", "--store", "store", "--format", "json"];
    let json = succeeds(folder.path(), &doctor).await;
    let checks: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert!(checks.len() > 5 && checks.iter().all(|check| check["passed"] == true), "{json}");
    assert_eq!(glmeval_tests::results::listing(&folder.path().join("store")).len(), 0);
    std::fs::write(folder.path().join("file"), "not a folder").unwrap();
    let ended = glmeval(folder.path(), &["doctor", "--store", "file"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("FAILED"), "{ended:?}");
}

#[tokio::test]
async fn completions_and_tensors_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let script = succeeds(folder.path(), &["completions", "bash"]).await;
    assert!(script.contains("glmeval") && script.contains("--shard-rows"));
    let model = model().display().to_string();
    let text = succeeds(folder.path(), &["inspect", &model, "--tensors"]).await;
    assert!(text.contains("parameters") && text.contains("word_embeddings.weight"), "{text}");
}

#[tokio::test]
async fn a_sweep_deletes_orphans_and_no_committed_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 64);
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    let before = glmeval_tests::results::listing(&folder.join("store"));
    let set = std::fs::read_dir(folder.join("store/embeddings")).unwrap().next().unwrap().unwrap();
    let orphan = set.path().join("data/0000000000-0000000064.abandoned.safetensors");
    std::fs::write(&orphan, "half").unwrap();
    let file = std::fs::File::options().write(true).open(&orphan).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let sweep = ["store", "gc", "--store", "store", "--grace-hours", "1"];
    let told = succeeds(folder, &[&sweep[..], &["--dry-run"]].concat()).await;
    assert!(told.contains("abandoned") && orphan.exists(), "{told}");
    succeeds(folder, &sweep).await;
    assert_eq!(glmeval_tests::results::listing(&folder.join("store")), before);
}
