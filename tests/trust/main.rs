//! Who may do what to a coordinator: real processes over mutual TLS and with tokens, and every caller
//! that must be refused.
//!
//! Leaves out: the table of methods and rates (unit tests beside them).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod certs;
mod hostile;
mod jobs;
mod policies;
mod refusals;
mod secrets;
mod world;
