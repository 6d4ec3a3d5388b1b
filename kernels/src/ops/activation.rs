//! Activations between the two maps of a feed-forward part, as passes of their own.
//!
//! Leaves out: the functions (`gelu`, `gelu_tanh`, `silu`); on CPUs they are epilogues of products (`linear`). Invariant: an
//! element's result depends on that element, its gate and their biases alone.

pub mod cuda;
