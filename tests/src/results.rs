//! What a store holds in the end: every number of it, free of names, times and workers.
//!
//! Leaves out: judging single numbers. Invariant: equal results mean equal bits.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::ids::{FitId, SetId};
use glmeval_common::plan::{Plan, UnitSpec};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{committed_ranges, committed_revisions};
use glmeval_common::store::embeddings::{read_rows, read_set};
use glmeval_common::store::fits::find_scores;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Length and last change.
    pub stamp: (u64, SystemTime),
    /// Digest of the content.
    pub sha256: String,
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every file below `folder`, by path.
///
/// # Panics
/// If one vanishes while it is read.
pub fn listing(folder: &Path) -> BTreeMap<PathBuf, FileState> {
    states(paths(folder))
}

/// The commits below `store`: shards, data sets and fits.
///
/// # Panics
/// If one vanishes: commits never do.
pub fn commits(store: &Path) -> BTreeMap<PathBuf, FileState> {
    let examples = store.join("examples");
    let is_commit = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        let shard = path.parent().is_some_and(|folder| folder.ends_with("commit"));
        let manifest = name == "manifest.json" && path.starts_with(&examples);
        let staged = path.extension() != Some("json".as_ref());
        !staged && (shard || manifest || name == "scores.json")
    };
    states(paths(store).into_iter().filter(is_commit).collect())
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(paths(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn states(paths: Vec<PathBuf>) -> BTreeMap<PathBuf, FileState> {
    let state = |path: PathBuf| {
        let about = path.metadata().unwrap();
        let stamp = (about.len(), about.modified().unwrap());
        let sha256 = digest(&std::fs::read(&path).unwrap());
        (path, FileState { stamp, sha256 })
    };
    paths.into_iter().map(state).collect()
}

/// Digests of every embedding tensor, and statistics and data of every fit, by what they are of.
///
/// # Panics
/// If anything cannot be read back.
pub async fn results(folder: &Path) -> BTreeMap<String, String> {
    results_in(&Store::open(folder.to_str().unwrap()).unwrap()).await
}

/// As [`results`], of any store.
///
/// # Panics
/// If anything cannot be read back.
pub async fn results_in(store: &Store) -> BTreeMap<String, String> {
    let mut results = BTreeMap::new();
    for set in store.list_folders("embeddings").await.unwrap() {
        results.extend(tensors(store, &SetId::new(set)).await);
    }
    for fit in store.list_folders("probes").await.unwrap() {
        let scores = find_scores(store, &FitId::new(&fit)).await.unwrap();
        let scores = scores.expect("every fit of a finished job is committed");
        let statistics = serde_json::to_string(&(&scores.identity, &scores.statistics)).unwrap();
        results.insert(format!("fit {fit} statistics"), statistics);
        for object in &scores.objects {
            store.get_verified(object).await.unwrap();
            results.insert(format!("fit {fit} {}", object.role), object.sha256.clone());
        }
    }
    assert!(!results.is_empty(), "{} holds no results", store.url());
    results
}

async fn tensors(store: &Store, set: &SetId) -> BTreeMap<String, String> {
    let manifest = read_set(store, set).await.unwrap();
    let end = committed_ranges(store, set).await.unwrap().iter().map(|range| range.1).max();
    let mut digests = BTreeMap::new();
    for &layer in &manifest.layers {
        for &pooling in &manifest.poolings {
            let rows = read_rows(store, set, (layer, pooling), (0, end.unwrap())).await.unwrap();
            let values = rows.values.iter().flat_map(|value| value.to_bits().to_le_bytes());
            let mut bytes: Vec<u8> = values.collect();
            bytes.extend(format!("{:?} {:?}", rows.ids, rows.token_counts).bytes());
            digests.insert(format!("set {set} layer {layer} {pooling}"), digest(&bytes));
        }
    }
    digests
}

/// Checks that every planned shard is committed once, that nothing else is, and no fit is missing.
///
/// # Panics
/// If a shard or a fit is missing, or a shard is there twice.
pub async fn check_committed_once(folder: &Path) {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    for job in store.list_folders("jobs").await.unwrap() {
        let plan = std::fs::read(folder.join("jobs").join(job).join("plan.json")).unwrap();
        let plan: Plan = serde_json::from_slice(&plan).unwrap();
        let mut planned = BTreeMap::<_, Vec<(u64, u64)>>::new();
        for unit in plan.units() {
            match unit.spec {
                UnitSpec::Extract { set, start, end, .. } => {
                    let id = plan.sets[set].id.clone();
                    planned.entry(id).or_default().push((start, end));
                }
                UnitSpec::Fit(unit) => {
                    for fit in &unit.fits {
                        assert!(find_scores(&store, fit.id()).await.unwrap().is_some());
                    }
                }
                UnitSpec::Prepare { .. } | UnitSpec::Report => {}
            }
        }
        for (set, ranges) in planned {
            let committed = committed_revisions(&store, &set).await.unwrap();
            let first: Vec<_> = ranges.into_iter().map(|range| (range, 0)).collect();
            assert_eq!(committed.into_iter().collect::<Vec<_>>(), first, "set {set}");
        }
    }
}
