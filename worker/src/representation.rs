//! States of a batch to what a probe reads: CLS, mean or every state of each sequence.
//!
//! Leaves out: number formats on disk. Invariant: a sequence's result is computed from its own rows
//! alone.

use glmeval_common::error::{Error, Result};
use glmeval_common::representation::{FullRows, MeanOver, Pooling, RepresentationOptions, Strands};
use glmeval_kernels::ops::pool::mean_rows;
use std::ops::Range;

/// Pools the states `[N, D]` of sequences that begin at the rows `offsets` `[B + 1]`.
///
/// - CLS: `[B, D]`, token 0; after CLS: token 1
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
    let spans = offsets.windows(2);
    let mut pooled = vec![0.0; spans.len() * width];
    for (index, (span, out)) in spans.zip(pooled.chunks_exact_mut(width)).enumerate() {
        let rows = states.get(span[0] * width..span[1] * width).unwrap_or_default();
        pool_one(pooling, rows, mean_skips_first, out)
            .map_err(|e| e.context(format!("sequence {index} of the batch")))?;
    }
    Ok(pooled)
}

fn nothing_after_cls() -> Error {
    Error::invalid("expected a token after the first, found none")
}

/// CLS or mean of one sequence's rows.
fn pool_one(pooling: Pooling, rows: &[f32], skips_first: bool, out: &mut [f32]) -> Result<()> {
    let (first, rest) = rows
        .split_at_checked(out.len())
        .ok_or_else(|| Error::bug("expected a token to pool, found none"))?;
    if pooling == Pooling::Cls {
        out.copy_from_slice(first);
        return Ok(());
    }
    if pooling == Pooling::AfterCls {
        let (second, _) = rest.split_at_checked(out.len()).ok_or_else(nothing_after_cls)?;
        out.copy_from_slice(second);
        return Ok(());
    }
    if skips_first && rest.is_empty() {
        return Err(Error::invalid("no token but the first, which its mean leaves out"));
    }
    mean(if skips_first { rest } else { rows }, out)
}

fn mean(rows: &[f32], out: &mut [f32]) -> Result<()> {
    mean_rows(rows, out).map_err(|e| Error::bug("pool token states").with_source(e))
}

/// The states of one strand of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct StrandStates<'a> {
    /// `[T, D]`.
    pub states: &'a [f32],
    /// Nucleotides each token stands for; empty where no option needs them.
    pub lengths: &'a [u32],
}

/// The representation of one sequence, read from one strand or averaged over both.
///
/// - CLS, after CLS, mean: `[D]`
/// - full: `[T, D]`, or with [`FullRows::Nucleotides`] `[L, D]`: each nucleotide has the state of its
///   token; of two strands, that of its partner on the other one is averaged in
///
/// # Errors
/// As [`pool`]; `Invalid` if a mean would be over nothing; `Bug` for strands that do not fit.
pub fn represent(
    pooling: Pooling,
    options: RepresentationOptions,
    strands: &[StrandStates<'_>],
    width: usize,
    mean_skips_first: bool,
) -> Result<Vec<f32>> {
    let one = |strand: &StrandStates<'_>| {
        represent_strand(pooling, options, *strand, width, mean_skips_first)
    };
    match (strands, options.strands) {
        ([forward], Strands::Forward) => one(forward),
        ([forward, reverse], Strands::Averaged) => {
            let mut forward = one(forward)?;
            let reverse = one(reverse)?;
            if forward.len() != reverse.len() {
                return Err(Error::bug("strands of two lengths"));
            }
            // Rows of the other strand run backwards; a pooled representation is a single row.
            let partners = reverse.chunks_exact(width).rev().flatten();
            for (value, partner) in forward.iter_mut().zip(partners) {
                *value = 0.5 * (*value + partner);
            }
            Ok(forward)
        }
        _ => Err(Error::bug(format!("{} strands", strands.len()))),
    }
}

fn represent_strand(
    pooling: Pooling,
    options: RepresentationOptions,
    strand: StrandStates<'_>,
    width: usize,
    mean_skips_first: bool,
) -> Result<Vec<f32>> {
    let StrandStates { states, lengths } = strand;
    if options.needs_token_lengths() && lengths.len() * width != states.len() {
        return Err(Error::bug("lengths that are not those of the tokens"));
    }
    match (pooling, options.full_rows) {
        (Pooling::Full, FullRows::Tokens) => return Ok(states.to_vec()),
        (Pooling::Full, FullRows::Nucleotides) => {
            let tokens = states.chunks_exact(width).zip(lengths);
            let rows = tokens.flat_map(|(row, &length)| std::iter::repeat_n(row, length as usize));
            return Ok(rows.flatten().copied().collect());
        }
        _ => {}
    }
    let mut pooled = vec![0.0; width];
    let count = states.len() / width.max(1);
    let runs = pooled_runs(pooling, options, (count, lengths), mean_skips_first)?;
    let rows = |run: &Range<usize>| states.get(run.start * width..run.end * width);
    match runs.as_slice() {
        [run] => mean(rows(run).unwrap_or_default(), &mut pooled)?,
        runs => {
            let rows = runs.iter().filter_map(rows).flatten();
            mean(&rows.copied().collect::<Vec<f32>>(), &mut pooled)?;
        }
    }
    Ok(pooled)
}

