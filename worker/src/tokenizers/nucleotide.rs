//! One id per nucleotide and no special token: the input of supervised networks that read DNA as
//! one-hot columns.
//!
//! Leaves out: the columns themselves and where a sequence stands in a longer input.
//! Invariant: see [`crate::tokenizer`]; id `i` below 4 is channel `i`.

use super::letters::{DNA_LETTERS, refusal};
use crate::tokenizer::{Tokenizer, UnknownLetters};
use glmeval_common::digest::ContentDigest;
use glmeval_common::dna::BASES;
use glmeval_common::error::Result;
use glmeval_common::model::TokenRule;

/// Id of `N`: a column of zeros, the same as padding.
const UNDEFINED: u32 = 4;

/// `A`, `C`, `G`, `T`, `N` are 0, 1, 2, 3, 4; other letters are refused, or replaced by `N`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NucleotideTokenizer {
    unknown_letters: UnknownLetters,
}

impl NucleotideTokenizer {
    /// Makes the tokenizer.
    pub fn new(unknown_letters: UnknownLetters) -> Self {
        Self { unknown_letters }
    }
}

impl Tokenizer for NucleotideTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let replace = self.unknown_letters == UnknownLetters::Replace;
        let ids = text.chars().zip(1..).map(|(letter, column)| {
            match (0_u32..).zip(BASES).find(|&(_, base)| char::from(base) == letter) {
                Some((channel, _)) => Ok(channel),
                None if letter == 'N' || replace => Ok(UNDEFINED),
                None => Err(refusal(letter, column, DNA_LETTERS)),
            }
        });
        ids.collect()
    }

    fn lengths(&self, text: &str) -> Result<Vec<u32>> {
        Ok(vec![1; self.encode(text)?.len()])
    }

    fn digest(&self) -> String {
        ContentDigest::new("tokenizer/nucleotide/1")
            .field("unknown_letters", self.unknown_letters.name())
            .finish()
    }

    fn rule(&self) -> TokenRule {
        TokenRule::Blocks { length: 1, special: 0 }
    }

    fn pad_id(&self) -> Option<u32> {
        Some(UNDEFINED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_channels_in_the_order_of_one_hot_columns() {
        let strict = NucleotideTokenizer::default();
        assert_eq!(strict.encode("ACGTN").unwrap(), [0, 1, 2, 3, 4]);
        let message = strict.encode("ACa").unwrap_err().to_string();
        assert_eq!(message, "tokenise column 3: expected A, C, G, T or N, found 'a'");
        let lenient = NucleotideTokenizer::new(UnknownLetters::Replace);
        assert_eq!(lenient.encode("AaR-é ").unwrap(), [0, 4, 4, 4, 4, 4]);
        assert_ne!(strict.digest(), lenient.digest());
    }

    proptest::proptest! {
        #[test]
        fn every_letter_is_one_id_or_an_error(text: String) {
            let lenient = NucleotideTokenizer::new(UnknownLetters::Replace).encode(&text).unwrap();
            assert_eq!(lenient.len(), text.chars().count());
            let strict = NucleotideTokenizer::default().encode(&text);
            assert_eq!(strict.is_ok(), text.chars().all(|letter| "ACGTN".contains(letter)));
        }
    }
}
