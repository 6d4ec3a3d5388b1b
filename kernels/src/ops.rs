//! The operations: one file each, with its contract, its shape checks and its CPU form.
//!
//! Leaves out: what a model does with them. Invariant: slices in, slices out; operands are checked
//! before anything is written.

pub mod attention;
pub mod batch_conv1d;
pub mod conv1d;
#[cfg(test)]
mod exactness;
pub mod exp;
pub(crate) mod fft;
pub mod gelu;
pub mod gelu_tanh;
pub mod hyena;
pub mod layer_norm;
pub mod linear;
pub mod max_pool;
pub mod pool;
pub mod precision;
pub mod relu;
pub mod rotary;
pub mod sigmoid;
pub mod silu;
pub mod sin;
pub mod softmax;
pub mod tanh;
