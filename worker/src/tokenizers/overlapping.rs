//! Overlapping k-mers: the tokenizer of the first DNABERT.
//!
//! Leaves out: upper-casing, and cutting long sequences into pieces. Invariant: see
//! [`crate::tokenizer`].

use super::Vocabulary;
use super::letters::{self, DNA_LETTERS};
use crate::tokenizer::{Tokenizer, UnknownLetters};
use glmeval_common::digest::ContentDigest;
use glmeval_common::dna::BASES;
use glmeval_common::error::{InputError, Result};
use glmeval_common::model::TokenRule;
use std::path::Path;

/// `[CLS]`, every window of k letters, `[SEP]`; a window with any other letter than A, C, G, T is
/// `[UNK]`. A sequence shorter than k has no window.
///
/// k is that of the vocabulary, which holds all 4^k k-mers. Source: DNABERT's `vocab.txt`.
#[derive(Clone, Debug)]
pub struct OverlappingKmerTokenizer {
    vocabulary: Vocabulary,
    /// k.
    length: usize,
    first_id: u32,
    last_id: u32,
    unknown_id: u32,
    pad_id: Option<u32>,
    unknown_letters: UnknownLetters,
}

impl OverlappingKmerTokenizer {
    /// Reads a `vocab.txt` for a gLM with `embedding_rows` rows in its embedding table.
    ///
    /// # Errors
    /// As [`Vocabulary::read`] and [`OverlappingKmerTokenizer::new`].
    pub fn read(
        path: &Path,
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
    ) -> Result<Self> {
        Ok(Self::new(Vocabulary::read(path)?, embedding_rows, unknown_letters)?)
    }

    /// Makes the tokenizer of `vocabulary`.
    ///
    /// # Errors
    /// A token that is no k-mer and has no brackets, k-mers of two lengths, a k-mer that is missing,
    /// no `[CLS]`, `[SEP]` or `[UNK]`, or an id without a row.
    pub fn new(
        vocabulary: Vocabulary,
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
    ) -> Result<Self, InputError> {
        let length = k_mer_length(&vocabulary)?;
        if let Some((token, id)) = vocabulary.iter().find(|&(_, id)| id as usize >= embedding_rows)
        {
            let place = format!("line {}", u64::from(id) + 1);
            let expected = format!("a token id below vocab_size {embedding_rows}");
            let found = format!("{token} with id {id}");
            return Err(InputError::new(vocabulary.file(), place, expected, found));
        }
        Ok(Self {
            length,
            first_id: vocabulary.require("[CLS]")?,
            last_id: vocabulary.require("[SEP]")?,
            unknown_id: vocabulary.require("[UNK]")?,
            pad_id: vocabulary.get("[PAD]"),
            vocabulary,
            unknown_letters,
        })
    }
}

/// The one length of the k-mers of `vocabulary`, of which none is missing.
fn k_mer_length(vocabulary: &Vocabulary) -> Result<usize, InputError> {
    let mut k_mers = 0_u64;
    let mut length = None;
    for (token, id) in vocabulary.iter() {
        if token.starts_with('[') && token.ends_with(']') {
            continue;
        }
        let is_k_mer = token.bytes().all(|byte| BASES.contains(&byte));
        if !is_k_mer || length.is_some_and(|length| length != token.len()) {
            let place = format!("line {}", u64::from(id) + 1);
            let expected = match length {
                Some(length) => format!("{length} letters of A, C, G, T, or a name in brackets"),
                None => "letters of A, C, G, T, or a name in brackets".to_owned(),
            };
            return Err(InputError::new(vocabulary.file(), place, expected, format!("{token:?}")));
        }
        length = Some(token.len());
        k_mers += 1;
    }
    let length = length.unwrap_or(0);
    let expected = u32::try_from(length).ok().and_then(|length| 4_u64.checked_pow(length));
    if length > 0 && expected == Some(k_mers) {
        return Ok(length);
    }
    let expected = format!("all 4^k k-mers (k = {length})");
    Err(InputError::new(vocabulary.file(), "vocabulary", expected, format!("{k_mers} k-mers")))
}

