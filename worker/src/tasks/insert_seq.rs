//! Task 5: elongation potential of RNA polymerase II, INSERT-seq.
//!
//! Leaves out: the other columns of the measurements. Invariant: the file's 11,417 sequences are used as
//! they are, though the study's text counts 10,774.

use crate::task::{Form, Rows, Set, Targets, Task, hdf5};
use glmeval_common::dataset::{Hdf5Layout, TaskName};
use glmeval_common::example::Split;

/// The task.
pub(super) static TASK: Task = Task {
    title: "Pol II elongation potential, INSERT-seq",
    headline: "pearson",
    sets: &[Set {
        name: "INSERT-seq",
        task: TaskName::InsertSeq,
        forms: &[Form {
            files: &[&["RNAenlong/insert_dataset.h5", "rna_stable/insert_dataset.h5"]],
            read: |set, files, _| hdf5(set, files, Hdf5Layout::Insert),
        }],
        length: 173,
        sequences: &["sequence"],
        targets: Targets::Named(&["target"]),
        splits: &[
            (Split::Train, Rows::exactly(9_131)),
            (Split::Valid, Rows::exactly(1_149)),
            (Split::Test, Rows::exactly(1_137)),
        ],
    }],
    assert: None,
};
