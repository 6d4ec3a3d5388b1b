//! Which units of a plan the store holds commits of.
//!
//! Leaves out: who asks; what the data of shards holds, of which only the names are compared with the commits.
//! Invariant: units that are not known to be committed are looked up in the store, those that are known are not.

use super::{all_exist, commit_paths};
use crate::schedule::UnitSet;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::error::Result;
use glmeval_common::ids::SetId;
use glmeval_common::plan::{EntrySpec, Plan, UnitSpec};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::listing::{committed_rows, holds};
use std::collections::{BTreeMap, BTreeSet};

/// Requests to the store at a time while a plan is compared with what is committed.
const REQUESTS_MAX: usize = 32;
/// Names in one answer to a listing; to pass over fewer costs no more than to begin anew.
const PAGE_UNITS: u32 = 1_000;
/// Slices that a long stretch of shards is listed in.
const SLICES_MAX: u32 = 16;

/// Per unit of the plan: whether its commit stands, or `known` says so.
pub(super) async fn committed(store: &Store, plan: &Plan, known: &UnitSet) -> Result<Vec<bool>> {
    let mut committed = vec![false; plan.unit_count() as usize];
    for (first, past) in known.ranges() {
        if let Some(units) = committed.get_mut(first as usize..past as usize) {
            units.fill(true);
        }
    }
    let (mut shards, mut others): (BTreeMap<&SetId, Vec<(u32, u32)>>, _) =
        (BTreeMap::new(), Vec::new());
    for (first, entry) in plan.entries.iter() {
        let past = first.saturating_add(u32::try_from(entry.unit_count()).unwrap_or(u32::MAX));
        let gaps = known.gaps(first, past.min(plan.unit_count()));
        match entry.spec {
            EntrySpec::Shards { set, .. } | EntrySpec::Extract { set, .. } => {
                let set = plan.sets.get(set).map(|set| &set.id);
                set.into_iter().for_each(|set| shards.entry(set).or_default().extend(&gaps));
            }
            _ => others.extend(gaps.into_iter().flat_map(|(first, past)| first..past)),
        }
    }
    for (set, gaps) in shards.into_iter().filter(|(_, gaps)| !gaps.is_empty()) {
        let union = committed_rows(store, set, &slices(plan, &gaps)).await?;
        for unit in gaps.into_iter().flat_map(|(first, past)| first..past) {
            let rows = rows(plan, unit);
            if let (Some((start, end)), Some(unit)) = (rows, committed.get_mut(unit as usize)) {
                *unit = holds(&union, start, end);
            }
        }
    }
    let checks = others.into_iter().filter_map(|unit| {
        let paths = commit_paths(plan, plan.unit(unit)?.spec);
        Some(async move { all_exist(store, paths).await.map(|exist| (unit, exist)) })
    });
    let mut checks = futures::stream::iter(checks).buffer_unordered(REQUESTS_MAX);
    while let Some((unit, exist)) = checks.try_next().await? {
        if let Some(unit) = committed.get_mut(unit as usize) {
            *unit = exist;
        }
    }
    Ok(committed)
}

/// Rows of the shards `units` that are committed, as ranges by unit, sorted and joined.
pub(super) async fn kept_rows(
    store: &Store,
    plan: &Plan,
    units: &BTreeSet<u32>,
) -> Result<Vec<(u32, u64, u64)>> {
    let mut by_set: BTreeMap<&SetId, Vec<(u32, u32)>> = BTreeMap::new();
    for &unit in units {
        if let Some(UnitSpec::Extract { set, .. }) = plan.unit(unit).map(|unit| unit.spec)
            && let Some(set) = plan.sets.get(set)
        {
            by_set.entry(&set.id).or_default().push((unit, unit + 1));
        }
    }
    let mut kept = Vec::new();
    for (set, gaps) in by_set {
        let union = committed_rows(store, set, &slices(plan, &gaps)).await?;
        for (unit, _) in gaps {
            let Some((start, end)) = rows(plan, unit) else { continue };
            let within = union.iter().map(|(a, b)| ((*a).max(start), (*b).min(end)));
            kept.extend(within.filter(|(a, b)| a < b).map(|(a, b)| (unit, a, b)));
        }
    }
    kept.sort_unstable();
    Ok(kept)
}

fn rows(plan: &Plan, unit: u32) -> Option<(u64, u64)> {
    match plan.unit(unit)?.spec {
        UnitSpec::Extract { start, end, .. } => Some((start, end)),
        _ => None,
    }
}

