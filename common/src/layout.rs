//! Every object path of the store, formatted here and nowhere else; and what a commit says.
//!
//! ```text
//! models/<model-id>.json
//! examples/<dataset-id>/data/part-00000.<attempt>.parquet    manifest.json = the commit
//! embeddings/<set-id>/manifest.json
//! embeddings/<set-id>/data/<start>-<end>.<attempt>.safetensors
//! embeddings/<set-id>/commit/<start>-<end>.json
//! probes/<fit-id>/data/{weights.<attempt>.safetensors, history.<attempt>.parquet, predictions.<attempt>.parquet}
//! probes/<fit-id>/data/{maps.<attempt>.safetensors, sequences.<attempt>.parquet}    of attribution
//! probes/<fit-id>/scores.json                                = the commit
//! probes/<fit-id>/epochs/data/<epoch>.<attempt>.safetensors  <epoch>.json = the commit; gone once the scores are there
//! jobs/<job-id>/job.toml  plan.json  cancelled.json  failed/<unit>.json  snapshots/<n>.msgpack
//! jobs/<job-id>/resumed.r<n>.json                            opens round n of a job submitted again
//! jobs/<job-id>/report/data/<attempt>/<file>   jobs/<job-id>/report/commit.json
//! coordinators/<name>/<epoch>.json   coordinators/<name>/refused/worker-<worker>.json
//! doctor/fit.json                                            this store keeps create-only writes apart
//! ```
//!
//! `<name>.r<n>.json`, n from 1, is the n-th revision of the record `<name>.json`: of a commit, it stands
//! in for earlier ones whose data is damaged (of a report: out of date); of a job's `cancelled` and
//! `failed` records, it speaks of round n.
//!
//! `<…-id>`, `<attempt>` and what else the store draws or digests are 32 hexadecimal digits ([`is_written`]).
//!
//! Invariant: an object under `data/` exists for readers only once a commit names it.

use crate::error::{Error, Result};
use crate::ids::{Attempt, DatasetId, FitId, JobId, ModelId, SetId, WorkerId};
use serde::{Deserialize, Serialize};

mod written;

pub use written::is_written;

/// Format version of manifests and commits written by this program.
pub const FORMAT_VERSION: u32 = 1;

/// Refuses a format version that this program does not read.
///
/// # Errors
/// `Invalid` for a newer version, `Corrupt` for 0, which was never written.
pub fn check_version(version: u32, place: &str) -> Result<()> {
    check_version_until(version, FORMAT_VERSION, place)
}

/// [`check_version`] for a kind of record whose newest version is `newest`.
///
/// # Errors
/// As [`check_version`].
pub fn check_version_until(version: u32, newest: u32, place: &str) -> Result<()> {
    match version {
        0 => Err(Error::corrupt(format!("{place}: expected a format version from 1, found 0"))),
        known if known <= newest => Ok(()),
        newer => Err(Error::invalid(format!(
            "{place}: written by a newer glmeval: expected format version {newest} or older, \
             found {newer}"
        ))),
    }
}

/// One immutable object that a commit names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// What it holds: `part`, `shard`, `weights`, `history`, `predictions`, `checkpoint`, `maps`,
    /// `sequences`, or a report file's name.
    pub role: String,
    /// Object path in the store.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// Lower-case hexadecimal sha256 of the bytes.
    pub sha256: String,
}

/// `models/<id>.json`.
pub fn model_path(id: &ModelId) -> String {
    format!("models/{id}.json")
}

/// Commit of a prepared data set.
pub fn dataset_manifest_path(id: &DatasetId) -> String {
    format!("examples/{id}/manifest.json")
}

/// Attempt-private Parquet part of a data set.
pub fn dataset_part_path(id: &DatasetId, part: u32, attempt: &Attempt) -> String {
    format!("examples/{id}/data/part-{part:05}.{attempt}.parquet")
}

/// Description of an embedding set.
pub fn set_manifest_path(id: &SetId) -> String {
    format!("embeddings/{id}/manifest.json")
}

/// Where the commits of shards of a set that begin at row `start` or later begin in a listing; `None` for
/// rows beyond the order of listings.
pub fn shard_commits_from(id: &SetId, start: u64) -> Option<String> {
    (start < 10_000_000_000).then(|| format!("embeddings/{id}/commit/{start:010}"))
}

/// Prefix of all shard commits of a set.
pub fn shard_commits_prefix(id: &SetId) -> String {
    format!("embeddings/{id}/commit")
}

/// As [`shard_commits_from`], of the data of shards.
pub fn shard_data_from(id: &SetId, start: u64) -> Option<String> {
    (start < 10_000_000_000).then(|| format!("embeddings/{id}/data/{start:010}"))
}

