//! What workers that were refused have left in the store: every commit that names them, to the last byte.
//!
//! Leaves out: commits nobody can read, which name nobody; the report, which is made last and again whenever
//! it does not say what stands. Invariant: a shard too large to be looked at here counts as wrong: the worker
//! that gets it next looks at it.

use super::{DIGEST_BYTES_MAX, Evidence, records, wrong_object, wrong_words};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::{SetId, WorkerId};
use glmeval_common::plan::{EntrySpec, Plan, UnitSpec};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::cover::cover_range;
use glmeval_common::store::embeddings::{committed_ranges, find_commit};
use glmeval_common::unit::WorkUnit;
use std::collections::BTreeSet;

/// Commits read at a time.
const COMMITS_IN_FLIGHT_MAX: usize = 16;

/// Rows of a plan's shards that only wrong commits of `authors` hold, by unit; no rows of a data set or of fits
/// that they committed wrongly. Reads every commit of the plan, and the data of those that name one of `authors`.
///
/// # Errors
/// Store errors but damage.
pub async fn wrong_rows(
    store: &Store,
    plan: &Plan,
    authors: &BTreeSet<WorkerId>,
) -> Result<Vec<(u32, u64, u64)>> {
    let mut rows = Vec::new();
    for (index, set) in plan.sets.iter().enumerate() {
        let ranges = committed_ranges(store, &set.id).await?;
        let looks = ranges.into_iter().map(|range| async move {
            is_wrong(store, &set.id, range, authors).await.map(|wrong| (range, wrong))
        });
        let looked: Vec<((u64, u64), bool)> =
            futures::stream::iter(looks).buffered(COMMITS_IN_FLIGHT_MAX).try_collect().await?;
        let of = |wanted: bool| {
            let ranges = looked.iter().filter(move |(_, wrong)| *wrong == wanted);
            ranges.map(|(range, _)| *range).collect::<Vec<_>>()
        };
        let (wrong, sound) = (of(true), of(false));
        if !wrong.is_empty() {
            rows.extend(held_by_none(plan, index, &wrong, &sound));
        }
    }
    for unit in wrong_units(store, plan, authors).await? {
        rows.push((unit, 0, 0));
    }
    Ok(rows)
}

/// Units other than shards of which one of `authors` committed something wrong.
async fn wrong_units(store: &Store, plan: &Plan, authors: &BTreeSet<WorkerId>) -> Result<Vec<u32>> {
    let is_theirs = |found: &Evidence| match found {
        Evidence::Bad { author: Some(author), .. } => authors.contains(&author.worker),
        _ => false,
    };
    let mut wrong = Vec::new();
    for (index, entry) in plan.entries.iter() {
        if let EntrySpec::Prepare { .. } = &entry.spec
            && let Some(WorkUnit::Prepare(unit)) = plan.work_unit(index)
            && is_theirs(&records::look_at_dataset(store, &unit, true).await?)
        {
            wrong.push(index);
        }
    }
    let mut looks: Vec<BoxFuture<'_, Result<(u32, Evidence)>>> = Vec::new();
    for (index, unit) in plan.fit_units() {
        for fit in &unit.fits {
            looks.push(Box::pin(async move {
                records::look_at_fit(store, fit, true).await.map(|found| (index, found))
            }));
        }
    }
    let looks = futures::stream::iter(looks).buffered(COMMITS_IN_FLIGHT_MAX);
    let looked: Vec<(u32, Evidence)> = looks.try_collect().await?;
    wrong.extend(looked.iter().filter(|(_, found)| is_theirs(found)).map(|(index, _)| *index));
    wrong.dedup();
    for unit in &wrong {
        tracing::warn!(unit, "a wrong commit of a refused worker");
    }
    Ok(wrong)
}

/// Whether the commit of a shard names one of `authors` and is not as it should be.
async fn is_wrong(
    store: &Store,
    set: &SetId,
    (start, end): (u64, u64),
    authors: &BTreeSet<WorkerId>,
) -> Result<bool> {
    let commit = match find_commit(store, set, start, end).await {
        Ok(commit) => commit,
        Err(error) if error.kind() == ErrorKind::Corrupt => None,
        Err(error) => return Err(error),
    };
    let Some(commit) = commit.filter(|commit| authors.contains(&commit.worker)) else {
        return Ok(false);
    };
    let wrong = match wrong_words(&commit, set, (start, end)) {
        None if commit.object.bytes > DIGEST_BYTES_MAX => Some("too large to look at".to_owned()),
        None => wrong_object(store, &commit.object, true).await?,
        wrong => wrong,
    };
    if let Some(reason) = &wrong {
        tracing::warn!(%set, start, end, worker = %commit.worker, reason, "a wrong commit");
    }
    Ok(wrong.is_some())
}

/// Rows of `wrong` shards of the set with that index that no `sound` one holds, by unit.
fn held_by_none(
    plan: &Plan,
    set: usize,
    wrong: &[(u64, u64)],
    sound: &[(u64, u64)],
) -> Vec<(u32, u64, u64)> {
    let is_of_set = |spec: &EntrySpec| match spec {
        EntrySpec::Extract { set: of, .. } | EntrySpec::Shards { set: of, .. } => *of == set,
        _ => false,
    };
    let mut rows = Vec::new();
    for (first, entry) in plan.entries.iter().filter(|(_, entry)| is_of_set(&entry.spec)) {
        let past = first.saturating_add(u32::try_from(entry.unit_count()).unwrap_or(u32::MAX));
        for unit in first..past.min(plan.unit_count()) {
            let Some(UnitSpec::Extract { start, end, .. }) = plan.unit(unit).map(|it| it.spec)
            else {
                continue;
            };
            for &(a, b) in wrong {
                let (from, to) = (a.max(start), b.min(end));
                if from < to && cover_range(sound, from, to).is_err() {
                    rows.push((unit, from, to));
                }
            }
        }
    }
    rows
}
