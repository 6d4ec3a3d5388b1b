//! Products of matrices: what is asked of cuBLASLt, or of plain loops in the emulator.
//!
//! Leaves out: the library. Invariant: a row of the result never depends on other rows or on how many there are.

use super::array::{Bf16, Element, View, ViewMut};
use crate::error::{KernelError, Result};

/// Type of values in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueType {
    /// IEEE single.
    F32,
    /// bfloat16.
    Bf16,
}

impl ValueType {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// An element that products take.
pub trait Value: Element {
    /// Its type.
    const TYPE: ValueType;
}

impl Value for f32 {
    const TYPE: ValueType = ValueType::F32;
}

impl Value for Bf16 {
    const TYPE: ValueType = ValueType::Bf16;
}

/// How products of f32 values are computed; sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProductClass {
    /// With all bits.
    F32,
    /// With 10 bits of fraction.
    Tf32,
}

/// A matrix that is read.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub(super) address: u64,
    pub(super) values: usize,
    pub(super) value_type: ValueType,
    /// Values between two stored rows.
    pub(super) stride: usize,
    /// Whether it is stored with the depth outside.
    pub(super) transposed: bool,
    lifetime: std::marker::PhantomData<&'a ()>,
}

impl<'a> Operand<'a> {
    /// Stored row by row, `stride` values apart, the depth inside a row.
    pub fn rows<T: Value>(view: View<'a, T>, stride: usize) -> Self {
        let (address, values) = (view.address(), view.len());
        let lifetime = std::marker::PhantomData;
        Self { address, values, value_type: T::TYPE, stride, transposed: false, lifetime }
    }

    /// Stored with a row for each step of the depth, `stride` values apart.
    pub fn transposed<T: Value>(view: View<'a, T>, stride: usize) -> Self {
        Self { transposed: true, ..Self::rows(view, stride) }
    }
}

/// A matrix that is written, row by row.
pub struct Output<'a> {
    pub(super) address: u64,
    pub(super) values: usize,
    pub(super) value_type: ValueType,
    pub(super) stride: usize,
    lifetime: std::marker::PhantomData<&'a mut ()>,
}

impl<'a> Output<'a> {
    /// Rows `stride` values apart.
    pub fn rows<T: Value>(view: ViewMut<'a, T>, stride: usize) -> Self {
        let (address, values) = (view.address(), view.len());
        Self { address, values, value_type: T::TYPE, stride, lifetime: std::marker::PhantomData }
    }
}

/// A product to compute.
///
/// ```text
/// out[r,c] = sum_k left[r,k] right[c,k] + bias[c] + out[r,c]
/// ```
///
/// The last two terms where asked. `left` is `[rows, depth]`, `right` is `[columns, depth]`, as a layer's weight is stored;
/// either may be stored transposed. Both operands are of one type; sums are f32, and so is the result of f32 operands.
pub struct Product<'a> {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Length of the sums.
    pub depth: usize,
    /// The left operand.
    pub left: Operand<'a>,
    /// The right operand.
    pub right: Operand<'a>,
    /// Added to each row, `[columns]`.
    pub bias: Option<View<'a, f32>>,
    /// Whether the result is added to what `out` holds.
    pub adds: bool,
    /// Where the result goes.
    pub out: Output<'a>,
    /// How f32 operands are multiplied; bf16 ones are multiplied as they are.
    pub class: ProductClass,
}

impl Product<'_> {
    /// Refuses operands that are too short or of two types.
    pub(super) fn check(&self) -> Result<()> {
        let (rows, columns, depth) = (self.rows, self.columns, self.depth);
        let stored = |operand: &Operand<'_>, extent: usize| {
            if operand.transposed { (depth, extent) } else { (extent, depth) }
        };
        let fits = |values: usize, stride: usize, (outer, inner): (usize, usize)| {
            let needed = outer.saturating_sub(1).saturating_mul(stride).saturating_add(inner);
            outer == 0 || (stride >= inner && values >= needed)
        };
        let refuse = |operand: &'static str, expected: String, found: String| {
            Err(KernelError::Shape { op: "multiply", operand, expected, found })
        };
        for (name, operand, extent) in [("left", &self.left, rows), ("right", &self.right, columns)]
        {
            let (outer, inner) = stored(operand, extent);
            if !fits(operand.values, operand.stride, (outer, inner)) {
                let found = format!("{} values, {} apart", operand.values, operand.stride);
                return refuse(name, format!("{outer} rows of {inner} values"), found);
            }
        }
        if depth == 0 {
            return refuse("left", "sums of one term at least".to_owned(), "none".to_owned());
        }
        if self.left.value_type != self.right.value_type {
            let (left, right) = (self.left.value_type, self.right.value_type);
            return refuse("right", format!("{left:?} values"), format!("{right:?} values"));
        }
        if self.left.value_type == ValueType::F32 && self.out.value_type != ValueType::F32 {
            // cuBLASLt has no such product.
            return refuse(
                "out",
                "F32 values".to_owned(),
                format!("{:?} values", self.out.value_type),
            );
        }
        if let Some(bias) = &self.bias {
            crate::error::check_length("multiply", "bias", bias.len(), columns)?;
        }
        if !fits(self.out.values, self.out.stride, (rows, columns)) {
            let found = format!("{} values, {} apart", self.out.values, self.out.stride);
            return refuse("out", format!("{rows} rows of {columns} values"), found);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
