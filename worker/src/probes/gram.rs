//! Gram matrices in f64, blocked for the cache and split over threads.
//!
//! Leaves out: what the entries mean (design). Invariant: each entry is summed over rows in one
//! fixed order by one thread, so the result does not depend on the number of threads.

use rayon::prelude::*;

const PANEL_ROWS: usize = 256;
const TILE: usize = 4;

/// `out[i,j] = sum_r value(r, i) value(r, j)`, all of `[columns, columns]`, row-major.
pub(super) fn gram(
    rows: usize,
    columns: usize,
    value: impl Fn(usize, usize) -> f64 + Sync,
) -> Vec<f64> {
    let tiles = columns.div_ceil(TILE);
    let width = tiles * TILE;
    let mut padded = vec![0.0; width * width];
    let mut panel = vec![0.0; tiles * TILE * PANEL_ROWS];
    for first in (0..rows).step_by(PANEL_ROWS) {
        let count = PANEL_ROWS.min(rows - first);
        panel.par_chunks_mut(TILE * PANEL_ROWS).enumerate().for_each(|(tile, block)| {
            pack(block, first, count, |row, c| {
                let column = tile * TILE + c;
                if column < columns { value(row, column) } else { 0.0 }
            });
        });
        padded.par_chunks_mut(TILE * width).enumerate().for_each(|(i, stripe)| {
            let blocks: Vec<&[f64]> = panel.chunks(TILE * PANEL_ROWS).take(i + 1).collect();
            let Some(&own) = blocks.last() else { return };
            for (j, block) in blocks.iter().enumerate() {
                multiply(&own[..count * TILE], &block[..count * TILE], stripe, j * TILE, width);
            }
        });
    }
    mirror(&padded, width, columns)
}

/// Four columns of a panel side by side, so that a tile reads memory in order.
fn pack(block: &mut [f64], first: usize, count: usize, value: impl Fn(usize, usize) -> f64) {
    for (r, cell) in block.as_chunks_mut::<TILE>().0.iter_mut().take(count).enumerate() {
        for (c, out) in cell.iter_mut().enumerate() {
            *out = value(first + r, c);
        }
    }
}

fn multiply(a: &[f64], b: &[f64], stripe: &mut [f64], column: usize, width: usize) {
    let mut sums = [[0.0_f64; TILE]; TILE];
    for (a, b) in a.as_chunks::<TILE>().0.iter().zip(b.as_chunks::<TILE>().0) {
        for (sums, &a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let start = i * width + column;
        for (out, sum) in stripe[start..start + TILE].iter_mut().zip(sums) {
            *out += sum;
        }
    }
}

/// The full symmetric matrix from its lower tiles.
fn mirror(padded: &[f64], width: usize, columns: usize) -> Vec<f64> {
    let mut out = vec![0.0; columns * columns];
    for i in 0..columns {
        for j in 0..=i {
            let value = padded[i * width + j];
            out[i * columns + j] = value;
            out[j * columns + i] = value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::rng::Rng;

    #[test]
    fn blocked_gram_is_the_plain_double_sum() {
        let (rows, columns) = (517, 11);
        let mut rng = Rng::derive(1, "gram");
        let x: Vec<f64> = (0..rows * columns).map(|_| rng.normal()).collect();
        let found = gram(rows, columns, |r, c| x[r * columns + c]);
        for i in 0..columns {
            for j in 0..columns {
                let sum: f64 = (0..rows).map(|r| x[r * columns + i] * x[r * columns + j]).sum();
                assert!((found[i * columns + j] - sum).abs() < 1e-10, "{i} {j}");
            }
        }
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(alone.install(|| gram(rows, columns, |r, c| x[r * columns + c])), found);
    }
}
