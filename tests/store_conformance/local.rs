//! Local files: killed writers, full disks, left-over staging files.

use crate::commits::{attempt, shard};
use bytes::Bytes;
use glmeval_common::error::ErrorKind;
use glmeval_common::store::embeddings::{commit_shard, committed_ranges, find_commit, read_shard};
use glmeval_common::store::{Created, Store, gc};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Names the folder a child of this test program works in.
const CHILD_FOLDER: &str = "GLMEVAL_TEST_CHILD_FOLDER";

#[tokio::test]
async fn a_staging_file_of_a_killed_writer_is_invisible_harmless_and_swept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let path = format!("embeddings/{}/commit/0000000000-0000000004.json", "5e".repeat(16));
    let staged = folder.path().join(format!("{path}#1"));
    let foreign = ["notes#1", "examples/notes#1"].map(|name| folder.path().join(name));
    for (file, text) in
        [(&staged, "{\"version\""), (&foreign[0], "not ours"), (&foreign[1], "not ours")]
    {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    assert_eq!(store.list("").await.unwrap().iter().filter(|e| e.path.contains("json")).count(), 0);
    assert_eq!(store.create(&path, Bytes::from_static(b"whole")).await.unwrap(), Created::Won);
    assert_eq!(gc::sweep(&store, gc::default_grace(), true).await.unwrap().staging_files.len(), 0);
    while gc::sweep(&store, Duration::ZERO, true).await.unwrap().staging_files.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!staged.exists() && foreign.iter().all(|file| file.exists()));
    assert_eq!(store.get(&path).await.unwrap(), Bytes::from_static(b"whole"));
}

#[tokio::test]
async fn a_file_url_with_a_space_is_the_folder_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("my store");
    let url = format!("file://{}", plain.display()).replace(' ', "%20");
    Store::open(&url).unwrap().create("a", Bytes::from_static(b"x")).await.unwrap();
    assert!(plain.join("a").is_file());
}

/// Runs `name` of this test program in a process of its own, with `folder` to work in.
fn child(name: &str, folder: &std::path::Path, wrapper: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap();
    let line: Vec<&str> = wrapper.iter().copied().chain([program]).collect();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).args(["--exact", name, "--nocapture"]).env(CHILD_FOLDER, folder);
    command
}

/// Not a fact of its own: the child of the next test.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the parent counts the lines")]
async fn child_that_commits_until_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    for start in (0..).step_by(4) {
        let bytes = shard(start, start + 4).encode().unwrap();
        let name = glmeval_common::rng::random_token();
        commit_shard(&store, &attempt(start, start + 4, &name), bytes).await.unwrap();
        println!("committed {start}");
    }
}

#[tokio::test]
async fn whatever_a_killed_writer_committed_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    for round in 1..=4_usize {
        let mut writer = child("local::child_that_commits_until_killed", folder.path(), &[])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        let committed = lines.filter(|line| line.starts_with("committed")).take(10 * round).count();
        assert_eq!(committed, 10 * round, "the writer stopped by itself");
        writer.kill().unwrap();
        writer.wait().unwrap();
        let ranges =
            committed_ranges(&store, &glmeval_common::ids::SetId::new("set")).await.unwrap();
        assert!(ranges.len() >= 10 * round);
        for (start, end) in ranges {
            let set = glmeval_common::ids::SetId::new("set");
            let commit = find_commit(&store, &set, start, end).await.unwrap().unwrap();
            assert_eq!(read_shard(&store, &commit).await.unwrap(), shard(start, end));
        }
    }
}

/// Not a fact of its own: the child of the next test, on a file system of one MiB.
#[tokio::test]
async fn child_that_fills_the_disk() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    for size in [2 << 20, 17 << 20] {
        let bytes = Bytes::from(vec![1_u8; size]);
        let error = store.put_data("shard", "data/big.bin", bytes.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let chain = error.chain();
        assert!(chain.contains("data/big.bin") && chain.contains("No space left"), "{chain}");
        let error = store.create("commit/big.json", bytes).await.unwrap_err();
        assert!(error.to_string().contains("commit/big.json"), "{error}");
        assert_eq!(store.list("").await.unwrap(), [], "nothing half-written is visible");
    }
    let files = std::fs::read_dir(std::path::Path::new(&folder).join("data")).unwrap().count();
    assert_eq!(files, 0, "no staging file stays behind");
    // The space of a removed staging file is free once its last handle is closed in the background.
    let small = async {
        loop {
            match store.create("small", Bytes::from_static(b"x")).await {
                Ok(created) => break created,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let created = tokio::time::timeout(std::time::Duration::from_secs(20), small).await;
    assert_eq!(created.expect("the space of the refused objects is free again"), Created::Won);
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test is said aloud")]
fn a_full_disk_leaves_nothing_half_written_and_names_the_object() {
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\"";
    let shell = ["unshare", "-rm", "sh", "-c", mount, folder.path().to_str().unwrap()];
    let possible = Command::new(shell[0]).args(&shell[1..]).arg("true").status();
    if !possible.is_ok_and(|status| status.success()) {
        let required = std::env::var("GLMEVAL_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!required, "no small file system can be mounted, and real components are required");
        eprintln!("SKIPPED the full disk (no small file system can be mounted)");
        return;
    }
    let output = child("local::child_that_fills_the_disk", folder.path(), &shell).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
