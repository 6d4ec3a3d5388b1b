//! What black-box tests share: where fixtures lie, how hostile files are judged, how the binary is run.
//!
//! Leaves out: anything one test alone needs.

pub mod glmeval;
pub mod golden;
pub mod hostile;
pub mod http;
pub mod jobs;
pub mod process;
pub mod python;
pub mod real;
pub mod results;
pub mod s3;
pub mod slurm;
