//! Batches of random sequences to measure a gLM with.
//!
//! Leaves out: running them. Invariant: a batch depends on what was asked, the gLM's tokenizer and
//! the seed alone.

use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, Result};
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_common::rng::Rng;
use glmeval_worker::model::{Model, TokenBatch};

/// Nucleotides of all sequences of a batch; past it, ids alone would fill a machine.
const NUCLEOTIDES_MAX: u64 = 1 << 31;
/// Nucleotides drawn for each token that is asked for: pieces of learned vocabularies are shorter.
const NUCLEOTIDES_PER_TOKEN: u64 = 8;

/// What the sequences of one case are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// All of so many nucleotides.
    Nucleotides(u64),
    /// Lengths in nucleotides uniform from the first to the second.
    Mixed(u64, u64),
    /// All of so many tokens.
    Tokens(u64),
}

impl Input {
    /// `60-200`; both above zero and in order.
    pub(super) fn parse_mixed(text: &str) -> Result<Self, String> {
        let ends = text.split_once('-').map(|(first, last)| (first.parse(), last.parse()));
        match ends {
            Some((Ok(first), Ok(last))) if 0 < first && first <= last => {
                Ok(Self::Mixed(first, last))
            }
            _ => Err("expected two numbers of nucleotides, as in 60-200".to_owned()),
        }
    }

    fn label(self) -> String {
        match self {
            Self::Nucleotides(length) => format!("L{length}"),
            Self::Mixed(first, last) => format!("L{first}-{last}"),
            Self::Tokens(count) => format!("T{count}"),
        }
    }

    /// Nucleotides of the longest sequence that is drawn.
    fn nucleotides_max(self) -> u64 {
        match self {
            Self::Nucleotides(length) | Self::Mixed(_, length) => length,
            Self::Tokens(count) => count.saturating_mul(NUCLEOTIDES_PER_TOKEN),
        }
    }
}

/// Sequences that go through the gLM in one call, and their name.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) batch: TokenBatch,
}

/// The batch of `input`: `count` sequences, or as many as a worker would put into one.
///
/// # Errors
/// `Invalid` for more nucleotides than can be held, or what the tokenizer refuses.
pub(super) fn case(model: &Model, input: Input, count: Option<u32>, seed: u64) -> Result<Case> {
    let nucleotides = u64::from(count.unwrap_or(1)).saturating_mul(input.nucleotides_max());
    if nucleotides > NUCLEOTIDES_MAX {
        let message =
            format!("expected at most {NUCLEOTIDES_MAX} nt in a batch, found {nucleotides}");
        return Err(Error::invalid(message));
    }
    let mut source = Source {
        model,
        lengths: Rng::derive(seed, "bench/lengths"),
        letters: Rng::derive(seed, "bench/letters"),
    };
    let mut sequences: Vec<Vec<u32>> = Vec::new();
    let mut tokens = 0;
    loop {
        let ids = source.draw(input)?;
        let is_full = match count {
            Some(count) => sequences.len() >= count as usize,
            None => !sequences.is_empty() && tokens + ids.len() > TOKENS_PER_BATCH_MAX,
        };
        if is_full {
            break;
        }
        tokens += ids.len();
        sequences.push(ids);
    }
    let batch = TokenBatch::pack(sequences.iter().map(Vec::as_slice));
    Ok(Case { name: format!("B{}_{}", sequences.len(), input.label()), batch })
}

/// Random sequences, one after the other.
struct Source<'a> {
    model: &'a Model,
    lengths: Rng,
    letters: Rng,
}

impl Source<'_> {
    /// Token ids of the next sequence.
    fn draw(&mut self, input: Input) -> Result<Vec<u32>> {
        let length = match input {
            Input::Mixed(first, last) => first + self.lengths.below(last - first + 1),
            Input::Nucleotides(_) | Input::Tokens(_) => input.nucleotides_max(),
        };
        let letters = (0..length).map(|_| b"ACGT"[(self.letters.next_u64() >> 62) as usize]);
        let text: String = letters.map(char::from).collect();
        let sequence = DnaSequence::new(text)
            .map_err(|_| Error::bug("random nucleotides are no DNA sequence"))?;
        let ids = self.model.tokenize(&sequence)?;
        match input {
            // A cut at the end, or a round again, leaves every id as likely as in a sequence.
            Input::Tokens(count) => Ok(ids.into_iter().cycle().take(count as usize).collect()),
            Input::Nucleotides(_) | Input::Mixed(..) => Ok(ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_lengths_are_two_numbers_in_order() {
        assert_eq!(Input::parse_mixed("60-200"), Ok(Input::Mixed(60, 200)));
        assert_eq!(Input::parse_mixed("7-7"), Ok(Input::Mixed(7, 7)));
        for text in ["", "60", "-", "0-9", "9-8", "a-b", "1-2-3", "-1-2"] {
            Input::parse_mixed(text).unwrap_err();
        }
    }
}
