//! The alert rules and every expression of the Grafana dashboard, in a real Prometheus.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::world::{World, units, until};
use glmeval_tests::http::{get, request};
use glmeval_tests::process::succeed;
use glmeval_tests::real::program;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring")
}

#[tokio::test]
async fn the_alert_rules_do_what_they_say() {
    let Some(promtool) = program("promtool", "test of the alert rules") else { return };
    let mut command = Command::new(promtool);
    let arguments = ["test", "rules", "alerts_test.yml"];
    succeed(command.args(arguments).current_dir(monitoring())).await;
}

/// A Prometheus that scrapes one address every second.
struct Prometheus {
    _process: Child,
    address: String,
}

impl Prometheus {
    async fn start(program: &Path, folder: &Path, target: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = std::fs::read_to_string(monitoring().join("prometheus.yml")).unwrap();
        let config = config.replace("127.0.0.1:8080", target).replace("15s", "1s");
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        std::fs::copy(monitoring().join("alerts.yml"), folder.join("alerts.yml")).unwrap();
        let mut command = Command::new(program);
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]);
        command.arg(format!("--web.listen-address={address}")).current_dir(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().unwrap();
        until(async || {
            let ready = request(&address, "GET", "/-/ready", &[], "").await.ok()?;
            (ready.status == 200).then_some(())
        })
        .await;
        Self { _process: process, address }
    }

    /// The series of an expression.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = get(&self.address, &format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer.status, 200, "{expression}: {}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }
}

/// Every expression of the dashboard, with its panel, as Grafana would send it.
fn expressions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(monitoring().join("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let filled = |expression: &Value| {
        let expression = expression.as_str().unwrap();
        expression.replace("$job", ".*").replace("$__rate_interval", "1m")
    };
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap().to_owned();
        for target in panel["targets"].as_array().unwrap() {
            found.push((title.clone(), filled(&target["expr"])));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        found.push(("annotation".to_owned(), filled(&annotation["expr"])));
    }
    found
}

/// Panels that may have nothing to show on a cluster without graphics cards and without failures.
const MAY_BE_EMPTY: [&str; 2] =
    ["annotation", "Store: 95th percentile of the coordinator's own requests"];

#[tokio::test]
async fn every_panel_of_the_grafana_dashboard_shows_a_running_job() {
    let Some(program) = program("prometheus", "the Grafana dashboard's expressions") else {
        return;
    };
    let world = World::start(&[]).await;
    let prometheus = Prometheus::start(&program, world.path(), &world.dashboard).await;
    let job = world.submit("seen by Prometheus").await;
    let _worker = world.worker(&[]);
    world.overview_when(|overview| units(overview, "committed") >= 12).await;
    for (panel, expression) in expressions() {
        if MAY_BE_EMPTY.contains(&panel.as_str()) {
            prometheus.query(&expression).await;
            continue;
        }
        until(async || (!prometheus.query(&expression).await.is_empty()).then_some(())).await;
    }
    let done = prometheus.query("sum(glmeval_units{state=\"committed\"})").await;
    let done: f64 = done[0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(done >= 12.0, "{done}");
    let own = prometheus.query("count by (job) (glmeval_units)").await;
    assert_eq!(own[0]["metric"]["job"], job.as_str(), "the job's id, not the scrape's");
    let health = prometheus.query("up{job=\"glmeval\"}").await;
    assert_eq!(health[0]["value"][1], "1");
}
