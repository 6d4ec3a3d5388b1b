//! A cluster of real processes on a real S3 protocol: one worker is killed, the result is that of a laptop.
//!
//! Leaves out: what is scheduled when (`cluster.rs`), facts about single objects (`store_conformance.rs`).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::ids::JobId;
use glmeval_common::rng::Rng;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{committed_ranges, read_rows};
use glmeval_common::store::fits::{find_scores, read_predictions};
use glmeval_common::store::jobs::read_plan;
use glmeval_tests::process::{finish, glmeval, succeed};
use glmeval_tests::s3::{S3, s3};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

const EXAMPLES: usize = 240;
/// A test that waits longer has found a defect.
const PATIENCE: Duration = Duration::from_secs(120);

/// A table of random DNA with a target, and a job over it.
fn write_job(folder: &Path) -> String {
    let mut rng = Rng::derive(0, "cluster on S3");
    let mut table = "name\tsequence\tsplit\tactivity\n".to_owned();
    for row in 0..EXAMPLES {
        let split = ["train", "train", "valid", "test"][row % 4];
        let sequence: String = (0..120).map(|_| b"ACGT"[rng.below(4) as usize] as char).collect();
        table.push_str(&format!("r{row}\t{sequence}\t{split}\t{}\n", rng.normal()));
    }
    std::fs::write(folder.join("table.tsv"), table).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
    let model = model.canonicalize().unwrap();
    let job = format!(
        r#"
name = "cluster on S3"
seed = 1
shard_rows = 8
[[model]]
name = "NT random"
path = "{}"
[[dataset]]
name = "table"
task = "lenti-mpra"
table = "table.tsv"
columns = {{ sequence = "sequence", id = "name", split = "split", targets = ["activity"] }}
[[representation]]
model = "NT random"
layers = [2, 4]
pooling = ["cls", "mean"]
[[representation]]
kmer = 2
[[probe]]
kind = "ridge"
alpha = 1.0
"#,
        model.display()
    );
    let path = folder.join("job.toml");
    std::fs::write(&path, job).unwrap();
    path.display().to_string()
}

/// A coordinator on a free port.
struct Coordinator {
    process: Child,
    address: String,
    _messages: Lines<BufReader<ChildStderr>>,
}

impl Coordinator {
    async fn start(s3: &S3) -> Self {
        let arguments = ["coordinator", "--listen", "127.0.0.1:0", "--store", &s3.url];
        let arguments = [&arguments[..], &["--lease-ttl-ms", "2000"]].concat();
        let mut command = glmeval(&arguments, &s3.variables);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut messages = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = messages.next_line().await.unwrap().unwrap_or_default();
        let address = line.rsplit_once(" listens on ").map(|(_, address)| address.to_owned());
        let address = address.unwrap_or_else(|| panic!("the coordinator says {line:?}"));
        Self { process, address, _messages: messages }
    }

    fn worker(&self, s3: &S3) -> Child {
        let arguments = ["worker", "--coordinator", &self.address, "--store", &s3.url];
        let arguments = [&arguments[..], &["--threads", "1", "--until-idle"]].concat();
        glmeval(&arguments, &s3.variables).spawn().unwrap()
    }
}

/// Shards of the job's one embedding set that are committed.
async fn shards(store: &Store, job: &JobId) -> usize {
    let plan = read_plan(store, job).await.unwrap();
    committed_ranges(store, &plan.sets[0].id).await.unwrap().len()
}

/// Every row and every prediction, bit for bit.
async fn assert_same_results(ours: &Store, other: &Store, job: &JobId) {
    let plan = read_plan(ours, job).await.unwrap();
    assert_eq!(plan, read_plan(other, job).await.unwrap());
    for set in &plan.sets {
        for tensor in set.layers.iter().flat_map(|&l| set.poolings.iter().map(move |&p| (l, p))) {
            let all = (0, EXAMPLES as u64);
            let mine = read_rows(ours, &set.id, tensor, all).await.unwrap();
            assert_eq!(mine.ids.len(), EXAMPLES);
            assert!(mine == read_rows(other, &set.id, tensor, all).await.unwrap(), "{tensor:?}");
        }
    }
    let mut fits = 0;
    for fit in plan.fit_units().flat_map(|(_, unit)| &unit.fits) {
        let mine = find_scores(ours, fit.id()).await.unwrap().unwrap();
        let theirs = find_scores(other, fit.id()).await.unwrap().unwrap();
        assert_eq!(mine.statistics, theirs.statistics);
        let mine = read_predictions(ours, &mine).await.unwrap();
        assert!(!mine.is_empty() && mine == read_predictions(other, &theirs).await.unwrap());
        fits += 1;
    }
    assert_eq!(fits, 5);
}

