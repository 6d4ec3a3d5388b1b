//! Jobs at rest: file, plan, cancellation, units given up, snapshots.
//!
//! A job that was cancelled or has failed units runs again in a next round: records of earlier rounds
//! stay and count no more. Invariant: `plan.json` is the job's commit; nothing of a job is ever rewritten.

use super::{Created, Outcome, Store};
use crate::control::FitFailure;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::JobId;
use crate::layout::{self, FORMAT_VERSION};
use crate::plan::{PLAN_VERSION, Plan};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Record of a unit that was given up (`jobs/<job-id>/failed/<unit>.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedUnit {
    /// Format version of this record.
    pub version: u32,
    /// Index into the plan's units.
    pub unit: u32,
    /// One line for people: `extract NT 0-1000`.
    pub label: String,
    /// What its last error asks for.
    pub kind: ErrorKind,
    /// Error chain of the last failure.
    pub error: String,
    /// Failures counted.
    pub failures: u32,
    /// Workers it failed on.
    pub workers: Vec<String>,
    /// Random name of the writer.
    pub token: String,
    /// Fits of the unit that cannot be made, each with its own reason; left out where that is not known, as
    /// older programs do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fits: Vec<FitFailure>,
    /// Examples `start..end` of the unit that were given up; left out = the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<(u64, u64)>,
}

/// Record that cancels a round of a job (`jobs/<job-id>/cancelled.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Format version of this record.
    pub version: u32,
    /// Who or why, for people.
    pub reason: String,
    /// Random name of the writer.
    pub token: String,
}

/// Record that opens a round of a job (`jobs/<job-id>/resumed.r<n>.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// Format version of this record.
    pub version: u32,
    /// The round.
    pub round: u32,
    /// Random name of the writer.
    pub token: String,
}

/// A job as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEntry {
    /// The job.
    pub job: JobId,
    /// When its plan was written, by the store's clock, in milliseconds since 1970.
    pub planned_ms: i64,
}

/// Stores a job: file first, then the plan, which makes it exist. Returns the plan that stands.
///
/// The same plan again finds the same job; the job file that came first stays.
///
/// # Errors
/// `Corrupt` when another job's plan stands under the id; store errors.
pub async fn create_job(store: &Store, plan: &Plan, toml: &str) -> Result<Outcome<Plan>> {
    let toml = Bytes::copy_from_slice(toml.as_bytes());
    store.create(&layout::job_toml_path(&plan.job), toml).await?;
    let path = layout::plan_path(&plan.job);
    let outcome = match store.create(&path, super::record::encode(plan)?).await? {
        Created::Won => Outcome::Won(plan.clone()),
        Created::Lost { existing } => Outcome::Lost(decode_plan(store, &path, &existing)?),
    };
    if let Outcome::Lost(standing) = &outcome
        && standing.job != plan.job
    {
        return Err(Error::corrupt(format!(
            "{path} in {}: expected the plan of job {}, found that of {}",
            store.url(),
            plan.job,
            standing.job
        )));
    }
    Ok(outcome)
}

/// Reads the plan of a job.
///
/// # Errors
/// `NotFound`, `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn read_plan(store: &Store, job: &JobId) -> Result<Plan> {
    let path = layout::plan_path(job);
    decode_plan(store, &path, &store.get(&path).await?)
}

fn decode_plan(store: &Store, path: &str, bytes: &[u8]) -> Result<Plan> {
    let place = format!("{path} in {}", store.url());
    super::record::decode_until(bytes, &place, PLAN_VERSION)
}

/// Reads the job file as submitted.
///
/// # Errors
/// `NotFound`, `Corrupt` when it is no UTF-8; store errors.
pub async fn read_job_toml(store: &Store, job: &JobId) -> Result<String> {
    let path = layout::job_toml_path(job);
    let bytes = store.get(&path).await?;
    String::from_utf8(bytes.to_vec())
        .map_err(|e| Error::corrupt(format!("{path} in {}", store.url())).with_source(e))
}

/// Every job that has a plan, by id.
///
/// # Errors
/// Store errors.
pub async fn list_jobs(store: &Store) -> Result<Vec<JobEntry>> {
    let mut jobs = Vec::new();
    for folder in store.list_folders(layout::JOBS_PREFIX).await? {
        // What is no id was put there by no coordinator.
        let Ok(job) = JobId::parse(folder) else { continue };
        if let Some(entry) = store.entry(&layout::plan_path(&job)).await? {
            jobs.push(JobEntry { job, planned_ms: entry.last_modified_ms });
        }
    }
    Ok(jobs)
}

/// The round a job is in: 0, then one more each time it was resumed.
///
/// # Errors
/// Store errors.
pub async fn round(store: &Store, job: &JobId) -> Result<u32> {
    let mut round = 0_u32;
    while store.exists(&layout::resumed_path(job, round.saturating_add(1))).await? {
        round = round.saturating_add(1);
    }
    Ok(round)
}

