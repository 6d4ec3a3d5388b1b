//! Task 1: regulatory activity in HepG2 and K562, lentiMPRA.
//!
//! Leaves out: the preprint's smaller files. Invariant: both orientations of an element are in one fold,
//! or a score would be of sequences that were trained on.

use crate::task::{Form, Rows, Set, Targets, Task, hdf5};
use glmeval_common::dataset::{DatasetSource, Hdf5Layout, TaskName};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{InputError, Result};
use glmeval_common::example::{Example, Split};
use glmeval_common::readers;
use std::collections::BTreeMap;

/// Letters of the adaptor at either end, which does not turn with the element.
const ADAPTOR: usize = 15;
/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;

const FORMS: &[Form] = &[
    Form {
        files: &[&["lenti_MPRA/{name}_data.h5", "lentiMPRA/{name}_data.h5"]],
        read: |set, files, _| hdf5(set, files, Hdf5Layout::Regression),
    },
    Form {
        files: &[&["lenti_MPRA/lentiMPRA_{name}.h5", "lentiMPRA/lentiMPRA_{name}.h5"]],
        read: |set, files, _| hdf5(set, files, Hdf5Layout::Folds),
    },
];

const fn cell(name: &'static str, splits: &'static [(Split, Rows)]) -> Set {
    Set {
        name,
        task: TaskName::LentiMpra,
        forms: FORMS,
        length: 230,
        sequences: &["sequence"],
        targets: Targets::Named(&["target"]),
        splits,
    }
}

/// The task; sizes follow from counts of batches of 128 and 32.
pub(super) static TASK: Task = Task {
    title: "Regulatory activity, lentiMPRA",
    headline: "pearson",
    sets: &[
        cell(
            "HepG2",
            &[
                (Split::Train, Rows::within(196_609, 196_736)),
                (Split::Valid, Rows::within(24_577, 24_704)),
                (Split::Test, Rows::within(24_577, 24_608)),
            ],
        ),
        cell(
            "K562",
            &[
                (Split::Train, Rows::within(314_625, 314_752)),
                (Split::Valid, Rows::within(39_297, 39_424)),
                (Split::Test, Rows::within(39_329, 39_360)),
            ],
        ),
    ],
    assert: Some(orientations_are_together),
};

/// Where an element was seen: its fold, and whether as the smaller of its two orientations.
type Seen = (String, bool);

/// Refuses an element whose orientations are in two folds.
fn orientations_are_together(source: &DatasetSource, task: TaskName) -> Result<()> {
    let file = source.paths().first().map_or(String::new(), |path| path.display().to_string());
    let mut reader = readers::open(source, task)?;
    let mut seen: BTreeMap<DnaSequence, Seen> = BTreeMap::new();
    loop {
        let examples = reader.read(ROWS_PER_READ)?;
        if examples.is_empty() {
            return Ok(());
        }
        for example in &examples {
            let Some((element, is_forward)) = element(example) else { continue };
            let fold = fold(example);
            let first = seen.entry(element).or_insert_with(|| (fold.clone(), is_forward));
            if first.1 != is_forward && first.0 != fold {
                let expected = format!("the fold of its other orientation, {}", first.0);
                return Err(InputError::new(file, &example.id, expected, fold).into());
            }
        }
    }
}

/// What lies between the adaptors in its smaller orientation, and whether that is the stored one.
fn element(example: &Example) -> Option<(DnaSequence, bool)> {
    let letters = example.sequences.first()?.as_bytes();
    let inner = letters.get(ADAPTOR..letters.len().checked_sub(ADAPTOR)?)?;
    let forward = DnaSequence::new(inner).ok()?;
    let reverse = forward.reverse_complement();
    let is_forward = forward <= reverse;
    Some((if is_forward { forward } else { reverse }, is_forward))
}

/// Ids are `fold3-17` or `train-17`.
fn fold(example: &Example) -> String {
    let fold = example.id.rsplit_once('-').map(|(fold, _)| fold.to_owned());
    fold.or_else(|| example.split.map(|split| split.to_string())).unwrap_or_default()
}
