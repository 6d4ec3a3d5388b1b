//! Convolution of batches of sequences of one length, and its gradients, for training.
//!
//! Leaves out: strides, groups, what updates the weights. Invariant: every sum is one fixed order
//! of operations, whatever the threads and the CPU; beyond the ends of a sequence lie zeros.

pub mod cuda;
mod taps;
mod weight_gradient;

use crate::error::{KernelError, Result, check_length, check_rows};
use crate::isa::Isa;
use crate::ops::linear::{Epilogue, PackedLinear, multiply};
use crate::ops::precision::Precision;
use crate::tile::{Rows, TILE_COLUMNS, pack_columns, pack_panel};
use taps::{Positions, Taps};
use weight_gradient::weight_gradient;

const OP: &str = "batch_conv1d";

/// Extents of a convolution; a dense layer is one of a single tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConv1dShape {
    /// Positions of every input sequence.
    pub length: usize,
    /// Channels of the input.
    pub input_width: usize,
    /// Channels of the output.
    pub output_width: usize,
    /// Taps.
    pub kernel: usize,
    /// Positions from one tap to the next; at least one.
    pub dilation: usize,
    /// Zeros before every input sequence; at most `dilation (kernel - 1)`.
    pub padding_left: usize,
    /// Positions of every output sequence.
    pub output_length: usize,
}

impl BatchConv1dShape {
    /// As many outputs as inputs; an odd number of zeros has the extra one on the right.
    pub fn same(
        length: usize,
        input_width: usize,
        output_width: usize,
        kernel: usize,
        dilation: usize,
    ) -> Self {
        let padding_left = dilation.saturating_mul(kernel.saturating_sub(1)) / 2;
        let output_length = length;
        Self { length, input_width, output_width, kernel, dilation, padding_left, output_length }
    }

    /// Outputs only where all taps lie inside the sequence.
    pub fn valid(
        length: usize,
        input_width: usize,
        output_width: usize,
        kernel: usize,
        dilation: usize,
    ) -> Self {
        let reach = dilation.saturating_mul(kernel.saturating_sub(1));
        let (padding_left, output_length) = (0, length.saturating_sub(reach));
        Self { length, input_width, output_width, kernel, dilation, padding_left, output_length }
    }

    /// The same map at every position.
    pub fn dense(length: usize, input_width: usize, output_width: usize) -> Self {
        Self::same(length, input_width, output_width, 1, 1)
    }

    /// Refuses extents that are zero or too large to count with.
    fn check(&self) -> Result<()> {
        let refuse = |operand, expected: &str, found: usize| {
            let (expected, found) = (expected.to_owned(), found.to_string());
            Err(KernelError::Shape { op: OP, operand, expected, found })
        };
        let extents = [
            ("length", self.length),
            ("input_width", self.input_width),
            ("output_width", self.output_width),
            ("kernel", self.kernel),
            ("dilation", self.dilation),
            ("output_length", self.output_length),
        ];
        for (operand, extent) in extents {
            if extent == 0 {
                return refuse(operand, "at least one", extent);
            }
        }
        let reach = self.dilation.checked_mul(self.kernel - 1);
        let longest = self.length.max(self.output_length);
        let Some(reach) = reach.filter(|reach| reach.checked_add(longest).is_some()) else {
            return refuse(
                "dilation",
                "a product with the kernel that can be counted",
                self.dilation,
            );
        };
        if self.padding_left > reach {
            return refuse("padding_left", "at most dilation (kernel - 1)", self.padding_left);
        }
        let widest = self.input_width.max(self.output_width);
        if reach.checked_add(longest).and_then(|rows| rows.checked_mul(widest)).is_none() {
            return refuse("dilation", "values that can be counted", self.dilation);
        }
        let weights = self.kernel.checked_mul(self.input_width);
        if weights.and_then(|rows| rows.checked_mul(self.output_width)).is_none() {
            return refuse("kernel", "weights that can be counted", self.kernel);
        }
        Ok(())
    }

    /// Where the taps of an output lie in the input.
    fn positions(&self) -> Positions {
        Positions {
            length: self.length,
            output_length: self.output_length,
            kernel: self.kernel,
            dilation: self.dilation,
            padding_left: self.padding_left,
        }
    }

    /// Where the outputs that an input took part in lie; taps run backwards.
    fn gradient_positions(&self) -> Positions {
        Positions {
            length: self.output_length,
            output_length: self.length,
            kernel: self.kernel,
            dilation: self.dilation,
            padding_left: self.dilation * (self.kernel - 1) - self.padding_left,
        }
    }