/// Opens the next round if the present one was cancelled or has failed units; returns the round that
/// stands.
///
/// # Errors
/// Store errors.
pub async fn resume(store: &Store, job: &JobId, token: &str) -> Result<u32> {
    let present = round(store, job).await?;
    let is_cancelled = store.exists(&layout::cancelled_path(job, present)).await?;
    if !is_cancelled && failed_paths(store, job, present, |_| true).await?.is_empty() {
        return Ok(present);
    }
    let next = present.saturating_add(1);
    let record = Resumed { version: FORMAT_VERSION, round: next, token: token.to_owned() };
    store.create_record(&layout::resumed_path(job, next), record).await?;
    Ok(next)
}

/// Cancels round `round` of a job; once is enough, and later rounds know nothing of it.
///
/// # Errors
/// Store errors.
pub async fn cancel(
    store: &Store,
    job: &JobId,
    round: u32,
    reason: &str,
    token: &str,
) -> Result<()> {
    let record =
        Cancelled { version: FORMAT_VERSION, reason: reason.to_owned(), token: token.to_owned() };
    let path = layout::cancelled_path(job, round);
    store.create_record(&path, record).await.map(drop)
}

/// Whether the present round of a job is cancelled, and why.
///
/// # Errors
/// `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn cancelled(store: &Store, job: &JobId) -> Result<Option<Cancelled>> {
    store.find_record(&layout::cancelled_path(job, round(store, job).await?)).await
}

/// Records that a unit was given up in round `round`; the first record stays.
///
/// The round is the one its coordinator knows of, not the one that is open by now: what a coordinator
/// that was replaced still writes down is no part of a round that was opened since.
///
/// # Errors
/// Store errors.
pub async fn record_failure(
    store: &Store,
    job: &JobId,
    round: u32,
    failed: FailedUnit,
) -> Result<Outcome<FailedUnit>> {
    let path = match failed.rows {
        Some(rows) => layout::failed_rows_path(job, failed.unit, rows, round),
        None => layout::failed_unit_path(job, failed.unit, round),
    };
    store.create_record(&path, failed).await
}

async fn failed_paths(
    store: &Store,
    job: &JobId,
    round: u32,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>> {
    let entries = store.list(&layout::failed_units_prefix(job)).await?;
    let of_round = |path: &str| {
        let revision = layout::parse_revision(path).map(|(_, revision)| revision);
        revision == Some(round) && is_wanted(path)
    };
    Ok(entries.into_iter().map(|entry| entry.path).filter(|path| of_round(path)).collect())
}

/// Units of a job that were given up in its present round, by index.
///
/// # Errors
/// `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn failed_units(store: &Store, job: &JobId) -> Result<BTreeMap<u32, FailedUnit>> {
    let mut units = BTreeMap::new();
    let is_unit = |path: &str| layout::parse_number(path).is_some();
    for path in failed_paths(store, job, round(store, job).await?, is_unit).await? {
        let failed: FailedUnit = store.read_record(&path).await?;
        units.insert(failed.unit, failed);
    }
    Ok(units)
}

/// Rows of a job that were given up in its present round, by unit and range.
///
/// # Errors
/// As [`failed_units`].
pub async fn failed_rows(store: &Store, job: &JobId) -> Result<Vec<FailedUnit>> {
    let mut rows = Vec::new();
    let is_rows = |path: &str| layout::parse_failed_rows(path).is_some();
    for path in failed_paths(store, job, round(store, job).await?, is_rows).await? {
        rows.push(store.read_record(&path).await?);
    }
    Ok(rows)
}

/// Seconds on devices of one kind, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceSeconds {
    /// Attempts that committed.
    pub useful: f64,
    /// Attempts whose unit another committed first.
    pub duplicate: f64,
    /// Attempts that failed.
    pub failed: f64,
    /// Attempts handed back before their end.
    pub handed_back: f64,
    /// Attempts whose worker fell silent.
    pub expired: f64,
}

impl DeviceSeconds {
    /// Seconds that came to nothing.
    pub fn lost(&self) -> f64 {
        self.duplicate + self.failed + self.handed_back + self.expired
    }

    /// All seconds.
    pub fn total(&self) -> f64 {
        self.useful + self.lost()
    }
}

/// Device time of a job and what was lost of it, as its coordinators counted one after the other; part of
/// its snapshots. Attempts that were under way when a coordinator died are not in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// By kind of device.
    pub kinds: BTreeMap<String, DeviceSeconds>,
    /// Leases that ended because their workers fell silent.
    pub leases_expired: u64,
    /// Leases handed back.
    pub leases_handed_back: u64,
    /// Units computed twice.
    pub duplicates: u64,
}

impl Spent {
    /// Seconds of all kinds.
    pub fn seconds(&self) -> f64 {
        self.kinds.values().map(DeviceSeconds::total).sum()
    }
}

