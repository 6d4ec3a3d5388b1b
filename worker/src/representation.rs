//! Token states of a batch to what a probe reads: CLS, mean or every token of each sequence.
//!
//! Leaves out: number formats on disk. Invariant: a sequence's result is computed from its own rows
//! alone.

use glmeval_common::error::{Error, Result};
use glmeval_common::representation::Pooling;
use glmeval_kernels::ops::pool::mean_rows;

/// Pools the states `[N, D]` of sequences that begin at the rows `offsets` `[B + 1]`.
///
/// - CLS: `[B, D]`, token 0
/// - mean: `[B, D]`, over all tokens, or all but token 0 if `mean_skips_first`
/// - full: `[N, D]`, the states as they are
///
/// # Errors
/// `Invalid` for the mean of a sequence without any token but the first, if that is left out;
/// `Bug` if `states` does not fit `offsets`.
pub fn pool(
    pooling: Pooling,
    states: &[f32],
    offsets: &[usize],
    mean_skips_first: bool,
) -> Result<Vec<f32>> {
    let state_count = offsets.last().copied().unwrap_or(0);
    if state_count == 0 || !states.len().is_multiple_of(state_count) {
        let found = states.len();
        return Err(Error::bug(format!("{found} values do not fit {state_count} states")));
    }
    if pooling == Pooling::Full {
        return Ok(states.to_vec());
    }
    let width = states.len() / state_count;
    let mean = |rows: &[f32], out: &mut [f32]| {
        mean_rows(rows, out).map_err(|e| Error::bug("pool token states").with_source(e))
    };
    let spans = offsets.windows(2);
    let mut pooled = vec![0.0; spans.len() * width];
    for (index, (span, out)) in spans.zip(pooled.chunks_exact_mut(width)).enumerate() {
        let rows = states.get(span[0] * width..span[1] * width).unwrap_or_default();
        let (first, rest) = rows.split_at_checked(width).ok_or_else(|| {
            Error::bug(format!("sequence {index} of the batch has no token to pool"))
        })?;
        match pooling {
            Pooling::Cls => out.copy_from_slice(first),
            Pooling::Mean if !mean_skips_first => mean(rows, out)?,
            Pooling::Mean if rest.is_empty() => {
                return Err(Error::invalid(format!(
                    "sequence {index} of the batch has no token but the first, which its mean \
                     leaves out"
                )));
            }
            Pooling::Mean => mean(rest, out)?,
            Pooling::Full => {}
        }
    }
    Ok(pooled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: [usize; 3] = [0, 3, 5];

    const STATES: [f32; 10] = [1.0, 2.0, 3.0, 4.0, 5.0, 8.0, -1.0, -2.0, 7.0, 9.0];

    fn check(pooling: Pooling, mean_skips_first: bool, expected: &[f32]) {
        assert_eq!(pool(pooling, &STATES, &OFFSETS, mean_skips_first).unwrap(), expected);
    }

    #[test]
    fn poolings_read_the_rows_of_their_own_sequence() {
        check(Pooling::Cls, true, &[1.0, 2.0, -1.0, -2.0]);
        check(Pooling::Mean, true, &[4.0, 6.0, 7.0, 9.0]);
        check(Pooling::Mean, false, &[3.0, 14.0 / 3.0, 3.0, 3.5]);
        check(Pooling::Full, true, &STATES);
    }

    #[test]
    fn a_mean_over_nothing_is_refused() {
        let error = pool(Pooling::Mean, &[1.0], &[0, 1], true).unwrap_err();
        assert!(error.to_string().contains("no token but the first"));
        assert_eq!(pool(Pooling::Cls, &[1.0], &[0, 1], true).unwrap(), [1.0]);
    }

    #[test]
    fn states_of_another_batch_are_a_defect() {
        pool(Pooling::Cls, &STATES[..9], &OFFSETS, true).unwrap_err();
        pool(Pooling::Mean, &[], &[0], true).unwrap_err();
    }
}