/// Prefix of the data of all shards of a set.
pub fn shard_data_prefix(id: &SetId) -> String {
    format!("embeddings/{id}/data")
}

/// Path of revision `revision` of the record `path`, which ends in `.json`; revision 0 is `path` itself.
pub fn revision_path(path: &str, revision: u32) -> String {
    match path.strip_suffix(".json") {
        Some(stem) if revision > 0 => format!("{stem}.r{revision}.json"),
        _ => path.to_owned(),
    }
}

/// The record a path is a revision of, and which one; `None` if it is no record.
pub fn parse_revision(path: &str) -> Option<(String, u32)> {
    let stem = path.strip_suffix(".json")?;
    let revised = stem.rsplit_once(".r").and_then(|(first, revision)| {
        let revision = revision.parse().ok().filter(|revision| *revision > 0)?;
        Some((format!("{first}.json"), revision))
    });
    Some(revised.unwrap_or_else(|| (path.to_owned(), 0)))
}

fn shard_name(start: u64, end: u64) -> String {
    format!("{start:010}-{end:010}")
}

/// Commit of the shard of examples `start..end`.
pub fn shard_commit_path(id: &SetId, start: u64, end: u64) -> String {
    format!("embeddings/{id}/commit/{}.json", shard_name(start, end))
}

/// Commit that stands in for the shard's earlier ones, whose data is damaged; revision 0 is the first commit.
pub fn shard_revision_path(id: &SetId, start: u64, end: u64, revision: u32) -> String {
    revision_path(&shard_commit_path(id, start, end), revision)
}

/// Attempt-private data of the shard of examples `start..end`.
pub fn shard_data_path(id: &SetId, start: u64, end: u64, attempt: &Attempt) -> String {
    format!("embeddings/{id}/data/{}.{attempt}.safetensors", shard_name(start, end))
}

/// The range a commit path of any revision stands for; `None` if the name is not one.
pub fn parse_shard_commit(path: &str) -> Option<(u64, u64)> {
    parse_shard_revision(path).map(|(start, end, _)| (start, end))
}

/// Range and revision a commit path stands for; `None` if the name is not one.
pub fn parse_shard_revision(path: &str) -> Option<(u64, u64, u32)> {
    let (first, revision) = parse_revision(path)?;
    let name = first.rsplit('/').next()?.strip_suffix(".json")?;
    let (start, end) = parse_shard_name(name)?;
    Some((start, end, revision))
}

/// The range a shard's data path stands for; `None` if the name is not one.
pub fn parse_shard_data(path: &str) -> Option<(u64, u64)> {
    let name = path.rsplit('/').next()?.strip_suffix(".safetensors")?;
    parse_shard_name(name.split_once('.')?.0)
}

fn parse_shard_name(name: &str) -> Option<(u64, u64)> {
    let (start, end) = name.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (start < end).then_some((start, end))
}

/// Commit of a fit.
pub fn scores_path(id: &FitId) -> String {
    format!("probes/{id}/scores.json")
}

/// Attempt-private object of a fit; `file` such as `weights.safetensors`.
pub fn fit_data_path(id: &FitId, file: &str, attempt: &Attempt) -> String {
    let (stem, extension) = file.rsplit_once('.').unwrap_or((file, "bin"));
    format!("probes/{id}/data/{stem}.{attempt}.{extension}")
}

/// Prefix of the checkpoints of a fit.
pub fn checkpoints_prefix(id: &FitId) -> String {
    format!("probes/{id}/epochs")
}

/// Commit of the state of a fit after `epoch`.
pub fn checkpoint_path(id: &FitId, epoch: u32) -> String {
    format!("probes/{id}/epochs/{epoch:06}.json")
}

/// Attempt-private state of a fit after `epoch`.
pub fn checkpoint_data_path(id: &FitId, epoch: u32, attempt: &Attempt) -> String {
    format!("probes/{id}/epochs/data/{epoch:06}.{attempt}.safetensors")
}

/// The commit whose existence makes the object `path` worthless; `None` if there is none.
pub fn superseding_path_of(path: &str) -> Option<String> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["probes", id, "epochs", ..] => Some(scores_path(&FitId::new(*id))),
        _ => None,
    }
}

/// The job file as submitted.
pub fn job_toml_path(id: &JobId) -> String {
    format!("jobs/{id}/job.toml")
}

/// The immutable plan.
pub fn plan_path(id: &JobId) -> String {
    format!("jobs/{id}/plan.json")
}

