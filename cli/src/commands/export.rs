//! `glmeval export EMBEDDINGS --format parquet|npy`.

use crate::output::{complain, say};
use clap::{Args, ValueEnum};
use glmeval_common::embedding::export;
use glmeval_common::error::Result;
use std::process::ExitCode;
