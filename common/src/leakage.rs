//! Sequences that stand in several splits, as they are or as their reverse complements.
//!
//! Leaves out: which examples are read (survey), telling people (command line, report).
//! Invariant: memory is 16 bytes an example, and bounded; counts do not depend on the order of examples.

use crate::example::{Example, Split};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Examples at most whose sequences are compared; above, nothing is said about leakage.
pub const LEAKAGE_ROWS_MAX: u64 = 1 << 24;
/// Bits of an entry that hold row, orientation and split; the others are the digest's.
const ROW_BITS: u32 = 32;
const SPLIT_BITS: u32 = 2;
const LOW_BITS: u32 = ROW_BITS + SPLIT_BITS + 1;

/// Examples of one split whose sequences another split has too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leakage {
    /// Split that is fitted on or tuned on.
    pub seen: Split,
    /// Split whose examples are counted.
    pub split: Split,
    /// Examples of `split` whose sequence `seen` has too.
    pub identical: u64,
    /// Examples of `split` that only match the reverse complement of one of `seen`.
    pub reverse_complement: u64,
    /// Ids of one such pair: of `seen`, then of `split`.
    pub example: [String; 2],
}

impl Leakage {
    /// One line for people, without the name of the data set.
    ///
    /// ```text
    /// 12 of 1000 test examples have a sequence that train has too (3 as its reverse complement), such as a and b
    /// ```
    pub fn line(&self, examples: u64) -> String {
        let Self { seen, split, identical, reverse_complement, example: [a, b] } = self;
        let count = identical.saturating_add(*reverse_complement);
        format!(
            "{count} of {examples} {split} examples have a sequence that {seen} has too \
             ({reverse_complement} as its reverse complement), such as {b} and {a} of {seen}"
        )
    }
}

/// What a search found, with rows in place of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Counts; the ids are empty.
    pub leakage: Leakage,
    /// Rows of the pair with the lowest numbers: of `seen`, then of `split`.
    pub rows: [u64; 2],
}

/// Digests of the sequences of all examples that have a split.
#[derive(Debug, Default)]
pub struct LeakageSearch {
    entries: Vec<u128>,
    splits: [bool; 3],
    is_full: bool,
}

impl LeakageSearch {
    /// Adds example `row`; nothing where it has no split.
    pub fn add(&mut self, row: u64, example: &Example) {
        let Some(split) = example.split else { return };
        let index = split_index(split);
        let row = u32::try_from(row).ok().filter(|_| self.entries.len() < max_entries());
        let Some(row) = row.filter(|_| !self.is_full) else {
            (self.is_full, self.entries) = (true, Vec::new());
            return;
        };
        let (digest, is_turned) = canonical_digest(example);
        if let Some(seen) = self.splits.get_mut(index) {
            *seen = true;
        }
        let low = (u128::from(row) << (SPLIT_BITS + 1))
            | (u128::from(is_turned) << SPLIT_BITS)
            | index as u128;
        self.entries.push((digest >> LOW_BITS << LOW_BITS) | low);
    }

    /// What stands in several splits, in the order of the splits.
    pub fn finish(mut self) -> Vec<Found> {
        if self.splits.iter().filter(|seen| **seen).count() < 2 {
            return Vec::new();
        }
        self.entries.sort_unstable();
        let mut pairs: [Option<Found>; 3] = [None, None, None];
        for same in self.entries.chunk_by(|a, b| a >> LOW_BITS == b >> LOW_BITS) {
            for (pair, found) in PAIRS.iter().zip(&mut pairs) {
                count(*pair, same, found);
            }
        }
        pairs.into_iter().flatten().collect()
    }
}

const PAIRS: [(Split, Split); 3] =
    [(Split::Train, Split::Valid), (Split::Train, Split::Test), (Split::Valid, Split::Test)];

fn max_entries() -> usize {
    usize::try_from(LEAKAGE_ROWS_MAX).unwrap_or(usize::MAX)
}

fn split_index(split: Split) -> usize {
    Split::ALL.iter().position(|known| *known == split).unwrap_or(0)
}

