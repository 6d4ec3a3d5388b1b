//! A disk that fills up under a run, or takes no writes: told by its path, nothing half-committed, resumed elsewhere.

use glmeval_tests::glmeval::{Ended, binary, ended, prepared, succeeds};
use glmeval_tests::jobs::write_small_job;
use glmeval_tests::results::{check_committed_once, commits, listing, results};
use std::path::Path;
use tokio::process::Command;

/// Mounts a small file system at `$0`, runs the rest, copies what it holds to `copy`.
const SCRIPT: &str = "mount -t tmpfs -o size=SIZE tmpfs \"$0\" || exit 99
    \"$@\"; code=$?; cp -r \"$0\" copy; exit $code";

async fn on_small_disk(folder: &Path, size: &str, words: &[&str]) -> Ended {
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &SCRIPT.replace("SIZE", size), "small"]).args(words);
    ended(prepared(command, folder)).await
}

/// Whether small file systems can be mounted; where they must be, it is a failure that they cannot.
#[expect(clippy::print_stderr, reason = "a skipped test is said aloud")]
async fn is_possible(folder: &Path) -> bool {
    std::fs::create_dir(folder.join("small")).unwrap();
    let possible = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs small"])
        .current_dir(folder)
        .status()
        .await
        .is_ok_and(|status| status.success());
    if !possible {
        let required = std::env::var("GLMEVAL_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!required, "no small file system can be mounted, and real components are required");
        eprintln!("SKIPPED the full disk (no small file system can be mounted)");
    }
    possible
}

#[tokio::test]
async fn a_run_on_a_full_disk_fails_cleanly_and_goes_on_with_space() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !is_possible(folder).await {
        return;
    }
    write_small_job(folder, 16);
    let glmeval = binary().display().to_string();
    let run = [&glmeval, "run", "job.toml", "--store", "small"];
    let ended = on_small_disk(folder, "768k", &run).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(75), ""), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    let told = last.starts_with("error: ") && last.contains("small: ") && last.contains("No space");
    assert!(told, "{last}");
    let kept = commits(&folder.join("copy"));
    succeeds(folder, &["run", "job.toml", "--store", "copy"]).await;
    let found = commits(&folder.join("copy"));
    for (path, state) in &kept {
        assert_eq!(found.get(path).map(|now| &now.sha256), Some(&state.sha256));
    }
    check_committed_once(&folder.join("copy")).await;
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    assert_eq!(results(&folder.join("copy")).await, results(&folder.join("alone")).await);
}

#[tokio::test]
async fn an_export_to_a_full_disk_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !is_possible(folder).await {
        return;
    }
    write_small_job(folder, 64);
    let model = glmeval_tests::glmeval::model().display().to_string();
    let tsv = ["--tsv", "data.tsv:seq", "--pool", "full", "--out", "out"];
    let printed = succeeds(folder, &[&["embed", "--model", &model], &tsv[..]].concat()).await;
    let glmeval = binary().display().to_string();
    for (format, size) in [("npy", "64k"), ("parquet", "64k")] {
        let set = printed.trim();
        let export = [&glmeval, "export", set, "--format", format, "--out", "small/file"];
        let ended = on_small_disk(folder, size, &export).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(75), ""), "{ended:?}");
        assert!(ended.stderr.contains("small/file"), "{ended:?}");
        assert_eq!(std::fs::read_dir(folder.join("copy")).unwrap().count(), 0);
        std::fs::remove_dir(folder.join("copy")).unwrap();
    }
}

#[tokio::test]
async fn a_report_to_a_full_disk_is_told_and_its_scores_stay() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !is_possible(folder).await {
        return;
    }
    write_small_job(folder, 64);
    let glmeval = binary().display().to_string();
    let run = [&glmeval, "run", "job.toml", "--store", "store", "--report", "small"];
    let ended = on_small_disk(folder, "16k", &run).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(75), ""), "{ended:?}");
    assert!(ended.stderr.contains("error: small/"), "{ended:?}");
    check_committed_once(&folder.join("store")).await;
}

/// Mounts a file system that takes no writes where embeddings are kept, and runs the rest.
const READ_ONLY: &str = "mkdir -p store/embeddings && \
    mount -t tmpfs -o ro tmpfs store/embeddings || exit 99; exec \"$@\"";

#[tokio::test]
async fn a_store_that_takes_no_writes_ends_a_run_and_a_worker_and_blames_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !is_possible(folder).await {
        return;
    }
    write_small_job(folder, 64);
    let glmeval = binary().display().to_string();
    let run = [&glmeval, "run", "job.toml", "--store", "store"];
    let worker = [&glmeval, "worker", "--store", "store", "--partition", "0/1", "job.toml"];
    for (words, code) in [(&run[..], 1), (&worker[..], 42)] {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", READ_ONLY, "read-only"]).args(words);
        let ended = ended(prepared(command, folder)).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
        let last = ended.stderr.lines().last().unwrap();
        let told = last.starts_with("error: ") && last.contains("embeddings/");
        assert!(told && last.contains("Read-only"), "{last}");
    }
    let is_failed = |path: &Path| path.components().any(|part| part.as_os_str() == "failed");
    assert!(!listing(&folder.join("store")).keys().any(|path| is_failed(path)));
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    check_committed_once(&folder.join("store")).await;
}
