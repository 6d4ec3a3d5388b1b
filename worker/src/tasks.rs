//! Which tasks of the study there are.
//!
//! A task is one file below `tasks/` and two lines here. Leaves out: what a task is ([`crate::task`]).

use crate::task::{Set, Task};
use glmeval_common::dataset::TaskName;

mod chip_seq;
mod eclip;
mod insert_seq;
mod lenti_mpra;
mod splicing;
mod variant_effect;

/// Every task, in the order of the study.
pub static ALL: &[&Task] = &[
    &lenti_mpra::TASK,
    &chip_seq::TASK,
    &variant_effect::TASK,
    &splicing::TASK,
    &insert_seq::TASK,
    &eclip::TASK,
];

/// The set of that name that is read as `task`, and the task of the study it belongs to; the case of
/// the name does not count.
pub fn find(task: TaskName, name: &str) -> Option<(&'static Task, &'static Set)> {
    sets(ALL, task).find(|(_, set)| set.name.eq_ignore_ascii_case(name))
}

/// Names of all sets that are read as `task`.
pub fn names(task: TaskName) -> Vec<String> {
    sets(ALL, task).map(|(_, set)| set.name.to_owned()).collect()
}

/// The sets of `tasks` that are read as `task`.
pub(crate) fn sets<'a>(
    tasks: &'a [&'a Task],
    task: TaskName,
) -> impl Iterator<Item = (&'a Task, &'a Set)> {
    let all = tasks.iter().flat_map(|of| of.sets.iter().map(move |set| (*of, set)));
    all.filter(move |(_, set)| set.task == task)
}
