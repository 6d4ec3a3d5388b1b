//! Linear layers: a product with weights that were packed once.
//!
//! Leaves out: who owns the weights on disk. Invariant: every output element is one chain of fused
//! multiply-adds over k in order that starts from the bias; batch, threads and CPU never change it.

use crate::error::{Result, check_length, check_rows};
use crate::isa::Isa;
use crate::ops::gelu::gelu_part;
use crate::parallel::SharedRows;
use crate::tile::{
    LeftStep, PanelStep, Rows, TILE_COLUMNS, TILE_ROWS, Tile, pack_panel, pack_tiles,
};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Steps of k between which the sums of a panel's tiles wait in the nearest cache.
const STEPS_PER_BLOCK: usize = 256;
/// Tiles of rows that share one reading of the weights.
const TILES_PER_BLOCK_MAX: usize = 8;
/// Packed input of a block of rows, so that it stays in the second cache.
const PACKED_VALUES_MAX: usize = 1 << 18;
/// Multiply-adds below which a second thread does not pay.
const PRODUCTS_PER_TASK_MIN: usize = 1 << 19;
/// Tasks per thread, so that a busy core does not hold up the others.
const TASKS_PER_THREAD: usize = 4;

thread_local! {
    /// Packed input of the block this thread works on, kept between calls.
    static PACKED_INPUT: Cell<Vec<LeftStep>> = const { Cell::new(Vec::new()) };
}

/// Weights of a linear layer, laid out for the tile: panels of 32 outputs, each `[K][32]`.
#[derive(Clone)]
pub struct PackedLinear {
    panels: Vec<PanelStep>,
    /// One step per panel, zero without a bias.
    bias: Vec<PanelStep>,
    input_width: usize,
    output_width: usize,
}

/// What happens to a finished sum on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// `out = sum`
    None,
    /// `out = gelu(sum)`, the exact form.
    Gelu,
    /// `out = out + sum`, the residual connection.
    Add,
}

impl PackedLinear {
    /// Packs weights as they are stored.
    ///
    /// - `weight`: `[output_width, input_width]`, row-major
    /// - `bias`: `[output_width]`; none counts as zero
    ///
    /// # Errors
    /// `Shape` if a width is zero or `weight` or `bias` do not fit.
    pub fn pack(
        weight: &[f32],
        bias: Option<&[f32]>,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        const OP: &str = "linear";
        let rows = check_rows(OP, "weight", weight.len(), input_width)?;
        check_length(OP, "weight", weight.len(), output_width.saturating_mul(input_width))?;
        check_rows(OP, "weight rows", rows, output_width)?;
        check_length(OP, "bias", bias.map_or(output_width, <[f32]>::len), output_width)?;
        let isa = Isa::best();
        let source = Rows::new(weight, input_width, input_width);
        let mut panels = vec![PanelStep::ZERO; output_width.div_ceil(TILE_COLUMNS) * input_width];
        panels.par_chunks_mut(input_width).enumerate().for_each(|(index, panel)| {
            let first = index * TILE_COLUMNS;
            pack_panel(isa, source, first, TILE_COLUMNS.min(output_width - first), panel);
        });
        let mut padded = vec![PanelStep::ZERO; output_width.div_ceil(TILE_COLUMNS)];
        for (step, bias) in padded.iter_mut().zip(bias.unwrap_or(&[]).chunks(TILE_COLUMNS)) {
            step.0[..bias.len()].copy_from_slice(bias);
        }
        Ok(Self { panels, bias: padded, input_width, output_width })
    }

    /// K: values of an input row.
    pub fn input_width(&self) -> usize {
        self.input_width
    }

    /// N: values of an output row.
    pub fn output_width(&self) -> usize {
        self.output_width
    }
}

/// Multiplies rows with packed weights and adds the bias.
///
/// ```text
/// out[m,n] = epilogue(bias[n] + sum_k x[m,k] weight[n,k])
/// ```
///
/// - `x`: `[M, K]`
/// - `out`: `[M, N]`; read as well with [`Epilogue::Add`]
///
/// One f32 chain over k in order; the same bits on every CPU.
///
/// # Errors
/// `Shape` if `x` is not whole rows of K, or `out` is not as many rows of N.
pub fn linear(
    x: &[f32],
    weights: &PackedLinear,
    epilogue: Epilogue,
    out: &mut [f32],
) -> Result<()> {
    const OP: &str = "linear";
    let rows = check_rows(OP, "x", x.len(), weights.input_width)?;
    check_length(OP, "out", out.len(), rows.saturating_mul(weights.output_width))?;
    cpu(Isa::best(), x, weights, epilogue, out);
    Ok(())
}

