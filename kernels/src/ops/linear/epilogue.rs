//! What happens to finished sums on their way out of the tile.
//!
//! Leaves out: the sums themselves. Invariant: an element's result depends on its own sums alone.

use super::GATED_OUTPUTS;
use crate::error::{KernelError, Result};
use crate::isa::{Isa, per_isa};
use crate::ops::gelu::gelu_part;
use crate::ops::gelu_tanh::gelu_tanh_part;
use crate::ops::relu::relu_part;
use crate::ops::silu::silu_part;
use crate::parallel::SharedRows;
use crate::tile::TILE_COLUMNS;
use crate::tile::bf16::{SIDE, Sums};
use std::ops::Range;

/// What happens to a finished sum on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// `out = sum`
    None,
    /// `out = gelu(sum)`, the exact form.
    Gelu,
    /// `out = gelu(sum)`, the tanh form.
    GeluTanh,
    /// `out = max(sum, 0)`
    Relu,
    /// `out = out + sum`, the residual connection.
    Add,
    /// `out[f] = silu(sum[f]) sum[F + f]`, for gated weights.
    SiluGate,
    /// `out[f] = gelu(sum[f]) sum[F + f]`, the exact form, for gated weights.
    GeluGate,
}

impl Epilogue {
    /// Whether two sums make one output.
    pub(crate) fn is_gate(self) -> bool {
        matches!(self, Self::SiluGate | Self::GeluGate)
    }

    /// Refuses a gate without gated weights, and gated weights without a gate.
    pub(crate) fn check(self, op: &'static str, gated: bool) -> Result<()> {
        let (expected, found) = match (gated, self.is_gate()) {
            (true, false) => ("one, as the weights have gates", "no gate"),
            (false, true) => ("none, as the weights have no gates", "a gate"),
            _ => return Ok(()),
        };
        Err(KernelError::Shape {
            op,
            operand: "epilogue",
            expected: expected.to_owned(),
            found: found.to_owned(),
        })
    }

    /// Finishes the sums of `rows`, at most 32, and one panel, and writes them.
    ///
    /// # Safety
    /// Nobody else may use these rows' outputs of this panel at the same time.
    pub(crate) unsafe fn finish(
        self,
        isa: Isa,
        sums: &mut [[f32; TILE_COLUMNS]],
        out: &SharedRows<'_>,
        rows: Range<usize>,
        panel: usize,
    ) {
        self.activate(isa, sums);
        for (row, sums) in rows.zip(sums) {
            // SAFETY: by contract nobody else uses it, and one row is written at a time.
            unsafe { self.write(sums, out, row, panel) };
        }
    }

    /// What happens to the sums of at most 32 rows before they are written.
    pub(super) fn activate(self, isa: Isa, sums: &mut [[f32; TILE_COLUMNS]]) {
        let used = sums.as_flattened_mut();
        match self {
            Self::None | Self::Add => {}
            Self::Gelu => gelu_part(isa, used),
            Self::GeluTanh => gelu_tanh_part(isa, used),
            Self::Relu => relu_part(isa, used),
            Self::SiluGate => multiply_gates(isa, silu_part, sums),
            Self::GeluGate => multiply_gates(isa, gelu_part, sums),
        }
    }

    /// Writes one row's activated sums of `panels`: the row at `index` of each of `sums`.
    ///
    /// # Safety
    /// Nobody else may use this row's outputs of these panels at the same time.
    #[inline]
    pub(super) unsafe fn write_panels(
        self,
        isa: Isa,
        (sums, index): (&[Sums], usize),
        out: &SharedRows<'_>,
        row: usize,
        panels: &Range<usize>,
    ) {
        let per_panel = if self.is_gate() { GATED_OUTPUTS } else { TILE_COLUMNS };
        let columns = panels.start * per_panel..out.width().min(panels.end * per_panel);
        // SAFETY: by contract nobody else uses it.
        let out = unsafe { out.span(row, columns) };
        match self {
            Self::Add => add_row(isa, sums, index, out),
            Self::SiluGate | Self::GeluGate => write_gated_row(isa, sums, index, out),
            _ => write_row(isa, sums, index, out),
        }
    }

    /// Writes one row's activated sums of one panel.
    ///
    /// # Safety
    /// Nobody else may use this row's outputs of this panel at the same time.
    #[inline]
    pub(super) unsafe fn write(
        self,
        sums: &[f32; TILE_COLUMNS],
        out: &SharedRows<'_>,
        row: usize,
        panel: usize,
    ) {
        let per_panel = if self.is_gate() { GATED_OUTPUTS } else { TILE_COLUMNS };
        let first = panel * per_panel;
        let columns = first..out.width().min(first + per_panel);
        // SAFETY: by contract nobody else uses it.
        let out = unsafe { out.span(row, columns) };
        match (self, <&mut [f32; TILE_COLUMNS]>::try_from(&mut *out)) {
            (Self::Add, _) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            // A whole row takes a few moves, where one of any length takes a call.
            (_, Ok(out)) => *out = *sums,
            (_, Err(_)) => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

per_isa!(
    /// Adds the sums of the row at `index` of each panel to `out`.
    fn add_row(sums: &[Sums], index: usize, out: &mut [f32]) = add_rows_of
);

per_isa!(
    /// Writes the sums of the row at `index` of each panel.
    fn write_row(sums: &[Sums], index: usize, out: &mut [f32]) = write_rows_of::<TILE_COLUMNS>
);

per_isa!(
    /// Writes what the gates left of the row at `index` of each panel.
    fn write_gated_row(sums: &[Sums], index: usize, out: &mut [f32]) =
        write_rows_of::<GATED_OUTPUTS>
);

#[inline(always)]
fn add_rows_of(sums: &[Sums], index: usize, out: &mut [f32]) {
    let (whole, rest) = out.as_chunks_mut::<TILE_COLUMNS>();
    let mut rows = sums.iter().map(|sums| &sums.0[index]);
    for (out, row) in whole.iter_mut().zip(&mut rows) {
        for (out, sum) in out.iter_mut().zip(row) {
            *out += sum;
        }
    }
    for (out, sum) in rest.iter_mut().zip(rows.flatten()) {
        *out += sum;
    }
}

#[inline(always)]
fn write_rows_of<const COUNT: usize>(sums: &[Sums], index: usize, out: &mut [f32]) {
    let (whole, rest) = out.as_chunks_mut::<COUNT>();
    let mut rows = sums.iter().map(|sums| &sums.0[index]);
    for (out, row) in whole.iter_mut().zip(&mut rows) {
        for (out, sum) in out.iter_mut().zip(row) {
            *out = *sum;
        }
    }
    for (out, sum) in rest.iter_mut().zip(rows.flatten()) {
        *out = *sum;
    }
}

/// Multiplies the activated first half of each row by its second half, into the first half.
#[inline]
fn multiply_gates(isa: Isa, activate: impl Fn(Isa, &mut [f32]), rows: &mut [[f32; TILE_COLUMNS]]) {
    // Gates of all rows in one piece, so that the activation is called once.
    let mut gates = [[0.0; GATED_OUTPUTS]; SIDE];
    for (gates, row) in gates.iter_mut().zip(&*rows) {
        gates.copy_from_slice(&row[..GATED_OUTPUTS]);
    }
    activate(isa, gates[..rows.len()].as_flattened_mut());
    for (gates, row) in gates.iter().zip(rows) {
        let (out, values) = row.split_at_mut(GATED_OUTPUTS);
        for ((out, gate), value) in out.iter_mut().zip(gates).zip(values) {
            *out = gate * *value;
        }
    }
}
