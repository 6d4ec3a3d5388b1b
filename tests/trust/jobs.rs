//! Whole jobs with identities: nothing of the result depends on them.

use crate::world::{World, refused};
use glmeval_tests::glmeval::{Running, command, succeeds};
use glmeval_tests::jobs::write_long_job;
use glmeval_tests::results::{check_committed_once, results};
use serde_json::Value;
use std::path::Path;

/// Submits a job, lets two workers do it, and compares it with a run in one process.
async fn run_job(world: &World, operator: &[&str], worker: &[&str]) {
    let folder: &Path = &world.folder;
    write_long_job(folder, 48, 8);
    let at = ["--coordinator", world.address()];
    let job = succeeds(folder, &[&["submit", "job.toml"], &at[..], operator].concat()).await;
    let start = |source: &[&str]| {
        let words = ["worker", "--store", "store", "--until-idle"];
        Running::start(command(folder, &[&words[..], source, worker].concat()))
    };
    let workers = [start(&at), start(&["--discover"])];
    let watched = world.ask(&["watch", job.trim()], operator).await;
    assert_eq!(watched.code, Some(0), "{watched:?}");
    for worker in workers {
        assert_eq!(worker.exit().await, (Some(0), Vec::new()));
    }
    let jobs = world.ask(&["jobs"], operator).await;
    assert!(jobs.stdout.contains("finished"), "{jobs:?}");
    check_committed_once(&folder.join("store")).await;
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    assert_eq!(results(&folder.join("store")).await, results(&folder.join("alone")).await);
}

#[tokio::test]
async fn a_job_over_mutual_tls_gives_the_bits_of_one_process() {
    let world = World::secured().await;
    let flags = ["--tls", "certificates"];
    run_job(&world, &flags, &flags).await;
    let record = world.folder.join("store/coordinators/default/000000000001.json");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    assert_eq!(record["ca_sha256"].as_str().map(str::len), Some(64), "{record}");
    crate::policies::check(&world.folder.join("store"));
}

#[tokio::test]
async fn a_job_with_a_token_of_workers_and_one_of_operators_ends() {
    let folder = tempfile::tempdir().unwrap();
    for token in ["workers", "operators"] {
        succeeds(folder.path(), &["certs", "token", token]).await;
    }
    let flags = ["--token-file", "workers", "--operator-token-file", "operators"];
    let world = World::start(folder, &flags).await;
    run_job(&world, &["--token-file", "operators"], &["--token-file", "workers"]).await;
    let words = ["expected a token of the role operator", "found one of worker"];
    refused(&world.ask(&["jobs"], &["--token-file", "workers"]).await, 1, &words);
    let words = ["expected a token of the role worker", "found one of operator"];
    refused(&world.worker(&["--token-file", "operators"]).await, 42, &words);
}

#[tokio::test]
async fn with_certificates_and_a_token_both_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["certs", "new", "certificates"]).await;
    succeeds(folder.path(), &["certs", "token", "token"]).await;
    let both = ["--tls", "certificates", "--token-file", "token"];
    let world = World::start(folder, &both).await;
    let jobs = world.ask(&["jobs"], &both).await;
    assert_eq!(jobs.code, Some(0), "{jobs:?}");
    refused(&world.ask(&["jobs"], &both[..2]).await, 1, &["--token-file"]);
    refused(&world.ask(&["jobs"], &both[2..]).await, 1, &["--tls DIR"]);
}

#[tokio::test]
async fn identities_are_read_from_the_environment() {
    let world = World::secured().await;
    let mut jobs = command(&world.folder, &["jobs", "--coordinator", world.address()]);
    jobs.env("GLMEVAL_TLS", "certificates");
    let ended = glmeval_tests::glmeval::ended(jobs).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for form in ["https://", ""] {
        let address = format!("{form}{}", world.address().replace("127.0.0.1", "localhost"));
        let words = ["jobs", "--coordinator", &address, "--tls", "certificates"];
        succeeds(&world.folder, &words).await;
    }
}
