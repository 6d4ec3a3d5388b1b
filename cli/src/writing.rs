//! Files that appear only when they are whole.
//!
//! Leaves out: what stands in them. Invariant: a failed or interrupted command leaves no file behind,
//! nor a half of one.

use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::rng::random_token;
use glmeval_worker::row_table::{Cell, ColumnKind, RowTable, TableFormat};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

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

/// Refuses an output that is an input or another output, whatever its path; each beside its argument.
///
/// # Errors
/// `Invalid` with both arguments.
pub(crate) fn check_outputs(outputs: &[(&str, &Path)], inputs: &[(&str, &Path)]) -> Result<()> {
    for (index, (argument, path)) in outputs.iter().enumerate() {
        let place = place(path);
        let mut others = outputs.iter().take(index).chain(inputs);
        if let Some((other, _)) = others.find(|(_, other)| self::place(other) == place) {
            let expected = format!("another file than that of {other}");
            let found = path.display();
            return Err(InputError::new("command line", *argument, expected, found).into());
        }
    }
    Ok(())
}

/// Where `path` leads, links followed; the file itself need not be there.
fn place(path: &Path) -> PathBuf {
    if let Ok(place) = path.canonicalize() {
        return place;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
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
        let named = |e: Error| e.context(path.display().to_string());
        let mut table = RowTable::new(file, format, columns).map_err(named)?;
        fill(&mut |rows| table.push(rows).map_err(named))?;
        let file =
            table.finish().map_err(named)?.into_inner().map_err(|e| failed(e.into_error()))?;
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
///
/// # Errors
/// Those of `write`; I/O errors with the path.
pub(crate) fn whole(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = partial(path);
    let written = write(&partial);
    settle(&partial, path, written)
}

/// The name under which a file is written that is to be called `path` once it is whole.
pub(crate) fn partial(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.partial", random_token()))
}

/// Gives the file `partial` the name `path` if it is `written`; else it goes.
///
/// # Errors
/// What kept it from being written; I/O errors with the path.
pub(crate) fn settle<T>(partial: &Path, path: &Path, written: Result<T>) -> Result<T> {
    let moved = written.and_then(|written| {
        std::fs::rename(partial, path).map_err(|e| io_error(path, e)).map(|()| written)
    });
    if moved.is_err() {
        // The half-written file is of no use; the first error is the one to tell.
        let _ = std::fs::remove_file(partial);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_no_input_and_no_other_output_whatever_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("in.tsv"), "").unwrap();
        std::os::unix::fs::symlink(at("in.tsv"), at("link.tsv")).unwrap();
        let refused = |outputs: &[(&str, &Path)], expected: &str| {
            let error = check_outputs(outputs, &[("--variants", &at("in.tsv"))]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        std::fs::create_dir(at("sub")).unwrap();
        let [same, link] = ["sub/../in.tsv", "link.tsv"].map(at);
        for path in [&same, &link, &at("in.tsv")] {
            refused(&[("--out", path)], "--out: expected another file than that of --variants");
        }
        let (out, other) = (at("a.tsv"), at("sub/../a.tsv"));
        let both = [("--out", out.as_path()), ("--per-sequence", other.as_path())];
        refused(&both, "--per-sequence: expected another file than that of --out");
        check_outputs(&[("--out", &out), ("--figure", &at("b.svg"))], &[]).unwrap();
    }

    #[test]
    fn a_row_that_cannot_be_written_is_told_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hits.parquet");
        let columns = [("start", ColumnKind::Whole)];
        let result = table(&path, TableFormat::Parquet, &columns, |push| {
            push(&[vec![Cell::Whole(u64::MAX)]])
        });
        let error = result.unwrap_err().chain();
        assert!(error.contains("hits.parquet: expected positions below 2^63"), "{error}");
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
