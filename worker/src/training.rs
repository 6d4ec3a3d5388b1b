//! How networks are trained: what happens between one step and the next.
//!
//! Leaves out: the steps themselves (network), the store (fit). Invariant: a run depends on its
//! settings, its seeds and its examples alone, never on the runs beside it.

pub mod arrays;
pub mod batches;
pub mod cache;
pub mod callbacks;
pub mod checkpoint;
mod measures;
pub mod networks;
pub mod on_device;
pub mod order;
pub mod residence;
pub mod run;
pub mod sums;
