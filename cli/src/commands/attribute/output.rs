//! The folder of maps and its files, which appear together once they are whole.
//!
//! Leaves out: what is printed. Invariant: a folder that was not finished is removed.

use super::input::Chosen;
use super::summary::Summary;
use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::rng::random_token;
use glmeval_worker::attribution::{MapKind, MapTables, Mapped, Named, PairCorrelation};
use glmeval_worker::row_table::{Cell, ColumnKind, RowTable, TableFormat};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Refuses a place where something stands already.
pub(super) fn check_free(path: &Path) -> Result<()> {
    let found = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => "a file",
        Err(error) => return Err(io_error(path, error)),
        Ok(mut entries) => match entries.next() {
            None => return Ok(()),
            Some(_) => "files in it",
        },
    };
    let expected = format!("{}, a folder that is not there or empty", path.display());
    Err(InputError::new("command line", "--out", expected, found).into())
}

/// A folder under another name until it is finished.
pub(super) struct Folder {
    partial: PathBuf,
    path: PathBuf,
    is_finished: bool,
}

impl Folder {
    /// Makes it beside the place where it will stand.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let name = path.file_name().ok_or_else(|| -> Error {
            let found = path.display();
            InputError::new("command line", "--out", "a folder with a name", found).into()
        })?;
        let mut hidden = name.to_owned();
        hidden.push(format!(".{}.partial", random_token()));
        let partial = path.with_file_name(hidden);
        std::fs::create_dir_all(&partial).map_err(|e| io_error(&partial, e))?;
        Ok(Self { partial, path: path.to_owned(), is_finished: false })
    }

    /// Path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Removes a file that nobody needs any more, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Gives it its name.
    pub(super) fn finish(mut self) -> Result<()> {
        std::fs::rename(&self.partial, &self.path).map_err(|e| io_error(&self.path, e))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_finished {
            // Half-written files are of no use; the error that ended the work is the one to tell.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}

/// A table in the folder.
type Table = RowTable<BufWriter<File>>;

/// All files while they are written.
pub(super) struct Files<'f> {
    folder: &'f Folder,
    tables: MapTables<BufWriter<File>>,
    table: (PathBuf, Table),
}

impl<'f> Files<'f> {
    /// Starts them.
    pub(super) fn new(
        folder: &'f Folder,
        (name, format): (&str, TableFormat),
        kinds: &[MapKind],
        chosen: &Chosen,
    ) -> Result<Self> {
        let (maps, sequences) = (folder.file("maps.safetensors"), folder.file("sequences.tsv"));
        let create = |path: &Path| File::create(path).map_err(|e| io_error(path, e));
        let rows = (BufWriter::new(create(&sequences)?), TableFormat::Tsv);
        let size = (chosen.count, chosen.length);
        let file = (create(&maps)?, maps.as_path());
        let tables = MapTables::new(file, rows, kinds, size, chosen.ids().as_deref())?;
        let mut columns = vec![
            ("index", ColumnKind::Whole),
            ("id", ColumnKind::Text),
            ("position", ColumnKind::Whole),
            ("base", ColumnKind::Text),
        ];
        columns.extend(kinds.iter().map(|kind| (kind.name(), ColumnKind::Single)));
        let path = folder.file(name);
        let table = RowTable::new(BufWriter::new(create(&path)?), format, &columns)?;
        Ok(Self { folder, tables, table: (path, table) })
    }

    /// Adds the maps of the next sequences.
    pub(super) fn push(&mut self, sequences: &[Named], mapped: &[Mapped]) -> Result<()> {
        let first = self.tables.pushed();
        let stored = self.tables.push(sequences, mapped)?;
        for ((index, one), maps) in (first..).zip(sequences).zip(&stored) {
            self.push_nucleotides((index, one), maps)?;
        }
        Ok(())
    }

    /// A row for each nucleotide.
    fn push_nucleotides(&mut self, (index, one): (u64, &Named), maps: &[Vec<f32>]) -> Result<()> {
        let letters = one.sequence.as_str();
        let row = |position: usize| {
            let base = letters.get(position..=position);
            let places = [Cell::Whole(index), Cell::Text(Some(&one.id))];
            let letter = [Cell::Whole(position as u64), Cell::Text(base)];
            let values = maps.iter().map(|map| Cell::Single(map.get(position).copied()));
            places.into_iter().chain(letter).chain(values).collect()
        };
        let rows: Vec<Vec<Cell<'_>>> = (0..letters.len()).map(row).collect();
        self.table.1.push(&rows).map_err(|e| e.context(self.table.0.display().to_string()))
    }

    /// Ends them and adds what is known of all sequences, which `summary` makes of the correlations.
    pub(super) fn finish(
        self,
        summary: impl FnOnce(Vec<PairCorrelation>) -> Summary,
    ) -> Result<Summary> {
        let Self { folder, tables, table: (path, table) } = self;
        let (_, rows, correlations) = tables.finish()?;
        for (path, file) in [(folder.file("sequences.tsv"), rows), (path, table.finish()?)] {
            let failed = |e| io_error(&path, e);
            let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
            file.sync_all().map_err(failed)?;
        }
        let summary = summary(correlations);
        if summary.has_correlations() {
            let path = folder.file("correlations.tsv");
            let text = format!("{}\n", summary.correlation_lines());
            std::fs::write(&path, text).map_err(|e| io_error(&path, e))?;
        }
        let path = folder.file("attribution.json");
        std::fs::write(&path, summary.json()?).map_err(|e| io_error(&path, e))?;
        Ok(summary)
    }
}
