//! Linear layers: a product with weights that were packed once.
//!
//! Leaves out: who owns the weights on disk. Invariant: every output element is one fixed chain over
//! k in order that starts from the bias; batch, threads and CPU never change it.

mod bf16;
mod epilogue;
mod product;
mod split;

use crate::error::{Result, check_length, check_rows};
use crate::isa::Isa;
use crate::ops::precision::Precision;
use crate::tile::bf16::{STEP_WIDTH, Step, Unit, round_panel};
use crate::tile::{PanelStep, Rows, TILE_COLUMNS, pack_columns, pack_panel, pack_picked_panel};
pub use epilogue::Epilogue;
use rayon::prelude::*;
pub(crate) use split::Left;
use std::cell::Cell;

thread_local! {
    /// The panel this thread is about to round, kept between calls.
    static UNROUNDED: Cell<Vec<PanelStep>> = const { Cell::new(Vec::new()) };
}

/// Outputs of a panel of gated weights: one half of it gates, one half values.
const GATED_OUTPUTS: usize = TILE_COLUMNS / 2;

/// Weights of a linear layer, laid out for the tile: panels of 32 columns, each `[K][32]`.
#[derive(Clone)]
pub struct PackedLinear {
    panels: Panels,
    /// One step per panel, zero without a bias.
    bias: Vec<PanelStep>,
    input_width: usize,
    output_width: usize,
    /// Whether a panel holds 16 gates, then the 16 values that they multiply.
    gated: bool,
}

/// The panels in the precision of the products.
#[derive(Clone)]
enum Panels {
    F32(Vec<PanelStep>),
    /// A step per 32 of K.
    Bf16(Vec<Step>),
}

impl PackedLinear {
    /// [`Self::pack_as`] f32.
    ///
    /// # Errors
    /// As there.
    pub fn pack(
        weight: &[f32],
        bias: Option<&[f32]>,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        Self::pack_as(Precision::F32, weight, bias, output_width, input_width)
    }

    /// [`Self::pack_gated_as`] f32.
    ///
    /// # Errors
    /// As there.
    pub fn pack_gated(
        weight: &[f32],
        bias: Option<&[f32]>,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        Self::pack_gated_as(Precision::F32, weight, bias, output_width, input_width)
    }

    /// [`Self::pack_by_input_as`] f32.
    ///
    /// # Errors
    /// As there.
    pub fn pack_by_input(
        weight: &[f32],
        bias: Option<&[f32]>,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        Self::pack_by_input_as(Precision::F32, weight, bias, output_width, input_width)
    }

    /// Packs weights as they are stored, for products in `precision`.
    ///
    /// - `weight`: `[output_width, input_width]`, row-major
    /// - `bias`: `[output_width]`; none counts as zero
    ///
    /// # Errors
    /// `Shape` if a width is zero or `weight` or `bias` do not fit.
    pub fn pack_as(
        precision: Precision,
        weight: &[f32],
        bias: Option<&[f32]>,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        check_weights(weight, bias, output_width, input_width)?;
        let isa = Isa::best();
        let source = Rows::new(weight, input_width, input_width);
        Ok(Self::empty(output_width, input_width, false).filled(
            precision,
            bias,
            |_, index, panel| {
                let first = index * TILE_COLUMNS;
                pack_panel(isa, source, first, TILE_COLUMNS.min(output_width - first), panel);
            },
        ))
    }

    /// Packs two maps of the same input, the first of which gates the second, as [`Self::pack_as`].
    ///
    /// - `weight`: `[2 output_width, input_width]`, row-major, the gates first
    /// - `bias`: `[2 output_width]`; none counts as zero
    ///
    /// # Errors
    /// `Shape` if a width is zero or `weight` or `bias` do not fit.
    ///
    /// Source: Shazeer 2020, "GLU variants improve transformer", eq. 5 and 6.
    pub fn pack_gated_as(
        precision: Precision,
        weight: &[f32],
        bias: Option<&[f32]>,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        check_weights(weight, bias, output_width.saturating_mul(2), input_width)?;
        let isa = Isa::best();
        let source = Rows::new(weight, input_width, input_width);
        Ok(Self::empty(output_width, input_width, true).filled(
            precision,
            bias,
            |layout, index, panel| {
                let picked = std::array::from_fn(|column| layout.row_of(index, column));
                pack_picked_panel(isa, source, &picked, panel);
            },
        ))
    }

    /// Packs weights that are stored input by input, as [`Self::pack_as`].
    ///
    /// - `weight`: `[input_width, output_width]`, row-major
    /// - `bias`: `[output_width]`; none counts as zero
    ///
    /// # Errors
    /// `Shape` if a width is zero or `weight` or `bias` do not fit.
    pub fn pack_by_input_as(
        precision: Precision,
        weight: &[f32],
        bias: Option<&[f32]>,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        check_weights(weight, bias, output_width, input_width)?;
        let source = Rows::new(weight, output_width, output_width);
        Ok(Self::empty(output_width, input_width, false).filled(
            precision,
            bias,
            |_, index, panel| {
                pack_columns(source, index * TILE_COLUMNS, panel);
            },
        ))
    }

    /// Weights of zeros, to be replaced by [`Self::refill`].
    ///
    /// # Errors
    /// `Shape` if a width is zero.
    pub(crate) fn zeros_as(
        precision: Precision,
        output_width: usize,
        input_width: usize,
    ) -> Result<Self> {
        check_rows("linear", "weight", 0, input_width)?;
        check_rows("linear", "weight rows", 0, output_width)?;
        Ok(Self::empty(output_width, input_width, false).filled(precision, None, |_, _, _| {}))
    }

