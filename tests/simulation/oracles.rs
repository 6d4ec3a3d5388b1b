//! What must hold, looked at in the store without its weather.
//!
//! Leaves out: rules that the store itself watches (store). Invariant: an oracle reads only what a reader of the
//! product could read.

use crate::job::{self, SimJob};
use crate::network::NAME;
use crate::runner::commit_path;
use crate::store::Objects;
use crate::world::{World, lock};
use glmeval_common::control::{JobPhase, JobStatus};
use glmeval_common::error::{Error, Result};
use glmeval_common::layout;
use glmeval_common::store::Store;
use glmeval_common::store::coordinators::CoordinatorRecord;
use glmeval_common::store::embeddings::{committed_revisions, find_commit, read_rows, read_shard};
use glmeval_common::store::examples::{check_dataset, read_manifest};
use glmeval_common::store::fits::{check_fit, find_scores, read_weights};
use glmeval_common::store::reports::{find_report, read_report};
use glmeval_common::unit::{Fit, WorkUnit};
use glmeval_coordinator::{JobStore, StoredJobs};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A process says that it holds an epoch: no other may have said so.
pub(crate) fn claimed(world: &Arc<World>, epoch: u64, who: &str) {
    world.note(who, format!("claims epoch {epoch}"));
    world.count("epochs");
    let taken = lock(&world.ledger).epochs.iter().find(|(known, _)| *known == epoch).cloned();
    if let Some((_, other)) = taken {
        world.violation(format!("epoch {epoch} is held by {other} and by {who}"));
    }
    lock(&world.ledger).epochs.push((epoch, who.to_owned()));
}

async fn committed(job: &SimJob, store: &Store) -> Vec<bool> {
    let jobs = StoredJobs::shared(store.clone());
    jobs.committed(&job.plan).await.unwrap_or_default()
}

/// Nothing is called committed that is not.
pub(crate) async fn status(
    world: &Arc<World>,
    objects: &Arc<Objects>,
    job: &SimJob,
    status: &JobStatus,
) {
    let in_store = committed(job, &objects.truth()).await;
    let in_store = in_store.into_iter().filter(|committed| *committed).count() as u64;
    let said: u64 = status.kinds.iter().map(|kind| kind.committed).sum();
    let leased: u64 = status.kinds.iter().map(|kind| kind.leased).sum();
    let phase = status.phase.name();
    world
        .note("op", format!("{phase}: {said} committed, {in_store} in the store, {leased} leased"));
    if said > in_store {
        world.violation(format!("{said} units are called committed, {in_store} are"));
    }
    let all = job::units(&job.plan).len() as u64;
    if status.phase == JobPhase::Finished && (said != all || status.rows_done != status.rows) {
        world.violation(format!("a finished job of {all} units says {status:?}"));
    }
}

/// A worker that leaves because no work is left must be right. The second job may not have been handed in yet.
pub(crate) async fn all_committed(world: &Arc<World>, objects: &Arc<Objects>, who: &str) {
    whole(world, objects, &world.jobs[0], who).await;
}

/// Every unit of the job is committed, as `who` says by leaving.
pub(crate) async fn whole(world: &Arc<World>, objects: &Arc<Objects>, job: &SimJob, who: &str) {
    let committed = committed(job, &objects.truth()).await;
    if committed.is_empty() || committed.contains(&false) {
        world.violation(format!("{who} leaves for good while units of {} are left", job.plan.name));
    }
}

/// Everything that must hold once the jobs are over; of those that did not finish, what is committed is whole.
pub(crate) async fn at_the_end(world: &Arc<World>, objects: &Arc<Objects>, finished: &[bool]) {
    let store = objects.truth();
    for (job, &is_finished) in world.jobs.iter().zip(finished) {
        let committed = committed(job, &store).await;
        for (unit, is_committed) in job::units(&job.plan).into_iter().zip(committed) {
            if !is_committed && !is_finished {
                continue;
            }
            if let Err(error) = check_unit(world, &store, &unit).await {
                world.violation(format!("{}: {}", unit.label(), error.chain()));
            }
        }
        if is_finished {
            whole(world, objects, job, "the coordinator").await;
            if let Err(error) = check_sets(job, &store).await {
                world.violation(error.chain());
            }
        }
    }
    if let Err(error) = check_epochs(world, &store).await {
        world.violation(error.chain());
    }
    let winners = lock(&world.ledger).winners.clone();
    for (path, winners) in winners.into_iter().filter(|(_, winners)| winners.len() > 1) {
        world.violation(format!("{path} was won by {}", winners.join(" and ")));
    }
}

fn wrong(text: impl Into<String>) -> Error {
    Error::corrupt(text)
}

