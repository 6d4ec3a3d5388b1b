//! Random access to the contigs of a FASTA file: plain, bgzip, or gzip small enough for memory.
//!
//! Leaves out: writing indexes; a `.fai` or `.gzi` beside the file is used or checked, never made.
//! Invariant: what is fetched is upper-case IUPAC letters, whatever the index claimed.

use crate::dna::normalise_in_place;
use crate::error::{InputError, Result};
use crate::readers::fasta::EXPECTED_LETTER;
use bytes::Bytes;
use names::plain_chromosome;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod bgzf;
mod bytes;
mod fai;
mod index;
pub(in crate::readers) mod names;

/// Bases read from the file at once.
const FETCH_BASES_MAX: u64 = 256 << 10;
/// Contigs that an error names.
const NAMES_SHOWN_MAX: usize = 5;

/// One sequence of a genome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contig {
    /// Header up to the first blank.
    pub name: String,
    /// Length in nucleotides.
    pub length: u64,
}

/// Where the bases of a contig lie in the decompressed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Byte offset of the first base.
    offset: u64,
    /// Bases in each line but the last.
    line_bases: u64,
    /// Bytes of such a line with its line end.
    line_width: u64,
}

impl Layout {
    /// Byte offset of base `base`; `None` beyond 64 bits.
    fn offset_of(&self, base: u64) -> Option<u64> {
        let lines = base.checked_div(self.line_bases)?;
        let column = base.checked_rem(self.line_bases)?;
        lines.checked_mul(self.line_width)?.checked_add(column)?.checked_add(self.offset)
    }

    /// Byte offset right after the last of `length` bases; `None` beyond 64 bits.
    fn end_offset(&self, length: u64) -> Option<u64> {
        self.offset_of(length.checked_sub(1)?)?.checked_add(1)
    }
}

/// A contig and its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    contig: Contig,
    layout: Layout,
}

/// A genome whose bases are read on demand, from any number of threads.
pub struct Genome {
    path: PathBuf,
    bytes: Bytes,
    contigs: Vec<Contig>,
    layouts: Vec<Layout>,
    indices: BTreeMap<String, usize>,
    /// The first contig of each plain name, for those that are spelled otherwise.
    by_plain_name: BTreeMap<String, usize>,
}

impl Genome {
    /// Opens the FASTA file `path`.
    ///
    /// With a `.fai` beside it, contigs come from there after a check against the file; without one
    /// the file is read once. A `.gzi` beside a bgzip file must agree with its blocks. Gzip without
    /// blocks is decompressed into memory.
    ///
    /// # Errors
    /// `Invalid` for damage, for an index that does not fit, for lines of unequal length in a contig,
    /// and for gzip without blocks beyond 512 MiB.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::open(path)?;
        let fai = beside(path, ".fai");
        let entries = match fai.exists() {
            true => fai::read(&fai, &bytes)?,
            false => index::build(path, &bytes)?,
        };
        let (contigs, layouts): (Vec<_>, Vec<_>) =
            entries.into_iter().map(|entry| (entry.contig, entry.layout)).unzip();
        let indices = contigs.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        let mut by_plain_name = BTreeMap::new();
        for (index, contig) in contigs.iter().enumerate() {
            by_plain_name.entry(plain_chromosome(&contig.name).to_owned()).or_insert(index);
        }
        Ok(Self { path: path.to_owned(), bytes, contigs, layouts, indices, by_plain_name })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All contigs in file order.
    pub fn contigs(&self) -> &[Contig] {
        &self.contigs
    }

    /// The contig called `name`, or by another name of that chromosome: `chr1` is `1`, `chrM` is `MT`.
    pub fn contig(&self, name: &str) -> Option<&Contig> {
        self.contig_number(name).and_then(|number| self.contigs.get(number))
    }

