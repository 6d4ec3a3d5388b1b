//! How uncertain a masked language model is of each token of a sequence, and information made of it.
//!
//! Leaves out: keeping the entropies of a set (`spool`). Invariant: f32 logits as the gLM gives them,
//! f64 from there on in the order of the vocabulary; a sequence has the same bits among any others.

use crate::batching::check_length;
use crate::model::Model;
use crate::scoring::masked_entropies;
use crate::variants::base_ids;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use serde::Serialize;

/// Positions whose logits are held at a time.
const POSITIONS_MAX: usize = 256;
/// Letters that show how a gLM cuts sequences.
const SPECIMEN: &str = "ACGTTGCAACGTTGCAACGTTGCA";

/// Entropies of the tokens of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEntropies {
    /// In nats, `[T]`, special tokens included; NaN at padding, which is never masked.
    pub values: Vec<f64>,
    /// Nucleotides that each token stands for, `[T]`; 0 for special tokens.
    pub lengths: Vec<u32>,
}

/// Masks each token of a sequence in turn and reads the distribution there.
///
/// ```text
/// H[t] = -sum_v p_v log p_v,  p = softmax(logits[t] with token t masked)
/// ```
///
/// v runs over the whole vocabulary, or over A, C, G and T alone where every token is one nucleotide.
pub struct Entropies<'m> {
    model: &'m Model,
    /// Ids of the bases where the softmax is over these alone.
    bases: Option<Vec<u32>>,
}

impl<'m> Entropies<'m> {
    /// Asks `model`.
    ///
    /// # Errors
    /// `Invalid` with the reason if the gLM is causal, has no mask token, no language-model head, or
    /// tokens that cannot be matched with nucleotides.
    pub fn new(model: &'m Model) -> Result<Self> {
        let facts = model.facts();
        let reason = if model.is_causal() {
            Some("its tokens see only those before them")
        } else if model.tokenizer().mask_id().is_none() {
            Some("it has no mask token")
        } else if model.head(&vec![0.0; facts.width as usize]).is_err() {
            Some("these weights have no language-model head")
        } else {
            None
        };
        if let Some(reason) = reason {
            let kind = &facts.architecture;
            return Err(Error::invalid(format!("{kind} gives no information map: {reason}")));
        }
        let lengths = model.tokenizer().lengths(SPECIMEN)?;
        let is_single = lengths.iter().all(|&length| length <= 1)
            && lengths.iter().filter(|&&length| length == 1).count() == SPECIMEN.len();
        let bases = if is_single { Some(base_ids(model)?) } else { None };
        Ok(Self { model, bases })
    }

    /// Vocabulary entries of A, C, G and T where the softmax is over these alone, else `None`.
    pub fn columns(&self) -> Option<&[u32]> {
        self.bases.as_deref()
    }

    /// Tokens of a sequence with the nucleotides that each stands for.
    ///
    /// # Errors
    /// `Invalid` for a sequence that the gLM cannot take.
    pub fn tokens(&self, sequence: &DnaSequence) -> Result<(Vec<u32>, Vec<u32>)> {
        let ids = self.model.tokenize(sequence)?;
        check_length("to be masked", ids.len(), self.model.facts().tokens_max)?;
        let mut lengths = self.model.tokenizer().lengths(sequence.as_str())?;
        lengths.resize(ids.len(), 0);
        let found: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        if found != sequence.len() as u64 {
            let expected = format!("tokens that stand for {} nucleotides", sequence.len());
            return Err(InputError::new("gLM", "tokens", expected, found).into());
        }
        Ok((ids, lengths))
    }

    /// Entropies of a sequence.
    ///
    /// # Errors
    /// As [`Entropies::tokens`] and [`masked_entropies`].
    pub fn of(&self, sequence: &DnaSequence) -> Result<TokenEntropies> {
        let (ids, lengths) = self.tokens(sequence)?;
        let pad = self.model.tokenizer().pad_id();
        let is_padding =
            |&(at, length): &(usize, &u32)| *length == 0 && pad == ids.get(at).copied();
        let tokens = lengths.iter().enumerate().filter(|token| !is_padding(token));
        let positions: Vec<usize> = tokens.map(|(at, _)| at).collect();
        let mut values = vec![f64::NAN; ids.len()];
        let columns = self.bases.as_deref();
        for positions in positions.chunks(POSITIONS_MAX) {
            let found = masked_entropies(self.model, &ids, positions, columns)?;
            positions.iter().zip(found).for_each(|(&at, entropy)| values[at] = entropy);
        }
        Ok(TokenEntropies { values, lengths })
    }
}

/// Where the largest entropy of a set stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EntropyMaximum {
    /// The largest entropy in nats; `None` before the first token.
    pub value: Option<f64>,
    /// Sequence of the set, from 0.
    pub sequence: u64,
    /// Token of the sequence, from 0.
    pub token: u64,
    /// The largest one of tokens that stand for nucleotides.
    pub of_nucleotides: Option<f64>,
}

impl EntropyMaximum {
    /// Takes the entropies of sequence number `sequence` in; of equal ones the first counts.
    pub fn add(&mut self, sequence: u64, entropies: &TokenEntropies) {
        for (token, (&value, &length)) in
            entropies.values.iter().zip(&entropies.lengths).enumerate()
        {
            let is_larger =
                |than: Option<f64>| !value.is_nan() && than.is_none_or(|than| value > than);
            if is_larger(self.value) {
                (self.value, self.sequence, self.token) = (Some(value), sequence, token as u64);
            }
            if length > 0 && is_larger(self.of_nucleotides) {
                self.of_nucleotides = Some(value);
            }
        }
    }
}

/// Information of each token, `maximum - entropy`.
pub fn information(entropies: &[f64], maximum: f64) -> Vec<f64> {
    entropies.iter().map(|entropy| maximum - entropy).collect()
}

/// Values of tokens as values of nucleotides: each as often as its token has nucleotides, those of
/// special tokens not at all.
///
/// # Errors
/// `Bug` for another number of values than of tokens.
pub fn expand(values: &[f64], lengths: &[u32]) -> Result<Vec<f64>> {
    if values.len() != lengths.len() {
        let (found, expected) = (values.len(), lengths.len());
        return Err(Error::bug(format!("expected {expected} values of tokens, found {found}")));
    }
    let each = values.iter().zip(lengths);
    Ok(each.flat_map(|(&value, &length)| std::iter::repeat_n(value, length as usize)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_maxima_counts_and_padding_never() {
        let entropies =
            |values: &[f64]| TokenEntropies { values: values.to_vec(), lengths: vec![0, 6, 1] };
        let mut maximum = EntropyMaximum::default();
        maximum.add(0, &entropies(&[f64::NAN, 1.0, 2.0]));
        maximum.add(1, &entropies(&[3.0, 1.0, 2.0]));
        maximum.add(2, &entropies(&[3.0, 1.0, 2.5]));
        let expected =
            EntropyMaximum { value: Some(3.0), sequence: 1, token: 0, of_nucleotides: Some(2.5) };
        assert_eq!(maximum, expected);
    }

    #[test]
    fn tokens_become_nucleotides_with_and_without_a_remainder() {
        assert_eq!(expand(&[9.0, 1.0, 2.0], &[0, 3, 1]).unwrap(), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(expand(&[9.0, 1.0], &[0, 3]).unwrap(), [1.0; 3]);
        expand(&[1.0], &[]).unwrap_err();
        assert_eq!(information(&[1.0, 2.0], 2.0), [1.0, 0.0]);
    }
}
