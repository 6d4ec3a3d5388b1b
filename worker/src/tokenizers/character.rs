//! One token per letter with fixed ids: the tokenizer of HyenaDNA.
//!
//! Leaves out: upper-casing, truncation. Invariant: see [`crate::tokenizer`].

use super::letters::{DNA_LETTERS, Literals, Piece, is_space, refusal};
use crate::tokenizer::{Tokenizer, UnknownLetters};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::Result;
use glmeval_common::model::TokenRule;

const FIRST: u32 = 0;
const LAST: u32 = 1;
const MASK: u32 = 3;
const PAD: u32 = 4;
const UNKNOWN: u32 = 6;
/// Letters of the vocabulary; their ids follow one another.
const LETTERS: &str = "ACGTN";
const LETTER_ID_MIN: u32 = 7;
/// Special tokens that text may spell. `[RESERVED]` (5) is none: its letters are unknown ones.
const SPECIAL: [(&str, u32); 6] = [
    ("[CLS]", FIRST),
    ("[SEP]", LAST),
    ("[BOS]", 2),
    ("[MASK]", MASK),
    ("[PAD]", PAD),
    ("[UNK]", UNKNOWN),
];

/// Which special tokens each sequence gets; both are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialStyle {
    /// `[CLS]` first and `[SEP]` last: the original code, and the study that used it.
    Both,
    /// `[SEP]` last only: the Hugging Face tokenizer.
    LastOnly,
}

impl SpecialStyle {
    /// `both` or `last-only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::LastOnly => "last-only",
        }
    }
}

/// `A` 7, `C` 8, `G` 9, `T` 10, `N` 11; any other letter, lower case and white space too, is
/// `[UNK]` or refused.
///
/// Source: `CharacterTokenizer` of the original code, `HyenaDNATokenizer` of Hugging Face.
#[derive(Clone, Debug)]
pub struct CharacterTokenizer {
    style: SpecialStyle,
    unknown_letters: UnknownLetters,
    literals: Literals,
}

impl CharacterTokenizer {
    /// Rows that an embedding table needs for every id.
    pub const EMBEDDING_ROWS_MIN: usize = 12;

    /// Makes the tokenizer.
    pub fn new(style: SpecialStyle, unknown_letters: UnknownLetters) -> Self {
        let literals = Literals::new(SPECIAL.map(|(token, id)| (token.to_owned(), id)));
        Self { style, unknown_letters, literals }
    }

    /// Id of a letter of the vocabulary.
    fn id(letter: char) -> Option<u32> {
        (LETTER_ID_MIN..).zip(LETTERS.chars()).find(|&(_, l)| l == letter).map(|(id, _)| id)
    }

    /// Ids of any text.
    fn replace(&self, text: &str, ids: &mut Vec<u32>) {
        let pieces = self.literals.split(text);
        let next = pieces.iter().skip(1).copied().map(Some).chain([None]);
        for (&piece, next) in pieces.iter().zip(next) {
            match piece {
                Piece::Special(id) => ids.push(id),
                Piece::Text(text) => {
                    // The original code declares that `[MASK]` takes the space before it.
                    let strips =
                        self.style == SpecialStyle::Both && next == Some(Piece::Special(MASK));
                    let text = if strips { text.trim_end_matches(is_space) } else { text };
                    ids.extend(text.chars().map(|letter| Self::id(letter).unwrap_or(UNKNOWN)));
                }
            }
        }
    }
}

impl Tokenizer for CharacterTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() + 2);
        if self.style == SpecialStyle::Both {
            ids.push(FIRST);
        }
        match self.unknown_letters {
            UnknownLetters::Replace => self.replace(text, &mut ids),
            UnknownLetters::Refuse => {
                for (letter, column) in text.chars().zip(1..) {
                    let refused = || refusal(letter, column, DNA_LETTERS);
                    ids.push(Self::id(letter).ok_or_else(refused)?);
                }
            }
        }
        ids.push(LAST);
        Ok(ids)
    }

    fn lengths(&self, text: &str) -> Result<Vec<u32>> {
        let length = |id| u32::from(id >= LETTER_ID_MIN || id == UNKNOWN);
        Ok(self.encode(text)?.into_iter().map(length).collect())
    }

    fn mask_id(&self) -> Option<u32> {
        Some(MASK)
    }

    fn digest(&self) -> String {
        ContentDigest::new("tokenizer/character/1")
            .field("style", self.style.name())
            .field("unknown_letters", self.unknown_letters.name())
            .finish()
    }

    fn rule(&self) -> TokenRule {
        let special = match self.style {
            SpecialStyle::Both => 2,
            SpecialStyle::LastOnly => 1,
        };
        TokenRule::Blocks { length: 1, special }
    }

    fn pad_id(&self) -> Option<u32> {
        Some(PAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(style: SpecialStyle, text: &str) -> Vec<u32> {
        CharacterTokenizer::new(style, UnknownLetters::Replace).encode(text).unwrap()
    }

    #[test]
    fn the_two_styles_differ_by_the_first_token() {
        let ids = |style| CharacterTokenizer::new(style, UnknownLetters::Refuse).encode("ACGTN");
        assert_eq!(ids(SpecialStyle::Both).unwrap(), [0, 7, 8, 9, 10, 11, 1]);
        assert_eq!(ids(SpecialStyle::LastOnly).unwrap(), [7, 8, 9, 10, 11, 1]);
    }

    #[test]
    fn refused_letters_are_named_with_their_column() {
        let strict = CharacterTokenizer::new(SpecialStyle::Both, UnknownLetters::Refuse);
        let message = strict.encode("ACgT").unwrap_err().to_string();
        assert_eq!(message, "tokenise column 3: expected A, C, G, T or N, found 'g'");
        assert!(strict.encode("[PAD]").is_err());
    }

    /// Expected ids are those of `PreTrainedTokenizer` of transformers 4.46 with these tokens.
    #[test]
    fn replaced_letters_and_spelled_tokens_are_those_of_upstream() {
        let (both, last) = (SpecialStyle::Both, SpecialStyle::LastOnly);
        assert_eq!(replaced(both, "AC [MASK] GT"), [0, 7, 8, 3, 6, 9, 10, 1]);
        assert_eq!(replaced(last, "AC [MASK] GT"), [7, 8, 6, 3, 6, 9, 10, 1]);
        assert_eq!(replaced(both, "AC \t[MASK]G"), [0, 7, 8, 3, 9, 1]);
        assert_eq!(replaced(last, "  [MASK]"), [6, 6, 3, 1]);
        assert_eq!(replaced(last, "[BOS]A[UNK]é"), [2, 7, 6, 6, 1]);
        assert_eq!(replaced(both, "[CLS][SEP] [PAD]a"), [0, 0, 1, 6, 4, 6, 1]);
        assert_eq!(replaced(last, "[RESERVED]").len(), 11);
        assert_eq!(replaced(last, ""), [1]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_encoded_or_refused(text in "(\\PC|\\[MASK\\]|[ACGTN\\s])*") {
            for style in [SpecialStyle::Both, SpecialStyle::LastOnly] {
                let ids = replaced(style, &text);
                assert!(ids.iter().all(|&id| (id as usize) < CharacterTokenizer::EMBEDDING_ROWS_MIN));
                let strict = CharacterTokenizer::new(style, UnknownLetters::Refuse).encode(&text);
                let is_dna = text.chars().all(|letter| LETTERS.contains(letter));
                assert_eq!(strict.ok(), is_dna.then_some(ids));
            }
        }
    }
}
