//! A set of unit numbers as ranges: shards that follow each other cost nothing each.
//!
//! Leaves out: what the units are. Invariant: ranges are not empty, do not overlap and do not touch.

use std::collections::BTreeMap;

/// A set of unit numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitSet {
    /// First number of a range to the one past its last.
    ranges: BTreeMap<u32, u32>,
    len: u64,
}

impl UnitSet {
    /// The numbers `first..past`.
    pub fn range(first: u32, past: u32) -> Self {
        let mut set = Self::default();
        set.insert(first, past);
        set
    }

    /// Those of `ranges`, which may be in any order.
    pub fn of_ranges(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|(first, past)| set.insert(first, past));
        set
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest number.
    pub fn first(&self) -> Option<u32> {
        self.ranges.first_key_value().map(|(first, _)| *first)
    }

    /// Whether `unit` is one of them.
    pub fn contains(&self, unit: u32) -> bool {
        self.ranges.range(..=unit).next_back().is_some_and(|(_, past)| unit < *past)
    }

    /// Every range `[first, past)`, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ranges.iter().map(|(first, past)| (*first, *past))
    }

    /// Ranges of `first..past` that are not in, in order.
    pub fn gaps(&self, first: u32, past: u32) -> Vec<(u32, u32)> {
        let mut gaps = Vec::new();
        let from = self.ranges.range(..=first).next_back().map_or(first, |(start, _)| *start);
        let mut at = first;
        for (&start, &end) in self.ranges.range(from.min(first)..past.max(first)) {
            if at < start {
                gaps.push((at, start));
            }
            at = at.max(end);
        }
        if at < past {
            gaps.push((at, past));
        }
        gaps
    }

    /// Adds `first..past`; those that are there already stay.
    pub fn insert(&mut self, first: u32, past: u32) {
        if first >= past {
            return;
        }
        let (mut from, mut to) = (first, past);
        // Ranges that overlap or touch begin at `past` at the latest; the last of them comes first.
        while let Some((&start, &end)) = self.ranges.range(..=past).next_back() {
            if end < first {
                break;
            }
            self.ranges.remove(&start);
            self.len -= u64::from(end - start);
            (from, to) = (from.min(start), to.max(end));
        }
        self.ranges.insert(from, to);
        self.len += u64::from(to - from);
    }

    /// Takes `first..past` out, and returns which of them were there.
    pub fn remove(&mut self, first: u32, past: u32) -> Vec<(u32, u32)> {
        let mut removed = Vec::new();
        if first >= past {
            return removed;
        }
        while let Some((&start, &end)) = self.ranges.range(..past).next_back() {
            if end <= first {
                break;
            }
            self.ranges.remove(&start);
            if end > past {
                self.ranges.insert(past, end);
            }
            if start < first {
                self.ranges.insert(start, first);
            }
            let gone = (start.max(first), end.min(past));
            self.len -= u64::from(gone.1 - gone.0);
            removed.push(gone);
        }
        removed.reverse();
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_whose_ranges_neither_overlap_nor_touch(
            steps in prop::collection::vec((any::<bool>(), 0_u32..40, 0_u32..12), 0..60)
        ) {
            let (mut set, mut plain) = (UnitSet::default(), BTreeSet::new());
            for (adds, first, count) in steps {
                let past = first + count;
                if adds {
                    set.insert(first, past);
                    plain.extend(first..past);
                } else {
                    let removed = set.remove(first, past);
                    let removed: Vec<_> = removed.iter().flat_map(|(a, b)| *a..*b).collect();
                    let known: Vec<_> = (first..past).filter(|unit| plain.remove(unit)).collect();
                    prop_assert_eq!(removed, known);
                }
                let ranges: Vec<_> = set.ranges().collect();
                prop_assert!(ranges.iter().all(|(first, past)| first < past));
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
                prop_assert!(ranges.iter().flat_map(|(a, b)| *a..*b).eq(plain.iter().copied()));
                prop_assert_eq!((set.len(), set.first()), (plain.len() as u64, plain.first().copied()));
                let gaps: Vec<_> = set.gaps(7, 30).iter().flat_map(|(a, b)| *a..*b).collect();
                let open: Vec<_> = (7..30).filter(|unit| !plain.contains(unit)).collect();
                prop_assert_eq!(gaps, open);
                prop_assert!((0..60).all(|unit| set.contains(unit) == plain.contains(&unit)));
            }
        }
    }
}
