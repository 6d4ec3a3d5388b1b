//! Checks of data sets that are built from public inputs.

use super::Place;
use crate::dataset::{DatasetSource, Negatives, PeakSet, PsiSet, PsiSplit, PsiTable, TaskName};
use crate::error::{InputError, Result};
use crate::example::Split;
use crate::job::{DatasetSpec, PathList, PsiSpec};
use crate::readers::tfrecord;
use std::path::{Path, PathBuf};

/// The key of a source built from public inputs, if the table has one.
pub(super) fn given(spec: &DatasetSpec) -> Vec<&'static str> {
    let keys = [
        ("psi", spec.psi.is_some()),
        ("peaks", spec.peaks.is_some()),
        ("tfrecord", spec.tfrecord.is_some()),
    ];
    keys.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key).collect()
}

/// The source of a table whose one source key is among [`given`]; `seed` is the job's.
pub(super) fn source(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    seed: u64,
) -> Result<DatasetSource, InputError> {
    match (&spec.psi, &spec.peaks, &spec.tfrecord) {
        (Some(psi), ..) => splicing(place, key, spec, psi),
        (None, Some(peaks), _) => peak_set(place, key, spec, (peaks, seed)),
        (None, None, Some(folder)) => records(place, key, spec, folder),
        (None, None, None) => Err(place.wrong(key, super::SOURCE_KEYS, "none")),
    }
}

fn genome(place: &Place<'_>, key: &str, spec: &DatasetSpec) -> Result<PathBuf, InputError> {
    let key = format!("{key}.genome");
    let genome = spec.genome.as_ref();
    place.existing(&key, genome.ok_or_else(|| place.wrong(&key, "a FASTA file", "nothing"))?)
}

/// Refuses tasks that the targets of a source do not suit.
fn check_task(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    tasks: &[TaskName],
) -> Result<(), InputError> {
    if tasks.contains(&spec.task) {
        return Ok(());
    }
    let names: Vec<_> = tasks.iter().map(|task| task.name()).collect();
    Err(place.wrong(&format!("{key}.task"), names.join(" or "), spec.task.name()))
}

fn splicing(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    psi: &PsiSpec,
) -> Result<DatasetSource, InputError> {
    check_task(place, key, spec, &[TaskName::Splicing])?;
    let parts = [(&psi.train, Split::Train), (&psi.valid, Split::Valid), (&psi.test, Split::Test)];
    let parts: Vec<_> =
        parts.into_iter().filter_map(|(path, split)| path.as_ref().zip(Some(split))).collect();
    let tables = match (&psi.file, parts.as_slice()) {
        (Some(path), []) => {
            let path = place.existing(&format!("{key}.psi.file"), path)?;
            let split = psi.split.clone().map_or(PsiSplit::None, PsiSplit::Column);
            vec![PsiTable { path, split }]
        }
        (None, parts) if !parts.is_empty() && psi.split.is_none() => parts
            .iter()
            .map(|&(path, split)| {
                let path = place.existing(&format!("{key}.psi.{split}"), path)?;
                Ok(PsiTable { path, split: PsiSplit::All(split) })
            })
            .collect::<Result<_, InputError>>()?,
        (file, parts) => {
            let expected =
                "{ train = …, valid = …, test = … }, or { file = …, split = \"a column\" }";
            let found = match (file, parts) {
                (None, []) => "no table",
                (None, _) => "split without file",
                (Some(_), _) => "file beside tables of splits",
            };
            return Err(place.wrong(&format!("{key}.psi"), expected, found));
        }
    };
    let tissues = spec.tissues.clone().unwrap_or_default();
    let unique: std::collections::BTreeSet<_> = tissues.iter().collect();
    if unique.len() < tissues.len() || spec.tissues.as_ref().is_some_and(Vec::is_empty) {
        let found = format!("{} names, {} different", tissues.len(), unique.len());
        return Err(place.wrong(&format!("{key}.tissues"), "names of columns, each once", found));
    }
    Ok(DatasetSource::Splicing(PsiSet { tables, genome: genome(place, key, spec)?, tissues }))
}

fn peak_set(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    (peaks, seed): (&PathList, u64),
) -> Result<DatasetSource, InputError> {
    check_task(place, key, spec, &[TaskName::ChipSeq, TaskName::Eclip, TaskName::Classification])?;
    let paths = peaks.paths();
    let peaks = paths.iter().map(|path| place.existing(&format!("{key}.peaks"), path));
    let peaks = peaks.collect::<Result<Vec<_>, _>>()?;
    if peaks.is_empty() {
        return Err(place.wrong(&format!("{key}.peaks"), "at least one file", "none"));
    }
    let optional = |name: &str, path: &Option<PathBuf>| {
        path.as_ref().map(|path| place.existing(&format!("{key}.{name}"), path)).transpose()
    };
    let negatives = spec.negatives.unwrap_or_default();
    let accessible = optional("accessible", &spec.accessible)?;
    if negatives == Negatives::Accessible && accessible.is_none() {
        let expected = "a file of accessible regions, as negatives = \"accessible\"";
        return Err(place.wrong(&format!("{key}.accessible"), expected, "nothing"));
    }
    let usual = PeakSet::default();
    let window = spec.window.unwrap_or(usual.window);
    if window == 0 {
        return Err(place.wrong(&format!("{key}.window"), "at least 1 nucleotide", 0));
    }
    Ok(DatasetSource::Peaks(PeakSet {
        peaks,
        genome: genome(place, key, spec)?,
        window,
        negatives,
        accessible,
        exclude: optional("exclude", &spec.exclude)?,
        same_chromosomes: spec.same_chromosomes.unwrap_or(false),
        seed: spec.seed.unwrap_or(seed),
        random_split: usual.random_split,
    }))
}

fn records(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    folder: &Path,
) -> Result<DatasetSource, InputError> {
    check_task(place, key, spec, &[TaskName::LentiMpra, TaskName::Regression])?;
    let key = format!("{key}.tfrecord");
    let folder = place.existing(&key, folder)?;
    let expected = "a folder of train-0.tfr, valid-0.tfr, … without a gap in their numbers";
    let files = tfrecord::list(&folder);
    let files = files.map_err(|error| place.wrong(&key, expected, error.chain()))?;
    Ok(DatasetSource::Tfrecord { files })
}