    /// Replaces weights and bias in the same memory: `fill(panel, steps)` writes each panel
    /// `[K][32]`, missing columns as zeros.
    pub(crate) fn refill(
        &mut self,
        bias: Option<&[f32]>,
        fill: impl Fn(usize, &mut [PanelStep]) + Sync,
    ) {
        let width = self.input_width;
        match &mut self.panels {
            Panels::F32(panels) => {
                let each = panels.par_chunks_mut(width).enumerate();
                each.for_each(|(index, panel)| fill(index, panel));
            }
            Panels::Bf16(panels) => {
                let each = panels.par_chunks_mut(width.div_ceil(STEP_WIDTH)).enumerate();
                each.for_each(|(index, packed)| {
                    let mut panel = UNROUNDED.take();
                    panel.resize(width, PanelStep::ZERO);
                    fill(index, &mut panel);
                    round_panel(Isa::best(), &panel, packed);
                    UNROUNDED.set(panel);
                });
            }
        }
        let mut steps = std::mem::take(&mut self.bias);
        for (index, step) in steps.iter_mut().enumerate() {
            let value = |column| Some(bias?[self.row_of(index, column)?]);
            *step = PanelStep(std::array::from_fn(|column| value(column).unwrap_or(0.0)));
        }
        self.bias = steps;
    }

    /// Weights without any panel yet.
    fn empty(output_width: usize, input_width: usize, gated: bool) -> Self {
        let panels = Panels::F32(Vec::new());
        Self { panels, bias: Vec::new(), input_width, output_width, gated }
    }

    /// Makes the panels, each filled by `fill(self, index, panel)`, then rounded to `precision`.
    fn filled(
        mut self,
        precision: Precision,
        bias: Option<&[f32]>,
        fill: impl Fn(&Self, usize, &mut [PanelStep]) + Sync,
    ) -> Self {
        let count = self.output_width.div_ceil(self.outputs_per_panel());
        self.panels = match precision {
            Precision::F32 => Panels::F32(vec![PanelStep::ZERO; count * self.input_width]),
            Precision::Bf16 => {
                let steps = self.input_width.div_ceil(STEP_WIDTH);
                Panels::Bf16(vec![Step::ZERO; count * steps])
            }
        };
        self.bias = vec![PanelStep::ZERO; count];
        let layout = Self::empty(self.output_width, self.input_width, self.gated);
        self.refill(bias, |index, panel| fill(&layout, index, panel));
        self
    }

    /// Row of the stored weights that stands in a column of a panel; none beyond the last.
    fn row_of(&self, panel: usize, column: usize) -> Option<usize> {
        let per_panel = self.outputs_per_panel();
        let output = panel * per_panel + column % per_panel;
        (output < self.output_width).then(|| output + column / per_panel * self.output_width)
    }

    fn outputs_per_panel(&self) -> usize {
        if self.gated { GATED_OUTPUTS } else { TILE_COLUMNS }
    }

    /// What the products are computed in.
    pub fn precision(&self) -> Precision {
        match self.panels {
            Panels::F32(_) => Precision::F32,
            Panels::Bf16(_) => Precision::Bf16,
        }
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

fn check_weights(
    weight: &[f32],
    bias: Option<&[f32]>,
    output_width: usize,
    input_width: usize,
) -> Result<()> {
    const OP: &str = "linear";
    let rows = check_rows(OP, "weight", weight.len(), input_width)?;
    check_length(OP, "weight", weight.len(), output_width.saturating_mul(input_width))?;
    check_rows(OP, "weight rows", rows, output_width)?;
    check_length(OP, "bias", bias.map_or(output_width, <[f32]>::len), output_width)
}

/// Multiplies rows with packed weights and adds the bias.
///
/// ```text
/// sum[m,n] = bias[n] + sum_k x[m,k] weight[n,k]
/// out[m,n] = epilogue(sum[m,n])
/// ```
///
/// - `x`: `[M, K]`
/// - `out`: `[M, N]`; read as well with [`Epilogue::Add`]
///
/// Sums are f32 chains over k in order, as [`Precision`] says; the same bits on every CPU.
///
/// # Errors
/// `Shape` if `x` is not whole rows of K, `out` is not as many rows of N, or just one of weights
/// and epilogue has gates.
pub fn linear(
    x: &[f32],
    weights: &PackedLinear,
    epilogue: Epilogue,
    out: &mut [f32],
) -> Result<()> {
    const OP: &str = "linear";
    let rows = check_rows(OP, "x", x.len(), weights.input_width)?;
    check_length(OP, "out", out.len(), rows.saturating_mul(weights.output_width))?;
    epilogue.check(OP, weights.gated)?;
    let x = Rows::new(x, weights.input_width, weights.input_width);
    multiply(Isa::best(), x, weights, epilogue, out);
    Ok(())
}

/// Fills every row of `out` by the product of the same row of `left` with the weights.
pub(crate) fn multiply(
    isa: Isa,
    left: impl Left,
    weights: &PackedLinear,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    match &weights.panels {
        Panels::F32(panels) => product::multiply(isa, left, (weights, panels), epilogue, out),
        Panels::Bf16(panels) => {
            bf16::multiply(Unit::beside(isa), left, (weights, panels), epilogue, out);
        }
    }
}

#[cfg(test)]
mod tests;
