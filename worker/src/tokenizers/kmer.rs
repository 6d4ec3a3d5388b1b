//! Non-overlapping k-mers with a single-base remainder: the Nucleotide Transformer tokenizer.
//!
//! Leaves out: upper-casing, truncation, padding. Invariant: see [`crate::tokenizer`].

use super::Vocabulary;
use super::letters::{DNA_LETTERS, is_space, refusal};
use crate::tokenizer::{TokenRule, Tokenizer, UnknownLetters};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, InputError, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Letters that are tokens of their own.
const SINGLE_LETTERS: [&str; 5] = ["A", "C", "G", "T", "N"];

/// The first token of every sequence, then from left to right the longest token that fits.
///
/// `N` stands alone and restarts the frame; bases left over before an `N` or the end become one
/// token each. Ids are those of the vocabulary's lines.
///
/// Source: InstaDeep's published `vocab.txt`; Hugging Face `EsmTokenizer` for replaced letters.
#[derive(Clone, Debug)]
pub struct KmerTokenizer {
    vocabulary: Vocabulary,
    /// Lengths of the tokens that text is cut into, in bytes, longest first.
    lengths: Vec<usize>,
    first_id: u32,
    unknown_id: u32,
    embedding_rows: usize,
    unknown_letters: UnknownLetters,
}

impl KmerTokenizer {
    /// Reads a `vocab.txt` for a gLM with `embedding_rows` rows in its embedding table.
    ///
    /// # Errors
    /// As [`Vocabulary::read`] and [`KmerTokenizer::new`].
    pub fn read(
        path: &Path,
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
    ) -> Result<Self> {
        Ok(Self::new(Vocabulary::read(path)?, embedding_rows, unknown_letters)?)
    }

    /// Makes the tokenizer of `vocabulary`. Tokens past `embedding_rows` may stand in it; text
    /// that needs one is refused.
    ///
    /// # Errors
    /// `<cls>`, `<unk>`, `A`, `C`, `G`, `T` or `N` is missing or has no row.
    pub fn new(
        vocabulary: Vocabulary,
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
    ) -> Result<Self, InputError> {
        let require = |token: &str| {
            let id = vocabulary.require(token)?;
            if (id as usize) < embedding_rows {
                return Ok(id);
            }
            let place = format!("line {}", u64::from(id) + 1);
            let expected = format!("a token id below vocab_size {embedding_rows}");
            let found = format!("{token} with id {id}");
            Err(InputError::new(vocabulary.file(), place, expected, found))
        };
        let first_id = require("<cls>")?;
        let unknown_id = require("<unk>")?;
        for letter in SINGLE_LETTERS {
            require(letter)?;
        }
        let used = vocabulary.iter().filter(|(token, _)| may_cut(token, unknown_letters));
        let lengths: BTreeSet<usize> = used.map(|(token, _)| token.len()).collect();
        let lengths = lengths.into_iter().rev().collect();
        Ok(Self { vocabulary, lengths, first_id, unknown_id, embedding_rows, unknown_letters })
    }

    /// Id of `token`, `None` if it is not in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocabulary.get(token)
    }

    /// Path of the vocabulary, for errors.
    pub fn file(&self) -> &str {
        self.vocabulary.file()
    }

    /// Length in bytes and id of the longest token that `rest` starts with.
    fn longest(&self, rest: &str) -> Option<(usize, u32)> {
        self.lengths.iter().find_map(|&length| {
            let token = rest.get(..length).filter(|t| may_cut(t, self.unknown_letters))?;
            Some((length, self.vocabulary.get(token)?))
        })
    }

    /// Hands out the id of each token and the bytes of text it stands for.
    fn cut(&self, text: &str, mut token: impl FnMut(u32, u32)) -> Result<()> {
        token(self.first_id, 0);
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let column = text.len() - rest.len() + 1;
            let step = match self.longest(rest) {
                Some((length, id)) => {
                    token(self.with_row(id, column)?, bytes(length));
                    length
                }
                None if self.unknown_letters == UnknownLetters::Refuse => {
                    return Err(refusal(letter, column, DNA_LETTERS));
                }
                None if is_space(letter) => letter.len_utf8(),
                None => {
                    let length = self.unknown_run(rest);
                    token(self.unknown_id, bytes(length));
                    length
                }
            };
            rest = rest.get(step..).unwrap_or_default();
        }
        Ok(())
    }

    /// Bytes of the letters up to the next token or white space.
    fn unknown_run(&self, rest: &str) -> usize {
        let mut places = rest.char_indices();
        let end = places.find(|&(at, letter)| {
            is_space(letter) || rest.get(at..).is_some_and(|rest| self.longest(rest).is_some())
        });
        end.map_or(rest.len(), |(at, _)| at)
    }

    /// `id`, if it has a row in the embedding table.
    fn with_row(&self, id: u32, column: usize) -> Result<u32> {
        if (id as usize) < self.embedding_rows {
            return Ok(id);
        }
        let limit = self.embedding_rows;
        let found = format!("expected a token id below vocab_size {limit}, found {id}");
        Err(Error::invalid(format!("tokenise column {column}: {found}")))
    }
}

