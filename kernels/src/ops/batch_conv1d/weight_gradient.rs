//! The gradients with respect to weights and bias: sums over all positions of a batch.
//!
//! Leaves out: products over channels. Invariant: blocks of 512 positions are summed from zero, and
//! their sums added in order, whatever the threads.

use super::taps::Taps;
use crate::isa::Isa;
use crate::ops::linear::Left;
use crate::ops::precision::Precision;
use crate::tile::bf16::{SIDE, STEP_WIDTH, Step, Sums, Unit, pack_row, round_panel};
use crate::tile::{LeftStep, PanelStep, Rows, TILE_COLUMNS, TILE_ROWS, Tile, pack_columns};
use rayon::prelude::*;

/// Positions whose products are one chain; part of the meaning of the sums.
const POSITIONS_PER_BLOCK: usize = 512;

/// Replaces `dbias` by the sums of the rows of `dy`.
pub(super) fn bias(dy: &[f32], dbias: &mut [f32]) {
    let width = dbias.len();
    dbias.fill(0.0);
    let mut sums = vec![0.0; width];
    for block in dy.chunks(POSITIONS_PER_BLOCK * width) {
        sums.fill(0.0);
        for row in block.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy);
        }
        dbias.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum);
    }
}

/// Replaces `dkernel`, rows of `width` values, by the products of taps and `dy`.
pub(super) fn kernel(
    isa: Isa,
    precision: Precision,
    (taps, dy): (&Taps<'_>, &[f32]),
    width: usize,
    dkernel: &mut [f32],
) {
    dkernel.fill(0.0);
    let steps = dkernel.len() / width;
    for (block, dy) in dy.chunks(POSITIONS_PER_BLOCK * width).enumerate() {
        let first = block * POSITIONS_PER_BLOCK;
        let count = dy.len() / width;
        let mut gathered = Vec::new();
        let x: Vec<f32> =
            (first..first + count).flat_map(|row| taps.row(row, &mut gathered).to_vec()).collect();
        let panels: Vec<Vec<PanelStep>> = (0..width.div_ceil(TILE_COLUMNS))
            .map(|panel| {
                let mut steps = vec![PanelStep::ZERO; count];
                pack_columns(Rows::new(dy, width, width), panel * TILE_COLUMNS, &mut steps);
                steps
            })
            .collect();
        match precision {
            Precision::F32 => strict(isa, (&x, steps), &panels, width, dkernel),
            Precision::Bf16 => rounded(Unit::beside(isa), (&x, steps), &panels, width, dkernel),
        }
    }
}

fn strict(
    isa: Isa,
    (x, steps): (&[f32], usize),
    panels: &[Vec<PanelStep>],
    width: usize,
    dkernel: &mut [f32],
) {
    dkernel.par_chunks_mut(TILE_ROWS * width).enumerate().for_each(|(tile, out)| {
        let first = tile * TILE_ROWS;
        let rows = out.len() / width;
        let left: Vec<LeftStep> = x
            .chunks_exact(steps)
            .map(|x| std::array::from_fn(|row| if row < rows { x[first + row] } else { 0.0 }))
            .collect();
        for (panel, right) in panels.iter().enumerate() {
            let mut sums = Tile::ZERO;
            sums.add_products(isa, rows, &left, right);
            for (out, sums) in out.chunks_exact_mut(width).zip(&sums.0) {
                let out = out[panel * TILE_COLUMNS..].iter_mut();
                out.zip(sums).for_each(|(out, sum)| *out += sum);
            }
        }
    });
}

fn rounded(
    unit: Unit,
    (x, steps): (&[f32], usize),
    panels: &[Vec<PanelStep>],
    width: usize,
    dkernel: &mut [f32],
) {
    let count = x.len() / steps;
    let groups = count.div_ceil(STEP_WIDTH);
    dkernel.par_chunks_mut(SIDE * width).enumerate().for_each(|(tile, out)| {
        let mut left = vec![Step::ZERO; groups];
        let rows = out.len() / width;
        for row in 0..rows {
            let column: Vec<f32> = x.chunks_exact(steps).map(|x| x[tile * SIDE + row]).collect();
            pack_row(unit.isa(), &column, row, &mut left);
        }
        let ready = unit.ready();
        for (panel, right) in panels.iter().enumerate() {
            let mut packed = vec![Step::ZERO; groups];
            round_panel(unit.isa(), right, &mut packed);
            let mut sums = Sums([[0.0; SIDE]; SIDE]);
            ready.add_products(&mut sums, Some(&[0.0; SIDE]), rows, &left, &packed);
            for (out, sums) in out.chunks_exact_mut(width).zip(&sums.0) {
                let out = out[panel * TILE_COLUMNS..].iter_mut();
                out.zip(sums).for_each(|(out, sum)| *out += sum);
            }
        }
    });
}