/// Slices of rows to list for units `gaps` of one set: gaps close to each other are one, long ones several.
fn slices(plan: &Plan, gaps: &[(u32, u32)]) -> Vec<(u64, u64)> {
    let mut stretches: Vec<(u32, u32)> = Vec::new();
    for &(first, past) in gaps {
        match stretches.last_mut() {
            Some((_, last)) if first.saturating_sub(*last) < PAGE_UNITS => *last = past,
            _ => stretches.push((first, past)),
        }
    }
    let mut slices = Vec::new();
    for (first, past) in stretches {
        let step = past.saturating_sub(first).div_ceil(SLICES_MAX).max(PAGE_UNITS);
        let mut from = first;
        while from < past {
            let to = from.saturating_add(step).min(past);
            let ends = rows(plan, from).zip(rows(plan, to - 1));
            slices.extend(ends.map(|((start, _), (_, end))| (start, end)));
            from = to;
        }
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{job, planned};
    use glmeval_common::ids::Attempt;
    use glmeval_common::layout;
    use proptest::prelude::*;
    use tokio::runtime;

    /// Makes the shard of rows `start..end` committed.
    async fn commit(store: &Store, plan: &Plan, start: u64, end: u64) {
        let set = &plan.sets[0].id;
        let data = layout::shard_data_path(set, start, end, &Attempt::new("a"));
        for path in [data, layout::shard_commit_path(set, start, end)] {
            store.create(&path, "{}".into()).await.unwrap();
        }
    }

    fn units(committed: &[bool]) -> Vec<u32> {
        (0..).zip(committed).filter(|(_, is)| **is).map(|(unit, _)| unit).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_snapshot_and_what_came_since_are_what_a_full_listing_says(
            before in prop::collection::vec((0_u64..6_000, 1_u64..900), 0..6),
            since in prop::collection::vec((0_u64..6_000, 1_u64..900), 0..6),
            prepared in any::<bool>(),
        ) {
            let mut job = job();
            job.shard_rows = Some(1);
            let plan = planned(&job, 6_000);
            let store = Store::memory();
            let runtime = runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let stretch = async |stretches: &[(u64, u64)]| {
                    for (start, rows) in stretches {
                        for row in *start..(start + rows).min(6_000) {
                            commit(&store, &plan, row, row + 1).await;
                        }
                    }
                };
                stretch(&before).await;
                let snapshot = committed(&store, &plan, &UnitSet::default()).await.unwrap();
                stretch(&since).await;
                if prepared {
                    let path = layout::dataset_manifest_path(&plan.datasets[0].facts.id);
                    store.create(&path, "{}".into()).await.unwrap();
                }
                let known = UnitSet::of_ranges(units(&snapshot).into_iter().map(|u| (u, u + 1)));
                let full = committed(&store, &plan, &UnitSet::default()).await.unwrap();
                let resumed = committed(&store, &plan, &known).await.unwrap();
                assert_eq!(units(&full), units(&resumed));
                let rows: std::collections::BTreeSet<u64> = before.iter().chain(&since)
                    .flat_map(|(start, rows)| *start..(start + rows).min(6_000)).collect();
                let shards = rows.into_iter().map(|row| row as u32 + 1);
                let expected: Vec<u32> = prepared.then_some(0).into_iter().chain(shards).collect();
                assert_eq!(units(&full), expected);
            });
        }
    }

    #[tokio::test]
    async fn shards_of_another_size_count_where_they_hold_the_rows() {
        let plan = planned(&job(), 250);
        let store = Store::memory();
        commit(&store, &plan, 0, 130).await;
        commit(&store, &plan, 130, 210).await;
        let found = committed(&store, &plan, &UnitSet::default()).await.unwrap();
        assert_eq!(units(&found), [1, 2]);
    }

    #[tokio::test]
    async fn a_shard_whose_data_was_deleted_is_made_again() {
        let plan = planned(&job(), 250);
        let store = Store::memory();
        for (start, end) in [(0, 100), (100, 200), (200, 250)] {
            commit(&store, &plan, start, end).await;
        }
        let whole = committed(&store, &plan, &UnitSet::default()).await.unwrap();
        assert_eq!(units(&whole), [1, 2, 3]);
        let gone = layout::shard_data_path(&plan.sets[0].id, 100, 200, &Attempt::new("a"));
        store.delete(&gone).await.unwrap();
        let found = committed(&store, &plan, &UnitSet::default()).await.unwrap();
        assert_eq!(units(&found), [1, 3]);
    }

    #[test]
    fn gaps_close_to_each_other_are_listed_as_one_and_long_ones_in_slices() {
        let mut job = job();
        job.shard_rows = Some(1);
        let plan = planned(&job, 100_000);
        assert_eq!(
            slices(&plan, &[(1, 2), (500, 501), (3_000, 3_001)]),
            [(0, 500), (2_999, 3_000)]
        );
        let all = slices(&plan, &[(1, 100_001)]);
        assert_eq!((all.len(), all[0].0, all[15].1), (16, 0, 100_000));
        assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }
}
