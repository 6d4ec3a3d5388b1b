//! Byte-pair encoding: learned pieces of DNA, the tokenizer of DNABERT-2.
//!
//! Leaves out: the file ([`super::definition`]), training, upper-casing.
//! Invariant: see [`crate::tokenizer`].

#[cfg(test)]
mod tests;

use super::definition::Definition;
use super::letters::{self, DNA_LETTERS, Piece};
use crate::tokenizer::{Tokenizer, UnknownLetters};
use glmeval_common::digest::ContentDigest;
use glmeval_common::dna::BASES;
use glmeval_common::error::Result;
use glmeval_common::model::TokenRule;
use glmeval_common::rng::Rng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

/// Random DNA that the mean length of a piece is measured on, in nucleotides.
const SAMPLE_NT: usize = 4_096;

/// Words are single letters at first; of all neighbours that may merge, those of the lowest rank
/// do, the leftmost first, until none is left. Letters outside the vocabulary are one unknown token
/// each and never merge.
///
/// Source: Sennrich, Haddow, Birch 2016, with the ties of Hugging Face `tokenizers`.
#[derive(Clone, Debug)]
pub struct BpeTokenizer {
    definition: Definition,
    unknown_id: u32,
    /// Rank and id of the whole by the two parts.
    merges: BTreeMap<(u32, u32), (u32, u32)>,
    mean_length: f64,
    unknown_letters: UnknownLetters,
}

impl BpeTokenizer {
    /// Reads a `tokenizer.json` for a gLM with `embedding_rows` rows in its embedding table.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable` with the path; otherwise as [`BpeTokenizer::parse`].
    pub fn read(
        path: &Path,
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
    ) -> Result<Self> {
        Self::new(Definition::read(path, embedding_rows)?, unknown_letters)
    }

    /// Parses the text of a `tokenizer.json`, which errors call `file`.
    ///
    /// # Errors
    /// `Invalid` with the key for whatever is wrong or not supported, a vocabulary without an
    /// unknown token or one of A, C, G, T, and an id without a row.
    pub fn parse(
        file: &str,
        text: &[u8],
        embedding_rows: usize,
        unknown_letters: UnknownLetters,
    ) -> Result<Self> {
        Self::new(Definition::parse(file, text, embedding_rows)?, unknown_letters)
    }

    fn new(definition: Definition, unknown_letters: UnknownLetters) -> Result<Self> {
        definition.check_bases()?;
        // Without one, letters that vanish would make neighbours of those around them.
        let unknown_id = definition
            .unknown_id
            .ok_or_else(|| definition.error("model.unk_token", "a token of the vocab", "none"))?;
        let merges = (0..).zip(&definition.merges).map(|(rank, m)| (m.parts, (rank, m.whole)));
        let merges = merges.collect();
        let mut tokenizer =
            Self { definition, unknown_id, merges, mean_length: 1.0, unknown_letters };
        tokenizer.mean_length = tokenizer.measure();
        Ok(tokenizer)
    }

    /// Mean nucleotides of a piece of random DNA.
    fn measure(&self) -> f64 {
        let mut random = Rng::derive(0, "mean length of a piece");
        let base = |draw: u64| BASES.get(draw as usize).copied().map_or('A', char::from);
        let sample: String = (0..SAMPLE_NT).map(|_| base(random.below(4))).collect();
        let mut ids = Vec::new();
        self.encode_text(&sample, &mut ids);
        SAMPLE_NT as f64 / ids.len().max(1) as f64
    }

