//! A whole job while its gateway is killed and comes back.
//!
//! Leaves out: kills of our own processes (`chaos`).
