//! How networks are trained: what happens between one step and the next.
//!
//! Leaves out: the steps themselves (network). Invariant: a run depends on its settings, its seed and
//! its examples alone.

pub mod callbacks;
