//! `kill -9` of any process at any moment: nothing is lost, doubled or changed.

use glmeval_tests::glmeval::{Coordinator, Running, command, glmeval, succeeds};
use glmeval_tests::jobs::{Draw, write_long_job};
use glmeval_tests::results::{FileState, check_committed_once, commits, results};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const KILLS: u64 = 20;
/// Data sets, shards and fits of the job.
const COMMITS: usize = 1 + 300 + 4;
const SHORT_LEASES: [&str; 2] = ["--lease-ttl-ms", "1200"];

/// One coordinator and two workers over `store` in a folder.
struct Cluster<'a> {
    folder: &'a Path,
    coordinator: Coordinator,
    workers: [Running; 2],
    /// Units that workers began, again or not.
    starts: u64,
}

fn starts(lines: &[String]) -> u64 {
    lines.iter().filter(|line| line.contains("unit starts")).count() as u64
}

fn start_worker(folder: &Path, address: &str) -> Running {
    let worker = ["worker", "--store", "store", "--threads", "1", "--coordinator", address];
    let mut command = command(folder, &worker);
    command.env("RUST_LOG", "glmeval_worker=debug");
    Running::start(command)
}

impl<'a> Cluster<'a> {
    async fn start(folder: &'a Path) -> Self {
        let coordinator = Coordinator::start(folder, "127.0.0.1:0", &SHORT_LEASES).await;
        let workers = [(); 2].map(|()| start_worker(folder, &coordinator.address));
        Self { folder, coordinator, workers, starts: 0 }
    }

    /// Waits until the workers have started `count` more units.
    async fn units_start(&mut self, count: u64) {
        for worker in &mut self.workers {
            self.starts += starts(&worker.lines_so_far());
        }
        let end = self.starts + count;
        while self.starts < end {
            let [first, second] = &mut self.workers;
            let line = tokio::select! {
                line = first.line() => line,
                line = second.line() => line,
            };
            let line = line.expect("a worker goes on until it is killed");
            self.starts += starts(&[line]);
        }
    }

    /// Kills and replaces the coordinator or a worker.
    async fn replace(self, victim: u64) -> Self {
        let Self { folder, mut coordinator, workers: [mut first, mut second], mut starts } = self;
        let address = coordinator.address.clone();
        if victim == 0 {
            coordinator.process.kill().await;
            coordinator = Coordinator::start(folder, &address, &SHORT_LEASES).await;
        } else {
            let worker = if victim == 1 { &mut first } else { &mut second };
            let killed = std::mem::replace(worker, start_worker(folder, &address));
            starts += self::starts(&killed.kill().await);
        }
        Self { folder, coordinator, workers: [first, second], starts }
    }

    /// Ends everything; returns how many units were begun.
    async fn end(self) -> u64 {
        let mut begun = self.starts;
        for worker in self.workers {
            begun += starts(&worker.kill().await);
        }
        self.coordinator.process.kill().await;
        begun
    }
}

/// Checks that commits seen at a kill are the same objects now.
fn check_kept(kept: &BTreeMap<PathBuf, FileState>, store: &Path) {
    let found = commits(store);
    for (path, state) in kept {
        assert_eq!(found.get(path), Some(state), "{}", path.display());
    }
}

#[tokio::test]
async fn twenty_kills_in_a_row_lose_double_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 2400, 8);
    let store = folder.join("store");
    let mut cluster = Cluster::start(folder).await;
    let at = ["--coordinator", &cluster.coordinator.address.clone()];
    let job = succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let mut draw = Draw::new(20);
    let mut kept = BTreeMap::new();
    for kill in 0..KILLS {
        cluster.units_start(1 + draw.below(9)).await;
        let mut seen = commits(&store);
        // Each look takes a while: kills come early and late in a unit.
        for _ in 0..draw.below(4) {
            seen = commits(&store);
        }
        assert!(seen.len() < COMMITS, "the job was over before kill {kill}");
        kept.extend(seen);
        cluster = cluster.replace(draw.below(3)).await;
    }
    let watched = glmeval(folder, &[&["watch", job.trim()], &at[..]].concat()).await;
    assert_eq!(watched.code, Some(0), "{watched:?}");
    assert_eq!(commits(&store).len(), COMMITS);
    check_committed_once(&store).await;
    check_kept(&kept, &store);
    let begun = cluster.end().await;
    let most = COMMITS as u64 + 1 + 2 * KILLS;
    assert!(begun <= most, "{begun} units were begun, {most} at most");
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    assert_eq!(results(&store).await, results(&folder.join("alone")).await);
}

#[tokio::test]
async fn a_killed_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, 800, 8);
    let store = folder.join("store");
    let mut draw = Draw::new(5);
    let mut kept = BTreeMap::new();
    for _ in 0..4 {
        let mut command = command(folder, &["run", "job.toml", "--store", "store"]);
        command.env("RUST_LOG", "glmeval_worker=debug");
        let mut run = Running::start(command);
        for _ in 0..=draw.below(15) {
            run.line_with("unit starts").await;
        }
        run.kill().await;
        kept.extend(commits(&store));
    }
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    check_kept(&kept, &store);
    check_committed_once(&store).await;
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    assert_eq!(results(&store).await, results(&folder.join("alone")).await);
}
