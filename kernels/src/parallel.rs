//! Splits rows among the threads of the caller's pool, and lets them share one output.
//!
//! Leaves out: pools; none is ever made here. Invariant: how work is split never reaches a result.

use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Elements below which an element-wise pass is not worth a second thread.
const ELEMENTS_PER_TASK_MIN: usize = 1 << 15;

/// Calls `f(first_row, rows)` over blocks of whole rows of `out`, several at a time if that pays.
pub(crate) fn for_rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let width = width.max(1);
    if out.len() < 2 * ELEMENTS_PER_TASK_MIN || rayon::current_num_threads() == 1 {
        return f(0, out);
    }
    let rows = ELEMENTS_PER_TASK_MIN.div_ceil(width);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(block, part)| f(block * rows, part));
}

/// A `[rows, width]` output that several threads write in spans that do not overlap.
pub(crate) struct SharedRows<'a, T = f32> {
    start: *mut T,
    rows: usize,
    width: usize,
    out: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is only used through `span` and `block`, whose callers keep them apart.
unsafe impl<T: Send> Sync for SharedRows<'_, T> {}

impl<'a, T> SharedRows<'a, T> {
    /// Shares whole rows of `out` for as long as it is borrowed.
    pub(crate) fn new(out: &'a mut [T], width: usize) -> Self {
        let rows = out.len().checked_div(width).unwrap_or(0);
        Self { start: out.as_mut_ptr(), rows, width, out: PhantomData }
    }

    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Where the `columns` of several rows begin, rows being `width` values apart.
    ///
    /// # Panics
    /// If they are not inside the output, or there are none.
    pub(crate) fn block(&self, rows: Range<usize>, columns: Range<usize>) -> *mut T {
        assert!(rows.start < rows.end && rows.end <= self.rows);
        assert!(columns.start < columns.end && columns.end <= self.width);
        self.start.wrapping_add(rows.start * self.width + columns.start)
    }

    /// The `columns` of one row.
    ///
    /// # Safety
    /// No other span in use at the same time may overlap this one.
    ///
    /// # Panics
    /// If the span is not inside the output.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps spans apart")]
    pub(crate) unsafe fn span(&self, row: usize, columns: Range<usize>) -> &mut [T] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.width);
        // SAFETY: row < rows and start <= width, so this stays inside the borrowed slice.
        let start = unsafe { self.start.add(row * self.width + columns.start) };
        // SAFETY: the end of the span is at most `width`, inside the same row; not aliased by contract.
        unsafe { std::slice::from_raw_parts_mut(start, columns.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once_with_its_index() {
        let width = 3;
        let mut out = vec![0.0; width * 50_000];
        for_rows(&mut out, width, |first, rows| {
            for (i, row) in rows.chunks_mut(width).enumerate() {
                row.fill((first + i) as f32);
            }
        });
        assert!(out.chunks(width).enumerate().all(|(i, row)| row == [i as f32; 3]));
    }

    #[test]
    fn spans_write_their_columns_of_their_row() {
        let mut out = [0.0; 6];
        let shared = SharedRows::new(&mut out, 3);
        // SAFETY: the only span in use.
        unsafe { shared.span(1, 1..3) }.fill(2.0);
        assert_eq!(out, [0.0, 0.0, 0.0, 0.0, 2.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "columns.end")]
    fn spans_outside_the_output_are_refused() {
        let mut out = [0.0; 6];
        let shared = SharedRows::new(&mut out, 3);
        // SAFETY: the only span in use; refused before anything is touched.
        let _ = unsafe { shared.span(0, 2..4) };
    }
}
