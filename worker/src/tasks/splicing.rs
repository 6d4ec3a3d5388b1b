//! Task 4: alternative splicing in 56 tissues, exons of ASCOT with the split of MTSplice.
//!
//! Leaves out: the filter of test exons (statistics). Invariant: two windows of 400 nucleotides an exon.

use crate::task::{Form, Rows, Set, Targets, Task, hdf5};
use glmeval_common::dataset::{Hdf5Layout, TaskName};
use glmeval_common::example::Split;

/// The task.
pub(super) static TASK: Task = Task {
    title: "Alternative splicing, ASCOT GTEx",
    headline: "spearman",
    sets: &[Set {
        name: "ASCOT GTEx",
        task: TaskName::Splicing,
        forms: &[Form {
            files: &[&[
                "mtsplice/delta_logit.h5",
                "alternative_splicing/delta_logit.h5",
                "splice/delta_logit.h5",
            ]],
            read: |set, files, _| hdf5(set, files, Hdf5Layout::DeltaLogit),
        }],
        length: 400,
        sequences: &["left", "right"],
        targets: Targets::Numbered(&[("delta", 56), ("mean", 56)]),
        splits: &[
            (Split::Train, Rows::exactly(38_028)),
            (Split::Valid, Rows::exactly(1_088)),
            (Split::Test, Rows::exactly(11_840)),
        ],
    }],
    assert: None,
};
