//! Polite ends: an interrupt keeps what is done, a terminated worker says that work is left.

use glmeval_tests::glmeval::{Coordinator, Running, command, model, succeeds};
use glmeval_tests::jobs::write_long_job;
use glmeval_tests::results::{check_committed_once, commits, results};

#[tokio::test]
async fn an_interrupted_run_exits_with_130_and_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 800, 8);
    let mut command = command(folder, &["run", "job.toml", "--store", "store"]);
    command.env("RUST_LOG", "glmeval_worker=debug");
    let mut run = Running::start(command);
    for _ in 0..5 {
        run.line_with("unit starts").await;
    }
    run.signal("INT").await;
    let (code, lines) = run.exit().await;
    assert_eq!(code, Some(130), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("run again to resume")), "{lines:?}");
    let store = folder.join("store");
    let kept = commits(&store);
    assert!(kept.len() > 1, "what was done is kept");
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    let found = commits(&store);
    for (path, state) in &kept {
        assert_eq!(found.get(path), Some(state));
    }
    check_committed_once(&store).await;
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    assert_eq!(results(&store).await, results(&folder.join("alone")).await);
}

#[tokio::test]
async fn a_terminated_worker_exits_with_75_while_work_is_left_and_0_after() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 400, 8);
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let worker = [&["worker", "--store", "store"], &at[..]].concat();
    let start = || {
        let mut command = command(folder, &worker);
        command.env("RUST_LOG", "glmeval_worker=debug");
        Running::start(command)
    };
    let mut first = start();
    for _ in 0..3 {
        first.line_with("unit starts").await;
    }
    first.signal("TERM").await;
    let (code, lines) = first.exit().await;
    assert_eq!(code, Some(75), "{lines:?}");
    let committed = commits(&folder.join("store")).len();
    assert!(committed >= 2, "the unit in hand is finished within the grace time: {committed}");
    succeeds(folder, &[&worker[..], &["--until-idle"]].concat()).await;
    check_committed_once(&folder.join("store")).await;
}

#[tokio::test]
async fn an_interrupted_embed_claims_nothing_and_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 800, 8);
    let model = model().display().to_string();
    let source = ["--tsv", "data.tsv:seq", "--out", "out", "--shard-rows", "8"];
    let embed = [&["embed", "--model", &model], &source[..]].concat();
    let mut command = command(folder, &embed);
    command.env("RUST_LOG", "glmeval_worker=debug");
    let mut run = Running::start(command);
    for _ in 0..5 {
        run.line_with("unit starts").await;
    }
    run.signal("INT").await;
    let (code, lines) = run.exit().await;
    assert_eq!(code, Some(130), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("out/")), "{lines:?}");
    assert!(succeeds(folder, &embed).await.starts_with("out/embeddings/"));
    check_committed_once(&folder.join("out")).await;
}