impl Tokenizer for KmerTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 6 + 6);
        self.cut(text, |id, _| ids.push(id))?;
        Ok(ids)
    }

    fn lengths(&self, text: &str) -> Result<Vec<u32>> {
        let mut lengths = Vec::with_capacity(text.len() / 6 + 6);
        self.cut(text, |_, length| lengths.push(length))?;
        Ok(lengths)
    }

    fn mask_id(&self) -> Option<u32> {
        self.vocabulary.get("<mask>")
    }

    fn digest(&self) -> String {
        ContentDigest::new("tokenizer/k-mer/1")
            .field("vocabulary", self.vocabulary.digest())
            .field("embedding_rows", (self.embedding_rows as u64).to_le_bytes())
            .field("unknown_letters", self.unknown_letters.name())
            .finish()
    }

    fn rule(&self) -> TokenRule {
        let k_mers = self.vocabulary.iter().filter(|(token, _)| is_bases(token));
        let k = k_mers.map(|(token, _)| token.len()).max().unwrap_or(1);
        TokenRule::Blocks { length: u32::try_from(k).unwrap_or(u32::MAX), special: 1 }
    }

    fn pad_id(&self) -> Option<u32> {
        self.id("<pad>").filter(|&id| (id as usize) < self.embedding_rows)
    }
}

fn bytes(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Whether `token` is one or more of A, C, G, T.
fn is_bases(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| matches!(b, b'A' | b'C' | b'G' | b'T'))
}

/// Whether text is cut into such tokens.
fn may_cut(token: &str, unknown_letters: UnknownLetters) -> bool {
    unknown_letters == UnknownLetters::Replace || token == "N" || is_bases(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 3-mers in the published order A, T, C, G behind four special tokens, single letters, `<eos>`.
    fn tokens() -> Vec<String> {
        let mut tokens: Vec<String> =
            ["<unk>", "<pad>", "<mask>", "<cls>"].map(str::to_owned).to_vec();
        for code in 0..64 {
            let letter = |shift: u32| char::from(b"ATCG"[(code >> shift) & 3]);
            tokens.push([letter(4), letter(2), letter(0)].iter().collect());
        }
        tokens.extend(["A", "T", "C", "G", "N", "<eos>"].map(str::to_owned));
        tokens
    }

    /// `<eos>` is past the embedding table.
    fn tokenizer(unknown_letters: UnknownLetters) -> KmerTokenizer {
        let vocabulary = Vocabulary::parse("vocab.txt", tokens().join("\n").as_bytes()).unwrap();
        KmerTokenizer::new(vocabulary, 73, unknown_letters).unwrap()
    }

    #[test]
    fn an_n_restarts_the_frame_and_remainders_are_single_bases() {
        let tokenizer = tokenizer(UnknownLetters::Refuse);
        let id = |token| tokenizer.id(token).unwrap();
        let expected = vec![id("<cls>"), id("ACG"), id("T"), id("N"), id("CGT"), id("A"), id("C")];
        assert_eq!(tokenizer.encode("ACGTNCGTAC").unwrap(), expected);
    }

    /// Ids as published with the 3-mer gLM, whose vocabulary has six special tokens and 75 in all.
    #[test]
    fn k_is_that_of_the_vocabulary() {
        let special = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"].map(str::to_owned);
        let k_mers = tokens().into_iter().skip(4).take(69);
        let tokens: Vec<String> = special.into_iter().chain(k_mers).collect();
        let vocabulary = Vocabulary::parse("vocab.txt", tokens.join("\n").as_bytes()).unwrap();
        let tokenizer = KmerTokenizer::new(vocabulary, 75, UnknownLetters::Refuse).unwrap();
        let ids = tokenizer.encode("ATTCCGATTCCGATTCCG").unwrap();
        assert_eq!(ids, [3, 11, 49, 11, 49, 11, 49]);
        assert_eq!(tokenizer.rule(), TokenRule::Blocks { length: 3, special: 1 });
        assert_eq!(tokenizer.pad_id(), Some(1));
    }

    #[test]
    fn refused_letters_are_named_with_their_column() {
        let tokenizer = tokenizer(UnknownLetters::Refuse);
        for (text, letter, column) in [("ACGR", "'R'", 4), ("a", "'a'", 1), ("AC<mask>", "'<'", 3)]
        {
            let message = tokenizer.encode(text).unwrap_err().to_string();
            assert!(message.contains(letter), "{message}");
            assert!(message.contains(&format!("column {column}:")), "{message}");
        }
    }

    #[test]
    fn replaced_letters_make_one_unknown_token_per_run() {
        let tokenizer = tokenizer(UnknownLetters::Replace);
        let id = |token| tokenizer.id(token).unwrap();
        let found = tokenizer.encode("xyACG-é z<mask>ACG").unwrap();
        let unknown = id("<unk>");
        let expected =
            vec![id("<cls>"), unknown, id("ACG"), unknown, unknown, id("<mask>"), id("ACG")];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_token_without_an_embedding_row_is_refused() {
        let message = tokenizer(UnknownLetters::Replace).encode("AC<eos>").unwrap_err().to_string();
        assert!(message.contains("below vocab_size 73, found 73"), "{message}");
    }

    #[test]
    fn a_vocabulary_without_a_base_is_refused() {
        let vocabulary = Vocabulary::parse("v.txt", b"<cls>\n<unk>\nA\nC\nG\nT").unwrap();
        let error = KmerTokenizer::new(vocabulary, 9, UnknownLetters::Refuse).unwrap_err();
        assert_eq!(error.to_string(), "v.txt: vocabulary: expected N, found no such token");
    }

    proptest! {
        #[test]
        fn any_text_is_encoded_or_refused(text: String) {
            let _ = tokenizer(UnknownLetters::Refuse).encode(&text);
            let _ = tokenizer(UnknownLetters::Replace).encode(&text);
        }

        #[test]
        fn the_tokens_of_dna_spell_it(text in "[ACGTN]{0,60}") {
            let tokenizer = tokenizer(UnknownLetters::Refuse);
            let ids = tokenizer.encode(&text).unwrap();
            let spelled: String = ids[1..]
                .iter()
                .map(|id| tokenizer.vocabulary.iter().find(|(_, i)| i == id).unwrap().0)
                .collect();
            prop_assert_eq!(spelled, text);
        }
    }
}
