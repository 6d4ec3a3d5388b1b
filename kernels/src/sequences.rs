//! Sequences that lie one after another in one array of tokens.
//!
//! Leaves out: what a token is. Invariant: offsets rise from zero, checked before any is used.

use crate::error::{KernelError, Result};
use std::ops::Range;

/// Where each sequence starts and ends; `[B + 1]` token counts before each, the last of all.
#[derive(Clone, Copy)]
pub(crate) struct Sequences<'a>(&'a [usize]);

impl<'a> Sequences<'a> {
    /// Refuses offsets that do not rise from zero.
    pub(crate) fn check(op: &'static str, offsets: &'a [usize]) -> Result<Self> {
        if offsets.first() == Some(&0) && offsets.is_sorted() {
            return Ok(Self(offsets));
        }
        Err(KernelError::Shape {
            op,
            operand: "offsets",
            expected: "counts that rise from 0".to_owned(),
            found: format!("{offsets:?}"),
        })
    }

    /// Tokens of all sequences.
    pub(crate) fn token_count(self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    /// How many sequences there are, empty ones too.
    pub(crate) fn count(self) -> usize {
        self.0.len() - 1
    }

    /// The tokens of one sequence.
    pub(crate) fn tokens(self, sequence: usize) -> Range<usize> {
        self.0[sequence]..self.0[sequence + 1]
    }

    /// The tokens of every sequence.
    pub(crate) fn iter(self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        self.0.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The tokens of the sequence that `token` is in; it must be below the token count.
    pub(crate) fn around(self, token: usize) -> Range<usize> {
        let next = self.0.partition_point(|&offset| offset <= token);
        self.0[next - 1]..self.0[next]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_the_sequence_around_it() {
        let sequences = Sequences::check("op", &[0, 0, 3, 3, 4]).unwrap();
        assert_eq!((sequences.count(), sequences.token_count()), (4, 4));
        assert_eq!(sequences.around(0), 0..3);
        assert_eq!(sequences.around(2), 0..3);
        assert_eq!(sequences.around(3), 3..4);
        assert_eq!(sequences.tokens(2), 3..3);
        assert_eq!(sequences.iter().map(|tokens| tokens.len()).max(), Some(3));
    }

    #[test]
    fn offsets_must_rise_from_zero() {
        for offsets in [&[] as &[usize], &[1, 2], &[0, 2, 1]] {
            let error = Sequences::check("op", offsets).err().unwrap();
            assert!(error.to_string().contains("rise from 0"), "{error}");
        }
    }
}