/// The states of a strand whose mean is its pooled representation, in runs of neighbours: several where tokens that stand
/// for nucleotides have others between them.
///
/// - `tokens`: how many, and the nucleotides each stands for where an option needs them
///
/// # Errors
/// As [`represent`].
pub(crate) fn pooled_runs(
    pooling: Pooling,
    options: RepresentationOptions,
    (count, lengths): (usize, &[u32]),
    mean_skips_first: bool,
) -> Result<Vec<Range<usize>>> {
    if count == 0 {
        return Err(Error::bug("expected a token to pool, found none"));
    }
    let run = match (pooling, options.mean_over) {
        (Pooling::Effect | Pooling::Full, _) => {
            return Err(Error::bug("scores and states have no mean"));
        }
        (Pooling::Cls, _) => 0..1,
        (Pooling::AfterCls, _) if count < 2 => return Err(nothing_after_cls()),
        (Pooling::AfterCls, _) => 1..2,
        (Pooling::Mean, MeanOver::Nucleotides) => return runs_of_nucleotides(lengths),
        (Pooling::Mean, MeanOver::Published) if mean_skips_first => match count {
            1 => return Err(Error::invalid("no token but the first, which its mean leaves out")),
            _ => 1..count,
        },
        (Pooling::Mean, MeanOver::All | MeanOver::Published) => 0..count,
    };
    Ok(vec![run])
}

/// Runs of tokens that stand for nucleotides.
fn runs_of_nucleotides(lengths: &[u32]) -> Result<Vec<Range<usize>>> {
    let mut start = 0;
    let mut runs = Vec::new();
    for own in lengths.chunk_by(|length, next| (*length > 0) == (*next > 0)) {
        if own.first().is_some_and(|length| *length > 0) {
            runs.push(start..start + own.len());
        }
        start += own.len();
    }
    if runs.is_empty() {
        return Err(Error::invalid("no token that stands for nucleotides to average"));
    }
    Ok(runs)
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
        check(Pooling::AfterCls, true, &[3.0, 4.0, 7.0, 9.0]);
    }

    #[test]
    fn a_mean_over_nothing_is_refused() {
        let error = pool(Pooling::Mean, &[1.0], &[0, 1], true).unwrap_err();
        assert!(error.chain().contains("no token but the first"), "{}", error.chain());
        assert_eq!(pool(Pooling::Cls, &[1.0], &[0, 1], true).unwrap(), [1.0]);
        let error = pool(Pooling::AfterCls, &[1.0], &[0, 1], true).unwrap_err();
        assert!(error.chain().contains("a token after the first"), "{}", error.chain());
    }

    #[test]
    fn states_of_another_batch_are_a_defect() {
        pool(Pooling::Cls, &STATES[..9], &OFFSETS, true).unwrap_err();
        pool(Pooling::Mean, &[], &[0], true).unwrap_err();
    }

    /// CLS, a token of two nucleotides and one of one; on the other strand they are cut otherwise.
    const FORWARD: StrandStates<'_> =
        StrandStates { states: &[9.0, 1.0, 4.0], lengths: &[0, 2, 1] };
    const REVERSE: StrandStates<'_> =
        StrandStates { states: &[7.0, 10.0, 20.0], lengths: &[0, 2, 1] };

    fn represented(pooling: Pooling, options: RepresentationOptions) -> Vec<f32> {
        let strands = match options.strands {
            Strands::Forward => vec![FORWARD],
            Strands::Averaged => vec![FORWARD, REVERSE],
        };
        represent(pooling, options, &strands, 1, true).unwrap()
    }

    #[test]
    fn a_nucleotide_has_the_state_of_its_token_and_of_its_partner() {
        let full_rows = FullRows::Nucleotides;
        let forward = RepresentationOptions { full_rows, ..Default::default() };
        assert_eq!(represented(Pooling::Full, forward), [1.0, 1.0, 4.0]);
        let both = RepresentationOptions { strands: Strands::Averaged, ..forward };
        assert_eq!(represented(Pooling::Full, both), [10.5, 5.5, 7.0]);
        assert_eq!(represented(Pooling::Cls, both), [8.0]);
        assert_eq!(represented(Pooling::Mean, both), [(2.5 + 15.0) / 2.0]);
    }

    #[test]
    fn means_are_over_the_tokens_that_were_asked_for() {
        let mean = |mean_over| {
            let options = RepresentationOptions { mean_over, ..Default::default() };
            represented(Pooling::Mean, options)
        };
        assert_eq!(mean(MeanOver::Published), [2.5]);
        assert_eq!(mean(MeanOver::Nucleotides), [2.5]);
        assert_eq!(mean(MeanOver::All), [14.0 / 3.0]);
        let options =
            RepresentationOptions { mean_over: MeanOver::Nucleotides, ..Default::default() };
        let between = StrandStates { states: &[1.0, 2.0, 9.0, 4.0], lengths: &[0, 1, 0, 2] };
        assert_eq!(represent(Pooling::Mean, options, &[between], 1, false).unwrap(), [3.0]);
        let special = StrandStates { states: &[1.0], lengths: &[0] };
        let error = represent(Pooling::Mean, options, &[special], 1, false).unwrap_err();
        assert!(error.to_string().contains("no token that stands for nucleotides"), "{error}");
    }
}
