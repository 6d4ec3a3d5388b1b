//! One token per base, upper and lower case alike: the tokenizer of GPN.
//!
//! Leaves out: the file ([`super::definition`]). Invariant: see [`crate::tokenizer`]; no special
//! token is added.

use super::definition::Definition;
use super::letters::{self, DNA_LETTERS, Piece, refusal};
use crate::tokenizer::{Tokenizer, UnknownLetters};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::Result;
use glmeval_common::model::{TokenRule, UndefinedBase};
use std::path::Path;

/// Each letter is lower-cased and looked up; white space vanishes.
///
/// Source: the BPE without merges of GPN's published `tokenizer.json`.
#[derive(Clone, Debug)]
pub struct GpnTokenizer {
    definition: Definition,
    /// Id of `N` where it is not looked up.
    n_id: Option<u32>,
    undefined_base: UndefinedBase,
    unknown_letters: UnknownLetters,
}

impl GpnTokenizer {
    /// Reads a `tokenizer.json` for a gLM with `embedding_rows` rows in its embedding table.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable` with the path; otherwise as [`GpnTokenizer::parse`].
    pub fn read(
        path: &Path,
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
        undefined_base: UndefinedBase,
    ) -> Result<Self> {
        Self::new(Definition::read(path, embedding_rows)?, unknown_letters, undefined_base)
    }

    /// Parses the text of a `tokenizer.json`, which errors call `file`.
    ///
    /// # Errors
    /// `Invalid` with the key for whatever is wrong or not supported, for merges, a template or a
    /// missing base, for an id without a row, and for a vocabulary without the `[PAD]` that `N` is
    /// to become.
    pub fn parse(
        file: &str,
        text: &[u8],
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
        undefined_base: UndefinedBase,
    ) -> Result<Self> {
        let definition = Definition::parse(file, text, embedding_rows)?;
        Self::new(definition, unknown_letters, undefined_base)
    }

    fn new(
        definition: Definition,
        unknown_letters: UnknownLetters,
        undefined_base: UndefinedBase,
    ) -> Result<Self> {
        definition.check_bases()?;
        if !definition.merges.is_empty() {
            let found = format!("{} merges", definition.merges.len());
            return Err(definition.error("model.merges", "none, for a token per base", &found));
        }
        if !definition.before.is_empty() || !definition.after.is_empty() {
            let expected = "no special token, for a token per base";
            return Err(definition.error("post_processor", expected, "a template"));
        }
        let n_id = match undefined_base {
            UndefinedBase::Unknown => None,
            UndefinedBase::Pad => Some(definition.get("[PAD]").ok_or_else(|| {
                definition.error("model.vocab", "[PAD], which N becomes", "no such token")
            })?),
        };
        Ok(Self { definition, n_id, undefined_base, unknown_letters })
    }

    /// Ids of a text without special tokens.
    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        for letter in text.chars().filter(|letter| !letter.is_whitespace()) {
            if let Some(id) = self.n_id.filter(|_| letter == 'N') {
                ids.push(id);
            } else if self.definition.is_lowercased {
                ids.extend(letter.to_lowercase().filter_map(|letter| self.look_up(letter)));
            } else {
                ids.extend(self.look_up(letter));
            }
        }
    }

    /// Id of a letter as it stands in the vocabulary; `None` if it vanishes.
    fn look_up(&self, letter: char) -> Option<u32> {
        self.definition.letters.get(&letter).copied().or(self.definition.unknown_id)
    }

    /// Refuses what is no DNA letter, and an `N` that would vanish.
    fn check(&self, text: &str) -> Result<()> {
        let is_lowercased = self.definition.is_lowercased;
        letters::check(text, if is_lowercased { "ACGTNacgtn" } else { "ACGTN" }, DNA_LETTERS)?;
        for (letter, column) in text.chars().zip(1..) {
            let is_replaced = letter == 'N' && self.n_id.is_some();
            let folded = if is_lowercased { letter.to_ascii_lowercase() } else { letter };
            if !is_replaced && self.look_up(folded).is_none() {
                let choices = "the vocabulary has no unknown token: leave such sequences out, let \
                               N become [PAD], or use a vocabulary with [UNK]";
                return Err(refusal(letter, column, &format!("A, C, G or T ({choices})")));
            }
        }
        Ok(())
    }
}

impl Tokenizer for GpnTokenizer {
    fn lengths(&self, text: &str) -> Result<Vec<u32>> {
        Ok(vec![1; self.encode(text)?.len()])
    }

    fn mask_id(&self) -> Option<u32> {
        self.definition.get("[MASK]")
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if self.unknown_letters == UnknownLetters::Refuse {
            self.check(text)?;
        }
        let mut ids = Vec::with_capacity(text.len());
        for piece in self.definition.literals.split(text) {
            match piece {
                Piece::Special(id) => ids.push(id),
                Piece::Text(text) => self.encode_text(text, &mut ids),
            }
        }
        Ok(ids)
    }

    fn digest(&self) -> String {
        ContentDigest::new("tokenizer/gpn/1")
            .field("definition", self.definition.digest())
            .field("undefined_base", self.undefined_base.name())
            .field("unknown_letters", self.unknown_letters.name())
            .finish()
    }

