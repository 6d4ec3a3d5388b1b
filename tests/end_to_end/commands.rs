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
    let lines: [&[&str]; 14] = [
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
        &["coordinator", "--store", "out", "--listen", "foo"],
        &["coordinator", "--store", "out", "--dashboard", "8080"],
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
    let stages: Vec<_> = plan["stages"].as_array().unwrap().iter().map(|s| &s["units"]).collect();
    let units = stages.iter().filter_map(|units| units.as_u64()).sum::<u64>();
    assert_eq!(plan["units_total"], units);
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
    let token = "0a".repeat(16);
    let orphan = set.path().join(format!("data/0000000000-0000000064.{token}.safetensors"));
    std::fs::write(&orphan, "half").unwrap();
    let file = std::fs::File::options().write(true).open(&orphan).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let sweep = ["store", "gc", "--store", "store", "--grace-hours", "1"];
    let told = succeeds(folder, &[&sweep[..], &["--dry-run"]].concat()).await;
    assert!(told.contains(&token) && orphan.exists(), "{told}");
    succeeds(folder, &sweep).await;
    assert_eq!(glmeval_tests::results::listing(&folder.join("store")), before);
    for sweep in [["store", "gc", "--store", "stroe"], ["store", "gc", "--store", "job.toml"]] {
        let ended = glmeval(folder, &sweep).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    }
    assert!(!folder.join("stroe").exists(), "a store that is swept is not made");
}

#[tokio::test]
async fn a_bench_prints_a_row_for_each_case() {
    let folder = tempfile::tempdir().unwrap();
    let model = model().display().to_string();
    let bench = ["bench", "--model", &model, "--random", "7", "--seconds", "0.01", "--length"];
    let more = ["60", "--lengths", "20-90", "--tokens", "12", "--batch", "3", "--threads", "1"];
    let line = [&bench[..], &more, &["--format", "json"]].concat();
    let lines = succeeds(folder.path(), &line).await;
    let rows: Vec<Value> = lines.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let cases: Vec<_> = rows.iter().map(|row| row["case"].as_str().unwrap()).collect();
    let name = "nt-v1-random";
    let expected = ["B3_L60", "B3_L20-90", "B3_T12"].map(|case| format!("{name}_{case}"));
    assert_eq!(cases, expected);
    for row in rows {
        let numbers = ["median_ms", "min_ms", "max_ms", "first_ms", "gflops", "seqs_per_s"];
        let more = ["tokens_per_s", "share_of_peak", "peak_gflops", "load_ms"];
        for key in numbers.into_iter().chain(more) {
            assert!(row[key].as_f64().is_some_and(|number| number > 0.0), "{key}: {row}");
        }
        let counts = ["n", "clean", "dirty", "threads"].map(|key| row[key].as_u64().unwrap());
        assert!(counts[0] > 0 && counts[1] + counts[2] >= 3 && counts[3] == 1, "{row}");
        assert_eq!((&row["impl"], &row["dtype"]), (&"glmeval".into(), &"f32".into()));
        assert_eq!((&row["suite"], &row["device"]), (&"forward".into(), &"cpu".into()));
        assert!(row.get("peak_rss_bytes").is_some());
    }
    for wrong in [["--lengths", "9-8"], ["--seconds", "0"], ["--batch", "0"], ["--length", "0"]] {
        let line = [&["bench", "--model", model.as_str()][..], &wrong].concat();
        assert_eq!(glmeval(folder.path(), &line).await.code, Some(2), "{wrong:?}");
    }
    let ended = glmeval(folder.path(), &["bench", "--length", "60"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
