//! Which committed shards together hold a range of examples, whatever sizes they were cut in.
//!
//! Leaves out: the store. Invariant: every example is taken exactly once, in order.

/// Part of a committed shard that a reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Range `start..end` that names the commit.
    pub commit: (u64, u64),
    /// Examples `start..end` to take from it.
    pub take: (u64, u64),
}

/// Covers examples `0..total` with as few of the committed `ranges` as possible.
///
/// # Errors
/// The gaps `start..end` that no range holds, in order.
pub fn cover(ranges: &[(u64, u64)], total: u64) -> Result<Vec<Piece>, Vec<(u64, u64)>> {
    cover_range(ranges, 0, total)
}

/// Covers examples `start..end`; as [`cover`].
///
/// # Errors
/// As [`cover`].
pub fn cover_range(
    ranges: &[(u64, u64)],
    start: u64,
    end: u64,
) -> Result<Vec<Piece>, Vec<(u64, u64)>> {
    let mut sorted: Vec<_> = ranges.iter().copied().filter(|&(a, b)| a < b && b > start).collect();
    sorted.sort_unstable();
    let mut rest = sorted.into_iter().peekable();
    let (mut pieces, mut gaps) = (Vec::new(), Vec::new());
    let mut position = start;
    while position < end {
        let mut best: Option<(u64, u64)> = None;
        while let Some(range) = rest.next_if(|range| range.0 <= position) {
            if best.is_none_or(|(_, furthest)| range.1 > furthest) {
                best = Some(range);
            }
        }
        match best.filter(|range| range.1 > position) {
            Some(commit) => {
                let until = commit.1.min(end);
                pieces.push(Piece { commit, take: (position, until) });
                position = until;
            }
            None => {
                let until = rest.peek().map_or(end, |range| range.0.min(end));
                gaps.push((position, until));
                position = until;
            }
        }
    }
    if gaps.is_empty() { Ok(pieces) } else { Err(gaps) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shards_of_two_sizes_cover_with_the_fewest_pieces() {
        let ranges = [(0, 4), (4, 8), (0, 6), (6, 12), (8, 12)];
        let pieces = cover(&ranges, 12).unwrap();
        assert_eq!(
            pieces,
            [Piece { commit: (0, 6), take: (0, 6) }, Piece { commit: (6, 12), take: (6, 12) }]
        );
    }

    #[test]
    fn gaps_are_named() {
        assert_eq!(cover(&[(2, 4), (6, 8)], 10), Err(vec![(0, 2), (4, 6), (8, 10)]));
        assert_eq!(cover(&[], 3), Err(vec![(0, 3)]));
        assert_eq!(cover(&[], 0), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn every_example_is_taken_once_or_lies_in_a_gap(
            ranges in prop::collection::vec((0_u64..40, 0_u64..40), 0..12),
            start in 0_u64..40,
            total in 0_u64..40,
        ) {
            let held = |e: u64| ranges.iter().any(|&(a, b)| a <= e && e < b);
            match cover_range(&ranges, start, total) {
                Ok(pieces) => {
                    let taken: Vec<u64> = pieces.iter().flat_map(|p| p.take.0..p.take.1).collect();
                    prop_assert_eq!(taken, (start..total).collect::<Vec<_>>());
                    for piece in pieces {
                        prop_assert!(ranges.contains(&piece.commit));
                        prop_assert!(piece.commit.0 <= piece.take.0);
                        prop_assert!(piece.take.1 <= piece.commit.1);
                    }
                }
                Err(gaps) => {
                    let missing: Vec<u64> = gaps.iter().flat_map(|&(a, b)| a..b).collect();
                    let expected: Vec<u64> = (start..total).filter(|&e| !held(e)).collect();
                    prop_assert_eq!(missing, expected);
                }
            }
        }
    }
}
