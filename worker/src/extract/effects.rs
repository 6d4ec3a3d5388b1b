//! Pairs of windows to the scores of their variants, instead of states.
//!
//! Leaves out: the scores themselves (variants). Invariant: a row depends on its own two windows, the gLM
//! and the numeric class; examples that share a reference share the pass over it.

use super::ShardExamples;
use crate::model::Model;
use crate::variants::{Outcome, Scorer, ScorerOptions, TokenSet, Window};
use glmeval_common::effect::EffectSpec;
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor, narrow};
use glmeval_common::error::{Error, Result};
use glmeval_common::example::Example;
use glmeval_common::representation::{Pooling, Strands};
use glmeval_common::unit::SetSpec;
use tracing::info_span;

/// Scores the examples of `shard`: one tensor of the last layer, `[E, columns]`.
///
/// # Errors
/// `Invalid` naming an example that is no pair of windows around one exchanged base, or that the gLM
/// cannot score; `Invalid` for a score that the gLM does not have.
pub(super) fn score(
    model: &Model,
    (set, scores): (&SetSpec, &EffectSpec),
    shard: &ShardExamples,
    done: &mut dyn FnMut(u64),
) -> Result<EmbeddingShard> {
    let _forward = info_span!("forward", examples = shard.examples.len()).entered();
    let scorer = Scorer::new(
        model,
        ScorerOptions {
            scores: scores.scores.clone(),
            both_strands: set.options.strands == Strands::Averaged,
            tokens: TokenSet::Published,
            pad_to: scores.pad_to.map(|tokens| tokens as usize),
        },
    )?;
    let columns = scorer.columns().len();
    let windows = shard.examples.iter().map(window).collect::<Result<Vec<_>>>()?;
    let windows: Vec<&Window> = windows.iter().collect();
    let outcomes = scorer.score(&windows, &mut |finished| {
        done(finished);
        Ok(())
    })?;
    let mut values = Vec::with_capacity(outcomes.len().saturating_mul(columns));
    for (example, outcome) in shard.examples.iter().zip(outcomes) {
        match outcome {
            Outcome::Scored(scores) => values.extend(scores.into_iter().map(|score| score as f32)),
            Outcome::Dropped(reason) => {
                return Err(Error::invalid(format!("example {}: {reason}", example.id)));
            }
        }
    }
    let row_ids: Vec<String> = shard.examples.iter().map(|example| example.id.clone()).collect();
    let name = |row: usize| row_ids.get(row).cloned().unwrap_or_default();
    let bytes = narrow(&values, columns, set.dtype, &name)?;
    let tensor = ShardTensor {
        layer: set.layers.last().copied().unwrap_or(0),
        pooling: Pooling::Effect,
        rows: row_ids.len() as u64,
        width: columns as u64,
        values: bytes.into(),
    };
    Ok(EmbeddingShard {
        identity: ShardIdentity::of(set),
        start: shard.start,
        end: shard.end,
        row_ids,
        example_indices: shard.indices.clone(),
        // A row stands for both windows.
        sequences: 1,
        tensors: vec![tensor],
        token_offsets: None,
    })
}

/// The window that an example is, and the base in its middle.
fn window(example: &Example) -> Result<Window> {
    let wrong = |found: String| {
        let expected = "two windows of one even length that differ left of the middle alone";
        Error::invalid(format!("example {}: expected {expected}, found {found}", example.id))
    };
    let [reference, alternative] = example.sequences.as_slice() else {
        return Err(wrong(format!("{} sequences", example.sequences.len())));
    };
    let lengths = (reference.len(), alternative.len());
    if lengths.0 != lengths.1 || lengths.0 < 2 || !lengths.0.is_multiple_of(2) {
        return Err(wrong(format!("{} and {} nucleotides", lengths.0, lengths.1)));
    }
    let letters = reference.as_bytes().iter().zip(alternative.as_bytes());
    let differing: Vec<usize> =
        letters.enumerate().filter(|(_, (from, to))| from != to).map(|(place, _)| place).collect();
    let start = example.interval.as_ref().map_or(0, |interval| interval.start);
    let mut window = Window { start, reference: reference.clone(), alternative: 0 };
    match differing.as_slice() {
        &[place] if place == window.index() => {
            window.alternative = alternative.as_bytes().get(place).copied().unwrap_or_default();
            Ok(window)
        }
        places => Err(wrong(format!("differences at {:?}", &places[..places.len().min(8)]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::dna::DnaSequence;

    fn refused(reference: &str, alternative: &str) -> String {
        let sequences = [reference, alternative].map(|text| DnaSequence::new(text).unwrap());
        let (interval, split, targets) = (None, None, Vec::new());
        let id = "v7".to_owned();
        let example = Example { id, sequences: sequences.into(), interval, split, targets };
        window(&example).map(|window| window.alternative).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_pair_around_one_base_is_refused_by_name() {
        for (reference, alternative, found) in [
            ("ACGT", "AGGA", "differences at [1, 3]"),
            ("ACGT", "ACCT", "differences at [2]"),
            ("ACGT", "ACGT", "differences at []"),
            ("ACGTA", "AGGTA", "5 and 5 nucleotides"),
            ("ACGT", "AC", "4 and 2 nucleotides"),
        ] {
            let error = refused(reference, alternative);
            assert!(error.contains("example v7") && error.ends_with(found), "{error}");
        }
    }
}
