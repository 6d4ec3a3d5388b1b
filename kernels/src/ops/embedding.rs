//! Rows of tables of words and positions, by token.
//!
//! Leaves out: which row a token has; a model says. On CPUs models add the rows themselves. Invariant: a token's row depends on
//! that token alone.

pub mod cuda;
