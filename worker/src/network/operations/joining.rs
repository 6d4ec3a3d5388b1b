//! Operations that only move values: sums of inputs, inputs side by side, zeros around.
//!
//! Leaves out: which inputs fit together (resolved before). Invariant: inputs are taken first to last.

use super::{Operation, Reads, Run, Seen, Wanted};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::arithmetic;

/// Sum of inputs.
pub(super) struct Add;

impl Operation for Add {
    fn forward(
        &mut self,
        _run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let Some((first, others)) = reads.inputs.split_first() else { return Ok(()) };
        output.copy_from_slice(first);
        others.iter().try_for_each(|other| arithmetic::add_in_place(output, other))
    }

    fn backward(
        &mut self,
        _run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        wanted.inputs.iter_mut().flatten().for_each(|input| input.copy_from_slice(seen.gradient));
        Ok(())
    }
}

/// Rows of inputs side by side: `[rows, widths[0] + widths[1] + …]`.
pub(super) struct Join {
    pub(super) widths: Vec<usize>,
}

impl Join {
    /// Row width of the output, and for each input where in a row it stands and how wide it is.
    fn places(&self) -> (usize, Vec<(usize, usize)>) {
        let mut total = 0;
        let place = |&width: &usize| {
            total += width;
            (total - width, width)
        };
        let places = self.widths.iter().map(place).collect();
        (total, places)
    }
}

impl Operation for Join {
    fn forward(
        &mut self,
        _run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let (total, places) = self.places();
        for (input, (start, width)) in reads.inputs.iter().zip(places) {
            let rows = output.chunks_exact_mut(total).zip(input.chunks_exact(width));
            rows.for_each(|(output, input)| output[start..start + width].copy_from_slice(input));
        }
        Ok(())
    }

    fn backward(
        &mut self,
        _run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let (total, places) = self.places();
        for (input, (start, width)) in wanted.inputs.iter_mut().zip(places) {
            let Some(input) = input else { continue };
            let rows = input.chunks_exact_mut(width).zip(seen.gradient.chunks_exact(total));
            rows.for_each(|(input, row)| input.copy_from_slice(&row[start..start + width]));
        }
        Ok(())
    }
}

/// Zeros before and after each example.
pub(super) struct Pad {
    pub(super) before: usize,
    /// Values of one example.
    pub(super) values: usize,
    pub(super) after: usize,
}

impl Operation for Pad {
    fn forward(
        &mut self,
        _run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let total = self.before + self.values + self.after;
        let input = reads.inputs[0].chunks_exact(self.values);
        for (output, input) in output.chunks_exact_mut(total).zip(input) {
            let (before, rest) = output.split_at_mut(self.before);
            let (inside, after) = rest.split_at_mut(self.values);
            before.fill(0.0);
            inside.copy_from_slice(input);
            after.fill(0.0);
        }
        Ok(())
    }

    fn backward(
        &mut self,
        _run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let total = self.before + self.values + self.after;
        let inside = self.before..self.before + self.values;
        for input in wanted.inputs.iter_mut().flatten() {
            let rows = input.chunks_exact_mut(self.values).zip(seen.gradient.chunks_exact(total));
            rows.for_each(|(input, row)| input.copy_from_slice(&row[inside.clone()]));
        }
        Ok(())
    }
}
