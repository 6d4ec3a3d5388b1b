//! Which rows of a set are committed and still there, asked for slice by slice.
//!
//! Names of commits and of data begin with the padded number of their first row, so a listing in the order of
//! names can begin at any row, and slices can be listed side by side: a store that answers 1000 names at a
//! time is asked by many at once.
//!
//! Leaves out: who asks; what the data holds, and whether it is the attempt's that was committed: its readers
//! find out. Invariant: nothing is said to be committed that is not, or of which no data is left; of rows that a
//! shard holds which begins before its slice nothing may be said.

use crate::error::Result;
use crate::ids::SetId;
use crate::layout;
use crate::store::Store;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeSet;

/// Listings at a time.
const LISTINGS_MAX: usize = 16;

/// Rows of a set that its commits hold, as sorted ranges that neither overlap nor touch; at least what
/// shards that begin within `slices` hold. Shards whose data somebody deleted are left out, aloud.
///
/// # Errors
/// Store errors.
pub async fn committed_rows(
    store: &Store,
    set: &SetId,
    slices: &[(u64, u64)],
) -> Result<Vec<(u64, u64)>> {
    let commits = Folder {
        prefix: layout::shard_commits_prefix(set),
        from: layout::shard_commits_from,
        parse: layout::parse_shard_commit,
    };
    let mut committed = commits.list(store, set, slices).await?;
    if committed.is_empty() {
        return Ok(Vec::new());
    }
    // Behind the commits: data is written before its commit, so what was committed meanwhile is not missed.
    let data = Folder {
        prefix: layout::shard_data_prefix(set),
        from: layout::shard_data_from,
        parse: layout::parse_shard_data,
    };
    let there = data.list(store, set, slices).await?;
    let gone: Vec<(u64, u64)> = committed.difference(&there).copied().collect();
    if let Some((start, end)) = gone.first() {
        let (shards, url) = (gone.len(), store.url());
        tracing::warn!(
            "embedding set {set} in {url}: the data of {shards} committed shards is gone, \
             the first that of examples {start}-{end}: they count as not done"
        );
    }
    committed.retain(|range| there.contains(range));
    Ok(joined(committed))
}

/// Objects of a set that are named by ranges of rows.
struct Folder {
    prefix: String,
    /// Where names of ranges that begin at a row or later begin.
    from: fn(&SetId, u64) -> Option<String>,
    parse: fn(&str) -> Option<(u64, u64)>,
}

impl Folder {
    /// Ranges that objects stand for, at least those that begin within `slices`.
    async fn list(
        &self,
        store: &Store,
        set: &SetId,
        slices: &[(u64, u64)],
    ) -> Result<BTreeSet<(u64, u64)>> {
        let Self { prefix, from, parse } = self;
        let bounds = slices.iter().map(|(start, end)| Some((from(set, *start)?, from(set, *end)?)));
        let bounds: Option<Vec<_>> = bounds.collect();
        let lists = match bounds.filter(|bounds| store.lists_from_anywhere() && bounds.len() > 1) {
            None => vec![store.list(prefix).await?],
            Some(bounds) => {
                let lists = bounds.into_iter().map(|(after, until)| async move {
                    store.list_between(prefix, &after, &until).await
                });
                futures::stream::iter(lists).buffered(LISTINGS_MAX).try_collect().await?
            }
        };
        Ok(lists.iter().flatten().filter_map(|entry| parse(&entry.path)).collect())
    }
}

/// The union of `ranges`, sorted.
fn joined(ranges: BTreeSet<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut union: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match union.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => union.push((start, end)),
        }
    }
    union
}

/// Whether one of the sorted ranges `union` holds all of `start..end`.
pub fn holds(union: &[(u64, u64)], start: u64, end: u64) -> bool {
    let behind = union.partition_point(|range| range.0 <= start);
    behind.checked_sub(1).and_then(|at| union.get(at)).is_some_and(|range| end <= range.1)
}

#[cfg(test)]
mod tests {
    use super::super::cover::cover_range;
    use super::*;
    use crate::ids::Attempt;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_union_holds_a_range_when_shards_cover_it(
            ranges in prop::collection::vec((0_u64..40, 1_u64..9), 0..12),
            start in 0_u64..40,
            rows in 1_u64..12,
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(a, rows)| (a, a + rows)).collect();
            let covered = cover_range(&ranges, start, start + rows).is_ok();
            let union = joined(ranges.into_iter().collect());
            prop_assert_eq!(holds(&union, start, start + rows), covered);
        }
    }

    #[tokio::test]
    async fn shards_whose_data_was_deleted_hold_no_rows() {
        let (store, set) = (Store::memory(), SetId::new("s"));
        let put = async |path: String| store.create(&path, "{}".into()).await.unwrap();
        for (start, end) in [(0, 10), (10, 20), (20, 30), (12, 18)] {
            put(layout::shard_commit_path(&set, start, end)).await;
            if (start, end) != (10, 20) {
                put(layout::shard_data_path(&set, start, end, &Attempt::new("a"))).await;
            }
        }
        // Data alone is no commit.
        put(layout::shard_data_path(&set, 40, 50, &Attempt::new("a"))).await;
        for slices in [&[(0, 50)][..], &[(0, 10), (10, 50)]] {
            let rows = committed_rows(&store, &set, slices).await.unwrap();
            assert_eq!(rows, [(0, 10), (12, 18), (20, 30)], "{slices:?}");
        }
        // What was committed again counts again.
        put(layout::shard_revision_path(&set, 10, 20, 1)).await;
        put(layout::shard_data_path(&set, 10, 20, &Attempt::new("b"))).await;
        assert_eq!(committed_rows(&store, &set, &[(0, 50)]).await.unwrap(), [(0, 30)]);
    }
}
