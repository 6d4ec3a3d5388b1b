//! Numbers of one width as those of another.
//!
//! Leaves out: the CPU's, which formats of arrays do. Invariant: each is the nearest, ties to even.

pub mod cuda;
