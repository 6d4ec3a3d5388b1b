//! Which rows of a set are committed, asked for slice by slice.
//!
//! Names of commits begin with the padded number of their first row, so a listing in the order of names
//! can begin at any row, and slices can be listed side by side: a store that answers 1000 names at a
//! time is asked by many at once.
//!
//! Leaves out: who asks. Invariant: nothing is said to be committed that is not; of rows that a shard
//! holds which begins before its slice nothing may be said.

use super::committed_ranges;
use crate::error::Result;
use crate::ids::SetId;
use crate::layout;
use crate::store::Store;
use futures::{StreamExt, TryStreamExt};

/// Listings at a time.
const LISTINGS_MAX: usize = 16;

/// Rows of a set that its commits hold, as sorted ranges that neither overlap nor touch; at least what
/// shards that begin within `slices` hold.
///
/// # Errors
/// Store errors.
pub async fn committed_rows(
    store: &Store,
    set: &SetId,
    slices: &[(u64, u64)],
) -> Result<Vec<(u64, u64)>> {
    let bounds = slices.iter().map(|(start, end)| {
        Some((layout::shard_commits_from(set, *start)?, layout::shard_commits_from(set, *end)?))
    });
    let bounds: Option<Vec<_>> = bounds.collect();
    let listed = match bounds.filter(|bounds| store.lists_from_anywhere() && bounds.len() > 1) {
        None => committed_ranges(store, set).await?,
        Some(bounds) => {
            let prefix = layout::shard_commits_prefix(set);
            let lists = bounds.into_iter().map(|(after, until)| {
                let prefix = &prefix;
                async move { store.list_between(prefix, &after, &until).await }
            });
            let lists: Vec<_> =
                futures::stream::iter(lists).buffered(LISTINGS_MAX).try_collect().await?;
            let entries = lists.iter().flatten();
            entries.filter_map(|entry| layout::parse_shard_commit(&entry.path)).collect()
        }
    };
    Ok(joined(listed))
}

/// The union of `ranges`, sorted.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
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
            prop_assert_eq!(holds(&joined(ranges), start, start + rows), covered);
        }
    }
}
