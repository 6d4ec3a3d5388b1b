//! Files that appear only when they are whole.
//!
//! Leaves out: what stands in them. Invariant: a failed or interrupted command leaves no file behind,
//! nor a half of one.

use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::rng::random_token;
use glmeval_worker::row_table::{Cell, ColumnKind, RowTable, TableFormat};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// The format that the name of the file of `argument` asks for.
///
/// # Errors
/// `Invalid` for another ending than .tsv, .csv or .parquet.
pub(crate) fn table_format(argument: &str, path: &Path) -> Result<TableFormat> {
    TableFormat::of(path).ok_or_else(|| {
        let expected = "a name that ends in .tsv, .csv or .parquet";
        InputError::new("command line", argument, expected, path.display()).into()
    })
}

/// Writes a table with `columns` into `path`, rows by `fill`.
///
/// # Errors
/// Those of `fill`; I/O errors with the path.
pub(crate) fn table(
    path: &Path,
    format: TableFormat,
    columns: &[(&str, ColumnKind)],
    fill: impl FnOnce(&mut dyn FnMut(&[Vec<Cell<'_>>]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    whole(path, |partial| {
        let failed = |e| io_error(path, e);
        let file = BufWriter::new(File::create(partial).map_err(failed)?);
        let mut table = RowTable::new(file, format, columns)?;
        fill(&mut |rows| table.push(rows))?;
        let file = table.finish()?.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)
    })
}

/// Writes `text` into `path`.
///
/// # Errors
/// I/O errors with the path.
pub(crate) fn text(path: &Path, text: &str) -> Result<()> {
    whole(path, |partial| std::fs::write(partial, text).map_err(|e| io_error(path, e)))
}

/// Lets `write` fill a file beside `path`, which then takes its name.
fn whole(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = path.with_extension(format!("{}.partial", random_token()));
    let written = write(&partial);
    let moved: Result<(), Error> =
        written.and_then(|()| std::fs::rename(&partial, path).map_err(|e| io_error(path, e)));
    if moved.is_err() {
        // The half-written file is of no use; the first error is the one to tell.
        let _ = std::fs::remove_file(&partial);
    }
    moved
}
