//! Reports at rest: files of an attempt, made visible by one commit.
//!
//! Invariant: the newest revision is the report; an older one was damaged or out of date.

use super::{Outcome, Store};
use crate::error::{Error, Result};
use crate::ids::{Attempt, JobId, WorkerId};
use crate::layout::{self, FORMAT_VERSION, ObjectRecord};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Makes a report visible (`jobs/<job-id>/report/commit.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportCommit {
    /// Format version of this record.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// Attempt that won.
    pub attempt: Attempt,
    /// Its worker.
    pub worker: WorkerId,
    /// The files; the role is the file's name, such as `scores.csv`.
    pub files: Vec<ObjectRecord>,
}

/// Writes the files of a report and commits them; the loser's files are deleted.
///
/// Where a report stands that is damaged or holds other bytes, the next revision is committed instead.
///
/// # Errors
/// `Invalid` for a file name that is no object path; store errors.
pub async fn commit_report(
    store: &Store,
    job: &JobId,
    attempt: &Attempt,
    worker: &WorkerId,
    files: BTreeMap<String, Bytes>,
) -> Result<Outcome<ReportCommit>> {
    let mut objects = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        let path = layout::report_data_path(job, &name, attempt);
        objects.push(store.put_data(&name, &path, bytes).await?);
    }
    let commit = ReportCommit {
        version: FORMAT_VERSION,
        job: job.clone(),
        attempt: attempt.clone(),
        worker: worker.clone(),
        files: objects.clone(),
    };
    let wanted = contents(&objects);
    let check = |standing: ReportCommit| {
        let is_own = layout::check_own(&layout::report_commit_path(job), &standing.files).is_ok();
        let is_equal = standing.job == *job && is_own && contents(&standing.files) == wanted;
        async move {
            if !is_equal {
                return Err(Error::corrupt(format!("report of job {job}: out of date")));
            }
            read_report(store, &standing).await.map(drop)
        }
    };
    store.commit(&layout::report_commit_path(job), commit, &objects, check).await
}

/// The newest readable commit of a job's report, `None` if there is none.
///
/// # Errors
/// `Corrupt`, also for a report of another job or of another's files; `Invalid` for a newer version; store errors.
pub async fn find_report(store: &Store, job: &JobId) -> Result<Option<ReportCommit>> {
    let path = layout::report_commit_path(job);
    let commit: Option<ReportCommit> = store.find_newest(&path).await?;
    let Some(commit) = commit else { return Ok(None) };
    let is_own = commit.job == *job && layout::check_own(&path, &commit.files).is_ok();
    if !is_own {
        let expected = format!("expected a report of job {job} with files of its own");
        return Err(Error::corrupt(format!("{path} in {}: {expected}", store.url())));
    }
    Ok(Some(commit))
}

/// Name, length and digest of every file.
fn contents(files: &[ObjectRecord]) -> BTreeSet<(String, u64, String)> {
    let content = |file: &ObjectRecord| (file.role.clone(), file.bytes, file.sha256.clone());
    files.iter().map(content).collect()
}

/// Reads every file of a report by name.
///
/// # Errors
/// `Corrupt` when a file is not what the commit says; store errors.
pub async fn read_report(store: &Store, commit: &ReportCommit) -> Result<BTreeMap<String, Bytes>> {
    let mut files = BTreeMap::new();
    for object in &commit.files {
        files.insert(object.role.clone(), store.get_verified(object).await?);
    }
    Ok(files)
}