/// Lines of the score table without the seconds a fit took and the worker that made it.
fn scores(report: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(report).join("scores.csv")).unwrap();
    let lines: Vec<String> =
        text.lines().map(|line| line.rsplitn(3, ',').last().unwrap().to_owned()).collect();
    assert!(lines.len() > 5 && lines[0].ends_with(",examples"), "{text}");
    lines
}

async fn a_cluster_loses_a_worker(s3: &S3) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let file = write_job(folder.path());
    let store = s3.open().unwrap();
    let mut coordinator = Coordinator::start(s3).await;
    let submit = ["submit", &file, "--coordinator", &coordinator.address];
    let job = JobId::new(succeed(&mut glmeval(&submit, &[])).await.trim());

    let mut doomed = coordinator.worker(s3);
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    while shards(&store, &job).await == 0 {
        poll.tick().await;
        assert_eq!(doomed.try_wait().unwrap(), None, "the worker left by itself");
    }
    let mut heir = coordinator.worker(s3);
    doomed.kill().await.unwrap();
    let done = shards(&store, &job).await;
    assert!((1..EXAMPLES / 8).contains(&done), "{done} shards at the time of the kill");

    let watch = ["watch", job.as_str(), "--coordinator", &coordinator.address];
    succeed(&mut glmeval(&watch, &[])).await;
    assert_eq!(heir.wait().await.unwrap().code(), Some(0));
    coordinator.process.kill().await.unwrap();

    assert!(store.exists("doctor/fit.json").await.unwrap(), "the store was checked, once");

    let (local, report) = (at("local"), at("local-report"));
    let run = ["run", &file, "--store", &local, "--report", &report];
    succeed(&mut glmeval(&run, &[])).await;
    assert_same_results(&store, &Store::open(&local).unwrap(), &job).await;

    let out = at("s3-report");
    let arguments = ["report", job.as_str(), "--store", &s3.url, "--out", &out];
    succeed(&mut glmeval(&arguments, &s3.variables)).await;
    assert_eq!(scores(&out), scores(&report));
}

#[tokio::test]
async fn a_job_on_s3_survives_a_killed_worker_and_equals_a_run_in_one_process() {
    let Some(s3) = s3("a cluster on S3") else { return };
    tokio::time::timeout(PATIENCE, a_cluster_loses_a_worker(&s3)).await.expect("it ends in time");
}

#[tokio::test]
async fn doctor_finds_the_s3_server_fit_and_leaves_nothing_behind() {
    let Some(s3) = s3("doctor on S3") else { return };
    let arguments = ["doctor", "--store", &s3.url, "--format", "json"];
    let finished = finish(&mut glmeval(&arguments, &s3.variables)).await;
    assert_eq!(finished.code, Some(0), "{}\n{}", finished.stdout, finished.stderr);
    let checks: Vec<serde_json::Value> = serde_json::from_str(&finished.stdout).unwrap();
    let race = checks.iter().find(|check| check["check"] == "race of creators").unwrap();
    assert_eq!(race["passed"], true, "{race}");
    let clock = checks.iter().find(|check| check["check"] == "clock").unwrap();
    assert_eq!(clock["passed"], true, "both are this machine's: {clock}");
    assert_eq!(s3.open().unwrap().list("").await.unwrap(), []);
}

#[tokio::test]
async fn an_s3_server_that_is_gone_is_an_error_that_names_the_store() {
    let Some(mut s3) = s3("an absent S3 server") else { return };
    let endpoint = s3.variables.iter_mut().find(|(name, _)| *name == "AWS_ENDPOINT_URL");
    let Some((_, endpoint)) = endpoint else { return };
    // Port 1 takes no connection.
    *endpoint = "http://127.0.0.1:1".to_owned();
    let arguments = ["report", "0000", "--store", &s3.url, "--out", "/nonexistent"];
    let command = &mut glmeval(&arguments, &s3.variables);
    let finished = tokio::time::timeout(PATIENCE, finish(command)).await.expect("it ends in time");
    assert_eq!(finished.code, Some(75), "{}", finished.stderr);
    assert!(finished.stderr.contains(&s3.url), "{}", finished.stderr);
    assert_eq!(finished.stderr.matches("Error performing GET").count(), 1, "{}", finished.stderr);
}