impl Tokenizer for OverlappingKmerTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if self.unknown_letters == UnknownLetters::Refuse {
            letters::check(text, "ACGTN", DNA_LETTERS)?;
        }
        let mut starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
        starts.push(text.len());
        let mut ids = Vec::with_capacity(starts.len() + 2);
        ids.push(self.first_id);
        let windows = starts.iter().zip(starts.iter().skip(self.length));
        ids.extend(windows.map(|(&start, &end)| {
            let window = text.get(start..end).unwrap_or_default();
            self.vocabulary.get(window).unwrap_or(self.unknown_id)
        }));
        ids.push(self.last_id);
        Ok(ids)
    }

    fn lengths(&self, text: &str) -> Result<Vec<u32>> {
        let mut lengths = vec![1; self.encode(text)?.len()];
        let last = lengths.len() - 1;
        (lengths[0], lengths[last]) = (0, 0);
        if last > 1 {
            lengths[last - 1] = u32::try_from(self.length).unwrap_or(u32::MAX);
        }
        Ok(lengths)
    }

    fn mask_id(&self) -> Option<u32> {
        self.vocabulary.get("[MASK]")
    }

    fn digest(&self) -> String {
        ContentDigest::new("tokenizer/overlapping-k-mer/1")
            .field("vocabulary", self.vocabulary.digest())
            .field("unknown_letters", self.unknown_letters.name())
            .finish()
    }

    fn rule(&self) -> TokenRule {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        TokenRule::Overlapping { length, special: 2 }
    }

    fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All k-mers in the published order A, T, C, G behind the five special tokens.
    fn tokens(length: usize) -> Vec<String> {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
        let k_mer = |code: usize| {
            let digits = (0..length).rev().map(|place| (code >> (2 * place)) & 3);
            digits.map(|digit| char::from(b"ATCG"[digit])).collect()
        };
        special.into_iter().chain((0..1 << (2 * length)).map(k_mer)).collect()
    }

    fn tokenizer(length: usize, unknown_letters: UnknownLetters) -> OverlappingKmerTokenizer {
        let text = tokens(length).join("\n");
        let vocabulary = Vocabulary::parse("vocab.txt", text.as_bytes()).unwrap();
        OverlappingKmerTokenizer::new(vocabulary, 5 + (1 << (2 * length)), unknown_letters).unwrap()
    }

    fn refusal(tokens: &[String], embedding_rows: usize) -> String {
        let vocabulary = Vocabulary::parse("v.txt", tokens.join("\n").as_bytes()).unwrap();
        let strict = UnknownLetters::Refuse;
        OverlappingKmerTokenizer::new(vocabulary, embedding_rows, strict).unwrap_err().to_string()
    }

    #[test]
    fn windows_of_any_k_follow_one_another() {
        for length in 1..=6 {
            let tokenizer = tokenizer(length, UnknownLetters::Refuse);
            let text = "ACGTTGCA";
            let ids = tokenizer.encode(text).unwrap();
            let tokens = tokens(length);
            let found: Vec<&str> = ids.iter().map(|&id| tokens[id as usize].as_str()).collect();
            let windows = (0..=text.len() - length).map(|start| &text[start..start + length]);
            let expected: Vec<&str> =
                ["[CLS]"].into_iter().chain(windows).chain(["[SEP]"]).collect();
            assert_eq!(found, expected);
            assert_eq!(tokenizer.rule().tokens(8), ids.len() as u64);
        }
    }

    #[test]
    fn a_sequence_shorter_than_k_has_special_tokens_only() {
        let tokenizer = tokenizer(6, UnknownLetters::Refuse);
        for text in ["", "ACGTA"] {
            assert_eq!(tokenizer.encode(text).unwrap(), [2, 3]);
            assert_eq!(tokenizer.rule().tokens(text.len() as u64), 2);
        }
        assert_eq!(tokenizer.encode("ACGTAC").unwrap(), [2, 727, 3]);
        assert_eq!(tokenizer.lengths("ACGTACC").unwrap(), [0, 1, 6, 0]);
        assert_eq!(tokenizer.lengths("ACG").unwrap(), [0, 0]);
    }

    #[test]
    fn a_letter_that_is_no_base_spoils_every_window_it_is_in() {
        let strict = tokenizer(3, UnknownLetters::Refuse);
        let ids = strict.encode("AAANAAA").unwrap();
        assert_eq!(ids, [2, 5, 1, 1, 1, 5, 3]);
        let message = strict.encode("AAAr").unwrap_err().to_string();
        assert_eq!(message, "tokenise column 4: expected A, C, G, T or N, found 'r'");
        let lenient = tokenizer(3, UnknownLetters::Replace);
        assert_eq!(lenient.encode("AAAéAAA").unwrap(), ids);
    }

    #[test]
    fn a_vocabulary_that_is_not_all_k_mers_of_one_length_is_refused() {
        let mut missing = tokens(2);
        missing.pop();
        let expected = "v.txt: vocabulary: expected all 4^k k-mers (k = 2), found 15 k-mers";
        assert_eq!(refusal(&missing, 99), expected);
        let mut mixed = tokens(2);
        mixed.push("ACG".to_owned());
        let message = refusal(&mixed, 99);
        assert!(
            message.starts_with("v.txt: line 22: expected 2 letters of A, C, G, T"),
            "{message}"
        );
        let expected =
            "v.txt: line 21: expected a token id below vocab_size 20, found GG with id 20";
        assert_eq!(refusal(&tokens(2), 20), expected);
        let expected = "v.txt: vocabulary: expected [CLS], found no such token";
        let (without, first) = (tokens(2), 2);
        let without: Vec<_> = [&without[..first], &without[first + 1..]].concat();
        assert_eq!(refusal(&without, 99), expected);
    }

    proptest! {
        #[test]
        fn any_text_has_a_token_per_window_or_is_refused(text: String) {
            let lenient = tokenizer(3, UnknownLetters::Replace);
            let count = lenient.encode(&text).unwrap().len() as u64;
            prop_assert_eq!(count, lenient.rule().tokens(text.chars().count() as u64));
            let _ = tokenizer(3, UnknownLetters::Refuse).encode(&text);
        }

        #[test]
        fn arbitrary_vocabularies_never_panic(text in "(([ACGTN]{1,2}|\\[[A-Z]{3}\\])\n){0,24}") {
            if let Ok(vocabulary) = Vocabulary::parse("v.txt", text.as_bytes()) {
                let _ = OverlappingKmerTokenizer::new(vocabulary, 20, UnknownLetters::Refuse);
            }
        }
    }
}
