//! What black-box tests share: where fixtures lie, and how hostile files are judged.
//!
//! Leaves out: anything one test alone needs.

pub mod golden;
pub mod hostile;
pub mod process;
pub mod python;
pub mod s3;
