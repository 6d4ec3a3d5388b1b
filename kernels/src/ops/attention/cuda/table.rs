//! Where packed sequences lie, on the device, sorted by the kernels that attend within them.
//!
//! Leaves out: heads and widths, so that all layers share a table. Invariant: the list that a sequence is in follows from its
//! own length, so neighbours change neither its kernel nor its bits.

use crate::cuda::{DeviceArray, Gpu, View};
use crate::error::{KernelError, Result};
use crate::sequences::Sequences;
use std::ops::Range;

/// Lengths up to which sequences are attended to whole, each with a kernel of its own.
pub(super) const SHORT: [usize; 5] = [24, 48, 64, 96, 128];
/// Rows of a tile of longer sequences.
pub(super) const LONG_ROWS: usize = 128;
/// Rows of a tile of forms that take more registers for each.
pub(super) const SMALL_ROWS: usize = 64;
/// Length up to which those forms take a sequence whole.
pub(super) const SMALL_WHOLE: usize = 48;

/// Words of an entry: tokens before the sequence, its length, the tile's first row, zero.
const ENTRY: usize = 4;

/// Packed sequences on the device; made once for a batch, read by each of its layers.
pub struct SequenceTable {
    entries: DeviceArray<u32>,
    tokens: usize,
    short: [Range<usize>; SHORT.len()],
    long: Range<usize>,
    small: Range<usize>,
}

impl SequenceTable {
    /// A table of the sequences between `offsets`, `[B + 1]` token counts before each, from 0 to N.
    ///
    /// # Errors
    /// `Shape` if `offsets` do not rise from 0, or reach 2^32; `OutOfMemory` without room.
    pub fn new(gpu: &Gpu, offsets: &[usize]) -> Result<Self> {
        let mut table = Self {
            entries: DeviceArray::new(gpu, 0)?,
            tokens: 0,
            short: [const { 0..0 }; SHORT.len()],
            long: 0..0,
            small: 0..0,
        };
        table.set(offsets)?;
        Ok(table)
    }

    /// Replaces the sequences; memory is kept, and grows where it must.
    ///
    /// # Errors
    /// As [`SequenceTable::new`]; the table is as before then.
    pub fn set(&mut self, offsets: &[usize]) -> Result<()> {
        let sequences = Sequences::check("attention", offsets)?;
        let tokens = sequences.token_count();
        if u32::try_from(tokens).is_err() {
            return Err(KernelError::Shape {
                op: "attention",
                operand: "offsets",
                expected: "less than 2^32 tokens".to_owned(),
                found: format!("{tokens}"),
            });
        }
        // Long first, so that the last blocks to start are short; a stable order keeps equal ones as they were.
        let mut longest_first: Vec<Range<usize>> =
            sequences.iter().filter(|tokens| !tokens.is_empty()).collect();
        longest_first.sort_by_key(|tokens| std::cmp::Reverse(tokens.len()));
        let mut list = List { sequences: &longest_first, words: Vec::new() };
        let mut above = 0;
        let short = SHORT.map(|most| {
            let range = list.add(above + 1..=most, most);
            above = most;
            range
        });
        let long = list.add(above + 1..=usize::MAX, LONG_ROWS);
        let small = list.add(SMALL_WHOLE + 1..=usize::MAX, SMALL_ROWS);
        let words = list.words;
        if words.len() > self.entries.len() {
            self.entries =
                DeviceArray::new(self.entries.view().gpu(), words.len().next_power_of_two())?;
        }
        self.entries.view_mut().part(0..words.len()).write(&words)?;
        (self.tokens, self.short, self.long, self.small) = (tokens, short, long, small);
        Ok(())
    }

    /// Tokens of all sequences.
    pub fn token_count(&self) -> usize {
        self.tokens
    }

    /// Sequences of up to `SHORT[form]` tokens, above those of the form before, whole.
    pub(super) fn short(&self, form: usize) -> Entries<'_> {
        self.part(&self.short[form])
    }

    /// Tiles of [`LONG_ROWS`] rows of sequences that are in no short form.
    pub(super) fn long(&self) -> Entries<'_> {
        self.part(&self.long)
    }

    /// Sequences of up to [`SMALL_WHOLE`] tokens, whole.
    pub(super) fn small_whole(&self) -> Entries<'_> {
        self.part(&(self.short[0].start..self.short[1].end))
    }

    /// Tiles of [`SMALL_ROWS`] rows of sequences above [`SMALL_WHOLE`] tokens.
    pub(super) fn small(&self) -> Entries<'_> {
        self.part(&self.small)
    }

    fn part(&self, words: &Range<usize>) -> Entries<'_> {
        Entries { view: self.entries.view().part(words.clone()), count: words.len() / ENTRY }
    }
}

/// Entries of one launch.
pub(super) struct Entries<'a> {
    pub(super) view: View<'a, u32>,
    pub(super) count: usize,
}

/// The table while it is made.
struct List<'a> {
    sequences: &'a [Range<usize>],
    words: Vec<u32>,
}

impl List<'_> {
    /// Adds the tiles of sequences of some lengths and returns the words they take.
    fn add(&mut self, lengths: std::ops::RangeInclusive<usize>, rows: usize) -> Range<usize> {
        let start = self.words.len();
        for tokens in self.sequences.iter().filter(|tokens| lengths.contains(&tokens.len())) {
            for first in (0..tokens.len()).step_by(rows) {
                // All are below the token count, which fits.
                self.words.extend([tokens.start as u32, tokens.len() as u32, first as u32, 0]);
            }
        }
        start..self.words.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_in_the_list_of_its_length() {
        let gpu = Gpu::emulated().unwrap();
        let offsets = [0, 300, 300, 301, 349, 413, 542];
        let table = SequenceTable::new(&gpu, &offsets).unwrap();
        let list = |entries: Entries<'_>| {
            let words = entries.view.to_vec().unwrap();
            assert_eq!(words.len(), entries.count * ENTRY);
            words
                .chunks_exact(ENTRY)
                .map(|entry| [entry[0], entry[1], entry[2]])
                .collect::<Vec<_>>()
        };
        assert_eq!(table.token_count(), 542);
        assert_eq!(list(table.short(0)), [[300, 1, 0]]);
        assert_eq!(list(table.short(1)), [[301, 48, 0]]);
        assert_eq!(list(table.short(2)), [[349, 64, 0]]);
        assert!(list(table.short(3)).is_empty() && list(table.short(4)).is_empty());
        let long = [[0, 300, 0], [0, 300, 128], [0, 300, 256], [413, 129, 0], [413, 129, 128]];
        assert_eq!(list(table.long()), long);
        assert_eq!(list(table.small_whole()), [[300, 1, 0], [301, 48, 0]]);
        assert_eq!(table.small().count, 5 + 3 + 1);
    }

    #[test]
    fn a_table_takes_other_sequences() {
        let gpu = Gpu::emulated().unwrap();
        let mut table = SequenceTable::new(&gpu, &[0]).unwrap();
        assert_eq!((table.token_count(), table.small().count), (0, 0));
        table.set(&[0, 129, 200]).unwrap();
        assert_eq!((table.long().count, table.short(3).count), (2, 1));
        assert!(table.set(&[1, 2]).is_err());
        assert_eq!(table.token_count(), 200);
        table.set(&[0, 3]).unwrap();
        assert_eq!((table.long().count, table.short(0).count), (0, 1));
    }
}
