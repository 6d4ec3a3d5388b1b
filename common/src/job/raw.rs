//! Keys of a `[[dataset]]` table that is built from public inputs.
//!
//! Leaves out: their checks (`check::raw`). Invariant: what is left out of a job file stays apart from
//! what is empty.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `psi = { train = …, valid = …, test = … }` or `psi = { file = …, split = … }`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PsiSpec {
    /// Table of the exons that are trained on.
    pub train: Option<PathBuf>,
    /// Table of the exons that are watched while training.
    pub valid: Option<PathBuf>,
    /// Table of the exons that are scored.
    pub test: Option<PathBuf>,
    /// One table of all exons.
    pub file: Option<PathBuf>,
    /// Column of `file` that names the split; left out = no split.
    pub split: Option<String>,
}

/// A file or several that are read as one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "a file name or a list of file names")]
pub enum PathList {
    /// One.
    One(PathBuf),
    /// Several, in this order.
    Many(Vec<PathBuf>),
}

impl PathList {
    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}