    fn rule(&self) -> TokenRule {
        TokenRule::Blocks { length: 1, special: 0 }
    }

    fn pad_id(&self) -> Option<u32> {
        self.definition.get("[PAD]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vocabulary with an unknown token, or the study's without.
    fn definition(has_unknown: bool) -> String {
        let (special, unknown, bases) = if has_unknown {
            (["[PAD]", "[MASK]", "[UNK]"].as_slice(), "\"[UNK]\"", 3)
        } else {
            (["[MASK]", "[PAD]"].as_slice(), "null", 2)
        };
        let added: Vec<_> = special.iter().zip(0..).collect();
        let tokens =
            added.iter().map(|(token, id)| format!("{{\"id\": {id}, \"content\": \"{token}\"}}"));
        let tokens = tokens.collect::<Vec<_>>().join(",");
        let entries = added.iter().map(|(token, id)| format!("\"{token}\": {id}"));
        let bases = ["a", "c", "g", "t"].iter().zip(bases..);
        let entries = entries.chain(bases.map(|(base, id)| format!("\"{base}\": {id}")));
        let entries = entries.collect::<Vec<_>>().join(",");
        format!(
            "{{\"added_tokens\": [{tokens}], \"normalizer\": {{\"type\": \"Lowercase\"}},
              \"pre_tokenizer\": {{\"type\": \"Whitespace\"}}, \"model\": {{\"type\": \"BPE\",
              \"unk_token\": {unknown}, \"vocab\": {{{entries}}}, \"merges\": []}}}}"
        )
    }

    fn tokenizer(
        has_unknown: bool,
        unknown_letters: UnknownLetters,
        undefined_base: UndefinedBase,
    ) -> GpnTokenizer {
        let text = definition(has_unknown);
        GpnTokenizer::parse("t.json", text.as_bytes(), 7, unknown_letters, undefined_base).unwrap()
    }

    #[test]
    fn case_is_folded_and_other_letters_are_unknown() {
        let strict = tokenizer(true, UnknownLetters::Refuse, UndefinedBase::Unknown);
        assert_eq!(strict.encode("ACGTNacgtn").unwrap(), [3, 4, 5, 6, 2, 3, 4, 5, 6, 2]);
        let message = strict.encode("ACR").unwrap_err().to_string();
        assert_eq!(message, "tokenise column 3: expected A, C, G, T or N, found 'R'");
        let lenient = tokenizer(true, UnknownLetters::Replace, UndefinedBase::Unknown);
        assert_eq!(lenient.encode("[PAD]A-C\n[MASK]é").unwrap(), [0, 3, 2, 4, 1, 2]);
        // Lower case of this letter is the ASCII k, of this one two letters.
        assert_eq!(lenient.encode("\u{212a}\u{130}").unwrap(), [2, 2, 2]);
    }

    #[test]
    fn without_an_unknown_token_other_letters_vanish_or_are_refused() {
        let lenient = tokenizer(false, UnknownLetters::Replace, UndefinedBase::Unknown);
        assert_eq!(lenient.encode("ACGTNNacRgt").unwrap(), [2, 3, 4, 5, 2, 3, 4, 5]);
        let strict = tokenizer(false, UnknownLetters::Refuse, UndefinedBase::Unknown);
        let message = strict.encode("ACN").unwrap_err().to_string();
        assert!(message.starts_with("tokenise column 3: expected A, C, G or T"), "{message}");
        assert!(message.contains("let N become [PAD]"), "{message}");
    }

    #[test]
    fn an_n_becomes_padding_where_that_is_asked_for() {
        for unknown_letters in [UnknownLetters::Refuse, UnknownLetters::Replace] {
            let without = tokenizer(false, unknown_letters, UndefinedBase::Pad);
            assert_eq!(without.encode("NACN").unwrap(), [1, 2, 3, 1]);
            let with = tokenizer(true, unknown_letters, UndefinedBase::Pad);
            assert_eq!(with.encode("NACN").unwrap(), [0, 3, 4, 0]);
        }
    }

    #[test]
    fn a_vocabulary_of_learned_pieces_is_refused() {
        let text = definition(true).replace("\"t\": 6", "\"t\": 6, \"ac\": 7");
        let text = text.replace("\"merges\": []", "\"merges\": [\"a c\"]");
        let (strict, unknown) = (UnknownLetters::Refuse, UndefinedBase::Unknown);
        let error = GpnTokenizer::parse("t.json", text.as_bytes(), 8, strict, unknown).unwrap_err();
        let expected = "t.json: model.merges: expected none, for a token per base, found 1 merges";
        assert_eq!(error.to_string(), expected);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_encoded_or_refused(text in "(\\PC|\\[MASK\\]|[ACGTN\\s])*") {
            for has_unknown in [false, true] {
                for undefined_base in [UndefinedBase::Unknown, UndefinedBase::Pad] {
                    let lenient = tokenizer(has_unknown, UnknownLetters::Replace, undefined_base);
                    let ids = lenient.encode(&text).unwrap();
                    let strict = tokenizer(has_unknown, UnknownLetters::Refuse, undefined_base);
                    if let Ok(strict) = strict.encode(&text) {
                        assert_eq!(strict.len(), text.len());
                        assert_eq!(strict, ids);
                    }
                }
            }
        }
    }
}
