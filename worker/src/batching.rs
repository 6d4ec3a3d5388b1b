//! Packs sequences into batches under a token budget.
//!
//! Leaves out: running them. Invariant: pure; every sequence stands in exactly one batch, and no
//! result depends on which.

use glmeval_common::error::{Error, Result};
use std::cmp::Reverse;

/// Indices of the sequences of each batch, longest sequences first.
///
/// A batch holds at most `tokens_per_batch_max` tokens, or one single sequence that is longer.
/// Nothing is padded; sorting puts the largest memory need first and evens the attention work.
pub fn pack(token_counts: &[usize], tokens_per_batch_max: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..token_counts.len()).collect();
    order.sort_by_key(|&index| (Reverse(token_counts.get(index).copied()), index));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0_usize;
    for index in order {
        let count = token_counts.get(index).copied().unwrap_or_default();
        match batches.last_mut() {
            Some(batch) if room > 0 && count <= room => {
                batch.push(index);
                room -= count;
            }
            _ => {
                batches.push(vec![index]);
                room = tokens_per_batch_max.saturating_sub(count);
            }
        }
    }
    batches
}

/// Refuses a sequence with more tokens than the gLM can take.
///
/// # Errors
/// `Invalid` with the example, its tokens and the limit.
pub fn check_length(example: &str, token_count: usize, tokens_max: u64) -> Result<()> {
    if token_count as u64 <= tokens_max {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "example {example}: expected at most {tokens_max} tokens, found {token_count}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sequence_over_the_budget_is_alone() {
        assert_eq!(pack(&[3, 20, 4, 3], 10), vec![vec![1], vec![2, 0, 3]]);
        assert!(pack(&[], 10).is_empty());
    }

    #[test]
    fn a_sequence_over_the_limit_is_named_with_the_limit() {
        check_length("chr1:5", 1000, 1000).unwrap();
        let error = check_length("chr1:5", 1001, 1000).unwrap_err();
        assert_eq!(error.to_string(), "example chr1:5: expected at most 1000 tokens, found 1001");
    }

    proptest! {
        #[test]
        fn each_sequence_is_packed_once_under_the_budget(
            counts in proptest::collection::vec(0_usize..50, 0..80),
            budget in 1_usize..100,
        ) {
            let batches = pack(&counts, budget);
            let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..counts.len()).collect::<Vec<_>>());
            for batch in &batches {
                let tokens: usize = batch.iter().map(|&index| counts[index]).sum();
                prop_assert!(tokens <= budget || batch.len() == 1);
            }
        }
    }
}
