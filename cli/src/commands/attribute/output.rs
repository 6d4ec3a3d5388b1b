//! The folder of maps and its files, which appear together once they are whole.
//!
//! Leaves out: what is printed. Invariant: a folder that was not finished is removed.

use super::input::{Chosen, Named};
use super::maps::Mapped;
use super::summary::Summary;
use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::rng::random_token;
use glmeval_worker::attribution::{MapCorrelations, MapFile, MapKind};
use glmeval_worker::row_table::{Cell, ColumnKind, RowTable, TableFormat};
use std::collections::BTreeMap;
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
    kinds: Vec<MapKind>,
    maps: MapFile,
    table: (PathBuf, Table),
    sequences: (PathBuf, Table),
    pushed: u64,
}

impl<'f> Files<'f> {
    /// Starts them.
    pub(super) fn new(
        folder: &'f Folder,
        (name, format): (&str, TableFormat),
        kinds: &[MapKind],
        chosen: &Chosen,
        correlations: &MapCorrelations,
    ) -> Result<Self> {
        let path = folder.file("maps.safetensors");
        let texts = BTreeMap::from([("format".to_owned(), "glmeval/maps/1".to_owned())]);
        let maps = MapFile::new(&path, kinds, (chosen.count, chosen.length), &texts)?;
        let mut columns = vec![
            ("index", ColumnKind::Whole),
            ("id", ColumnKind::Text),
            ("position", ColumnKind::Whole),
            ("base", ColumnKind::Text),
        ];
        columns.extend(kinds.iter().map(|kind| (kind.name(), ColumnKind::Single)));
        let table = start(folder.file(name), format, &columns)?;
        let columns = sequence_columns(correlations);
        let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let sequences = start(folder.file("sequences.tsv"), TableFormat::Tsv, &columns)?;
        Ok(Self { folder, kinds: kinds.to_vec(), maps, table, sequences, pushed: 0 })
    }

    /// Adds the maps of the next sequences.
    pub(super) fn push(
        &mut self,
        sequences: &[Named],
        mapped: &[Mapped],
        correlations: &mut MapCorrelations,
    ) -> Result<()> {
        let mut singles = Vec::with_capacity(mapped.len());
        for (one, mapped) in sequences.iter().zip(mapped) {
            let single = |map: &Vec<f64>| map.iter().map(|&value| value as f32).collect();
            let maps: Vec<Vec<f32>> = mapped.maps.iter().map(|(_, map)| single(map)).collect();
            if maps.iter().any(|map| map.len() != one.sequence.len()) {
                return Err(Error::bug(format!("{}: a map of another length", one.id)));
            }
            self.push_nucleotides(one, &maps)?;
            self.push_sequence(one, mapped, correlations)?;
            singles.push(maps);
            self.pushed += 1;
        }
        self.maps.push(&singles)
    }

    /// A row for each nucleotide.
    fn push_nucleotides(&mut self, one: &Named, maps: &[Vec<f32>]) -> Result<()> {
        let letters = one.sequence.as_str();
        let row = |position: usize| {
            let base = letters.get(position..=position);
            let places = [Cell::Whole(self.pushed), Cell::Text(Some(&one.id))];
            let letter = [Cell::Whole(position as u64), Cell::Text(base)];
            let values = maps.iter().map(|map| Cell::Single(map.get(position).copied()));
            places.into_iter().chain(letter).chain(values).collect()
        };
        let rows: Vec<Vec<Cell<'_>>> = (0..letters.len()).map(row).collect();
        self.table.1.push(&rows)
    }

    /// A row for the sequence: what was predicted, and how its maps agree.
    fn push_sequence(
        &mut self,
        one: &Named,
        mapped: &Mapped,
        correlations: &mut MapCorrelations,
    ) -> Result<()> {
        let maps = mapped.maps.iter().map(|(kind, map)| (*kind, map.as_slice()));
        let found = correlations.add(&maps.collect::<Vec<_>>());
        let mut row = vec![
            Cell::Whole(self.pushed),
            Cell::Text(Some(&one.id)),
            Cell::Whole(one.row),
            Cell::Single(mapped.output),
            Cell::Single(mapped.embedding_output),
        ];
        row.extend(found.iter().flat_map(|r| [Cell::Real(r.pearson), Cell::Real(r.spearman)]));
        row.push(Cell::Text(Some(one.sequence.as_str())));
        self.sequences.1.push(&[row])
    }

    /// Ends them and adds what is known of all sequences.
    pub(super) fn finish(self, summary: &Summary) -> Result<()> {
        if self.kinds.len() > 1 {
            let path = self.folder.file("correlations.tsv");
            let text = format!("{}\n", summary.correlation_lines());
            std::fs::write(&path, text).map_err(|e| io_error(&path, e))?;
        }
        let path = self.folder.file("attribution.json");
        std::fs::write(&path, summary.json()?).map_err(|e| io_error(&path, e))?;
        self.maps.finish()?;
        for (path, table) in [self.table, self.sequences] {
            let failed = |e| io_error(&path, e);
            let file = table.finish()?.into_inner().map_err(|e| failed(e.into_error()))?;
            file.sync_all().map_err(failed)?;
        }
        Ok(())
    }
}

fn start(
    path: PathBuf,
    format: TableFormat,
    columns: &[(&str, ColumnKind)],
) -> Result<(PathBuf, Table)> {
    let file = BufWriter::new(File::create(&path).map_err(|e| io_error(&path, e))?);
    let table = RowTable::new(file, format, columns)?;
    Ok((path, table))
}

/// Columns of `sequences.tsv`.
fn sequence_columns(correlations: &MapCorrelations) -> Vec<(String, ColumnKind)> {
    let mut columns = vec![
        ("index".to_owned(), ColumnKind::Whole),
        ("id".to_owned(), ColumnKind::Text),
        ("row".to_owned(), ColumnKind::Whole),
        ("output".to_owned(), ColumnKind::Single),
        ("embedding_output".to_owned(), ColumnKind::Single),
    ];
    columns.extend(correlations.kinds().flat_map(|(map, other)| {
        let name = |r: &str| format!("{r}_{}_{}", map.name(), other.name());
        [(name("pearson"), ColumnKind::Real), (name("spearman"), ColumnKind::Real)]
    }));
    columns.push(("sequence".to_owned(), ColumnKind::Text));
    columns
}
