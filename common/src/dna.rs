//! DNA: sequences, strands, intervals.
//!
//! Leaves out: files. Invariant: a [`DnaSequence`] holds upper-case IUPAC letters only.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bases in one-hot channel order.
pub const BASES: [u8; 4] = *b"ACGT";

/// A DNA sequence in upper-case IUPAC letters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DnaSequence(Vec<u8>);

/// The first letter of a text that is no IUPAC nucleotide code, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLetter {
    /// Offset in the text, from 0.
    pub offset: usize,
    /// The byte found there.
    pub byte: u8,
}

impl fmt::Display for BadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.byte.is_ascii_graphic() {
            write!(f, "{:?} at column {}", char::from(self.byte), self.offset + 1)
        } else {
            write!(f, "byte 0x{:02x} at column {}", self.byte, self.offset + 1)
        }
    }
}

/// Upper-case IUPAC letter of `byte`, `None` if it is none. Case is folded; `U` stays an error:
/// RNA is converted where the user says so, never by guess.
const fn normalise(byte: u8) -> Option<u8> {
    let upper = byte.to_ascii_uppercase();
    match upper {
        b'A' | b'C' | b'G' | b'T' | b'N' | b'R' | b'Y' | b'S' | b'W' | b'K' | b'M' | b'B'
        | b'D' | b'H' | b'V' => Some(upper),
        _ => None,
    }
}

static NORMALISED: [u8; 256] = {
    let mut table = [0_u8; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(upper) = normalise(byte as u8) {
            table[byte] = upper;
        }
        byte += 1;
    }
    table
};

impl DnaSequence {
    /// Checks and upper-cases `text`.
    ///
    /// # Errors
    /// The first letter that is no IUPAC nucleotide code.
    pub fn new(text: impl Into<Vec<u8>>) -> Result<Self, BadLetter> {
        let mut letters = text.into();
        normalise_in_place(&mut letters)?;
        Ok(Self(letters))
    }

    /// The letters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The letters as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("IUPAC letters are ASCII")
    }

    /// Length in nucleotides.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no nucleotide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sequence of the other strand, 5' to 3'.
    #[must_use]
    pub fn reverse_complement(&self) -> Self {
        Self(self.0.iter().rev().map(|&base| complement(base)).collect())
    }

    /// Letters other than A, C, G, T.
    pub fn undefined_count(&self) -> usize {
        self.0.iter().filter(|base| !BASES.contains(base)).count()
    }
}

/// Upper-cases `letters` in place and checks that each is an IUPAC nucleotide code.
///
/// # Errors
/// The first letter that is none; letters before it are already upper-cased.
pub fn normalise_in_place(letters: &mut [u8]) -> Result<(), BadLetter> {
    for (offset, letter) in letters.iter_mut().enumerate() {
        let upper = NORMALISED[usize::from(*letter)];
        if upper == 0 {
            return Err(BadLetter { offset, byte: *letter });
        }
        *letter = upper;
    }
    Ok(())
}

impl fmt::Debug for DnaSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Complement of one IUPAC letter.
fn complement(base: u8) -> u8 {
    match base {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        b'T' => b'A',
        b'R' => b'Y',
        b'Y' => b'R',
        b'K' => b'M',
        b'M' => b'K',
        b'B' => b'V',
        b'V' => b'B',
        b'D' => b'H',
        b'H' => b'D',
        other => other,
    }
}

/// Which strand a sequence was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Strand {
    /// As in the reference.
    #[default]
    #[serde(rename = "+")]
    Forward,
    /// Reverse complement of the reference.
    #[serde(rename = "-")]
    Reverse,
}

impl Strand {
    /// `+` or `-`.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Forward => "+",
            Self::Reverse => "-",
        }
    }
}

/// A piece of a chromosome: 0-based, half-open, with its strand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Chromosome or contig name, verbatim.
    pub chromosome: String,
    /// First base, 0-based.
    pub start: u64,
    /// One past the last base.
    pub end: u64,
    /// Strand the sequence is read from.
    pub strand: Strand,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}({})", self.chromosome, self.start, self.end, self.strand.symbol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_complement_twice_is_the_sequence() {
        let sequence = DnaSequence::new("ACGTNRYKMBVDHacgt").unwrap();
        assert_eq!(sequence.reverse_complement().reverse_complement(), sequence);
    }

    #[test]
    fn a_letter_outside_iupac_is_named_with_its_column() {
        let error = DnaSequence::new("ACZ").unwrap_err();
        assert_eq!(error.to_string(), "'Z' at column 3");
        let error = DnaSequence::new(b"A\0".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "byte 0x00 at column 2");
    }
}
