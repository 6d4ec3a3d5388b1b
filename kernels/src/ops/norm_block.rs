//! Batch normalisation, an activation, dropout and a pool as one block of a network.
//!
//! Leaves out: softmax, which is no function of one element. Invariant: every bit is that of the
//! separate operations one after another; nothing between them is kept.

pub mod cuda;

mod backward;
mod forward;

use crate::error::{KernelError, Result, check_length};
use crate::isa::Isa;
use crate::ops::batch_norm::{NormGradient, Normalisation};
use crate::ops::batch_pool::PoolShape;
use crate::ops::dropout::DropoutMask;
use crate::ops::function::Function;
use backward::Given;

const OP: &str = "norm_block";

/// What a block does, in this order.
#[derive(Clone, Copy, Debug)]
pub struct NormBlock<'a> {
    /// The normalisation.
    pub normalisation: Normalisation<'a>,
    /// Function of each element; not softmax.
    pub function: Function,
    /// Dropout before the pool.
    pub before: Option<DropoutMask>,
    /// Max pool; without one, no index is picked.
    pub pool: Option<PoolShape>,
    /// Dropout after the pool.
    pub after: Option<DropoutMask>,
}

impl NormBlock<'_> {
    /// Refuses operands that do not fit; says how many values come out.
    fn check(&self, x: &[f32], picked: &[u16]) -> Result<usize> {
        self.normalisation.check(OP, x)?;
        if self.function == Function::Softmax {
            let (expected, found) = ("a function of each element".to_owned(), "softmax".to_owned());
            return Err(KernelError::Shape { op: OP, operand: "function", expected, found });
        }
        let Some(pool) = self.pool else {
            check_length(OP, "picked", picked.len(), 0)?;
            return Ok(x.len());
        };
        check_length(OP, "width", pool.width, self.normalisation.mean.len())?;
        let values = pool.check(OP, "x", x.len())? * pool.output();
        check_length(OP, "picked", picked.len(), values)?;
        Ok(values)
    }
}

/// Runs a block.
///
/// ```text
/// out = dropout(max_pool(dropout(function(batch_norm(x)))))
/// ```
///
/// - `x`: `[B, length, C]`, or any rows of C without a pool
/// - `out`: what the pool leaves of it, or as long as `x`
/// - `picked`: as long as `out` with a pool, else empty; what [`norm_block_gradient`] needs
///
/// # Errors
/// `Shape` if operands do not fit, or the function is softmax.
pub fn norm_block(
    block: &NormBlock<'_>,
    x: &[f32],
    out: &mut [f32],
    picked: &mut [u16],
) -> Result<()> {
    check_length(OP, "out", out.len(), block.check(x, picked)?)?;
    forward::run(Isa::best(), block, x, out, picked);
    Ok(())
}

/// Writes the gradients of a block.
///
/// - `x`, `picked`: what [`norm_block`] was given and what it picked
/// - `dy`: as long as the block's output
/// - `training`: whether mean and variance are those of `x`
/// - `gradient`: `dx` as long as `x`; `dgamma`, `dbeta`: `[C]`
///
/// # Errors
/// `Shape` if operands do not fit, or the function is softmax.
pub fn norm_block_gradient(
    block: &NormBlock<'_>,
    x: &[f32],
    dy: &[f32],
    picked: &[u16],
    training: bool,
    gradient: NormGradient<'_>,
) -> Result<()> {
    check_length(OP, "dy", dy.len(), block.check(x, picked)?)?;
    gradient.check(OP, x.len(), block.normalisation.width())?;
    backward::run(Isa::best(), block, &Given { x, dy, picked }, training, gradient);
    Ok(())
}

#[cfg(test)]
mod tests;
