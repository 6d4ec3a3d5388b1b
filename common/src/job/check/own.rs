//! What the user's own data say beside their source: split rules and missing targets.
//!
//! Leaves out: the rules themselves (`split`). Invariant: splits come from one place only.

use super::Place;
use crate::dataset::{DatasetSource, Hdf5Layout, PsiSplit, PsiTable};
use crate::error::InputError;
use crate::job::DatasetSpec;

/// The source under its rule, if it has one.
pub(super) fn check(
    place: &Place<'_>,
    key: &str,
    spec: &DatasetSpec,
    mut source: DatasetSource,
) -> Result<DatasetSource, InputError> {
    let (stored_split, missing) = match &source {
        DatasetSource::Table { columns, .. } | DatasetSource::Parquet { columns, .. } => {
            (columns.split.is_some().then_some("columns.split"), columns.missing)
        }
        DatasetSource::Hdf5 { layout: Hdf5Layout::Keys(keys), .. } => {
            let is_split = keys.split.is_some() || keys.sequence.contains("{split}");
            (is_split.then_some("keys with splits"), keys.missing)
        }
        DatasetSource::Splicing(set) => {
            let stored = |table: &PsiTable| table.split != PsiSplit::None;
            (set.tables.iter().any(stored).then_some("psi with splits"), false)
        }
        _ => (None, false),
    };
    if missing && !spec.task.may_lack_targets() {
        let expected = "missing = true with the task regression or classification";
        let found = format!("task {}", spec.task.name());
        return Err(place.wrong(&format!("{key}.task"), expected, found));
    }
    let Some(table) = &spec.split else { return Ok(source) };
    let split = format!("{key}.split");
    if let Some(stored) = stored_split {
        let expected = "splits from one place: the source or a split rule";
        return Err(place.wrong(&split, expected, format!("{stored} and a rule")));
    }
    if source.is_lazy() {
        return Err(place.wrong(&split, "a source with examples", "windows over a genome"));
    }
    let rule = table.rule(place.file, &split)?;
    if let DatasetSource::Peaks(set) = &mut source {
        set.random_split = false;
    }
    Ok(DatasetSource::Divided { source: Box::new(source), rule })
}
