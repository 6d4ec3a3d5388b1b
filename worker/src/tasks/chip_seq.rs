//! Task 2: binding of ten transcription factors, ChIP-seq in GM12878.
//!
//! Leaves out: reading peaks. Invariant: sizes are those of the test sets, which fix the rest.

use crate::task::{Form, Rows, Set, Targets, Task, hdf5};
use glmeval_common::dataset::{Hdf5Layout, TaskName};
use glmeval_common::example::Split;

const FORMS: &[Form] = &[Form {
    files: &[&["chip/{name}_200.h5"]],
    read: |set, files, _| hdf5(set, files, Hdf5Layout::Binary),
}];

const fn factor(name: &'static str, splits: &'static [(Split, Rows)]) -> Set {
    Set {
        name,
        task: TaskName::ChipSeq,
        forms: FORMS,
        length: 200,
        sequences: &["sequence"],
        targets: Targets::Named(&["target"]),
        splits,
    }
}

/// The task.
pub(super) static TASK: Task = Task {
    title: "TF binding, ChIP-seq GM12878",
    headline: "auroc_exact",
    sets: &[
        factor("Arid3", &Rows::seven_one_two(9_003)),
        factor("ATF2", &Rows::seven_one_two(7_734)),
        factor("BACH1", &Rows::seven_one_two(9_700)),
        factor("CTCF", &Rows::seven_one_two(17_453)),
        factor("ELK1", &Rows::seven_one_two(2_913)),
        factor("GABPA", &Rows::seven_one_two(3_150)),
        factor("MAX", &Rows::seven_one_two(7_304)),
        factor("REST", &Rows::seven_one_two(2_588)),
        factor("SRF", &Rows::seven_one_two(7_854)),
        factor("ZNF24", &Rows::seven_one_two(7_230)),
    ],
    assert: None,
};