    /// The place of [`contig`](Self::contig) in the file, from 0.
    pub fn contig_number(&self, name: &str) -> Option<usize> {
        let plain = || self.by_plain_name.get(plain_chromosome(name));
        self.indices.get(name).or_else(plain).copied()
    }

    /// What a file that asks for `name` should have asked for, in words.
    pub fn expected_name(&self) -> String {
        format!("a chromosome of the genome ({}), with or without \"chr\"", self.names())
    }

    /// The first few names and how many there are, for messages.
    pub fn names(&self) -> String {
        let shown: Vec<_> =
            self.contigs.iter().take(NAMES_SHOWN_MAX).map(|contig| contig.name.as_str()).collect();
        let more = self.contigs.len().saturating_sub(shown.len());
        let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{tail}", shown.join(", "))
    }

    /// Bases `start..end` (0-based, half-open) of the contig that `name` means, in upper case.
    ///
    /// # Errors
    /// `Invalid` for an unknown name, an end beyond the contig, letters outside IUPAC and damage.
    pub fn fetch(&self, name: &str, start: u64, end: u64) -> Result<Vec<u8>> {
        let index = self.contig_number(name);
        let found = index.and_then(|i| Some((self.contigs.get(i)?, self.layouts.get(i)?)));
        let Some((contig, layout)) = found else {
            let expected = self.expected_name();
            return Err(InputError::new(self.path.display(), "", expected, name).into());
        };
        if start > end || end > contig.length {
            let place = format!("contig {name}");
            let expected = format!("start <= end <= {}, the length of {name}", contig.length);
            let found = format!("{start} to {end}");
            return Err(InputError::new(self.path.display(), place, expected, found).into());
        }
        let mut bases = Vec::new();
        let mut at = start;
        while at < end {
            let stop = end.min(at.saturating_add(FETCH_BASES_MAX));
            self.append(contig, layout, at..stop, &mut bases)?;
            at = stop;
        }
        Ok(bases)
    }

    /// Appends the bases of `range`, which lies inside the contig.
    fn append(
        &self,
        contig: &Contig,
        layout: &Layout,
        range: std::ops::Range<u64>,
        bases: &mut Vec<u8>,
    ) -> Result<()> {
        let offsets = layout.offset_of(range.start).zip(layout.offset_of(range.end - 1));
        let (first, last) = offsets.expect("the contig's end was computed from the same layout");
        // A line has at least one base and at most two more bytes.
        let mut raw = vec![0; (last - first + 1) as usize];
        self.bytes.read_at(first, &mut raw)?;
        let appended_start = bases.len();
        let mut column = range.start % layout.line_bases;
        let mut rest = raw.as_slice();
        while !rest.is_empty() {
            let line_rest = usize::try_from(layout.line_bases - column).unwrap_or(usize::MAX);
            let (line, after) = rest.split_at(rest.len().min(line_rest));
            bases.extend_from_slice(line);
            let line_end_bytes = (layout.line_width - layout.line_bases) as usize;
            let (line_end, after) = after.split_at(after.len().min(line_end_bytes));
            if !line_end.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                let base = range.start + (bases.len() - appended_start) as u64;
                let place = format!("contig {}, base {base}", contig.name);
                let expected = format!("a line end after {} bases", layout.line_bases);
                let found = "a longer line (is the index stale?)";
                return Err(InputError::new(self.path.display(), place, expected, found).into());
            }
            (rest, column) = (after, 0);
        }
        let appended = bases.get_mut(appended_start..).unwrap_or_default();
        normalise_in_place(appended).map_err(|bad| {
            let base = range.start + bad.offset as u64 + 1;
            let place = format!("contig {}, base {base}", contig.name);
            let found = match bad.byte {
                b'\r' | b'\n' => "a line end (is the index stale?)".to_owned(),
                byte => crate::readers::text::excerpt(&[byte]),
            };
            InputError::new(self.path.display(), place, EXPECTED_LETTER, found).into()
        })
    }
}

/// `path` with `suffix` behind its whole name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
