//! What a language model says of a sequence: logits at masked tokens, and log-likelihoods.
//!
//! Leaves out: what is made of them (variant effects, attribution). Invariant: f32 logits as the
//! model gives them; logarithms and sums are f64, in the order of the tokens.

use crate::batching;
use crate::model::{Model, TokenBatch, does_not_fit, in_halves};
use glmeval_common::error::{Error, Result};

/// Logits `[P, V]` at each of `positions` of `ids`, that token alone being masked.
///
/// Source: Salazar et al. 2020, "Masked language model scoring", section 2.1.
///
/// # Errors
/// `Invalid` if the gLM has no mask token or no head, for a position past the sequence, and as
/// [`Model::forward`].
pub fn masked_logits(model: &Model, ids: &[u32], positions: &[usize]) -> Result<Vec<f32>> {
    let mut logits = Vec::new();
    each_masked(model, ids, positions, &mut |batch, rows| {
        logits.extend(model.logits_at(batch, rows)?);
        Ok(())
    })?;
    Ok(logits)
}

/// Entropies in nats at each of `positions` of `ids`, that token alone being masked: of the whole vocabulary, or of its
/// `columns`. Logits stay on the device that computed them.
///
/// # Errors
/// As [`masked_logits`].
pub fn masked_entropies(
    model: &Model,
    ids: &[u32],
    positions: &[usize],
    columns: Option<&[u32]>,
) -> Result<Vec<f64>> {
    let mut entropies = Vec::with_capacity(positions.len());
    each_masked(model, ids, positions, &mut |batch, rows| {
        entropies.extend(model.entropies_at(batch, rows, columns)?);
        Ok(())
    })?;
    Ok(entropies)
}

/// Hands `ids` with each of `positions` masked in turn to `work`, some copies at a time, with the masked tokens' rows.
fn each_masked(
    model: &Model,
    ids: &[u32],
    positions: &[usize],
    work: &mut dyn FnMut(&TokenBatch, &[usize]) -> Result<()>,
) -> Result<()> {
    let mask = model.tokenizer().mask_id().ok_or_else(|| {
        Error::invalid(format!("{} has no mask token", model.facts().architecture))
    })?;
    if let Some(past) = positions.iter().find(|position| **position >= ids.len()) {
        let count = ids.len();
        return Err(Error::invalid(format!("expected a token below {count}, found {past}")));
    }
    let counts = vec![ids.len(); positions.len()];
    let per_batch = (model.tokens_per_batch() / ids.len().max(1)).max(1);
    let members: Vec<usize> = (0..positions.len()).collect();
    let batches = members.chunks(per_batch).map(<[usize]>::to_vec).collect();
    let alone = |_: usize, tokens: usize, error: Error| does_not_fit("sequence", tokens, &error);
    in_halves(model, &counts, batches, &alone, &mut |members| {
        let of_member = |&member: &usize| positions.get(member).copied();
        let positions: Vec<usize> = members.iter().filter_map(of_member).collect();
        let masked: Vec<Vec<u32>> = (positions.iter())
            .map(|&position| {
                let mut masked = ids.to_vec();
                masked[position] = mask;
                masked
            })
            .collect();
        let batch = TokenBatch::pack(masked.iter().map(Vec::as_slice));
        let starts = batch.offsets.iter().zip(&positions);
        let rows: Vec<usize> = starts.map(|(start, position)| start + position).collect();
        work(&batch, &rows)
    })
}

/// Natural logarithm of the probability of each of `positions`' tokens, that token being masked;
/// their sum is the pseudo-log-likelihood of a masked language model.
///
/// # Errors
/// As [`masked_logits`].
pub fn masked_log_probabilities(
    model: &Model,
    ids: &[u32],
    positions: &[usize],
) -> Result<Vec<f64>> {
    let logits = masked_logits(model, ids, positions)?;
    let width = logits.len() / positions.len().max(1);
    let rows = logits.chunks_exact(width.max(1)).zip(positions);
    rows.map(|(row, &position)| log_probability(row, ids[position])).collect()
}