/// Its existence opens round `round` of the job; round 0 needs none.
pub fn resumed_path(id: &JobId, round: u32) -> String {
    revision_path(&format!("jobs/{id}/resumed.json"), round)
}

/// Its existence cancels round `round` of the job.
pub fn cancelled_path(id: &JobId, round: u32) -> String {
    revision_path(&format!("jobs/{id}/cancelled.json"), round)
}

/// Record of a unit that was given up in round `round`.
pub fn failed_unit_path(id: &JobId, unit: u32, round: u32) -> String {
    revision_path(&format!("jobs/{id}/failed/{unit:07}.json"), round)
}

/// Record that rows `start..end` of a unit's shard were given up in round `round`.
pub fn failed_rows_path(id: &JobId, unit: u32, (start, end): (u64, u64), round: u32) -> String {
    let name = format!("{unit:07}-{}", shard_name(start, end));
    revision_path(&format!("jobs/{id}/failed/{name}.json"), round)
}

/// Unit and rows that a record's path stands for; `None` if it stands for a whole unit.
pub fn parse_failed_rows(path: &str) -> Option<(u32, u64, u64)> {
    let name = path.rsplit('/').next()?.split_once('.')?.0;
    let (unit, rows) = name.split_once('-')?;
    let (start, end) = parse_shard_name(rows)?;
    Some((unit.parse().ok()?, start, end))
}

/// Prefix of all records of units that were given up.
pub fn failed_units_prefix(id: &JobId) -> String {
    format!("jobs/{id}/failed")
}

/// Numbered state of a coordinator.
pub fn snapshot_path(id: &JobId, number: u64) -> String {
    format!("jobs/{id}/snapshots/{number:012}.msgpack")
}

/// Prefix of the snapshots of a job.
pub fn snapshots_prefix(id: &JobId) -> String {
    format!("jobs/{id}/snapshots")
}

/// The number that names a snapshot, a coordinator record, a failed unit or a checkpoint; `None` if it is not one.
pub fn parse_number(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.split_once('.')?.0.parse().ok()
}

/// Commit of a report.
pub fn report_commit_path(id: &JobId) -> String {
    format!("jobs/{id}/report/commit.json")
}

/// Attempt-private file of a report.
pub fn report_data_path(id: &JobId, file: &str, attempt: &Attempt) -> String {
    format!("jobs/{id}/report/data/{attempt}/{file}")
}

/// Record by which a coordinator claims an epoch.
pub fn coordinator_path(name: &str, epoch: u64) -> String {
    format!("coordinators/{name}/{epoch:012}.json")
}

/// Prefix of the records of one coordinator name.
pub fn coordinators_prefix(name: &str) -> String {
    format!("coordinators/{name}")
}

/// Record of a worker that lied to a coordinator of that name and gets no unit any more.
pub fn refused_path(name: &str, worker: &WorkerId) -> String {
    // The word before the id keeps one that is a number from reading as an epoch.
    format!("{}/worker-{worker}.json", refused_prefix(name))
}

/// Prefix of the records of refused workers.
pub fn refused_prefix(name: &str) -> String {
    format!("coordinators/{name}/refused")
}

/// The worker whose refusal a path stands for; `None` if it is no such record.
pub fn parse_refused(path: &str) -> Option<WorkerId> {
    let (folder, file) = path.rsplit_once('/')?;
    let worker = file.strip_prefix("worker-")?.strip_suffix(".json")?;
    folder.ends_with("/refused").then(|| WorkerId::parse(worker).ok())?
}

/// Short-lived object by which the store's own clock is read.
pub fn clock_probe_path(token: &str) -> String {
    format!("clock/{token}.json")
}

/// Says that a store stood the test of `doctor`, so that it is made once.
pub const STORE_FITNESS_PATH: &str = "doctor/fit.json";

/// The folder of the content or the job that the object `path` belongs to, such as `embeddings/<set-id>`; `None` for
/// what lies in none.
pub fn content_folder(path: &str) -> Option<&str> {
    let (top, below) = path.split_once('/')?;
    let (id, _) = below.split_once('/')?;
    path.get(..top.len() + 1 + id.len())
}

/// Folders that hold attempt-private data.
pub const DATA_PREFIXES: [&str; 4] = ["embeddings", "examples", "probes", JOBS_PREFIX];

/// Every folder at the top of a store.
pub const TOP_FOLDERS: [&str; 8] =
    ["clock", "coordinators", "doctor", "embeddings", "examples", "jobs", "models", "probes"];