    /// Products of one sum of the forward product, which are the rows of the weights.
    fn steps(&self) -> usize {
        self.kernel * self.input_width
    }
}

/// A map of each channel: `(x - shift) * scale`, both roundings in f32.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `[input_width]`
    pub shift: &'a [f32],
    /// `[input_width]`
    pub scale: &'a [f32],
}

/// Values that are read through a map, so that no mapped copy is ever stored.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `[B, length, input_width]`
    pub values: &'a [f32],
    /// The map; the zeros beyond a sequence's ends are zeros after it.
    pub affine: Option<Affine<'a>>,
}

impl<'a> Input<'a> {
    /// Values as they are.
    pub fn plain(values: &'a [f32]) -> Self {
        Self { values, affine: None }
    }
}

/// A convolution whose weights change from step to step.
#[derive(Clone)]
pub struct BatchConv1d {
    shape: BatchConv1dShape,
    precision: Precision,
    has_bias: bool,
    /// One row per output, its steps by tap, then input channel.
    forward: PackedLinear,
    /// One row per input channel, its steps by tap from the last, then output channel.
    gradient: Option<PackedLinear>,
}

impl BatchConv1d {
    /// A convolution with weights of zeros.
    ///
    /// # Errors
    /// `Shape` if an extent is zero or too large, or the padding exceeds the reach of the taps.
    pub fn new(
        shape: BatchConv1dShape,
        precision: Precision,
        has_bias: bool,
        needs_input_gradient: bool,
    ) -> Result<Self> {
        shape.check()?;
        let forward = PackedLinear::zeros_as(precision, shape.output_width, shape.steps())?;
        let gradient = needs_input_gradient
            .then(|| {
                let steps = shape.kernel * shape.output_width;
                PackedLinear::zeros_as(precision, shape.input_width, steps)
            })
            .transpose()?;
        Ok(Self { shape, precision, has_bias, forward, gradient })
    }

    /// Extents of the convolution.
    pub fn shape(&self) -> BatchConv1dShape {
        self.shape
    }

    /// Lays new weights out for the products, in the memory of the old ones.
    ///
    /// - `kernel`: `[kernel, input_width, output_width]`, row-major
    /// - `bias`: `[output_width]`, just if the convolution has one
    ///
    /// # Errors
    /// `Shape` if `kernel` or `bias` do not fit.
    pub fn set_weights(&mut self, kernel: &[f32], bias: Option<&[f32]>) -> Result<()> {
        let shape = self.shape;
        let (inputs, outputs) = (shape.input_width, shape.output_width);
        check_length(OP, "kernel", kernel.len(), shape.steps() * outputs)?;
        let expected = if self.has_bias { outputs } else { 0 };
        check_length(OP, "bias", bias.map_or(0, <[f32]>::len), expected)?;
        let by_step = Rows::new(kernel, outputs, outputs);
        self.forward.refill(bias, |index, panel| {
            pack_columns(by_step, index * TILE_COLUMNS, panel);
        });
        let Some(gradient) = &mut self.gradient else { return Ok(()) };
        let isa = Isa::best();
        gradient.refill(None, |index, panel| {
            let first = index * TILE_COLUMNS;
            let count = TILE_COLUMNS.min(inputs - first);
            let taps = kernel.chunks_exact(inputs * outputs).rev();
            for (tap, panel) in taps.zip(panel.chunks_exact_mut(outputs)) {
                pack_panel(isa, Rows::new(tap, outputs, outputs), first, count, panel);
            }
        });
        Ok(())
    }

    /// Convolves each sequence.
    ///
    /// ```text
    /// sum[b,l,o] = bias[o] + sum_j sum_c map(x)[b, l + j dilation - padding_left, c] kernel[j,c,o]
    /// out[b,l,o] = epilogue(sum[b,l,o])
    /// ```
    ///
    /// - `x`: `[B, length, input_width]`
    /// - `out`: `[B, output_length, output_width]`; read as well with [`Epilogue::Add`]
    ///
    /// One chain over taps, then channels, as [`Precision`] says; the same bits on every CPU.
    ///
    /// # Errors
    /// `Shape` if `x` or `out` do not fit, or the epilogue is a gate.
    pub fn forward(&self, x: Input<'_>, epilogue: Epilogue, out: &mut [f32]) -> Result<()> {
        self.forward_on(Isa::best(), x, epilogue, out)
    }