/// Natural logarithm of the probability of every token but the first of each of `sequences`, given
/// those before it; the sum is the log-likelihood of the sequence under a causal model.
///
/// ```text
/// out[b][t-1] = logits[t-1, id[t]] - log sum_v exp(logits[t-1, v])
/// ```
///
/// # Errors
/// `Invalid` if the gLM is not causal or has no head, and as [`Model::forward`].
pub fn causal_log_probabilities(model: &Model, sequences: &[&[u32]]) -> Result<Vec<Vec<f64>>> {
    if !model.is_causal() {
        let kind = &model.facts().architecture;
        return Err(Error::invalid(format!(
            "{kind} is no causal model: its tokens see those behind them; mask them instead"
        )));
    }
    let counts: Vec<usize> = sequences.iter().map(|sequence| sequence.len()).collect();
    let mut found = vec![Vec::new(); sequences.len()];
    let batches = batching::pack(&counts, model.tokens_per_batch());
    let alone = |_: usize, tokens: usize, error: Error| does_not_fit("sequence", tokens, &error);
    in_halves(model, &counts, batches, &alone, &mut |members| {
        let batch = TokenBatch::pack(members.iter().map(|&member| sequences[member]));
        let logits = model.logits(&batch)?;
        let width = logits.len() / batch.token_count().max(1);
        for (&member, span) in members.iter().zip(batch.offsets.windows(2)) {
            let rows = logits[span[0] * width..span[1] * width].chunks_exact(width.max(1));
            let next = sequences[member].iter().skip(1);
            let scored: Result<_> =
                rows.zip(next).map(|(row, &id)| log_probability(row, id)).collect();
            found[member] = scored?;
        }
        Ok(())
    })?;
    Ok(found)
}

/// Log-softmax of `logits` at `id`, in f64.
fn log_probability(logits: &[f32], id: u32) -> Result<f64> {
    let chosen = logits.get(id as usize).copied();
    let chosen = chosen.ok_or_else(|| Error::bug(format!("no logit for token {id}")))?;
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    Ok(f64::from(chosen) - largest - sum.ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;
    use glmeval_common::dna::DnaSequence;
    use std::path::Path;

    fn model() -> (Model, Vec<u32>) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
        let model = models::open(&folder).unwrap();
        let ids = model.tokenize(&DnaSequence::new("ACGTTGCANACGTAC").unwrap()).unwrap();
        (model, ids)
    }

    #[test]
    fn a_masked_token_is_scored_as_in_a_batch_of_its_own() {
        let (model, ids) = model();
        let positions = [4, 1, 2];
        let together = masked_logits(&model, &ids, &positions).unwrap();
        let width = together.len() / 3;
        for (row, position) in together.chunks(width).zip(positions) {
            let mut masked = ids.clone();
            masked[position] = 2;
            let batch = TokenBatch::pack([masked.as_slice()]);
            let alone = model.logits(&batch).unwrap();
            assert_eq!(row, &alone[position * width..(position + 1) * width]);
        }
        let scores = masked_log_probabilities(&model, &ids, &positions).unwrap();
        assert!(scores.iter().all(|score| *score < 0.0), "{scores:?}");
    }

    #[test]
    fn probabilities_of_all_tokens_add_up_to_one() {
        let logits = [1.0, -2.0, 900.0, 899.0];
        let sum: f64 = (0..4).map(|id| log_probability(&logits, id).unwrap().exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        let expected = -(1.0 + (-1.0_f64).exp()).ln();
        assert!((log_probability(&logits, 2).unwrap() - expected).abs() < 1e-12);
        log_probability(&logits, 4).unwrap_err();
    }

    #[test]
    fn positions_past_the_end_and_models_that_are_not_causal_are_refused() {
        let (model, ids) = model();
        let error = masked_logits(&model, &ids, &[ids.len()]).unwrap_err();
        assert!(error.to_string().contains("expected a token below"), "{error}");
        let error = causal_log_probabilities(&model, &[&ids]).unwrap_err();
        assert!(error.to_string().contains("is no causal model"), "{error}");
    }
}
