//! Sums over the rows of a batch, in slices that several threads add up at once.
//!
//! Leaves out: what is summed. Invariant: a slice has a fixed number of rows and slices are merged
//! in order, so a sum depends on nothing but its terms.

use rayon::prelude::*;
use std::ops::Range;

/// Rows of one slice: few enough that f32 holds its sums, many enough that merging costs nothing.
pub(crate) const ROWS: usize = 128;

/// Adds `columns` sums over `rows`; `f(rows of a slice, sums)` adds a slice to sums that are zero.
///
/// A slice's sums are f32, the total f64.
pub(crate) fn sum(
    rows: usize,
    columns: usize,
    f: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f64> {
    let mut sums = vec![0.0_f32; rows.div_ceil(ROWS) * columns];
    sums.par_chunks_mut(columns.max(1)).enumerate().for_each(|(slice, sums)| {
        f(slice * ROWS..rows.min((slice + 1) * ROWS), sums);
    });
    merge(&sums, columns)
}

/// As [`sum`], while `f` also writes the slice's own rows of `out`.
pub(crate) fn sum_and_write(
    columns: usize,
    (out, width): (&mut [f32], usize),
    f: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f64> {
    let rows = out.len() / width;
    let mut sums = vec![0.0_f32; rows.div_ceil(ROWS) * columns];
    let places = sums.par_chunks_mut(columns.max(1)).zip(out.par_chunks_mut(ROWS * width));
    places.enumerate().for_each(|(slice, (sums, out))| {
        f(slice * ROWS..rows.min((slice + 1) * ROWS), sums, out);
    });
    merge(&sums, columns)
}

/// Adds the sums of all slices in order.
fn merge(sums: &[f32], columns: usize) -> Vec<f64> {
    let mut total = vec![0.0; columns];
    for sums in sums.chunks_exact(columns.max(1)) {
        for (total, &sum) in total.iter_mut().zip(sums) {
            *total += f64::from(sum);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_added_once_on_any_number_of_threads() {
        let rows = 2 * ROWS + 5;
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                sum(rows, 2, |rows, sums| {
                    for row in rows {
                        sums[0] += row as f32;
                        sums[1] += 1.0;
                    }
                })
            })
        };
        assert_eq!(run(1), [(rows * (rows - 1) / 2) as f64, rows as f64]);
        assert_eq!(run(1), run(3));
        assert_eq!(sum(0, 2, |_, _| unreachable!()), [0.0, 0.0]);
    }
}
