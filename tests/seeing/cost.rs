//! Prices of the job file in the plan, the status and the report.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_tests::glmeval::{glmeval, succeeds};
use glmeval_tests::jobs::write_small_job;
use serde_json::Value;
use std::path::Path;

fn price(folder: &Path, table: &str) {
    let job = folder.join("job.toml");
    let text = std::fs::read_to_string(&job).unwrap();
    let text = text.split("[cost]").next().unwrap().to_owned();
    std::fs::write(job, format!("{text}[cost]\n{table}\n")).unwrap();
}

async fn planned(folder: &Path) -> Value {
    let printed = succeeds(folder, &["plan", "job.toml", "--format", "json"]).await;
    serde_json::from_str(&printed).unwrap()
}

#[tokio::test]
async fn prices_are_printed_and_leave_the_job_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 50);
    let free = planned(folder).await;
    assert_eq!(free["prices"], serde_json::json!([]));
    price(folder, "currency = \"EUR\"\ncpu = 3600\nquantum = 9\nspot_discount = 0.5");
    let priced = planned(folder).await;
    assert_eq!(priced["job"], free["job"], "a job is the same job at any price");
    let cpu = &priced["prices"][0];
    assert_eq!((&cpu["device_kind"], &cpu["currency"]), (&"cpu".into(), &"EUR".into()));
    let (seconds, cost) = (cpu["device_seconds"].as_f64().unwrap(), cpu["cost"].as_f64().unwrap());
    assert!(seconds > 0.0 && (cost - seconds * 0.5).abs() < 1e-9, "{cpu}");
    assert!(priced["prices"][1]["cost"].is_null(), "a kind whose rate nobody knows");
    let table = succeeds(folder, &["plan", "job.toml"]).await;
    assert!(table.contains("1800 EUR") && table.contains("rate unknown"), "{table}");
}

#[tokio::test]
async fn the_report_says_what_the_results_cost_and_says_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 50);
    price(folder, "currency = \"EUR\"\ncpu = 1000000");
    let run = ["run", "job.toml", "--store", "store", "--report"];
    succeeds(folder, &[&run[..], &["first"]].concat()).await;
    succeeds(folder, &[&run[..], &["again"]].concat()).await;
    let page = |name: &str| std::fs::read_to_string(folder.join(name).join("report.html")).unwrap();
    assert_eq!(page("first"), page("again"), "it comes from the store alone");
    let (_, cost) = page("first")
        .split_once("<dt>Their cost</dt><dd>")
        .map(|(a, b)| (a.len(), b.to_owned()))
        .unwrap();
    let amount: f64 = cost.split(' ').next().unwrap().parse().unwrap();
    assert!(amount > 0.0, "{cost}");
}

#[tokio::test]
async fn a_price_that_is_none_is_refused_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_small_job(folder, 50);
    for (table, place) in
        [("cpu = -1", "cost.cpu"), ("cpu = 1\nspot_discount = 2", "cost.spot_discount")]
    {
        price(folder, table);
        let ended = glmeval(folder, &["plan", "job.toml"]).await;
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("job.toml") && ended.stderr.contains(place), "{ended:?}");
    }
}