    /// Ids of a text without special tokens.
    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        if self.definition.is_lowercased {
            self.encode_words(text.chars().flat_map(char::to_lowercase), ids);
        } else {
            self.encode_words(text.chars(), ids);
        }
    }

    /// White space ends a word, and so does a step between letters and punctuation.
    fn encode_words(&self, text: impl Iterator<Item = char>, ids: &mut Vec<u32>) {
        let mut word = Vec::new();
        let mut was_letter = false;
        for letter in text {
            let is_letter = is_word_letter(letter);
            if letter.is_whitespace() || is_letter != was_letter {
                self.encode_word(&mut word, ids);
            }
            was_letter = is_letter;
            if !letter.is_whitespace() {
                word.push(self.definition.letters.get(&letter).copied().unwrap_or(self.unknown_id));
            }
        }
        self.encode_word(&mut word, ids);
    }

    /// Merges the letters of `word` and moves what is left to `ids`, in O(n log n).
    fn encode_word(&self, word: &mut Vec<u32>, ids: &mut Vec<u32>) {
        let mut chain = Chain::new(word);
        let mut waiting: BinaryHeap<_> =
            (1..word.len()).filter_map(|right| self.candidate(&chain, right - 1, right)).collect();
        while let Some(Reverse((rank, left))) = waiting.pop() {
            let Some(right) = chain.next(left) else { continue };
            // Either side may have merged since; then the pair has another rank or none.
            let merge = self.merges.get(&(chain.ids[left], chain.ids[right]));
            let Some(&(_, whole)) = merge.filter(|merge| merge.0 == rank) else { continue };
            chain.join(left, right, whole);
            let before = chain.previous(left);
            waiting.extend(before.and_then(|before| self.candidate(&chain, before, left)));
            let after = chain.next(left);
            waiting.extend(after.and_then(|after| self.candidate(&chain, left, after)));
        }
        ids.extend(chain.remaining());
        word.clear();
    }

    /// Rank and place of the merge of two neighbours, ordered so that the lowest comes first.
    fn candidate(&self, chain: &Chain, left: usize, right: usize) -> Option<Reverse<(u32, usize)>> {
        let &(rank, _) = self.merges.get(&(chain.ids[left], chain.ids[right]))?;
        Some(Reverse((rank, left)))
    }
}

/// A word while its tokens merge. A token stands at its first letter; a letter that was merged
/// into one before it keeps its place with `is_joined`.
struct Chain {
    ids: Vec<u32>,
    is_joined: Vec<bool>,
    next: Vec<usize>,
    previous: Vec<Option<usize>>,
}

impl Chain {
    fn new(word: &[u32]) -> Self {
        Self {
            ids: word.to_vec(),
            is_joined: vec![false; word.len()],
            next: (1..=word.len()).collect(),
            previous: (0..word.len()).map(|at| at.checked_sub(1)).collect(),
        }
    }

    /// Place of the token after the one at `at`; `None` past the end and where no token stands.
    fn next(&self, at: usize) -> Option<usize> {
        let next = self.next[at];
        (next < self.ids.len() && !self.is_joined[at]).then_some(next)
    }

    fn previous(&self, at: usize) -> Option<usize> {
        self.previous[at]
    }

    /// Makes one token `whole` of the neighbours at `left` and `right`.
    fn join(&mut self, left: usize, right: usize, whole: u32) {
        self.ids[left] = whole;
        self.is_joined[right] = true;
        self.next[left] = self.next[right];
        if let Some(previous) = self.previous.get_mut(self.next[left]) {
            *previous = Some(left);
        }
    }

    fn remaining(&self) -> impl Iterator<Item = u32> {
        self.ids.iter().zip(&self.is_joined).filter(|(_, joined)| !**joined).map(|(&id, _)| id)
    }
}

/// A letter of `\w` rather than punctuation. Which class a letter past ASCII has changes no id: it
/// is unknown, and unknown tokens do not merge.
fn is_word_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

impl Tokenizer for BpeTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if self.unknown_letters == UnknownLetters::Refuse {
            let allowed = if self.definition.is_lowercased { "ACGTNacgtn" } else { "ACGTN" };
            letters::check(text, allowed, DNA_LETTERS)?;
        }
        let mut ids = self.definition.before.clone();
        for piece in self.definition.literals.split(text) {
            match piece {
                Piece::Special(id) => ids.push(id),
                Piece::Text(text) => self.encode_text(text, &mut ids),
            }
        }
        ids.extend(&self.definition.after);
        Ok(ids)
    }

    fn lengths(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text)?;
        let (before, after) = (self.definition.before.len(), self.definition.after.len());
        let pieces = before..ids.len().saturating_sub(after);
        let length =
            |(at, &id)| if pieces.contains(&at) { self.definition.letters_of(id) } else { 0 };
        Ok(ids.iter().enumerate().map(length).collect())
    }

    fn mask_id(&self) -> Option<u32> {
        self.definition.get("[MASK]")
    }

    fn digest(&self) -> String {
        ContentDigest::new("tokenizer/bpe/1")
            .field("definition", self.definition.digest())
            .field("unknown_letters", self.unknown_letters.name())
            .finish()
    }

    fn rule(&self) -> TokenRule {
        let special = self.definition.before.len() + self.definition.after.len();
        let special = u32::try_from(special).unwrap_or(u32::MAX);
        TokenRule::Pieces { mean_length: self.mean_length, special }
    }

    fn pad_id(&self) -> Option<u32> {
        self.definition.get("[PAD]")
    }
}