/// Adds the examples of one sequence to the counts of a pair of splits.
fn count((seen, split): (Split, Split), same: &[u128], found: &mut Option<Found>) {
    let of = |split: Split| {
        let index = split_index(split) as u128;
        same.iter().filter(move |entry| **entry & 3 == index)
    };
    let is_turned = |entry: &u128| entry >> SPLIT_BITS & 1 == 1;
    let row = |entry: &u128| (entry >> (SPLIT_BITS + 1)) as u32;
    let (Some(first), Some(other)) = (of(seen).min_by_key(|e| row(e)), of(split).next()) else {
        return;
    };
    let other = of(split).min_by_key(|e| row(e)).unwrap_or(other);
    let rows = [u64::from(row(first)), u64::from(row(other))];
    let found = found.get_or_insert_with(|| Found {
        leakage: Leakage {
            seen,
            split,
            identical: 0,
            reverse_complement: 0,
            example: Default::default(),
        },
        rows,
    });
    if rows.iter().max() < found.rows.iter().max() {
        found.rows = rows;
    }
    let has = [false, true].map(|turned| of(seen).any(|entry| is_turned(entry) == turned));
    for entry in of(split) {
        let is_identical = has.get(usize::from(is_turned(entry))) == Some(&true);
        let counter = match is_identical {
            true => &mut found.leakage.identical,
            false => &mut found.leakage.reverse_complement,
        };
        *counter = counter.saturating_add(1);
    }
}

/// Digest of the sequences of an example that is that of their reverse complements too, and whether
/// those come first in the alphabet.
///
/// The other strand of a pair is the reverse complement of the second, then that of the first.
pub fn canonical_digest(example: &Example) -> (u128, bool) {
    let forward: Vec<&[u8]> =
        example.sequences.iter().map(|sequence| sequence.as_bytes()).collect();
    let turned: Vec<_> =
        example.sequences.iter().rev().map(|sequence| sequence.reverse_complement()).collect();
    let turned: Vec<&[u8]> = turned.iter().map(|sequence| sequence.as_bytes()).collect();
    let is_turned = turned < forward;
    (digest(if is_turned { &turned } else { &forward }), is_turned)
}

/// The first 128 bits of sha256 over length-prefixed parts.
pub fn digest(parts: &[&[u8]]) -> u128 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let bytes = hasher.finalize();
    bytes.iter().take(16).fold(0, |digest, byte| digest << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dna::DnaSequence;

    fn example(letters: &[&str], split: Option<Split>) -> Example {
        let sequences = letters.iter().map(|&letters| DnaSequence::new(letters).unwrap()).collect();
        Example { id: String::new(), sequences, interval: None, split, targets: Vec::new() }
    }

    fn found(examples: &[(&str, Split)]) -> Vec<Found> {
        let mut search = LeakageSearch::default();
        for (row, (letters, split)) in examples.iter().enumerate() {
            search.add(row as u64, &example(&[letters], Some(*split)));
        }
        search.finish()
    }

    #[test]
    fn identical_and_reverse_complement_sequences_are_counted_by_pair() {
        use Split::{Test, Train, Valid};
        let found = found(&[
            ("AACG", Train),
            ("AACG", Train),
            ("TTTT", Train),
            ("CGTT", Test),
            ("AACG", Test),
            ("aaaa", Valid),
            ("GGGG", Test),
            ("AAAA", Test),
        ]);
        let told: Vec<_> = found
            .iter()
            .map(|f| {
                let Leakage { seen, split, identical, reverse_complement, .. } = &f.leakage;
                (*seen, *split, *identical, *reverse_complement, f.rows)
            })
            .collect();
        let expected = [
            (Train, Valid, 0, 1, [2, 5]),
            (Train, Test, 1, 2, [0, 3]),
            (Valid, Test, 1, 0, [5, 7]),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn one_split_alone_and_examples_without_one_cannot_leak() {
        assert_eq!(found(&[("AC", Split::Train), ("AC", Split::Train)]), []);
        let mut search = LeakageSearch::default();
        search.add(0, &example(&["AC"], None));
        assert_eq!(search.finish(), []);
    }

    #[test]
    fn a_palindrome_is_identical_and_the_two_sides_of_a_pair_turn_together() {
        let palindromes = found(&[("ACGT", Split::Train), ("ACGT", Split::Test)]);
        assert_eq!(palindromes[0].leakage.identical, 1);
        let of = |letters: &[&str]| canonical_digest(&example(letters, None)).0;
        assert_eq!(of(&["AAC", "GG"]), of(&["CC", "GTT"]));
        assert_ne!(of(&["AAC", "GG"]), of(&["GTT", "CC"]));
        assert_ne!(of(&["AA", "CGG"]), of(&["AAC", "GG"]));
    }
}