/// The first commit that would name the data object `path`; `None` if it is no data object.
pub fn commit_path_of(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["embeddings", set, "data", _] => {
            let (start, end) = parse_shard_data(path)?;
            Some(shard_commit_path(&SetId::new(*set), start, end))
        }
        ["examples", id, "data", _] => Some(dataset_manifest_path(&DatasetId::new(*id))),
        ["probes", id, "data", _] => Some(scores_path(&FitId::new(*id))),
        ["probes", id, "epochs", "data", _] => {
            let epoch = u32::try_from(parse_number(path)?).ok()?;
            Some(checkpoint_path(&FitId::new(*id), epoch))
        }
        ["jobs", id, "report", "data", _, ..] => Some(report_commit_path(&JobId::new(*id))),
        _ => None,
    }
}

/// Whether every object is one that the commit `path` may name.
///
/// # Errors
/// The path of the first that is another's.
pub fn check_own<'a>(
    path: &str,
    objects: impl IntoIterator<Item = &'a ObjectRecord>,
) -> std::result::Result<(), &'a str> {
    let is_own = |object: &ObjectRecord| commit_path_of(&object.path).as_deref() == Some(path);
    let mut foreign = objects.into_iter().filter(|object| !is_own(object));
    foreign.next().map_or(Ok(()), |object| Err(object.path.as_str()))
}

/// Prefix of all jobs.
pub const JOBS_PREFIX: &str = "jobs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_objects_have_a_commit() {
        let attempt = Attempt::new("a");
        let (set, fit, job) = (SetId::new("s"), FitId::new("f"), JobId::new("j"));
        let of = |path: &str| commit_path_of(path);
        let shard = shard_data_path(&set, 0, 64, &attempt);
        assert_eq!(of(&shard), Some(shard_commit_path(&set, 0, 64)));
        let weights = fit_data_path(&fit, "weights.safetensors", &attempt);
        assert_eq!(of(&weights), Some(scores_path(&fit)));
        let state = checkpoint_data_path(&fit, 7, &attempt);
        assert_eq!(of(&state), Some(checkpoint_path(&fit, 7)));
        assert_eq!(superseding_path_of(&state), Some(scores_path(&fit)));
        let figure = report_data_path(&job, "figures/a.svg", &attempt);
        assert_eq!(of(&figure), Some(report_commit_path(&job)));
        for path in [set_manifest_path(&set), plan_path(&job), report_commit_path(&job)] {
            assert_eq!(of(&path), None, "{path}");
        }
    }

    #[test]
    fn numbered_paths_are_read_back() {
        assert_eq!(parse_number(&snapshot_path(&JobId::new("j"), 7)), Some(7));
        assert_eq!(parse_number(&coordinator_path("c", 9)), Some(9));
        let path = failed_unit_path(&JobId::new("j"), 3, 2);
        assert_eq!(
            (path.as_str(), parse_number(&path)),
            ("jobs/j/failed/0000003.r2.json", Some(3))
        );
        assert_eq!(parse_number("coordinators/c/x.json"), None);
        let path = refused_path("c", &WorkerId::new("7"));
        let worker = Some(WorkerId::new("7"));
        assert_eq!((parse_number(&path), parse_refused(&path)), (None, worker));
        assert_eq!(parse_refused(&coordinator_path("c", 9)), None);
        let path = failed_rows_path(&JobId::new("j"), 3, (107, 108), 1);
        assert_eq!((parse_number(&path), parse_failed_rows(&path)), (None, Some((3, 107, 108))));
        assert_eq!(parse_failed_rows(&failed_unit_path(&JobId::new("j"), 3, 2)), None);
    }

    #[test]
    fn revisions_lead_back_to_the_first() {
        for path in [scores_path(&FitId::new("f")), shard_commit_path(&SetId::new("s"), 0, 9)] {
            for revision in [0, 1, 12] {
                let revised = revision_path(&path, revision);
                assert_eq!(parse_revision(&revised), Some((path.clone(), revision)));
            }
        }
        assert_eq!(parse_revision("probes/f/data/weights.a.safetensors"), None);
        assert_eq!(parse_revision("a/x.ray.json"), Some(("a/x.ray.json".to_owned(), 0)));
    }

    #[test]
    fn shard_commit_paths_are_read_back() {
        let path = shard_commit_path(&SetId::new("s"), 64, 128);
        assert_eq!(parse_shard_commit(&path), Some((64, 128)));
        assert_eq!(parse_shard_commit("embeddings/s/commit/9-3.json"), None);
        let path = shard_revision_path(&SetId::new("s"), 64, 128, 2);
        assert_eq!(parse_shard_revision(&path), Some((64, 128, 2)));
        let path = shard_data_path(&SetId::new("s"), 64, 128, &Attempt::new("a"));
        assert_eq!(parse_shard_data(&path), Some((64, 128)));
    }
}
