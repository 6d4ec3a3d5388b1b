//! From sequences to their maps: ranking, masking, mapping, and the tables of it.
//!
//! Leaves out: where sequences come from and where tables go (command, unit). Invariant: whoever asks
//! gets the same bits of the same sequences; memory does not grow with those that are not kept.

use super::{
    EntropyMaximum, EntropySpool, Highest, MapCorrelations, MapFile, MapKind, Mapped, Mapper,
    PairCorrelation,
};
use crate::row_table::{Cell, ColumnKind, RowTable, TableFormat};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A sequence and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Row of the source, from 0, other splits counted.
    pub row: u64,
    /// Id of its example.
    pub id: String,
    /// Its letters.
    pub sequence: DnaSequence,
}

/// The sequences alone.
pub fn letters(sequences: &[Named]) -> Vec<&DnaSequence> {
    sequences.iter().map(|one| &one.sequence).collect()
}

/// What is done with a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapStage {
    /// Its tokens are masked.
    Mask,
    /// Its maps are made.
    Map,
}

/// Sequences that are handed out as often as needed, some at a time and always in one order.
pub trait Sequences {
    /// Gives all of them to `take`.
    ///
    /// # Errors
    /// As `take`; errors of the source.
    fn each(&self, take: &mut dyn FnMut(&[Named]) -> Result<()>) -> Result<()>;

    /// An error about one of them, with where it stands.
    fn told(&self, one: &Named, error: Error) -> Error;
}

/// The sequences with the highest outputs.
pub struct Ranking {
    highest: Highest<Named>,
}

impl Ranking {
    /// Keeps `top` at most.
    pub fn new(top: usize) -> Self {
        Self { highest: Highest::new(top) }
    }

    /// Takes the next sequences of the source.
    ///
    /// # Errors
    /// As [`Mapper::outputs`].
    pub fn take(&mut self, mapper: &mut Mapper<'_>, sequences: Vec<Named>) -> Result<()> {
        let outputs = mapper.outputs(&letters(&sequences))?;
        let ranked = outputs.into_iter().zip(sequences);
        ranked.for_each(|(output, one)| self.highest.push(output, one));
        Ok(())
    }

    /// What was kept, highest first.
    pub fn finish(self) -> Vec<Named> {
        self.highest.finish()
    }
}

/// Takes sequences with their maps.
pub type TakeMaps<'a> = dyn FnMut(&[Named], &[Mapped]) -> Result<()> + 'a;

/// Maps every sequence and gives them to `push`; the entropies lie in `spool` meanwhile.
///
/// `watch` hears of each sequence that is through a stage and may stop the work. The maximum entropy is
/// that of these sequences; `None` without a gLM.
///
/// # Errors
/// As [`Mapper::map`], `watch`, `push` and the source.
pub fn map_all(
    mapper: &mut Mapper<'_>,
    sequences: &dyn Sequences,
    spool: impl FnOnce() -> Result<EntropySpool>,
    watch: &mut dyn FnMut(MapStage, u64) -> Result<()>,
    push: &mut TakeMaps<'_>,
) -> Result<Option<EntropyMaximum>> {
    let mut maximum = None;
    if let Some(entropies) = mapper.entropies() {
        sequences.each(&mut |some| {
            let check =
                |one: &Named| mapper.check(&one.sequence).map_err(|e| sequences.told(one, e));
            some.iter().try_for_each(check)
        })?;
        let mut spool = spool()?;
        sequences.each(&mut |some| {
            for one in some {
                let found = entropies.of(&one.sequence).map_err(|e| sequences.told(one, e))?;
                spool.push(&found)?;
                watch(MapStage::Mask, 1)?;
            }
            Ok(())
        })?;
        let (found, reader) = spool.finish()?;
        mapper.read(found.value.unwrap_or(f64::NAN), reader);
        maximum = Some(found);
    }
    sequences.each(&mut |some| {
        watch(MapStage::Map, 0)?;
        let mapped = mapper.map(&letters(some))?;
        push(some, &mapped)?;
        watch(MapStage::Map, some.len() as u64)
    })?;
    Ok(maximum)
}

/// Most bytes that ids take in the header of a file of maps, quotes and commas counted.
pub const MAP_IDS_BYTES_MAX: usize = 4 << 20;

