//! Task 6: binding of ten RNA-binding proteins, eCLIP in K562; and the set of 120 proteins that the
//! supervised network of RNA binding is trained on.
//!
//! Leaves out: structure profiles, which the reader skips. Invariant: as for ChIP-seq.

use crate::task::{Form, Rows, Set, Targets, Task, hdf5};
use glmeval_common::dataset::{Hdf5Layout, TaskName};
use glmeval_common::example::Split;

const FORMS: &[Form] = &[Form {
    files: &[&["eclip/{name}_K562_200.h5", "eclip/{name}_200.h5"]],
    read: |set, files, _| hdf5(set, files, Hdf5Layout::Binary),
}];

const fn protein(name: &'static str, splits: &'static [(Split, Rows)]) -> Set {
    Set {
        name,
        task: TaskName::Eclip,
        forms: FORMS,
        length: 200,
        sequences: &["sequence"],
        targets: Targets::Named(&["target"]),
        splits,
    }
}

/// Many targets at once, so it is read as a classification of its own.
const PROTEINS: Set = Set {
    name: "K562 120 RBPs",
    task: TaskName::Classification,
    forms: &[Form {
        files: &[&["eclip/K562.h5"]],
        read: |set, files, _| hdf5(set, files, Hdf5Layout::Binary),
    }],
    length: 1_000,
    sequences: &["sequence"],
    targets: Targets::Numbered(&[("target", 120)]),
    splits: &[
        (Split::Train, Rows::unrecorded(70_000)),
        (Split::Valid, Rows::unrecorded(10_000)),
        (Split::Test, Rows::unrecorded(20_000)),
    ],
};

/// The task.
pub(super) static TASK: Task = Task {
    title: "RBP binding, eCLIP K562",
    headline: "auroc_exact",
    sets: &[
        protein("HNRNPK", &Rows::seven_one_two(1_146)),
        protein("PTBP1", &Rows::seven_one_two(3_237)),
        protein("PUM2", &Rows::seven_one_two(2_900)),
        protein("QKI", &Rows::seven_one_two(1_368)),
        protein("RBFOX2", &Rows::seven_one_two(1_796)),
        protein("SF3B4", &Rows::seven_one_two(6_536)),
        protein("SRSF1", &Rows::seven_one_two(1_199)),
        protein("TARDBP", &Rows::seven_one_two(2_422)),
        protein("TIA1", &Rows::seven_one_two(3_619)),
        protein("U2AF1", &Rows::seven_one_two(672)),
        PROTEINS,
    ],
    assert: None,
};
