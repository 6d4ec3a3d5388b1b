//! A cluster of real processes on a real S3 gateway, in network namespaces of their own, under a seeded rain of
//! kills, signals, stops and cuts: the job ends complete, with the bytes of an undisturbed run.
//!
//! Leaves out: time that is virtual (`simulation`). `GLMEVAL_CHAOS=SHARDS/FAULTS` chooses the size: 300/30 unless
//! told otherwise; `GLMEVAL_CHAOS_SEED` the seed. Without root or the gateway it is skipped aloud.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod cluster;
mod faults;
mod ledger;
mod network;

use cluster::{Cluster, TRUST};
use faults::Fault;
use glmeval_common::rng::Rng;
use glmeval_common::store::Store;
use glmeval_tests::glmeval::succeeds;
use glmeval_tests::jobs::table;
use glmeval_tests::process;
use glmeval_tests::results::results_in;
use glmeval_tests::s3::ceph::ceph;
use ledger::Ledger;
use network::Network;
use std::path::Path;
use std::time::Duration;

const SHARD_ROWS: usize = 8;
/// Faults come while this share of the shards is committed: the rest of the job ends in peace.
const DISTURBED_SHARE: f64 = 0.95;
/// A run that takes longer has found a defect.
const PATIENCE: Duration = Duration::from_secs(1_500);

/// How many shards and faults, and the seed of the faults.
fn size() -> (usize, usize, u64) {
    let size = std::env::var("GLMEVAL_CHAOS").unwrap_or_else(|_| "300/30".to_owned());
    let (shards, faults) = size.split_once('/').expect("GLMEVAL_CHAOS=SHARDS/FAULTS");
    let seed = std::env::var("GLMEVAL_CHAOS_SEED").map_or(1, |seed| seed.parse().unwrap());
    (shards.parse().unwrap(), faults.parse().unwrap(), seed)
}

/// One data set of many small shards, and one fit.
fn write_job(folder: &Path, shards: usize) {
    std::fs::write(folder.join("data.tsv"), table(shards * SHARD_ROWS, 400)).unwrap();
    let model = glmeval_tests::glmeval::model().display().to_string();
    let job = format!(
        "name = \"chaos\"\nseed = 3\nshard_rows = {SHARD_ROWS}\n[[model]]\nname = \"NT\"\npath = {model:?}\n\
         [[representation]]\nmodel = \"NT\"\nlayers = [2, 4]\npooling = [\"mean\"]\n[[dataset]]\n\
         name = \"long\"\ntask = \"regression\"\ntable = \"data.tsv\"\ncolumns = {{ sequence = \"seq\", \
         id = \"id\", split = \"part\", targets = [\"activity\"] }}\n[[probe]]\nkind = \"ridge\"\nalpha = 1.0\n"
    );
    std::fs::write(folder.join("job.toml"), job).unwrap();
}

#[tokio::test]
async fn a_job_under_kills_stops_and_cuts_ends_with_the_bytes_of_an_undisturbed_run() {
    let what = "chaos with real processes";
    let Some(network) = Network::new(what) else { return };
    let Some(ceph) = ceph(what) else { return };
    let (shards, faults, seed) = size();
    let gateway = ceph.own_gateway(network.hub());
    let place = gateway.place();
    let store = place.open().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_job(folder.path(), shards);
    let chaos = disturbed(&network, &place, folder.path(), (shards, faults, seed));
    let ledger = tokio::time::timeout(PATIENCE, chaos).await.expect("the job ends in time");
    ledger.print(shards, seed);
    assert_eq!(ledger.committed(&store).await, shards, "every shard is committed once");
    let mut run = process::glmeval(&["run", "job.toml", "--store", "alone"], &[]);
    process::succeed(run.current_dir(folder.path())).await;
    let alone = Store::open(folder.path().join("alone").to_str().unwrap()).unwrap();
    assert_eq!(results_in(&store).await, results_in(&alone).await);
    assert!(
        ledger.recomputed() * 100 < shards as u64,
        "{} of {shards} committed shards were computed again",
        ledger.recomputed()
    );
}

/// Runs the job while faults rain on it; what all workers did.
async fn disturbed(
    network: &Network,
    place: &glmeval_tests::s3::S3,
    folder: &Path,
    (shards, faults, seed): (usize, usize, u64),
) -> Ledger {
    let mut rng = Rng::derive(seed, "chaos");
    let mut cluster = Cluster::start(network, place, folder).await;
    let submit = ["submit", "job.toml", "--coordinator", &cluster.address()];
    succeeds(folder, &[&submit[..], &TRUST].concat()).await;
    cluster.start_workers();
    for number in 0..faults {
        let share = DISTURBED_SHARE * number as f64 / faults as f64;
        cluster.commits_reach((shards as f64 * share) as u64).await;
        let fault = Fault::draw(&mut rng);
        cluster.strike(fault);
    }
    cluster.heal().await;
    cluster.workers_finish().await;
    cluster.end().await
}