    fn forward_on(
        &self,
        isa: Isa,
        x: Input<'_>,
        epilogue: Epilogue,
        out: &mut [f32],
    ) -> Result<()> {
        let batch = self.check_input(x)?;
        self.check_output("out", out, batch)?;
        epilogue.check(OP, false)?;
        let taps = Taps::new(x, self.shape.input_width, self.shape.positions());
        multiply(isa, taps, &self.forward, epilogue, out);
        Ok(())
    }

    /// The gradient with respect to what the map of the input gave.
    ///
    /// ```text
    /// dx[b,m,c] = sum_j sum_o dy[b, m + padding_left - j dilation, o] kernel[j,c,o]
    /// ```
    ///
    /// - `dy`: `[B, output_length, output_width]`
    /// - `dx`: `[B, length, input_width]`, overwritten
    ///
    /// One chain over taps from the last to the first, then channels, as [`Precision`] says.
    ///
    /// # Errors
    /// `Shape` if `dy` or `dx` do not fit, or the convolution was made without this gradient.
    pub fn input_gradient(&self, dy: &[f32], dx: &mut [f32]) -> Result<()> {
        self.input_gradient_on(Isa::best(), dy, dx)
    }

    fn input_gradient_on(&self, isa: Isa, dy: &[f32], dx: &mut [f32]) -> Result<()> {
        let Some(gradient) = &self.gradient else {
            return Err(KernelError::Shape {
                op: OP,
                operand: "input_gradient",
                expected: "a convolution that was made with it".to_owned(),
                found: "one without".to_owned(),
            });
        };
        let batch = self.check_input(Input::plain(dx))?;
        self.check_output("dy", dy, batch)?;
        let positions = self.shape.gradient_positions();
        let taps = Taps::new(Input::plain(dy), self.shape.output_width, positions);
        multiply(isa, taps, gradient, Epilogue::None, dx);
        Ok(())
    }

    /// The gradients with respect to the weights and the bias.
    ///
    /// ```text
    /// dkernel[j,c,o] = sum_b sum_l map(x)[b, l + j dilation - padding_left, c] dy[b,l,o]
    /// dbias[o] = sum_b sum_l dy[b,l,o]
    /// ```
    ///
    /// - `x`: as in [`Self::forward`]
    /// - `dy`: `[B, output_length, output_width]`
    /// - `dkernel`, `dbias`: as in [`Self::set_weights`], overwritten
    ///
    /// 512 pairs of b and l at a time are one chain from zero, as [`Precision`] says, in f32 for
    /// the bias; these sums are added in order.
    ///
    /// # Errors
    /// `Shape` if an operand does not fit.
    pub fn weight_gradient(
        &self,
        x: Input<'_>,
        dy: &[f32],
        dkernel: &mut [f32],
        dbias: Option<&mut [f32]>,
    ) -> Result<()> {
        self.weight_gradient_on(Isa::best(), (x, dy), dkernel, dbias)
    }

    fn weight_gradient_on(
        &self,
        isa: Isa,
        (x, dy): (Input<'_>, &[f32]),
        dkernel: &mut [f32],
        dbias: Option<&mut [f32]>,
    ) -> Result<()> {
        let shape = self.shape;
        let batch = self.check_input(x)?;
        self.check_output("dy", dy, batch)?;
        check_length(OP, "dkernel", dkernel.len(), shape.steps() * shape.output_width)?;
        let outputs = dbias.as_ref().map_or(shape.output_width, |dbias| dbias.len());
        check_length(OP, "dbias", outputs, shape.output_width)?;
        let taps = Taps::new(x, shape.input_width, shape.positions());
        let operands = (&taps, dy);
        weight_gradient(isa, self.precision, operands, shape.output_width, dkernel, dbias);
        Ok(())
    }

    /// Number of sequences in `x`.
    fn check_input(&self, x: Input<'_>) -> Result<usize> {
        let width = self.shape.input_width;
        if let Some(affine) = x.affine {
            check_length(OP, "shift", affine.shift.len(), width)?;
            check_length(OP, "scale", affine.scale.len(), width)?;
        }
        check_rows(OP, "x", x.values.len(), self.shape.length.saturating_mul(width))
    }

    fn check_output(&self, operand: &'static str, values: &[f32], batch: usize) -> Result<()> {
        let per_sequence = self.shape.output_length.saturating_mul(self.shape.output_width);
        check_length(OP, operand, values.len(), per_sequence.saturating_mul(batch))
    }
}

#[cfg(test)]
mod tests;
