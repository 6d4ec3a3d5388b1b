//! The precisions that products with weights are computed in.
//!
//! Leaves out: everything that is no such product, which is f32 throughout. Invariant: a precision
//! fixes every bit of a result, on every CPU.

/// What a product with weights rounds, and how it adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 operands, one chain of fused multiply-adds over k.
    #[default]
    F32,
    /// Operands rounded to bf16, ties to even; f32 sums. Half the memory for weights; several
    /// times faster where the CPU has a matrix unit, slower where software computes the same bits.
    ///
    /// ```text
    /// sum = bias;  for each 32 of k in order: sum = sum + (even + odd)
    /// even, odd = chains of fused multiply-adds over the even, and the odd, 16 of these k
    /// ```
    ///
    /// Subnormal numbers count as zero everywhere. NaN gives NaN of unspecified payload.
    Bf16,
}