/// Maps as safetensors, and a table with a row for each sequence, while they are written.
pub struct MapTables<W: Write + Send> {
    maps: MapFile,
    rows: RowTable<W>,
    correlations: MapCorrelations,
    pushed: u64,
}

impl<W: Write + Send> MapTables<W> {
    /// Starts both for `count` sequences of at most `length` nucleotides.
    ///
    /// `ids` are theirs in the order of the maps, by which readers find them. `None` is for more ids than
    /// [`MAP_IDS_BYTES_MAX`] alone: the maps must then be those of a whole source in its order.
    ///
    /// # Errors
    /// `Invalid` for more bytes of ids; as [`MapFile::new`] and [`RowTable::new`].
    pub fn new(
        (file, path): (File, &Path),
        (rows, format): (W, TableFormat),
        kinds: &[MapKind],
        (count, length): (u64, u64),
        ids: Option<&[&str]>,
    ) -> Result<Self> {
        let order = match ids {
            Some(ids) => ("ids".to_owned(), ids_text(ids)?),
            None => ("order".to_owned(), "source".to_owned()),
        };
        let texts = BTreeMap::from([("format".to_owned(), "glmeval/maps/1".to_owned()), order]);
        let maps = MapFile::on((file, path), kinds, (count, length), &texts)?;
        let correlations = MapCorrelations::new(kinds);
        let columns = columns(&correlations);
        let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let rows = RowTable::new(rows, format, &columns)?;
        Ok(Self { maps, rows, correlations, pushed: 0 })
    }

    /// Sequences so far.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Adds the maps of the next sequences; gives them back as they are stored.
    ///
    /// # Errors
    /// `Bug` for a map of another length than its sequence; as [`MapFile::push`] and [`RowTable::push`].
    pub fn push(&mut self, sequences: &[Named], mapped: &[Mapped]) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut singles = Vec::with_capacity(mapped.len());
        for (one, mapped) in sequences.iter().zip(mapped) {
            let single = |map: &Vec<f64>| map.iter().map(|&value| value as f32).collect();
            let maps: Vec<Vec<f32>> = mapped.maps.iter().map(|(_, map)| single(map)).collect();
            if maps.iter().any(|map| map.len() != one.sequence.len()) {
                return Err(Error::bug(format!("{}: a map of another length", one.id)));
            }
            self.push_row(one, mapped)?;
            singles.push(maps);
            self.pushed += 1;
        }
        self.maps.push(&singles)?;
        Ok(singles)
    }

    /// What was predicted of the sequence, and how its maps agree.
    fn push_row(&mut self, one: &Named, mapped: &Mapped) -> Result<()> {
        let maps = mapped.maps.iter().map(|(kind, map)| (*kind, map.as_slice()));
        let found = self.correlations.add(&maps.collect::<Vec<_>>());
        let mut row = vec![
            Cell::Whole(self.pushed),
            Cell::Text(Some(&one.id)),
            Cell::Whole(one.row),
            Cell::Single(mapped.output),
            Cell::Single(mapped.embedding_output),
        ];
        row.extend(found.iter().flat_map(|r| [Cell::Real(r.pearson), Cell::Real(r.spearman)]));
        row.push(Cell::Text(Some(one.sequence.as_str())));
        self.rows.push(&[row])
    }

    /// Ends both; gives back their files and the mean correlations.
    ///
    /// # Errors
    /// As [`MapFile::finish`] and [`RowTable::finish`].
    pub fn finish(self) -> Result<(File, W, Vec<PairCorrelation>)> {
        Ok((self.maps.finish()?, self.rows.finish()?, self.correlations.means()))
    }
}

/// Ids as a JSON list.
fn ids_text(ids: &[&str]) -> Result<String> {
    let text = serde_json::to_string(ids).map_err(|e| Error::bug("encode ids").with_source(e))?;
    if text.len() > MAP_IDS_BYTES_MAX {
        let found = format!("{} of {} sequences", text.len(), ids.len());
        let expected = format!("at most {MAP_IDS_BYTES_MAX} bytes of ids");
        return Err(Error::invalid(format!("maps: expected {expected}, found {found}")));
    }
    Ok(text)
}

/// Columns of the table of sequences.
fn columns(correlations: &MapCorrelations) -> Vec<(String, ColumnKind)> {
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
