//! Convolution of one-hot tokens: sums of rows of a table, without any product.
//!
//! Leaves out: embeddings that are no one-hot. Invariant: the bits of the dense convolution, whose
//! products are with one or with zero.

use super::{Conv1dShape, OP, without_negative_zeros};
use crate::error::{KernelError, Result, check_length};
use crate::isa::{Isa, per_isa};
use crate::ops::linear::Epilogue;
use crate::parallel::SharedRows;
use crate::sequences::Sequences;
use crate::tile::{PanelStep, TILE_COLUMNS, TILE_ROWS, Tile};
use rayon::prelude::*;

/// Weights of a convolution over one-hot tokens, as a table by tap and token.
#[derive(Clone)]
pub struct PackedTokenConv1d {
    /// Panels of 32 outputs, each `[kernel, token_count][32]`.
    panels: Vec<PanelStep>,
    /// One step per panel, zero without a bias.
    bias: Vec<PanelStep>,
    shape: Conv1dShape,
    token_count: usize,
}

impl PackedTokenConv1d {
    /// Packs weights as PyTorch stores them.
    ///
    /// - `weight`: `[output_width, input_width, kernel]`, row-major, finite
    /// - `bias`: `[output_width]`; none counts as zero, a negative zero as a positive one
    /// - `token_count`: V, distinct tokens; channels from V on are never set
    ///
    /// # Errors
    /// `Shape` if an extent is zero, the kernel is even, V is past the input's width, or `weight`
    /// or `bias` do not fit.
    pub fn pack(
        weight: &[f32],
        bias: Option<&[f32]>,
        shape: Conv1dShape,
        token_count: usize,
    ) -> Result<Self> {
        shape.check(weight, bias)?;
        if token_count == 0 || token_count > shape.input_width {
            return Err(KernelError::Shape {
                op: OP,
                operand: "token count",
                expected: format!("1 to {}", shape.input_width),
                found: token_count.to_string(),
            });
        }
        let bias = without_negative_zeros(bias);
        let mut panels = Vec::new();
        let mut padded = Vec::new();
        for first in (0..shape.output_width).step_by(TILE_COLUMNS) {
            let step = |value: &dyn Fn(usize) -> f32| {
                let column = |column| {
                    if first + column < shape.output_width { value(first + column) } else { 0.0 }
                };
                PanelStep(std::array::from_fn(column))
            };
            for tap in 0..shape.kernel {
                panels.extend((0..token_count).map(|token| {
                    let channel = |n: usize| (n * shape.input_width + token) * shape.kernel + tap;
                    step(&|n| weight[channel(n)])
                }));
            }
            padded.push(step(&|n| bias.as_ref().map_or(0.0, |bias| bias[n])));
        }
        Ok(Self { panels, bias: padded, shape, token_count })
    }
}

/// Convolves sequences of tokens as if each were a one-hot row.
///
/// ```text
/// sum[t,n] = bias[n] + sum_j weight[n, ids[t + (j - (K-1)/2) dilation], j]
/// out[t,n] = epilogue(sum[t,n])
/// ```
///
/// - `ids`: `[N]`, below V
/// - `offsets`: `[B + 1]` token counts before each sequence, from 0 to N
/// - `out`: `[N, output_width]`; read as well with [`Epilogue::Add`]
///
/// The bits of [`conv1d`](super::conv1d) on the one-hot.
///
/// # Errors
/// `Shape` if `ids`, `offsets` or `out` do not fit, an id is V or more, or the epilogue is a gate.
pub fn conv1d_tokens(
    ids: &[u32],
    offsets: &[usize],
    weights: &PackedTokenConv1d,
    epilogue: Epilogue,
    out: &mut [f32],
) -> Result<()> {
    let sequences = Sequences::check(OP, offsets)?;
    let width = weights.shape.output_width;
    check_length(OP, "ids", ids.len(), sequences.token_count())?;
    check_length(OP, "out", out.len(), ids.len().saturating_mul(width))?;
    epilogue.check(OP, false)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= weights.token_count) {
        return Err(KernelError::Shape {
            op: OP,
            operand: "ids",
            expected: format!("ids below {}", weights.token_count),
            found: id.to_string(),
        });
    }
    let out = SharedRows::new(out, width);
    cpu(&Operands { isa: Isa::best(), ids, sequences, weights, epilogue, out });
    Ok(())
}

