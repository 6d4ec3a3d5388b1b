//! Pure: units that could start and that no worker of the moment can run.
//!
//! Leaves out: who says so (status). Invariant: takes as long as there are ready groups and workers, however
//! many units there are.

use crate::schedule;
use crate::state::State;
use crate::state::job::JobState;
use glmeval_common::unit::UnitKind;
use std::collections::{BTreeMap, BTreeSet};

/// Numeric classes that a notice names.
const CLASSES_NAMED_MAX: usize = 8;

/// What the workers that get units can do.
pub(in crate::state) struct Hands<'a> {
    workers: u64,
    classes: BTreeSet<&'a str>,
}

/// Ready units of a job that nobody can run, and a line on each kind of them.
#[derive(Default)]
pub(in crate::state) struct Unserved {
    pub(in crate::state) units: u64,
    pub(in crate::state) notices: Vec<String>,
}

impl State {
    /// What the workers of the moment can do; those that leave are given nothing more.
    pub(in crate::state) fn hands(&self) -> Hands<'_> {
        let welcome = self.workers.values().filter(|worker| !worker.draining);
        let mut hands = Hands { workers: 0, classes: BTreeSet::new() };
        for worker in welcome {
            hands.workers += 1;
            hands.classes.extend(worker.numeric_classes.iter().map(String::as_str));
        }
        hands
    }
}

impl Hands<'_> {
    /// Ready units of `job` that none of them can run.
    pub(in crate::state) fn unserved(&self, job: &JobState) -> Unserved {
        if job.phase().is_over() {
            return Unserved::default();
        }
        let mut waiting: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        for group in UnitKind::ALL.into_iter().flat_map(|kind| job.groups.ready(kind)) {
            let class = schedule::class_of(&job.plan, group);
            let is_served = self.workers > 0 && class.is_none_or(|it| self.classes.contains(it));
            if !is_served {
                // Without any worker it matters little what they would need.
                let class = class.filter(|_| self.workers > 0);
                *waiting.entry(class).or_default() += group.idle_count();
            }
        }
        let notices = waiting.iter().map(|(class, units)| self.notice(*class, *units));
        Unserved { units: waiting.values().sum(), notices: notices.collect() }
    }

    fn notice(&self, class: Option<&str>, units: u64) -> String {
        let what =
            if units == 1 { "1 unit waits".to_owned() } else { format!("{units} units wait") };
        let Some(class) = class else { return format!("{what} for a worker: none is connected") };
        let mut known: Vec<&str> = self.classes.iter().copied().take(CLASSES_NAMED_MAX).collect();
        if self.classes.len() > known.len() {
            known.push("...");
        }
        let known = known.join(", ");
        format!("{what} for a worker of class {class}: those connected are of {known}")
    }
}
