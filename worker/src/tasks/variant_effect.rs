//! Task 3: effects of single-nucleotide variants, the saturation mutagenesis of CAGI5.
//!
//! Leaves out: scores, and rebuilding windows from the measurements. Invariant: one set for each
//! window length and choice of elements; the four of the study's table, or all fifteen.

use crate::task::{Form, Rows, Set, Targets, Task, hdf5};
use glmeval_common::dataset::{Hdf5Layout, TaskName};
use glmeval_common::example::Split;

/// Variants of all fifteen elements whose reference base is that of the genome.
const VARIANTS: &[(Split, Rows)] = &[(Split::Test, Rows::exactly(18_442))];

/// Sequence pairs that were stored beside the measurements; they hold no effects.
const FORMS: &[Form] = &[Form {
    files: &[&["CAGI/{length}/CAGI_onehot.h5"]],
    read: |set, files, _| hdf5(set, files, Hdf5Layout::RefAlt),
}];

/// All elements in windows of `length`.
const fn windows(name: &'static str, length: u64) -> Set {
    Set {
        name,
        task: TaskName::VariantEffect,
        forms: FORMS,
        length,
        sequences: &["ref", "alt"],
        targets: Targets::Named(&[]),
        splits: VARIANTS,
    }
}

/// The task.
pub(super) static TASK: Task = Task {
    title: "Variant effects, CAGI5",
    headline: "r_reported",
    sets: &[
        windows("CAGI5 230 nt", 230),
        windows("CAGI5 512 nt", 512),
        windows("CAGI5 998 nt", 998),
        windows("CAGI5 4096 nt", 4_096),
        windows("CAGI5 5994 nt", 5_994),
    ],
    assert: None,
};
