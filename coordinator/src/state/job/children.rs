//! Pure: units beyond the plan, each a part of the rows of a shard of the plan.
//!
//! Leaves out: when a shard is cut (reports). Invariant: numbers go on behind the plan's and are never
//! used twice; a child's rows lie within its parent's.

/// A part of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::state) struct Child {
    /// The unit it was cut from: one of the plan, or another child.
    pub(in crate::state) parent: u32,
    /// The unit of the plan it is a part of.
    pub(in crate::state) root: u32,
    /// First example.
    pub(in crate::state) start: u64,
    /// One past the last.
    pub(in crate::state) end: u64,
}

/// The units of one job beyond its plan.
#[derive(Clone, Debug)]
pub(in crate::state) struct Children {
    first: u32,
    list: Vec<Child>,
}

impl Children {
    /// Numbers begin at `first`, the plan's number of units.
    pub(super) fn behind(first: u32) -> Self {
        Self { first, list: Vec::new() }
    }

    /// A unit beyond the plan; `None` for units of the plan and numbers not given yet.
    pub(in crate::state) fn get(&self, unit: u32) -> Option<Child> {
        self.list.get(unit.checked_sub(self.first)? as usize).copied()
    }

    /// Whether a number is none of the plan's.
    pub(in crate::state) fn is_beyond(&self, unit: u32) -> bool {
        unit >= self.first
    }

    /// The unit of the plan that `unit` is, or is a part of.
    pub(in crate::state) fn root(&self, unit: u32) -> u32 {
        self.get(unit).map_or(unit, |child| child.root)
    }

    /// Every part of a unit of the plan, parts of parts included.
    pub(in crate::state) fn of(&self, root: u32) -> Vec<u32> {
        let parts = (self.first..).zip(&self.list).filter(|(_, child)| child.root == root);
        parts.map(|(unit, _)| unit).collect()
    }

    /// Adds rows `start..end` of `parent` as a unit and returns its number; `None` when there is no
    /// number left.
    pub(super) fn push(&mut self, parent: u32, start: u64, end: u64) -> Option<u32> {
        let unit = self.past();
        if unit == u32::MAX {
            return None;
        }
        self.list.push(Child { parent, root: self.root(parent), start, end });
        Some(unit)
    }

    /// One past the highest number.
    pub(in crate::state) fn past(&self) -> u32 {
        let count = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.first.saturating_add(count)
    }
}
