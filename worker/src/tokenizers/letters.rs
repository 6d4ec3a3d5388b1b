//! What tokenizers share: refusing letters, and special tokens that are written out in the text.
//!
//! Leaves out: ids of letters. Invariant: pieces joined are the text, in its order.

use glmeval_common::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The letters of DNA, for errors.
pub(super) const DNA_LETTERS: &str = "A, C, G, T or N";

/// The error about a letter; `column` counts from 1.
pub(super) fn refusal(letter: char, column: usize, expected: &str) -> Error {
    Error::invalid(format!("tokenise column {column}: expected {expected}, found {letter:?}"))
}

/// Refuses the first letter of `text` that is not one of `allowed`.
///
/// # Errors
/// `Invalid` with letter, column and what was `expected`.
pub(super) fn check(text: &str, allowed: &str, expected: &str) -> Result<()> {
    let refused = text.chars().zip(1..).find(|&(letter, _)| !allowed.contains(letter));
    refused.map_or(Ok(()), |(letter, column)| Err(refusal(letter, column, expected)))
}

/// White space as Python's `str.split` sees it.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Letters.
    Text(&'t str),
    /// The id of a special token that stands there.
    Special(u32),
}

/// Special tokens that are recognised where a text spells them, as in `[PAD]ACGT`.
#[derive(Clone, Debug, Default)]
pub(super) struct Literals {
    ids: BTreeMap<String, u32>,
    first_bytes: BTreeSet<u8>,
    /// Lengths in bytes, longest first.
    lengths: Vec<usize>,
}

impl Literals {
    /// Recognises `tokens`; empty ones are left out.
    pub(super) fn new(tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        let ids: BTreeMap<String, u32> =
            tokens.into_iter().filter(|(t, _)| !t.is_empty()).collect();
        let first_bytes = ids.keys().filter_map(|token| token.bytes().next()).collect();
        let lengths: BTreeSet<usize> = ids.keys().map(String::len).collect();
        Self { ids, first_bytes, lengths: lengths.into_iter().rev().collect() }
    }

    /// Ids of all of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.ids.values().copied()
    }

    /// Id of `token`.
    pub(super) fn get(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Tokens with their ids in the order of their bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ids.iter().map(|(token, &id)| (token.as_str(), id))
    }

    /// Cuts `text` at special tokens: leftmost first, the longest of those that start there.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let mut text_start = 0;
        let push_text = |pieces: &mut Vec<_>, start: usize, end: usize| {
            pieces.extend(text.get(start..end).filter(|t| !t.is_empty()).map(Piece::Text));
        };
        for (at, byte) in text.bytes().enumerate() {
            if at < text_start || !self.first_bytes.contains(&byte) {
                continue;
            }
            let found = self.lengths.iter().find_map(|&length| {
                Some((length, self.get(text.get(at..at.checked_add(length)?)?)?))
            });
            if let Some((length, id)) = found {
                push_text(&mut pieces, text_start, at);
                pieces.push(Piece::Special(id));
                text_start = at + length;
            }
        }
        push_text(&mut pieces, text_start, text.len());
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn literals(tokens: &[(&str, u32)]) -> Literals {
        Literals::new(tokens.iter().map(|&(token, id)| (token.to_owned(), id)))
    }

    #[test]
    fn the_longest_token_wins_at_the_leftmost_place() {
        let found = literals(&[("[P]", 1), ("[P][M]", 2), ("M", 3)]).split("A[P][M]M[P]é");
        let expected = [
            Piece::Text("A"),
            Piece::Special(2),
            Piece::Special(3),
            Piece::Special(1),
            Piece::Text("é"),
        ];
        assert_eq!(found, expected);
        assert_eq!(literals(&[]).split(""), []);
    }

    #[test]
    fn columns_count_letters_from_one() {
        let message = check("ACé", "ACGT", "a base").unwrap_err().to_string();
        assert_eq!(message, "tokenise column 3: expected a base, found 'é'");
    }

    proptest! {
        #[test]
        fn pieces_spell_the_text(text in "[\\[\\]PAé]{0,20}") {
            let literals = literals(&[("[P]", 0), ("A", 1), ("é]", 2)]);
            let spell = |piece: &Piece| match *piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Special(id) => ["[P]", "A", "é]"][id as usize].to_owned(),
            };
            prop_assert_eq!(literals.split(&text).iter().map(spell).collect::<String>(), text);
        }
    }
}