/// What the newest snapshot of a job says was spent; nothing without one, or where it is of an older
/// program.
///
/// # Errors
/// Store errors.
pub async fn spent(store: &Store, job: &JobId) -> Result<Spent> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        spent: Spent,
    }
    let (newest, _) = newest_readable_snapshot::<Part>(store, job).await?;
    Ok(newest.map_or_else(Spent::default, |snapshot| snapshot.state.spent))
}

/// Envelope of a snapshot (MessagePack map); the state is the coordinator's own.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    epoch: u64,
    token: String,
    state: T,
    /// Older programs wrote none.
    #[serde(default)]
    name: String,
}

/// A numbered state of a coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<T> {
    /// Its number.
    pub number: u64,
    /// Epoch of the coordinator that wrote it.
    pub epoch: u64,
    /// The state.
    pub state: T,
    /// Name of the coordinator, whose epochs these are; empty in snapshots of older programs.
    pub name: String,
}

/// Writes snapshot `number` of a job.
///
/// # Errors
/// `Fenced` when a coordinator of the same name and a higher epoch took the number, `Conflict` when one of
/// this epoch, a lower one or another name did (take the next number): epochs of two names say nothing of
/// each other; store errors.
pub async fn put_snapshot<T: Serialize>(
    store: &Store,
    job: &JobId,
    snapshot: &Snapshot<T>,
    token: &str,
) -> Result<()> {
    let Snapshot { number, epoch, state, name } = snapshot;
    let path = layout::snapshot_path(job, *number);
    let (version, token, name) = (FORMAT_VERSION, token.to_owned(), name.clone());
    let envelope = Envelope { version, epoch: *epoch, token, state, name };
    let bytes = rmp_serde::to_vec_named(&envelope)
        .map_err(|e| Error::bug(format!("encode {path}")).with_source(e))?;
    let Created::Lost { existing } = store.create(&path, bytes.into()).await? else {
        return Ok(());
    };
    let standing: Envelope<serde::de::IgnoredAny> = decode_snapshot(store, &path, &existing)?;
    let Envelope { name: other, epoch: theirs, .. } = standing;
    let is_own = other.is_empty() || other == snapshot.name;
    let kind = if is_own && theirs > *epoch { ErrorKind::Fenced } else { ErrorKind::Conflict };
    let advice = if is_own { "" } else { ": two names work on one job, give them one" };
    Err(Error::new(
        kind,
        format!(
            "{path} in {}: taken by coordinator {other} of epoch {theirs}{advice}",
            store.url()
        ),
    ))
}

/// The snapshot with the highest number that can be read and the number behind the highest there is;
/// a damaged or newer one costs no more than having none.
///
/// # Errors
/// Store errors.
pub async fn newest_readable_snapshot<T: serde::de::DeserializeOwned>(
    store: &Store,
    job: &JobId,
) -> Result<(Option<Snapshot<T>>, u64)> {
    let entries = store.list(&layout::snapshots_prefix(job)).await?;
    let mut numbers: Vec<u64> =
        entries.iter().filter_map(|entry| layout::parse_number(&entry.path)).collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    for number in numbers.into_iter().rev() {
        let path = layout::snapshot_path(job, number);
        let Some(bytes) = store.get_if_exists(&path).await? else { continue };
        match decode_snapshot::<T>(store, &path, &bytes) {
            Ok(Envelope { epoch, state, name, .. }) => {
                return Ok((Some(Snapshot { number, epoch, state, name }), next));
            }
            Err(error) => tracing::warn!(error = error.chain(), "a snapshot is passed over"),
        }
    }
    Ok((None, next))
}

/// The snapshot with the highest number, `None` without any.
///
/// # Errors
/// `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn newest_snapshot<T: serde::de::DeserializeOwned>(
    store: &Store,
    job: &JobId,
) -> Result<Option<Snapshot<T>>> {
    let entries = store.list(&layout::snapshots_prefix(job)).await?;
    let newest = entries.iter().filter_map(|entry| layout::parse_number(&entry.path)).max();
    let Some(number) = newest else { return Ok(None) };
    let path = layout::snapshot_path(job, number);
    let envelope: Envelope<T> = decode_snapshot(store, &path, &store.get(&path).await?)?;
    let Envelope { epoch, state, name, .. } = envelope;
    Ok(Some(Snapshot { number, epoch, state, name }))
}

fn decode_snapshot<T: serde::de::DeserializeOwned>(
    store: &Store,
    path: &str,
    bytes: &[u8],
) -> Result<Envelope<T>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let place = format!("{path} in {}", store.url());
    let corrupt = |e| Error::corrupt(format!("{place}: not a snapshot")).with_source(e);
    let versioned: Versioned = rmp_serde::from_slice(bytes).map_err(corrupt)?;
    layout::check_version(versioned.version, &place)?;
    rmp_serde::from_slice(bytes).map_err(corrupt)
}