/// What one call works on.
struct Operands<'a> {
    isa: Isa,
    ids: &'a [u32],
    sequences: Sequences<'a>,
    weights: &'a PackedTokenConv1d,
    epilogue: Epilogue,
    out: SharedRows<'a>,
}

/// One task is some tiles of twelve tokens.
fn cpu(operands: &Operands<'_>) {
    const SUMS_PER_TASK_MIN: usize = 1 << 18;
    let shape = operands.weights.shape;
    let tiles = operands.ids.len().div_ceil(TILE_ROWS);
    let per_tile = TILE_ROWS * shape.kernel * shape.output_width;
    let run = |tile: usize| operands.tile(tile * TILE_ROWS);
    let tiles_per_task = SUMS_PER_TASK_MIN.div_ceil(per_tile);
    if tiles > tiles_per_task && rayon::current_num_threads() > 1 {
        (0..tiles).into_par_iter().with_min_len(tiles_per_task).for_each(run);
    } else {
        (0..tiles).for_each(run);
    }
}

impl Operands<'_> {
    /// Computes all outputs of the twelve tokens from `first` on.
    fn tile(&self, first: usize) {
        let weights = self.weights;
        let tokens = first..self.ids.len().min(first + TILE_ROWS);
        let steps = weights.shape.kernel * weights.token_count;
        // Entries of the table, token by token; a tap outside the sequence has none.
        let mut entries = Vec::with_capacity(TILE_ROWS * weights.shape.kernel);
        let mut ends = [0; TILE_ROWS];
        for (token, end) in tokens.clone().zip(&mut ends) {
            let sequence = self.sequences.around(token);
            let taps = (0..weights.shape.kernel).filter_map(|tap| {
                let source = weights.shape.source(token, tap, &sequence)?;
                Some(tap * weights.token_count + self.ids[source] as usize)
            });
            entries.extend(taps);
            *end = entries.len();
        }
        for (panel, (table, bias)) in
            weights.panels.chunks_exact(steps).zip(&weights.bias).enumerate()
        {
            let mut sums = Tile([bias.0; TILE_ROWS]);
            let mut start = 0;
            for (sums, &end) in sums.0.iter_mut().zip(&ends[..tokens.len()]) {
                add_entries(self.isa, table, &entries[start..end], sums);
                start = end;
            }
            let sums = &mut sums.0[..tokens.len()];
            // SAFETY: tasks have disjoint tokens, and a task does one panel at a time.
            unsafe { self.epilogue.finish(self.isa, sums, &self.out, tokens.clone(), panel) };
        }
    }
}

per_isa!(
    /// Adds entries of a panel's table in order.
    fn add_entries(table: &[PanelStep], entries: &[usize], sums: &mut [f32; TILE_COLUMNS]) = added
);

#[inline(always)]
fn added(table: &[PanelStep], entries: &[usize], sums: &mut [f32; TILE_COLUMNS]) {
    let mut total = *sums;
    for &entry in entries {
        for (sum, value) in total.iter_mut().zip(&table[entry].0) {
            *sum += value;
        }
    }
    *sums = total;
}

#[cfg(test)]
pub(super) fn on(
    isa: Isa,
    ids: &[u32],
    offsets: &[usize],
    weights: &PackedTokenConv1d,
) -> Vec<f32> {
    let mut out = vec![0.0; ids.len() * weights.shape.output_width];
    let sequences = Sequences::check(OP, offsets).unwrap();
    let shared = SharedRows::new(&mut out, weights.shape.output_width);
    let epilogue = Epilogue::None;
    cpu(&Operands { isa, ids, sequences, weights, epilogue, out: shared });
    out
}
