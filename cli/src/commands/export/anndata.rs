//! The rows of an embedding set as an AnnData file.
//!
//! Leaves out: the format (common). Invariant: an example's columns stand beside its own row.

use super::extent::{Extent, extent};
use super::{ROWS_PER_READ, sequence_names};
use glmeval_common::dna::{Interval, Strand};
use glmeval_common::embedding::anndata::AnnDataExport;
use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::example::Example;
use glmeval_common::representation::Pooling;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{SetManifest, read_rows_among};
use glmeval_common::store::examples::read_examples;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// Writes one layer and pooling of a set; the number of rows.
///
/// # Errors
/// `Invalid` for single tokens, or more rows than fit in memory; as reading the set and writing.
pub(super) async fn write(
    store: &Store,
    set: &SetManifest,
    (layer, pooling): (u32, Pooling),
    path: &Path,
) -> Result<u64> {
    if pooling == Pooling::Full {
        let expected = "cls or mean for h5ad: one row for each example";
        return Err(InputError::new("command line", "--pool", expected, pooling).into());
    }
    let Extent { end, mut ranges, examples, is_windows } = extent(store, set).await?;
    let targets = examples.as_ref().map_or_else(Vec::new, |found| found.schema.targets.clone());
    let mut export: Option<AnnDataExport> = None;
    let (mut start, mut count) = (0, 0);
    while start < end {
        let next = end.min(start + ROWS_PER_READ);
        let tensor = (layer, pooling);
        let rows = read_rows_among(store, &set.set, tensor, &mut ranges, (start, next)).await?;
        let export = match &mut export {
            Some(export) => export,
            none => {
                let names = sequence_names(store, set, rows.sequences).await?;
                let mut export = AnnDataExport::new(end, rows.width, names, targets.clone())?;
                export.name_columns(&set.columns);
                none.insert(export)
            }
        };
        export.push(&rows.ids, &rows.values);
        if let Some(manifest) = &examples {
            let described = read_examples(store, manifest, start, next).await?;
            if !described.iter().map(|example| &example.id).eq(&rows.ids) {
                let message = format!("set {}: other examples than its data set has", set.set);
                return Err(Error::corrupt(message));
            }
            export.describe(&described);
        } else if is_windows {
            let windows: Option<Vec<Example>> = rows.ids.iter().map(|id| window(id)).collect();
            let windows = windows.ok_or_else(|| {
                Error::corrupt(format!("set {}: expected the places of windows as ids", set.set))
            })?;
            export.describe(&windows);
        }
        count += rows.ids.len() as u64;
        start = next;
    }
    let export = export.ok_or_else(|| Error::not_found(format!("rows of set {}", set.set)))?;
    let failed = |e| io_error(path, e);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    export.finish(&mut file, &provenance(set, (layer, pooling)))?;
    let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(count)
}

/// What the id of a window over a genome tells of it.
fn window(id: &str) -> Option<Example> {
    let (chromosome, range) = id.rsplit_once(':')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    let chromosome = chromosome.to_owned();
    let interval = Interval { chromosome, start, end, strand: Strand::Forward };
    Some(Example {
        id: id.to_owned(),
        sequences: Vec::new(),
        interval: Some(interval),
        split: None,
        targets: Vec::new(),
    })
}

fn provenance(set: &SetManifest, (layer, pooling): (u32, Pooling)) -> BTreeMap<String, String> {
    let text = |name: &str, value: String| (name.to_owned(), value);
    BTreeMap::from([
        text("dataset", set.dataset.to_string()),
        text("layer", layer.to_string()),
        text("model", set.model.to_string()),
        text("numeric_class", set.numeric_class.clone()),
        text("pooling", pooling.to_string()),
        text("program", concat!("glmeval ", env!("CARGO_PKG_VERSION")).to_owned()),
        text("set", set.set.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_window_is_its_place() {
        let place = |id| window(id).and_then(|example| example.interval);
        for (id, expected) in [("chr1:0-200", ("chr1", 0, 200)), ("HLA:A:5-9", ("HLA:A", 5, 9))] {
            let found = place(id).unwrap();
            assert_eq!((found.chromosome.as_str(), found.start, found.end), expected);
        }
        assert_eq!([place("chr1"), place("chr1:5"), place("chr1:a-9")], [None, None, None]);
    }
}
