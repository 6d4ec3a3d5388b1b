//! Pure: committed units whose data someone found damaged, and which of them were looked at since.
//!
//! Leaves out: what looking means: the worker that gets such a unit checks what is committed and
//! computes it again only if it is damaged. Invariant: a unit is doubted a bounded number of times,
//! and not on the word of an attempt older than the last look.

use glmeval_common::ids::Generation;
use std::collections::{BTreeMap, BTreeSet};

/// The last look at a unit that was doubted.
#[derive(Clone, Copy, Debug)]
struct Look {
    times: u32,
    generation: Generation,
}

/// What is doubted and what was.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    open: BTreeSet<u32>,
    settled: BTreeMap<u32, Look>,
}

impl Doubts {
    /// Whether nobody has looked at the unit yet.
    pub(super) fn is_open(&self, unit: u32) -> bool {
        self.open.contains(&unit)
    }

    /// Whether an attempt at a reader of `unit`, granted as `reader`, says anything new.
    pub(super) fn may_open(&self, unit: u32, reader: Generation, times_max: u32) -> bool {
        let look = self.settled.get(&unit);
        look.is_none_or(|look| look.times < times_max && look.generation < reader)
    }

    /// Someone has to look at the unit.
    pub(super) fn open(&mut self, unit: u32) {
        self.open.insert(unit);
    }

    /// Whether the unit was looked at after the attempt `reader` began.
    pub(super) fn is_settled_since(&self, unit: u32, reader: Generation) -> bool {
        self.settled.get(&unit).is_some_and(|look| look.generation > reader)
    }

    /// The attempt `generation` found the unit sound or made it so.
    pub(super) fn settle(&mut self, unit: u32, generation: Generation) {
        if self.open.remove(&unit) {
            let look = self.settled.entry(unit).or_insert(Look { times: 0, generation });
            look.times += 1;
            look.generation = generation;
        }
    }
}