/// Splits the output into blocks of rows and of panels; each block is one task.
fn cpu(isa: Isa, x: &[f32], weights: &PackedLinear, epilogue: Epilogue, out: &mut [f32]) {
    let rows = x.len() / weights.input_width;
    let product = Product {
        isa,
        x: Rows::new(x, weights.input_width, weights.input_width),
        weights,
        epilogue,
        out: SharedRows::new(out, weights.output_width),
    };
    let split = Split::new(rows, weights, rayon::current_num_threads());
    let run = |task: usize| {
        let row = task / split.column_blocks * split.rows_per_block;
        let panel = task % split.column_blocks * split.panels_per_block;
        product.block(
            row..rows.min(row + split.rows_per_block),
            panel..weights.bias.len().min(panel + split.panels_per_block),
        );
    };
    let tasks = rows.div_ceil(split.rows_per_block) * split.column_blocks;
    if split.parallel {
        (0..tasks).into_par_iter().with_max_len(1).for_each(run);
    } else {
        (0..tasks).for_each(run);
    }
}

/// How an output is cut into tasks; has no part in the numbers.
struct Split {
    rows_per_block: usize,
    panels_per_block: usize,
    column_blocks: usize,
    parallel: bool,
}

impl Split {
    fn new(rows: usize, weights: &PackedLinear, threads: usize) -> Self {
        let (panels, steps) = (weights.bias.len(), weights.input_width);
        let tiles_max = (PACKED_VALUES_MAX / TILE_ROWS / steps).clamp(1, TILES_PER_BLOCK_MAX);
        let rows_per_block = tiles_max * TILE_ROWS;
        let row_blocks = rows.div_ceil(rows_per_block).max(1);
        let products = rows.saturating_mul(steps).saturating_mul(weights.output_width);
        let tasks = (threads * TASKS_PER_THREAD).min(products / PRODUCTS_PER_TASK_MIN);
        let parallel = threads > 1 && tasks > 1;
        let wanted = if parallel { tasks.div_ceil(row_blocks).clamp(1, panels) } else { 1 };
        let panels_per_block = panels.div_ceil(wanted);
        let column_blocks = panels.div_ceil(panels_per_block);
        Self { rows_per_block, panels_per_block, column_blocks, parallel }
    }
}

/// One call's operands.
struct Product<'a> {
    isa: Isa,
    x: Rows<'a>,
    weights: &'a PackedLinear,
    epilogue: Epilogue,
    out: SharedRows<'a>,
}

impl Product<'_> {
    /// Computes `rows` times the columns of `panels`.
    fn block(&self, rows: Range<usize>, panels: Range<usize>) {
        let mut packed = PACKED_INPUT.take();
        pack_tiles(self.isa, self.x, rows.start, rows.len(), &mut packed);
        for panel in panels {
            self.panel(&packed, rows.clone(), panel);
        }
        PACKED_INPUT.set(packed);
    }

    /// Computes `rows` times one panel; a part of the panel is read once for all tiles.
    fn panel(&self, packed: &[LeftStep], rows: Range<usize>, panel: usize) {
        let steps = self.weights.input_width;
        let right = &self.weights.panels[panel * steps..][..steps];
        let tiles = rows.len().div_ceil(TILE_ROWS);
        let mut sums = [Tile([self.weights.bias[panel].0; TILE_ROWS]); TILES_PER_BLOCK_MAX];
        for (block, right) in right.chunks(STEPS_PER_BLOCK).enumerate() {
            for (tile, sums) in sums[..tiles].iter_mut().enumerate() {
                let left = &packed[tile * steps + block * STEPS_PER_BLOCK..][..right.len()];
                let filled = TILE_ROWS.min(rows.len() - tile * TILE_ROWS);
                sums.add_products(self.isa, filled, left, right);
            }
        }
        for (tile, sums) in sums[..tiles].iter_mut().enumerate() {
            let first = rows.start + tile * TILE_ROWS;
            self.finish(sums, first..rows.end.min(first + TILE_ROWS), panel);
        }
    }

    /// Applies the epilogue and writes a tile's rows.
    fn finish(&self, sums: &mut Tile, rows: Range<usize>, panel: usize) {
        if self.epilogue == Epilogue::Gelu {
            gelu_part(self.isa, sums.0[..rows.len()].as_flattened_mut());
        }
        let first = panel * TILE_COLUMNS;
        let columns = first..self.weights.output_width.min(first + TILE_COLUMNS);
        for (row, sums) in rows.zip(&sums.0) {
            // SAFETY: tasks have disjoint blocks, and a task writes one row of one panel at a time.
            let out = unsafe { self.out.span(row, columns.clone()) };
            match self.epilogue {
                Epilogue::None | Epilogue::Gelu => out.copy_from_slice(&sums[..out.len()]),
                Epilogue::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            }
        }
    }
}

#[cfg(test)]
mod tests;
