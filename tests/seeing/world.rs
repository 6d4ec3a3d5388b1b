//! A coordinator with a dashboard, a job with a hostile name, and workers.
//!
//! Leaves out: what is seen of them.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::control::Control;
use glmeval_common::digest::ContentDigest;
use glmeval_common::ids::JobId;
use glmeval_common::plan::Plan;
use glmeval_common::wire::GrpcControl;
use glmeval_tests::glmeval::{Coordinator, Running, command, succeeds};
use glmeval_tests::http;
use glmeval_tests::jobs::{table, write_long_job};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// A job's name as an attacker would write it.
pub(crate) const HOSTILE_NAME: &str = "<img src=x onerror=\"document.title='owned'\">";
/// A test that waits longer has found a defect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Shards of the long job, and rows of each.
pub(crate) const SHARDS: usize = 200;
const SHARD_ROWS: usize = 40;

/// Coordinator, folder and addresses.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) coordinator: Coordinator,
    /// `host:port` of the dashboard.
    pub(crate) dashboard: String,
}

/// The address at the end of a line such as `dashboard on http://127.0.0.1:1/`.
pub(crate) fn address(line: &str) -> String {
    let url = line.rsplit(' ').next().unwrap_or_default();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

impl World {
    /// Starts a coordinator with a dashboard on free ports.
    pub(crate) async fn start(more: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        Self::start_in(folder, "127.0.0.1:0", "127.0.0.1:0", more).await
    }

    /// Starts one over the store of an earlier one, on given addresses.
    pub(crate) async fn start_in(
        folder: TempDir,
        listen: &str,
        dashboard: &str,
        more: &[&str],
    ) -> Self {
        let arguments = [&["--dashboard", dashboard][..], more].concat();
        let mut coordinator = Coordinator::start(folder.path(), listen, &arguments).await;
        let line = coordinator.process.line_with("dashboard on ").await;
        Self { folder, coordinator, dashboard: address(&line) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Submits a job of [`SHARDS`] shards, with prices, and one data set whose file is gone by the time
    /// a worker wants it.
    pub(crate) async fn submit(&self, name: &str) -> JobId {
        write_long_job(self.path(), SHARDS * SHARD_ROWS, SHARD_ROWS as u64);
        std::fs::write(self.path().join("gone.tsv"), table(20, 60)).unwrap();
        let job = self.path().join("job.toml");
        let mut text = std::fs::read_to_string(&job).unwrap();
        text.push_str(
            "[[dataset]]\nname = \"gone\"\ntask = \"regression\"\ntable = \"gone.tsv\"\n\
             columns = { sequence = \"seq\", id = \"id\", split = \"part\", targets = [\"activity\"] }\n\
             [cost]\ncurrency = \"USD\"\ncpu = 0.36\n",
        );
        std::fs::write(&job, &text).unwrap();
        let printed = succeeds(self.path(), &["plan", "job.toml", "--format", "json"]).await;
        let printed: Value = serde_json::from_str(&printed).unwrap();
        let mut plan: Plan = serde_json::from_value(printed["plan"].clone()).unwrap();
        // The job file allows plain names only; a coordinator must not rely on that.
        name.clone_into(&mut plan.name);
        plan.job = JobId::new("");
        let bytes = serde_json::to_vec(&plan).unwrap();
        plan.job = JobId::new(ContentDigest::new("plan/1").field("plan", bytes).finish());
        std::fs::remove_file(self.path().join("gone.tsv")).unwrap();
        let control = GrpcControl::connect(&self.coordinator.address).unwrap();
        control.submit(&text, plan).await.unwrap()
    }

    /// Starts a worker.
    pub(crate) fn worker(&self, more: &[&str]) -> Running {
        let first = ["worker", "--coordinator", &self.coordinator.address, "--store", "store"];
        let arguments = [&first[..], &["--threads", "1"], more].concat();
        Running::start(command(self.path(), &arguments))
    }

    /// What the dashboard is told.
    pub(crate) async fn overview(&self) -> Value {
        let answer = http::get(&self.dashboard, "/overview.json").await;
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The first overview that `is_good`.
    pub(crate) async fn overview_when(&self, is_good: impl Fn(&Value) -> bool) -> Value {
        until(async || Some(self.overview().await).filter(|overview| is_good(overview))).await
    }
}

/// Units of the first job in state `state`.
pub(crate) fn units(overview: &Value, state: &str) -> u64 {
    let kinds = overview["jobs"][0]["kinds"].as_array().into_iter().flatten();
    kinds.map(|kind| kind[state].as_u64().unwrap_or(0)).sum()
}

/// Looks again and again until there is something.
pub(crate) async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let mut poll = tokio::time::interval(Duration::from_millis(100));
    let found = async {
        loop {
            poll.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it comes in time")
}
