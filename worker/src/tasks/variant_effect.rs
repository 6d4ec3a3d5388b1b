//! Task 3: effects of single-nucleotide variants, the saturation mutagenesis of CAGI5.
//!
//! Leaves out: scores. Invariant: one set for each window length and choice of elements: the four of the
//! study's table, or all fifteen.

use crate::task::{Form, Rows, Set, Targets, Task};
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::example::Split;
use glmeval_common::variant::Indels;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Elements of the study's table; PKLR was measured in K562, the others in HepG2.
const EVALUATED: &[&str] = &["LDLR", "SORT1", "F9", "PKLR"];
/// Elements of the challenge.
const ALL: &[&str] = &[
    "ZFAND3",
    "HBG1",
    "MSMB",
    "LDLR",
    "MYC-rs6983267",
    "SORT1",
    "PKLR",
    "F9",
    "TERT-HEK293T",
    "IRF6",
    "HBB",
    "TERT-GBM",
    "IRF4",
    "GP1BB",
    "HNF4A",
];

/// Windows that were stored beside the measurements, or the challenge's tables and the genome hg19.
const FORMS: &[Form] = &[
    Form {
        files: &[&["CAGI/{length}/CAGI_onehot.h5"], &["CAGI/{length}/final_cagi_metadata.csv"]],
        read: stored,
    },
    Form { files: &[&["CAGI/raw/*.tsv"]], read: cut },
];

fn stored(set: &Set, mut files: Vec<PathBuf>, _: Option<&Path>) -> Option<DatasetSource> {
    let companions = files.split_off(1.min(files.len()));
    Some(variants(set, files, companions, None))
}

fn cut(set: &Set, files: Vec<PathBuf>, genome: Option<&Path>) -> Option<DatasetSource> {
    Some(variants(set, files, Vec::new(), Some(genome?.to_owned())))
}

fn variants(
    set: &Set,
    paths: Vec<PathBuf>,
    companions: Vec<PathBuf>,
    genome: Option<PathBuf>,
) -> DatasetSource {
    let elements = match set.targets {
        Targets::Named(names) => names.iter().map(|&name| name.to_owned()).collect(),
        Targets::Numbered(_) => Vec::new(),
    };
    DatasetSource::Variants {
        paths,
        companions,
        genome,
        window: Some(set.length),
        elements,
        columns: BTreeMap::new(),
        indels: Indels::Refuse,
    }
}

/// The four evaluated elements in windows of `length`: 3,647 variants in HepG2 and 1,409 to 1,440 of PKLR.
const fn evaluated(name: &'static str, length: u64) -> Set {
    const ROWS: &[(Split, Rows)] = &[(Split::Test, Rows::within(5_056, 5_087))];
    windows(name, length, EVALUATED, ROWS)
}

/// All fifteen elements: every variant whose reference base is that of the genome.
const fn whole(name: &'static str, length: u64) -> Set {
    const ROWS: &[(Split, Rows)] = &[(Split::Test, Rows::exactly(18_442))];
    windows(name, length, ALL, ROWS)
}

const fn windows(
    name: &'static str,
    length: u64,
    elements: &'static [&'static str],
    splits: &'static [(Split, Rows)],
) -> Set {
    Set {
        name,
        task: TaskName::VariantEffect,
        forms: FORMS,
        length,
        sequences: &["reference", "alternative"],
        targets: Targets::Named(elements),
        splits,
    }
}

/// The task.
pub(super) static TASK: Task = Task {
    title: "Variant effects, CAGI5",
    headline: "r_reported",
    sets: &[
        evaluated("CAGI5 230 nt", 230),
        evaluated("CAGI5 512 nt", 512),
        evaluated("CAGI5 998 nt", 998),
        evaluated("CAGI5 4096 nt", 4_096),
        evaluated("CAGI5 5994 nt", 5_994),
        whole("CAGI5 230 nt 15 elements", 230),
        whole("CAGI5 512 nt 15 elements", 512),
        whole("CAGI5 998 nt 15 elements", 998),
        whole("CAGI5 4096 nt 15 elements", 4_096),
        whole("CAGI5 5994 nt 15 elements", 5_994),
    ],
    assert: None,
};
