//! Coordinator and workers as separate processes over loopback, and workers without a coordinator.

use glmeval_tests::glmeval::{Coordinator, Running, command, glmeval, model, succeeds};
use glmeval_tests::jobs::{Draw, write_long_job, write_small_job};
use glmeval_tests::results::{check_committed_once, results};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

async fn undisturbed(folder: &Path) -> BTreeMap<String, String> {
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    results(&folder.join("alone")).await
}

#[tokio::test]
async fn a_cluster_gives_the_bits_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 16);
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    let job = succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let watch = [&["watch", job.trim(), "--format", "json"], &at[..]].concat();
    let mut watch = Running::start(command(folder, &watch));
    watch.line_with("\"running\"").await;
    let worker = ["worker", "--store", "store", "--until-idle"];
    let first = Running::start(command(folder, &[&worker, &at[..]].concat()));
    let mut second = command(folder, &[&worker[..], &["--discover"]].concat());
    // What the command line says counts more.
    second.env("GLMEVAL_COORDINATOR", "127.0.0.1:1");
    let second = Running::start(second);
    let (code, lines) = watch.exit().await;
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((code, &last["phase"]), (Some(0), &Value::from("finished")));
    for worker in [first, second] {
        assert_eq!(worker.exit().await, (Some(0), Vec::new()));
    }
    let status = [&["status", job.trim(), "--format", "json"], &at[..]].concat();
    let status: Value = serde_json::from_str(&succeeds(folder, &status).await).unwrap();
    assert_eq!(status["phase"], "finished");
    let jobs = succeeds(folder, &[&["jobs"], &at[..]].concat()).await;
    assert!(jobs.contains(job.trim()) && jobs.contains("finished"), "{jobs}");
    let table =
        succeeds(folder, &[&["watch", job.trim(), "--format", "tsv"], &at[..]].concat()).await;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((lines.len(), lines[0][2], lines[1][2]), (2, "phase", "finished"), "{table}");
    check_committed_once(&folder.join("store")).await;
    assert_eq!(results(&folder.join("store")).await, undisturbed(folder).await);
}

#[tokio::test]
async fn a_control_of_random_weights_is_submitted_like_any_glm() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 64);
    let job = std::fs::read_to_string(folder.join("job.toml")).unwrap();
    let path = model().display().to_string();
    let control = format!("[[model]]\nname = \"control\"\npath = {path:?}\nrandom = 1\n");
    let read = "[[representation]]\nmodel = \"control\"\npooling = [\"mean\"]\n";
    std::fs::write(folder.join("job.toml"), job + &control + read).unwrap();
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let worker = ["worker", "--store", "store", "--until-idle"];
    succeeds(folder, &[&worker, &at[..]].concat()).await;
    check_committed_once(&folder.join("store")).await;
    assert_eq!(results(&folder.join("store")).await, undisturbed(folder).await);
}

#[tokio::test]
async fn sequences_embedded_on_a_cluster_have_the_bits_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut draw = Draw::new(3);
    let records: String = (0..40).map(|i| format!(">s{i}\n{}\n", draw.dna(60 + i))).collect();
    std::fs::write(folder.join("s.fa"), records).unwrap();
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    let worker = ["worker", "--store", "store"];
    let _worker = Running::start(command(folder, &[&worker, &at[..]].concat()));
    let model = model().display().to_string();
    let embed = ["embed", "--model", &model, "--fasta", "s.fa", "--shard-rows", "16", "--out"];
    let there = succeeds(folder, &[&embed[..], &["store"], &at].concat()).await;
    let here = succeeds(folder, &[&embed[..], &["alone"]].concat()).await;
    for (set, name) in [(&there, "there.npy"), (&here, "here.npy")] {
        let export = ["export", set.trim(), "--format", "npy", "--out", name];
        succeeds(folder, &export).await;
    }
    let read = |name| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(read("there.npy"), read("here.npy"));
}

#[tokio::test]
async fn partitions_without_a_coordinator_give_the_bits_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 16);
    let share = |share| {
        let worker = ["worker", "--store", "store", "--partition", share, "job.toml"];
        let mut command = command(folder, &worker);
        command.env("GLMEVAL_COORDINATOR", "127.0.0.1:1");
        Running::start(command)
    };
    let (first, second) = (share("0/2"), share("1/2"));
    assert_eq!(first.exit().await, (Some(0), Vec::new()));
    assert_eq!(second.exit().await, (Some(0), Vec::new()));
    check_committed_once(&folder.join("store")).await;
    assert_eq!(results(&folder.join("store")).await, undisturbed(folder).await);
}

