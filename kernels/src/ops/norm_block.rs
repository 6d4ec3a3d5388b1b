//! Batch normalisation, an activation, dropout and a pool as one block of a network.
//!
//! Leaves out: softmax, which is no function of one element. Invariant: every bit is that of the
//! separate operations one after another; nothing between them is kept.

use crate::error::{KernelError, Result, check_length};
use crate::ops::batch_norm::{NormGradient, Normalisation, batch_norm, batch_norm_gradient};
use crate::ops::batch_pool::{PoolShape, max_pool, max_pool_gradient};
use crate::ops::dropout::{DropoutMask, dropout};
use crate::ops::function::{self, Function};

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
/// - `picked`: as long as `out` with a pool, else empty; for [`norm_block_gradient`] alone
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
    let width = block.normalisation.mean.len();
    let (mut a, mut b) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    batch_norm(x, &block.normalisation, &mut a)?;
    function::apply(block.function, width, &a, &mut b)?;
    if let Some(mask) = &block.before {
        dropout(mask, &b, &mut a)?;
        std::mem::swap(&mut a, &mut b);
    }
    match &block.pool {
        Some(pool) => max_pool(&b, pool, out, picked)?,
        None => out.copy_from_slice(&b),
    }
    if let Some(mask) = &block.after {
        let kept = out.to_vec();
        dropout(mask, &kept, out)?;
    }
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
    let width = block.normalisation.mean.len();
    let (mut a, mut b) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    batch_norm(x, &block.normalisation, &mut a)?;
    function::apply(block.function, width, &a, &mut b)?;
    let mut dy = dy.to_vec();
    if let Some(mask) = &block.after {
        let given = dy.clone();
        dropout(mask, &given, &mut dy)?;
    }
    let mut spread = vec![0.0; x.len()];
    match &block.pool {
        Some(pool) => max_pool_gradient(&dy, picked, pool, &mut spread)?,
        None => spread.copy_from_slice(&dy),
    }
    if let Some(mask) = &block.before {
        let given = spread.clone();
        dropout(mask, &given, &mut spread)?;
    }
    let mut dz = vec![0.0; x.len()];
    function::gradient(block.function, width, &a, &b, &spread, &mut dz)?;
    batch_norm_gradient(x, &dz, &block.normalisation, training, gradient)
}

#[cfg(test)]
mod tests;
