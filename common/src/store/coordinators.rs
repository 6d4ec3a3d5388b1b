//! Coordinator records: who holds which epoch of a name.
//!
//! Invariant: an epoch is a number taken create-only; the highest taken number fences all lower ones.

use super::{Outcome, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::WorkerId;
use crate::layout::{self, FORMAT_VERSION};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Claims made before a name's epochs are taken to be contested beyond use.
const CLAIMS_MAX: u32 = 64;

/// Record of one epoch (`coordinators/<name>/<epoch>.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorRecord {
    /// Format version of this record.
    pub version: u32,
    /// Name that workers ask for.
    pub name: String,
    /// The number taken.
    pub epoch: u64,
    /// Random name of the process that took it.
    pub token: String,
    /// `host:port` for workers; `None` when embedded.
    pub address: Option<String>,
    /// sha256 of the CA certificate workers must trust; `None` without TLS.
    pub ca_sha256: Option<String>,
    /// Program version.
    pub program: String,
    /// Milliseconds since 1970 when claimed; for people.
    pub started_unix_ms: u64,
}

/// Record of a worker that lied (`coordinators/<name>/refused/worker-<worker>.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedWorker {
    /// Format version of this record.
    pub version: u32,
    /// Who.
    pub worker: WorkerId,
    /// What it did: "committed unit 7 wrongly: …".
    pub reason: String,
}

/// What a coordinator says about itself when it claims an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Random name of this process.
    pub token: String,
    /// `host:port` for workers; `None` when embedded.
    pub address: Option<String>,
    /// sha256 of the CA certificate.
    pub ca_sha256: Option<String>,
    /// Program version.
    pub program: String,
    /// Milliseconds since 1970.
    pub started_unix_ms: u64,
}

impl Claim {
    fn record(&self, name: &str, epoch: u64) -> CoordinatorRecord {
        CoordinatorRecord {
            version: FORMAT_VERSION,
            name: name.to_owned(),
            epoch,
            token: self.token.clone(),
            address: self.address.clone(),
            ca_sha256: self.ca_sha256.clone(),
            program: self.program.clone(),
            started_unix_ms: self.started_unix_ms,
        }
    }
}

/// The highest epoch taken under `name`, `None` if none is.
///
/// # Errors
/// Store errors.
pub async fn newest_epoch(store: &Store, name: &str) -> Result<Option<u64>> {
    let entries = store.list(&layout::coordinators_prefix(name)).await?;
    Ok(entries.iter().filter_map(|entry| layout::parse_number(&entry.path)).max())
}

/// The record of the highest epoch taken under `name`, `None` if none is.
///
/// # Errors
/// `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn newest(store: &Store, name: &str) -> Result<Option<CoordinatorRecord>> {
    match newest_epoch(store, name).await? {
        Some(epoch) => store.find_record(&layout::coordinator_path(name, epoch)).await,
        None => Ok(None),
    }
}

/// Takes the next epoch of `name`; the first is 1.
///
/// # Errors
/// `Conflict` after losing to others too often; store errors.
pub async fn claim_epoch(store: &Store, name: &str, claim: &Claim) -> Result<CoordinatorRecord> {
    for _ in 0..CLAIMS_MAX {
        let epoch = newest_epoch(store, name).await?.unwrap_or(0).saturating_add(1);
        let record = claim.record(name, epoch);
        let path = layout::coordinator_path(name, epoch);
        match store.create_record(&path, record).await {
            Ok(Outcome::Won(record)) => return Ok(record),
            Ok(Outcome::Lost(_)) => {}
            // A record that cannot be read takes its number all the same; one that could not be written is none.
            Err(error) if is_unreadable(store, &path, &error).await? => {
                tracing::warn!(name, epoch, error = %error.chain(), "unreadable coordinator record");
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "claim an epoch of coordinator {name} in {}: {CLAIMS_MAX} were taken by others",
            store.url()
        ),
    ))
}

/// Whether `error` is that of a record that is there and cannot be read.
async fn is_unreadable(store: &Store, path: &str, error: &Error) -> Result<bool> {
    let is_content = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid);
    Ok(is_content && store.exists(path).await?)
}

/// Writes down that a worker lied to coordinators of `name`; the first reason stays.
///
/// # Errors
/// Store errors.
pub async fn record_refused(
    store: &Store,
    name: &str,
    worker: &WorkerId,
    reason: &str,
) -> Result<()> {
    let path = layout::refused_path(name, worker);
    let (worker, reason) = (worker.clone(), reason.to_owned());
    let record = RefusedWorker { version: FORMAT_VERSION, worker, reason };
    match store.create_record(&path, record).await {
        // One that cannot be read refuses its worker all the same.
        Err(error) if is_unreadable(store, &path, &error).await? => Ok(()),
        written => written.map(drop),
    }
}

/// Workers that lied to coordinators of `name` and are not `known`, with what they did. One LIST, and
/// one GET for each.
///
/// # Errors
/// Store errors.
pub async fn refused_workers(
    store: &Store,
    name: &str,
    known: &BTreeSet<WorkerId>,
) -> Result<BTreeMap<WorkerId, String>> {
    let mut refused = BTreeMap::new();
    for entry in store.list(&layout::refused_prefix(name)).await? {
        let worker = layout::parse_refused(&entry.path);
        let Some(worker) = worker.filter(|worker| !known.contains(worker)) else { continue };
        let reason = match store.read_record::<RefusedWorker>(&entry.path).await {
            Ok(record) => record.reason,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) => {
                "lied to an earlier coordinator".to_owned()
            }
            Err(error) => return Err(error),
        };
        refused.insert(worker, reason);
    }
    Ok(refused)
}

/// Ends `name` after `epoch`: a record without an address tells who looks for a coordinator that its
/// work is over. Returns whether it stands; a newer coordinator keeps its number.
///
/// # Errors
/// Store errors.
pub async fn end(store: &Store, name: &str, epoch: u64, claim: &Claim) -> Result<bool> {
    let epoch = epoch.saturating_add(1);
    let record = Claim { address: None, ..claim.clone() }.record(name, epoch);
    let outcome = store.create_record(&layout::coordinator_path(name, epoch), record).await?;
    Ok(matches!(outcome, Outcome::Won(_)))
}