#[tokio::test]
async fn a_worker_with_other_model_files_exits_with_42_and_another_does_its_units() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 64);
    let weights = folder.join("gLM/model.safetensors");
    std::fs::create_dir(folder.join("gLM")).unwrap();
    for entry in std::fs::read_dir(model()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join("gLM").join(entry.file_name())).unwrap();
    }
    let job = std::fs::read_to_string(folder.join("job.toml")).unwrap();
    let own = job.replace(&format!("{:?}", model().display().to_string()), "\"gLM\"");
    assert_ne!(own, job);
    std::fs::write(folder.join("job.toml"), own).unwrap();
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    let job = succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let planned = std::fs::read(&weights).unwrap();
    let mut other = planned.clone();
    *other.last_mut().unwrap() ^= 0x40;
    std::fs::write(&weights, other).unwrap();
    let worker =
        [&["worker", "--store", "store", "--until-idle", "--host", "odd"], &at[..]].concat();
    let ended = glmeval(folder, &worker).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(42), ""), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains("the files have changed"), "{last}");
    let status = [&["status", job.trim(), "--format", "json"], &at[..]].concat();
    let status: Value = serde_json::from_str(&succeeds(folder, &status).await).unwrap();
    assert_eq!((&status["phase"], &status["failures"]), (&"running".into(), &Value::Array(vec![])));
    let mut notices = status["notices"].as_array().unwrap().iter().map(|it| it.as_str().unwrap());
    let told = notices.any(|it| it.contains("host odd") && it.contains("have changed"));
    assert!(told, "{status}");
    std::fs::write(&weights, planned).unwrap();
    succeeds(folder, &worker).await;
    check_committed_once(&folder.join("store")).await;
}

#[tokio::test]
async fn a_cancelled_job_ends_and_stays_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 100, 8);
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    let job = succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let cancel = [&["cancel", job.trim()], &at[..]].concat();
    let told = succeeds(folder, &[&cancel[..], &["--format", "json"]].concat()).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["phase"], &told["job"]), (&"cancelled".into(), &job.trim().into()));
    // A worker may not have heard of it yet.
    let sweep = ["store", "gc", "--store", "store", "--grace-hours", "0", "--dry-run"];
    let swept = glmeval(folder, &sweep).await;
    assert!(swept.code == Some(0) && swept.stderr.contains(job.trim()), "{swept:?}");
    let told = succeeds(folder, &cancel).await;
    assert!(told.contains(": cancelled: "), "{told}");
    let watched = glmeval(folder, &[&["watch", job.trim()], &at[..]].concat()).await;
    assert_eq!(watched.code, Some(1), "{watched:?}");
    coordinator.process.kill().await;
    let again = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &again.address];
    let status = [&["status", job.trim(), "--format", "json"], &at[..]].concat();
    let status: Value = serde_json::from_str(&succeeds(folder, &status).await).unwrap();
    assert_eq!(status["phase"], "cancelled");
}

#[tokio::test]
async fn a_watch_goes_on_when_its_coordinator_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 16);
    let first = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &first.address.clone()];
    let job = succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let watch = command(folder, &[&["watch", job.trim()], &at[..]].concat());
    let submit = command(folder, &[&["submit", "job.toml", "--watch"], &at[..]].concat());
    let mut watches = [watch, submit].map(Running::start);
    for watch in &mut watches {
        watch.line_with("for a worker: none is connected").await;
    }
    let mut bored = Running::start(command(folder, &[&["watch", job.trim()], &at[..]].concat()));
    bored.line_with("none is connected").await;
    bored.signal("INT").await;
    let (code, lines) = bored.exit().await;
    assert_eq!(code, Some(130), "{lines:?}");
    first.process.kill().await;
    for watch in &mut watches {
        watch.line_with("is away").await;
    }
    let _again = Coordinator::start(folder, at[1], &[]).await;
    for watch in &mut watches {
        watch.line_with("answers again").await;
    }
    succeeds(folder, &[&["worker", "--store", "store", "--until-idle"], &at[..]].concat()).await;
    for watch in watches {
        let (code, lines) = watch.exit().await;
        assert_eq!(code, Some(0), "{lines:?}");
    }
}

#[tokio::test]
async fn a_coordinator_that_was_replaced_says_not_to_start_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = Coordinator::start(folder.path(), "127.0.0.1:0", &[]).await;
    let _second = Coordinator::start(folder.path(), "127.0.0.1:0", &[]).await;
    let (code, lines) = first.process.exit().await;
    assert_eq!(code, Some(42), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("was replaced")), "{lines:?}");
}

#[tokio::test]
async fn an_absent_coordinator_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for words in [vec!["status", "x"], vec!["watch", "x"], vec!["jobs"], vec!["cancel", "x"]] {
        let line = [&words[..], &["--coordinator", "127.0.0.1:1"]].concat();
        let ended = glmeval(folder.path(), &line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(75), ""), "{ended:?}");
        assert!(ended.stderr.contains("127.0.0.1:1"), "{ended:?}");
    }
}
