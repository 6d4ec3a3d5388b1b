//! Real workers and coordinators that are told to stop, in every way there is.

use crate::fakes::{Fake, Mood, absent};
use glmeval_tests::glmeval::{Coordinator, Running, command, glmeval, succeeds};
use glmeval_tests::jobs::write_long_job;
use glmeval_tests::results::{check_committed_once, commits, results};
use std::path::Path;

/// Starts a worker that logs what it does.
fn worker(folder: &Path, more: &[&str], variables: &[(&str, &str)]) -> Running {
    let mut command = command(folder, &[&["worker", "--store", "store"], more].concat());
    command.env("RUST_LOG", "glmeval_worker=debug,glmeval=info");
    command.envs(variables.iter().copied());
    Running::start(command)
}

#[tokio::test]
async fn a_pre_empted_worker_hands_back_and_another_ends_the_job_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 400, 8);
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let fake = Fake::gcp(Mood::Quiet).await;
    let notice = [&at[..], &["--preemption-notice", "gcp"]].concat();
    let mut first = worker(folder, &notice, &[("GCE_METADATA_HOST", &fake.host())]);
    for _ in 0..3 {
        first.line_with("unit starts").await;
    }
    fake.turn(Mood::Notice);
    let line = first.line_with("worker stops").await;
    assert!(line.contains("GCP pre-emption notice") && line.contains("handed_back="), "{line}");
    assert!(line.contains("worker{worker="), "every line names the worker: {line}");
    let (code, lines) = first.exit().await;
    assert_eq!(code, Some(75), "{lines:?}");
    let second = worker(folder, &[&at[..], &["--until-idle"]].concat(), &[]);
    assert_eq!(second.exit().await.0, Some(0));
    check_committed_once(&folder.join("store")).await;
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    assert_eq!(results(&folder.join("store")).await, results(&folder.join("alone")).await);
}

#[tokio::test]
async fn notices_of_amazon_and_azure_and_a_file_end_a_worker_with_75() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 400, 8);
    let (aws, azure) = (Fake::aws(Mood::Notice).await, Fake::azure(Mood::Notice).await);
    let share = ["--partition", "0/1", "job.toml"];
    let nowhere = absent();
    let variables = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url.as_str()),
        ("GCE_METADATA_HOST", "127.0.0.1:1"),
        ("GLMEVAL_AZURE_METADATA_ENDPOINT", nowhere.as_str()),
    ];
    let auto = [&share[..], &["--preemption-notice", "auto"]].concat();
    let (code, lines) = worker(folder, &auto, &variables).exit().await;
    assert_eq!(code, Some(75), "{lines:?}");
    let variables = [("GLMEVAL_AZURE_METADATA_ENDPOINT", azure.url.as_str())];
    let of_azure = [&share[..], &["--preemption-notice", "azure"]].concat();
    assert_eq!(worker(folder, &of_azure, &variables).exit().await.0, Some(75));
    std::fs::write(folder.join("leave"), "0").unwrap();
    let file = [&share[..], &["--drain-file", "leave"]].concat();
    assert_eq!(worker(folder, &file, &[]).exit().await.0, Some(75));
}

#[tokio::test]
async fn absent_services_cost_nothing_and_are_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 40, 8);
    let variables = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1"),
        ("GCE_METADATA_HOST", "127.0.0.1:1"),
        ("GLMEVAL_AZURE_METADATA_ENDPOINT", "http://127.0.0.1:1"),
    ];
    let words = ["--partition", "0/1", "job.toml", "--preemption-notice", "auto"];
    let (code, lines) = worker(folder, &words, &variables).exit().await;
    assert_eq!(code, Some(0), "{lines:?}");
    let said = lines.iter().filter(|line| line.contains("no notices of pre-emption"));
    assert_eq!(said.count(), 3, "{lines:?}");
}

