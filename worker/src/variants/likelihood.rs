//! What a causal gLM says of a window, and what a masked one says of its middle.
//!
//! Leaves out: passes over the gLM. Invariant: logits are f32 as the gLM gives them; all else is f64 in
//! the order of the tokens.

use crate::model::Model;
use glmeval_common::dna::BASES;
use glmeval_common::error::{Error, Result};

/// Log-likelihoods of one sequence, given the tokens before each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Likelihoods {
    /// Of tokens that stand for nucleotides, over the whole vocabulary.
    pub(super) nucleotides: f64,
    /// Of all tokens but the first.
    pub(super) all: f64,
    /// Of A, C, G and T, over these four alone.
    pub(super) acgt: f64,
}

/// Ids of A, C, G and T of a gLM with a token for each nucleotide.
///
/// # Errors
/// `Invalid` if it has none.
pub(crate) fn base_ids(model: &Model) -> Result<Vec<u32>> {
    let text = std::str::from_utf8(&BASES).unwrap_or_default();
    let ids = model.tokenizer().encode(text)?;
    let lengths = model.tokenizer().lengths(text)?;
    let bases: Vec<u32> =
        ids.iter().zip(&lengths).filter(|(_, length)| **length == 1).map(|(id, _)| *id).collect();
    if bases.len() != BASES.len() {
        return Err(Error::invalid("expected a token for each of A, C, G and T"));
    }
    Ok(bases)
}

/// Likelihoods of `ids` from its logits `[T, V]`; token t is told by logits t - 1.
pub(super) fn likelihoods(
    logits: &[f32],
    ids: &[u32],
    lengths: &[u32],
    bases: &[u32],
) -> Result<Likelihoods> {
    let width = logits.len() / ids.len().max(1);
    let mut sums = Likelihoods::default();
    let targets = ids.iter().zip(lengths).skip(1);
    for (row, (&id, &length)) in logits.chunks_exact(width.max(1)).zip(targets) {
        let at = |id: u32| {
            let logit = row.get(id as usize).map(|&logit| f64::from(logit));
            logit.ok_or_else(|| Error::bug(format!("no logit for token {id}")))
        };
        let chosen = at(id)?;
        let all = chosen - log_sum(row.iter().map(|&logit| f64::from(logit)));
        sums.all += all;
        if length > 0 {
            sums.nucleotides += all;
        }
        if bases.contains(&id) {
            let four = bases.iter().map(|&base| at(base)).collect::<Result<Vec<f64>>>()?;
            sums.acgt += chosen - log_sum(four.iter().copied());
        }
    }
    Ok(sums)
}

/// log sum exp, the largest taken out first.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + values.map(|value| (value - largest).exp()).sum::<f64>().ln()
}

/// `z[alternative] - z[reference]`, which is the difference of their log-probabilities as well: the
/// sum over the vocabulary is the same in both.
///
/// `None` if the two windows differ in other tokens than `token`.
pub(super) fn masked_difference(
    logits: &[f32],
    reference: &[u32],
    alternative: &[u32],
    token: usize,
) -> Option<f64> {
    let is_alone = reference.len() == alternative.len()
        && reference.iter().zip(alternative).enumerate().all(|(i, (a, b))| i == token || a == b);
    let at = |ids: &[u32]| {
        let id = usize::try_from(*ids.get(token)?).ok()?;
        logits.get(id).map(|&logit| f64::from(logit))
    };
    at(alternative).zip(at(reference)).filter(|_| is_alone).map(|(to, from)| to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_told_by_the_logits_before_it() {
        // Vocabulary: a special token, then two bases; the last logits tell nothing.
        let logits = [0.0, 1.0, 2.0, 0.5, 0.0, 0.0, 9.0, 9.0, 9.0];
        let found = likelihoods(&logits, &[1, 2, 0], &[1, 1, 0], &[1, 2]).unwrap();
        let first = 2.0 - (1.0 + 1_f64.exp() + 2_f64.exp()).ln();
        let second = 0.5 - (0.5_f64.exp() + 2.0).ln();
        assert!((found.nucleotides - first).abs() < 1e-12);
        assert!((found.all - first - second).abs() < 1e-12);
        let four = 2.0 - (1_f64.exp() + 2_f64.exp()).ln();
        assert!((found.acgt - four).abs() < 1e-12);
    }

    #[test]
    fn a_variant_that_changes_other_tokens_has_no_masked_score() {
        let logits = [0.0, 1.5, 4.0];
        assert_eq!(masked_difference(&logits, &[0, 1], &[0, 2], 1), Some(2.5));
        assert_eq!(masked_difference(&logits, &[0, 1], &[1, 2], 1), None);
        assert_eq!(masked_difference(&logits, &[0, 1], &[0, 2, 2], 1), None);
    }
}
