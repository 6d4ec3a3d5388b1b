//! Pure: units that were given up, with the reason; those that fail together share one.
//!
//! Leaves out: what fails and why (job). Invariant: ranges do not overlap; what is in stays in.

use std::collections::BTreeMap;

/// Units that were given up.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct FailedUnits {
    /// First unit of a range to the one past its last, and why.
    ranges: BTreeMap<u32, (u32, String)>,
}

impl FailedUnits {
    /// Adds `first..past`, none of which is in.
    pub(super) fn insert(&mut self, first: u32, past: u32, reason: String) {
        if first < past {
            self.ranges.insert(first, (past, reason));
        }
    }

    /// Why `unit` was given up; `None` if it was not.
    pub(in crate::state) fn reason(&self, unit: u32) -> Option<&str> {
        let (_, (past, reason)) = self.ranges.range(..=unit).next_back()?;
        (unit < *past).then_some(reason)
    }

    /// The first unit of `first..past` that is in.
    pub(in crate::state) fn first_in(&self, (first, past): (u32, u32)) -> Option<u32> {
        if first < past && self.reason(first).is_some() {
            return Some(first);
        }
        self.ranges.range(first..past.max(first)).next().map(|(unit, _)| *unit)
    }

    /// Ranges of units, in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ranges.iter().map(|(first, (past, _))| (*first, *past))
    }

    /// Every unit with its reason, in unit order.
    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        let ranges = self.ranges.iter();
        ranges.flat_map(|(first, (past, reason))| (*first..*past).map(|unit| (unit, &**reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unit_of_a_range_that_was_given_up_is_found() {
        let mut failed = FailedUnits::default();
        failed.insert(3, 6, "a".into());
        failed.insert(9, 10, "b".into());
        let found = [(0, 3), (0, 9), (4, 9), (5, 5), (6, 9), (6, 12), (10, 20)];
        let found = found.map(|range| failed.first_in(range));
        assert_eq!(found, [None, Some(3), Some(4), None, None, Some(9), None]);
    }
}