#[tokio::test]
async fn a_partition_worker_finishes_what_fits_and_leaves_with_75() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 400, 8);
    let mut first = worker(folder, &["--partition", "0/1", "job.toml"], &[]);
    for _ in 0..3 {
        first.line_with("unit starts").await;
    }
    first.signal("USR1").await;
    let (code, lines) = first.exit().await;
    assert_eq!(code, Some(75), "{lines:?}");
    let kept = commits(&folder.join("store"));
    assert!(kept.len() >= 3, "the unit in hand is finished: {}", kept.len());
    let second = worker(folder, &["--partition", "0/1", "job.toml"], &[]);
    assert_eq!(second.exit().await.0, Some(0));
    check_committed_once(&folder.join("store")).await;
}

#[tokio::test]
async fn an_operator_drains_a_host_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Far from done when the order arrives, however slow this machine is.
    write_long_job(folder, 8_000, 8);
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let mut leaves = worker(folder, &[&at[..], &["--host", "node1"]].concat(), &[]);
    leaves.line_with("unit starts").await;
    let mut stays = worker(folder, &[&at[..], &["--host", "node2", "--until-idle"]].concat(), &[]);
    succeeds(folder, &[&["drain", "node1"], &at[..]].concat()).await;
    let (code, lines) = leaves.exit().await;
    assert_eq!(code, Some(75), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("reason=\"drained\"")), "{lines:?}");
    let unknown = glmeval(folder, &[&["drain", "node9"], &at[..]].concat()).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("node9"), "{unknown:?}");
    stays.line_with("unit starts").await;
    stays.signal("TERM").await;
    let (code, lines) = stays.exit().await;
    assert_eq!(code, Some(75), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("reason=\"drained\"")), "{lines:?}");
}

#[tokio::test]
async fn a_worker_that_discovers_waits_for_a_coordinator_and_follows_it_to_another_port() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 800, 8);
    let mut early = worker(folder, &["--discover", "--until-idle"], &[]);
    early.line_with("waiting for one").await;
    let mut stopped = worker(folder, &["--discover"], &[]);
    stopped.line_with("waiting for one").await;
    stopped.signal("TERM").await;
    assert_eq!(stopped.exit().await.0, Some(75));
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &["--lease-ttl-ms", "3000"]).await;
    let at = ["--coordinator", &coordinator.address];
    succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    for _ in 0..3 {
        early.line_with("unit starts").await;
    }
    coordinator.process.signal("TERM").await;
    let (code, lines) = coordinator.process.exit().await;
    assert_eq!(code, Some(75), "work is left: {lines:?}");
    assert!(lines.iter().any(|line| line.contains("stops: SIGTERM")), "{lines:?}");
    let second = Coordinator::start(folder, "127.0.0.1:0", &["--lease-ttl-ms", "3000"]).await;
    assert_ne!(second.address, coordinator.address);
    let (code, lines) = early.exit().await;
    assert_eq!(code, Some(0), "{lines:?}");
    second.process.signal("TERM").await;
    assert_eq!(second.process.exit().await.0, Some(0), "nothing is left");
    check_committed_once(&folder.join("store")).await;
}

#[tokio::test]
async fn a_coordinator_of_given_jobs_leaves_after_them_and_late_workers_leave_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 40, 8);
    let more = ["--name", "run7", "--until-idle", "job.toml"];
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &more).await;
    let discover = ["--discover", "--name", "run7", "--until-idle"];
    let first = worker(folder, &discover, &[]);
    assert_eq!(first.exit().await.0, Some(0));
    let (code, lines) = coordinator.process.exit().await;
    assert_eq!(code, Some(0), "{lines:?}");
    let late = worker(folder, &discover, &[]);
    assert_eq!(late.exit().await.0, Some(0), "nothing is left for it");
    let again = Coordinator::start(folder, "127.0.0.1:0", &more).await;
    let early = worker(folder, &discover, &[]);
    assert_eq!(early.exit().await.0, Some(0));
    assert_eq!(again.process.exit().await.0, Some(0), "a name that ended can begin again");
}
