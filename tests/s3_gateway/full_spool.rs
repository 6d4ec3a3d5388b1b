//! A spool that takes no more while the store is away: its bound is reached, its disk is full or read-only.
//!
//! Leaves out: outages that fit into the spool (`outage`), single files of a spool (`worker/src/spool`).

use crate::outage::{commits, glmeval};
use glmeval_common::store::Store;
use glmeval_tests::glmeval::{Running, binary, ended, prepared, succeeds};
use glmeval_tests::jobs::write_long_job;
use glmeval_tests::real;
use glmeval_tests::results::results_in;
use glmeval_tests::s3::S3;
use glmeval_tests::s3::ceph::{Gateway, ceph};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

const SHARDS: u64 = 24;
const SHARD_ROWS: usize = 48;

/// Runs the rest with a small file system at `spool`, mounted with `$0`.
const SCRIPT: &str = "mount -t tmpfs -o \"$0\" tmpfs spool || exit 99
    \"$@\"; code=$?; cp -r spool kept; exit $code";

/// A job whose store goes away once some of it is done.
struct Outage {
    folder: tempfile::TempDir,
    gateway: Gateway,
    place: S3,
    straight: Store,
    coordinator: Running,
    address: String,
}

impl Outage {
    async fn new(what: &str) -> Option<Self> {
        let ceph = ceph(what)?;
        let gateway = ceph.own_gateway(Ipv4Addr::LOCALHOST.into());
        let place = gateway.place();
        let straight = S3 { url: place.url.clone(), ..ceph.place() }.open().unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_long_job(folder.path(), SHARDS as usize * SHARD_ROWS, SHARD_ROWS as u64);
        let listen = ["coordinator", "--listen", "127.0.0.1:0", "--store", &place.url];
        let ttl = ["--lease-ttl-ms", "3000"];
        let mut coordinator = glmeval(folder.path(), &place, &[&listen[..], &ttl].concat());
        let line = coordinator.line_with("listens on ").await;
        let address = line.rsplit(' ').next().unwrap().to_owned();
        succeeds(folder.path(), &["submit", "job.toml", "--coordinator", &address]).await;
        Some(Self { folder, gateway, place, straight, coordinator, address })
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn worker<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let first = ["worker", "--coordinator", &self.address, "--store", &self.place.url];
        [&first[..], &["--threads", "1", "--until-idle"], more].concat()
    }

    /// Kills the gateway while a unit is computed.
    async fn begin(&mut self, worker: &mut Running) {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while commits(&self.straight).await < 2 {
            poll.tick().await;
        }
        worker.lines_so_far();
        worker.line_with("unit starts").await;
        self.gateway.kill();
        assert!(commits(&self.straight).await < SHARDS, "the job was over before the outage");
    }

    /// All shards are committed, and the results are those of an undisturbed run.
    async fn check(&self) {
        assert_eq!(commits(&self.straight).await, SHARDS);
        succeeds(self.folder(), &["run", "job.toml", "--store", "alone"]).await;
        let alone = Store::open(self.folder().join("alone").to_str().unwrap()).unwrap();
        assert_eq!(results_in(&self.straight).await, results_in(&alone).await);
    }
}

fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn a_worker_whose_spool_is_full_computes_no_more_and_loses_nothing() {
    let Some(mut outage) = Outage::new("a full spool").await else { return };
    let bound = ["--spool", "spool", "--spool-bytes", "1"];
    let arguments = outage.worker(&bound);
    let mut worker = glmeval(outage.folder(), &outage.place, &arguments);
    outage.begin(&mut worker).await;
    worker.line_with("the spool is full").await;
    outage.coordinator.line_with("the store is away").await;
    let meanwhile = worker.lines_so_far();
    assert_eq!(count(&meanwhile, "unit starts"), 0, "{meanwhile:#?}");
    outage.gateway.start();
    let (code, lines) = worker.exit().await;
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(count(&lines, "shard delivered") > 0);
    outage.check().await;
}

/// A worker with a small file system for its spool.
fn on_small_disk(folder: &Path, place: &S3, options: &str, arguments: &[&str]) -> Command {
    std::fs::create_dir(folder.join("spool")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", SCRIPT, options]).arg(binary()).args(arguments);
    let mut command = prepared(command, folder);
    command.envs(place.variables.iter().map(|(name, value)| (*name, value)));
    command.env("RUST_LOG", "warn,glmeval_worker=debug");
    command
}

#[tokio::test]
async fn a_worker_whose_spools_disk_is_full_says_so_and_the_next_one_goes_on() {
    let what = "a spool on a full disk";
    let (Some(_), Some(mut outage)) = (real::program("unshare", what), Outage::new(what).await)
    else {
        return;
    };
    let arguments = outage.worker(&["--spool", "spool"]);
    let command = on_small_disk(outage.folder(), &outage.place, "size=12k", &arguments);
    let mut worker = Running::start(command);
    outage.begin(&mut worker).await;
    let told = worker.line_with("the spool takes no more").await;
    assert!(told.contains("spool/") && told.contains("No space"), "{told}");
    outage.gateway.start();
    let (code, lines) = worker.exit().await;
    assert_eq!(code, Some(75), "a worker without a place for its shards leaves: {lines:#?}");
    let heir = outage.worker(&["--spool", "kept"]);
    let heir = glmeval(outage.folder(), &outage.place, &heir);
    assert_eq!(heir.exit().await.0, Some(0));
    outage.check().await;
}

#[tokio::test]
async fn a_spool_that_cannot_be_written_is_refused_at_once_by_its_path() {
    if real::program("unshare", "a read-only spool").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_long_job(folder.path(), 8, 8);
    let arguments =
        ["worker", "--partition", "0/1", "job.toml", "--store", "store", "--spool", "spool"];
    let nowhere = S3 { url: "store".to_owned(), variables: Vec::new() };
    let ended = ended(on_small_disk(folder.path(), &nowhere, "ro", &arguments)).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(75), ""), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.contains("open the spool") && last.contains("spool/"), "{last}");
}