/// The unit's one commit stands, names what it should, and its data is what any attempt computes.
async fn check_unit(world: &Arc<World>, store: &Store, unit: &WorkUnit) -> Result<()> {
    let Some(path) = commit_path(unit) else {
        let WorkUnit::Fit(unit) = unit else { return Ok(()) };
        for fit in &unit.fits {
            check_fit_unit(world, store, fit).await?;
        }
        return Ok(());
    };
    if store.exists(&layout::revision_path(&path, 1)).await? {
        return Err(wrong("was committed a second time"));
    }
    let attempt = match unit {
        WorkUnit::Prepare(unit) => {
            let manifest = read_manifest(store, &unit.dataset).await?;
            check_dataset(store, &manifest).await?;
            if manifest.rows != unit.rows {
                return Err(wrong(format!("{} rows, not {}", manifest.rows, unit.rows)));
            }
            manifest.attempt
        }
        WorkUnit::Extract(unit) => {
            let commit = find_commit(store, &unit.set.id, unit.start, unit.end).await?;
            let commit = commit.ok_or_else(|| wrong("has no commit"))?;
            if read_shard(store, &commit).await? != job::shard(unit) {
                return Err(wrong("holds other rows than any attempt computes"));
            }
            if store.get_verified(&commit.object).await? != job::shard_bytes(unit)? {
                return Err(wrong("holds other bytes than any attempt computes"));
            }
            commit.attempt
        }
        WorkUnit::Report(unit) => {
            let commit = find_report(store, &unit.job).await?;
            let commit = commit.ok_or_else(|| wrong("has no commit"))?;
            read_report(store, &commit).await?;
            commit.attempt
        }
        WorkUnit::Fit(_) => return Ok(()),
    };
    check_winners(world, &path, |winner| winner == attempt.as_str())
}

/// Who was told that it won is whose commit stands.
fn check_winners(world: &World, path: &str, stands: impl Fn(&String) -> bool) -> Result<()> {
    let winners = lock(&world.ledger).winners.get(path).cloned().unwrap_or_default();
    match winners.iter().all(stands) {
        true => Ok(()),
        false => Err(wrong(format!("{path} is not of {}, who won", winners.join(", ")))),
    }
}

/// A fit's one commit stands, and its objects are whole, its winner's and what any attempt computes.
async fn check_fit_unit(world: &Arc<World>, store: &Store, fit: &Fit) -> Result<()> {
    let path = layout::scores_path(fit.id());
    if store.exists(&layout::revision_path(&path, 1)).await? {
        return Err(wrong("was committed a second time"));
    }
    let scores = find_scores(store, fit.id()).await?.ok_or_else(|| wrong("has no scores"))?;
    check_fit(store, &scores).await?;
    if read_weights(store, &scores).await? != job::weights(fit) {
        return Err(wrong("holds other weights than any attempt computes"));
    }
    check_winners(world, &path, |winner| {
        scores.objects.iter().all(|object| object.path.contains(&format!(".{winner}.")))
    })
}

/// The committed ranges of every set hold each row once, and a reader gets them all.
async fn check_sets(job: &SimJob, store: &Store) -> Result<()> {
    let mut planned: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
    let shards = job::shards(&job.plan);
    for shard in &shards {
        planned.entry(&shard.set.id).or_default().push((shard.start, shard.end));
    }
    for (set, ranges) in planned {
        let found: Vec<_> = committed_revisions(store, set).await?.into_keys().collect();
        if found != ranges {
            return Err(wrong(format!("set {set} holds {found:?}, not {ranges:?}")));
        }
        let of_set = shards.iter().find(|shard| shard.set.id == *set);
        let (Some(of_set), Some((_, rows))) = (of_set, ranges.last()) else { continue };
        let key = (of_set.set.layers[0], of_set.set.poolings[0]);
        let read = read_rows(store, set, key, (0, *rows)).await?;
        let expected: Vec<_> = (0..*rows).map(|row| format!("r{row}")).collect();
        if read.ids != expected {
            return Err(wrong(format!("set {set} reads as {:?}", read.ids)));
        }
    }
    Ok(())
}

/// Epochs are numbered without a gap, and each belongs to the process that said so.
async fn check_epochs(world: &Arc<World>, store: &Store) -> Result<()> {
    let held: BTreeMap<u64, String> = lock(&world.ledger).epochs.iter().cloned().collect();
    let entries = store.list(&layout::coordinators_prefix(NAME)).await?;
    let mut last_of: BTreeMap<String, u64> = BTreeMap::new();
    for (entry, epoch) in entries.iter().zip(1..) {
        let record: CoordinatorRecord = store.read_record(&entry.path).await?;
        if record.epoch != epoch {
            return Err(wrong(format!("{} stands where epoch {epoch} should", entry.path)));
        }
        if held.get(&epoch).is_some_and(|who| *who != record.program) {
            return Err(wrong(format!("epoch {epoch} belongs to {}", record.program)));
        }
        let last = last_of.insert(record.program.clone(), epoch);
        if last.is_some_and(|last| last >= epoch) {
            return Err(wrong(format!("epochs of {} fall", record.program)));
        }
    }
    match held.last_key_value() {
        Some((highest, _)) if entries.len() as u64 >= *highest => Ok(()),
        _ => Err(wrong("an epoch was held without a record")),
    }
}
