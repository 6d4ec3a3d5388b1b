//! Metrics of a coordinator and a worker, and the table of workers.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::world::{World, address, units, until};
use glmeval_tests::glmeval::succeeds;
use glmeval_tests::http::get;
use glmeval_tests::real::program;
use regex::Regex;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs `promtool check metrics` on `text`.
async fn check_with_promtool(promtool: &Path, text: &str) {
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

/// The value of a series whose name and labels begin with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn a_coordinator_and_its_workers_tell_metrics_that_prometheus_likes() {
    let world = World::start(&["--metrics-addr", "127.0.0.1:0"]).await;
    let job = world.submit("seen").await;
    let mut worker = world.worker(&["--metrics-addr", "127.0.0.1:0"]);
    let worker_metrics = address(&worker.line_with("metrics on ").await);
    world
        .overview_when(|overview| {
            units(overview, "committed") >= 3 && units(overview, "failed") >= 1
        })
        .await;
    let rows = "glmeval_worker_store_request_seconds_count";
    let text = until(async || {
        let text = get(&world.dashboard, "/metrics").await.body;
        value(&text, rows).is_some_and(|count| count > 0.0).then_some(text)
    })
    .await;
    for (series, least) in [
        (format!("glmeval_units{{job=\"{job}\",state=\"committed\"}}"), 3.0),
        (format!("glmeval_quarantined_units{{job=\"{job}\"}}"), 1.0),
        ("glmeval_rows_total{model=\"NT\"}".to_owned(), 8.0),
        ("glmeval_unit_seconds_count{kind=\"extract\"}".to_owned(), 1.0),
        ("glmeval_store_request_seconds_count{op=\"create\",outcome=\"ok\"}".to_owned(), 1.0),
        ("glmeval_leases_expired_total".to_owned(), 0.0),
        ("glmeval_duplicate_attempts_total".to_owned(), 0.0),
        ("glmeval_oom_total{device_kind=\"cpu\"}".to_owned(), 0.0),
        ("glmeval_lease_grants_total".to_owned(), 4.0),
        ("glmeval_reports_total{outcome=\"failed\"}".to_owned(), 3.0),
        ("glmeval_workers{state=\"lost\"}".to_owned(), 0.0),
        ("glmeval_worker_memory_bytes".to_owned(), 1e6),
    ] {
        let found = value(&text, &series);
        assert!(found.is_some_and(|found| found >= least), "{series}: {found:?}\n{text}");
    }
    let own = get(&worker_metrics, "/metrics").await.body;
    assert!(value(&own, "glmeval_rows_computed_total{model=\"NT\"}").is_some(), "{own}");
    let unbounded = Regex::new(r#"(worker|unit|host|path)=""#).unwrap();
    for text in [&text, &own] {
        assert!(!unbounded.is_match(text), "{text}");
    }
    workers_are_told(&world).await;
    let Some(promtool) = program("promtool", "lint of the metrics") else { return };
    check_with_promtool(&promtool, &text).await;
    check_with_promtool(&promtool, &own).await;
}

/// `status --workers` names the one worker, what it is and what it does.
async fn workers_are_told(world: &World) {
    let address = &world.coordinator.address;
    let status = ["status", "--workers", "--coordinator", address];
    let json = succeeds(world.path(), &[&status[..], &["--format", "json"]].concat()).await;
    let workers: Vec<Value> = serde_json::from_str(&json).unwrap();
    let [worker] = &workers[..] else { panic!("{json}") };
    assert_eq!(worker["facts"]["device_kind"], "cpu");
    assert_eq!(worker["facts"]["threads"], 1);
    assert_eq!(worker["facts"]["program"], env!("CARGO_PKG_VERSION"));
    assert!(worker["health"]["units_failed"].as_u64() >= Some(1), "{json}");
    assert!(worker["health"]["memory_bytes"].as_u64() > Some(1_000_000), "{json}");
    assert!(worker["seen_ms_ago"].as_u64() < Some(30_000), "{json}");
    let table = succeeds(world.path(), &status).await;
    assert!(table.contains("gLM") && table.contains("NT"), "{table}");
}
