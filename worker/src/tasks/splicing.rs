//! Task 4: alternative splicing in 56 tissues, exons of ASCOT with the split of MTSplice.
//!
//! Leaves out: the filter of test exons (statistics). Invariant: two windows of 400 nucleotides an exon.

use crate::task::{Form, Rows, Set, Targets, Task, hdf5};
use glmeval_common::dataset::{DatasetSource, Hdf5Layout, PsiSet, PsiSplit, PsiTable, TaskName};
use glmeval_common::example::Split;
use std::path::{Path, PathBuf};

/// Exons cut from the genome hg38, a table for each split.
fn cut(files: Vec<PathBuf>, genome: &Path) -> DatasetSource {
    let tables = files.into_iter().zip(Split::ALL);
    DatasetSource::Splicing(PsiSet {
        tables: tables
            .map(|(path, split)| PsiTable { path, split: PsiSplit::All(split) })
            .collect(),
        genome: genome.to_owned(),
        tissues: Vec::new(),
    })
}

/// The task.
pub(super) static TASK: Task = Task {
    title: "Alternative splicing, ASCOT GTEx",
    headline: "spearman",
    sets: &[Set {
        name: "ASCOT GTEx",
        task: TaskName::Splicing,
        forms: &[
            Form {
                files: &[&[
                    "mtsplice/delta_logit.h5",
                    "alternative_splicing/delta_logit.h5",
                    "splice/delta_logit.h5",
                ]],
                read: |set, files, _| hdf5(set, files, Hdf5Layout::DeltaLogit),
            },
            Form {
                files: &[
                    &["mtsplice/gtex_train_psi.csv", "alternative_splicing/gtex_train_psi.csv"],
                    &["mtsplice/gtex_valid_psi.csv", "alternative_splicing/gtex_valid_psi.csv"],
                    &["mtsplice/gtex_test_psi.csv", "alternative_splicing/gtex_test_psi.csv"],
                ],
                read: |_, files, genome| Some(cut(files, genome?)),
            },
        ],
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
