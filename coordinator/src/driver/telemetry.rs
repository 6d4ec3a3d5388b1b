//! Every metric a coordinator tells, by its Prometheus name.
//!
//! Leaves out: reading gauges off an overview (`gauges`), serving them. Invariant: no label is ever a unit,
//! a worker, a path or free text from outside but a job's and a gLM's name.

use glmeval_common::control::{Health, Outcome, StoreRequests};
use glmeval_common::store::meter::REQUEST_SECONDS;
use glmeval_common::unit::WorkUnit;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

/// Name of the histogram of attempts by `kind` of unit.
pub const UNIT_SECONDS: &str = "glmeval_unit_seconds";
/// Name of the histogram of all workers' requests to the store, by `op` and `outcome`.
const WORKER_REQUEST_SECONDS: &str = "glmeval_worker_store_request_seconds";
/// Requests of one operation between two heartbeats that are counted.
const REQUESTS_PER_HEARTBEAT_MAX: u64 = 100_000;
/// Upper bounds of all histograms, in seconds.
pub const BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
    3_600.0,
];

/// Says what every metric means; a recorder must be installed before.
pub fn describe() {
    describe_histogram!(UNIT_SECONDS, Unit::Seconds, "Seconds of attempts that committed.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Seconds of requests to the store.");
    let help = "Seconds of all workers' requests to the store, each as the mean of its heartbeat.";
    describe_histogram!(WORKER_REQUEST_SECONDS, Unit::Seconds, help);
    for (name, help) in [
        ("glmeval_units", "Units of a job by state."),
        ("glmeval_workers", "Workers by what they are at."),
        ("glmeval_quarantined_units", "Units that were given up."),
        ("glmeval_units_without_worker", "Units that could start and no connected worker can run."),
        ("glmeval_rows", "Rows of all embedding sets of a job."),
        ("glmeval_rows_done", "Rows embedded, those of running units included."),
        ("glmeval_rows_per_second", "Rows embedded per second over the last ten seconds."),
        ("glmeval_job_eta_seconds", "Seconds to the end at the pace so far."),
        ("glmeval_job_info", "1 for every job, with its name and phase."),
        (
            "glmeval_job_device_seconds",
            "Seconds that attempts kept a device, by what became of them.",
        ),
        ("glmeval_job_cost", "Price of the device time spent, in the currency of the job file."),
        ("glmeval_lease_age_seconds", "Seconds the oldest running lease has run."),
        ("glmeval_stragglers", "Running units that take far longer than their kind."),
        ("glmeval_worker_memory_bytes", "Memory of all workers."),
        ("glmeval_device_memory_used_bytes", "Device memory of all workers."),
        ("glmeval_spool_bytes", "Bytes on workers' disks that wait for the store."),
        ("glmeval_coordinator_epoch", "Epoch of this coordinator."),
        ("glmeval_build_info", "1, with the version of the program."),
    ] {
        describe_gauge!(name, help);
    }
    for (name, help) in [
        ("glmeval_rows_total", "Rows committed by gLM."),
        ("glmeval_lease_grants_total", "Leases granted."),
        ("glmeval_leases_expired_total", "Leases whose worker fell silent."),
        ("glmeval_leases_handed_back_total", "Leases that workers handed back."),
        ("glmeval_duplicate_attempts_total", "Attempts that another had overtaken."),
        ("glmeval_reports_total", "Attempts by how they ended."),
        ("glmeval_oom_total", "Times a device ran out of memory, all workers."),
        ("glmeval_worker_rows_total", "Rows computed by all workers, committed or not."),
    ] {
        describe_counter!(name, help);
    }
    // What has not happened yet reads as zero, so that the first time is an increase.
    for name in [
        "glmeval_lease_grants_total",
        "glmeval_leases_expired_total",
        "glmeval_leases_handed_back_total",
        "glmeval_duplicate_attempts_total",
        "glmeval_worker_rows_total",
    ] {
        counter!(name).increment(0);
    }
    for outcome in ["committed", "lost", "failed", "handed-back"] {
        counter!("glmeval_reports_total", "outcome" => outcome).increment(0);
    }
    counter!("glmeval_oom_total", "device_kind" => "cpu").increment(0);
}

pub(super) fn count_grants(count: u64) {
    counter!("glmeval_lease_grants_total").increment(count);
}

pub(super) fn count_expired(count: u64) {
    counter!("glmeval_leases_expired_total").increment(count);
}

/// An attempt ended after `seconds`.
pub(super) fn count_report(outcome: &Outcome, seconds: f64, work: Option<&WorkUnit>) {
    let name = match outcome {
        Outcome::Committed => "committed",
        Outcome::Lost => "lost",
        Outcome::Failed { .. } => "failed",
        Outcome::HandedBack => "handed-back",
        Outcome::Unfit { .. } => "unfit",
    };
    counter!("glmeval_reports_total", "outcome" => name).increment(1);
    match outcome {
        Outcome::Committed => {
            let Some(work) = work else { return };
            histogram!(UNIT_SECONDS, "kind" => work.kind().name()).record(seconds);
            if let WorkUnit::Extract(unit) = work {
                let rows = unit.end.saturating_sub(unit.start);
                let model = unit.set.model.name.clone();
                counter!("glmeval_rows_total", "model" => model).increment(rows);
            }
        }
        Outcome::Lost => counter!("glmeval_duplicate_attempts_total").increment(1),
        Outcome::HandedBack | Outcome::Unfit { .. } => {
            counter!("glmeval_leases_handed_back_total").increment(1);
        }
        Outcome::Failed { .. } => {}
    }
}

/// Adds what a worker did between two heartbeats; a process that began again counts from zero.
pub(super) fn add_health(device_kind: &str, before: &Health, now: &Health) {
    let grown = |before: u64, now: u64| if now >= before { now - before } else { now };
    counter!("glmeval_worker_rows_total").increment(grown(before.rows_done, now.rows_done));
    let device = device_kind.to_owned();
    let out_of_memory = grown(before.out_of_memory, now.out_of_memory);
    counter!("glmeval_oom_total", "device_kind" => device).increment(out_of_memory);
    for cell in &now.store {
        let same = |known: &&StoreRequests| {
            known.operation == cell.operation && known.outcome == cell.outcome
        };
        let known = before.store.iter().find(same).cloned().unwrap_or_default();
        let requests = grown(known.requests, cell.requests);
        let seconds = (cell.seconds - known.seconds).max(0.0);
        let labels = [("op", plain(&cell.operation)), ("outcome", plain(&cell.outcome))];
        let mean = seconds / (requests.max(1) as f64);
        let count = usize::try_from(requests.min(REQUESTS_PER_HEARTBEAT_MAX)).unwrap_or(0);
        histogram!(WORKER_REQUEST_SECONDS, &labels).record_many(mean, count);
    }
}

/// A word a worker may say, bounded, so that none can fill the coordinator's memory with labels.
fn plain(word: &str) -> String {
    const WORDS: [&str; 10] =
        ["create", "put", "get", "head", "list", "delete", "ok", "exists", "missing", "error"];
    if WORDS.contains(&word) { word.to_owned() } else { "other".to_owned() }
}
