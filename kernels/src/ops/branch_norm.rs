//! Layer normalisation of a branch, with what follows it: GELU, the sum with the residual stream, rounding.
//!
//! Leaves out: a CPU form, which is `layer_norm`, `gelu` and `add_layer_norm` one after another. Invariant: as there.

pub mod cuda;
