//! Readers of the field's files: one per format, streaming, never panicking.
//!
//! Leaves out: what the values mean to a task. Invariant: every defect is an
//! [`InputError`](crate::error::InputError) with file, place, expected and found.

use crate::error::Result;
use crate::example::{Example, ExampleSchema};

pub mod bed;
pub mod fasta;
pub mod genome;
pub mod hdf5;
mod isolate;
pub mod narrow_peak;
pub mod parquet;
pub mod table;
pub mod text;
pub mod windows;

/// A stream of examples in file order.
pub trait ExampleReader: Send {
    /// What every example has.
    fn schema(&self) -> &ExampleSchema;

    /// The next at most `rows` examples; empty once the source has ended.
    ///
    /// # Errors
    /// `Invalid` with file, place, expected and found.
    fn read(&mut self, rows: usize) -> Result<Vec<Example>>;
}
