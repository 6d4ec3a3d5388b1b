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
