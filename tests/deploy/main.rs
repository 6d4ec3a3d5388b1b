//! What stands in `deploy`: manifests that a schema accepts, commands that the program has, words that
//! work when they are followed.
//!
//! Leaves out: a cluster, a cloud, a container engine. Invariant: no flag, path or chapter can rot here
//! without a test that fails.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod commands;
mod image;
mod manifests;
mod readme;

use std::path::{Path, PathBuf};

/// The folder that holds `deploy`.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file below `deploy`.
fn text(name: &str) -> String {
    let path = root().join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
