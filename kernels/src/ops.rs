//! The operations: one file each, with its contract, its shape checks and its CPU form.
//!
//! Leaves out: what a model does with them. Invariant: slices in, slices out; operands are checked
//! before anything is written.

pub mod activation;
pub mod adam;
pub mod arithmetic;
pub mod attention;
pub mod batch_conv1d;
pub mod batch_norm;
pub mod batch_pool;
pub mod branch_norm;
pub mod conv1d;
pub mod convert;
pub mod depthwise_conv1d;
pub mod dropout;
pub mod embedding;
pub mod entropy;
#[cfg(test)]
mod exactness;
pub mod exp;
pub(crate) mod fft;
pub mod function;
pub mod gather;
pub mod gelu;
pub mod gelu_tanh;
pub mod hyena;
pub mod layer_norm;
pub mod layer_norm_gradient;
pub mod linear;
pub(crate) mod logarithm;
pub mod loss;
pub mod max_pool;
pub mod norm_block;
pub mod pool;
pub mod precision;
pub mod relu;
pub mod rotary;
pub mod sigmoid;
pub mod silu;
pub mod sin;
pub mod softmax;
pub mod spline_weights;
pub mod state_distance;
pub mod tanh;
pub(crate) mod vectors;

/// The sources of all kernels, for checks that need no device.
pub(crate) static SOURCES: &[&crate::cuda::Source] = &[
    &layer_norm::cuda::SOURCE,
    &crate::cuda::NARROW,
    &attention::cuda::short::SOURCE,
    &attention::cuda::long::SOURCE,
    &attention::cuda::tf32::SOURCE,
    &attention::cuda::simt::SOURCE,
    &embedding::cuda::SOURCE,
    &activation::cuda::SOURCE,
    &rotary::cuda::SOURCE,
    &convert::cuda::SOURCE,
    &conv1d::cuda::SOURCE,
    &batch_conv1d::cuda::SOURCE,
    &hyena::cuda::FILTER_SOURCE,
    &hyena::cuda::MIX_SOURCE,
    &hyena::cuda::COLUMNS_SOURCE,
    &hyena::cuda::ROWS_SOURCE,
    &adam::cuda::SOURCE,
    &arithmetic::cuda::SOURCE,
    &batch_norm::cuda::SOURCE,
    &batch_pool::cuda::SOURCE,
    &dropout::cuda::SOURCE,
    &function::cuda::SOURCE,
    &gather::cuda::SOURCE,
    &layer_norm_gradient::cuda::SOURCE,
    &loss::cuda::SOURCE,
    &norm_block::cuda::SOURCE,
    &spline_weights::cuda::SOURCE,
    &entropy::cuda::SOURCE,
    &pool::cuda::SOURCE,
    &state_distance::cuda::SOURCE,
];
