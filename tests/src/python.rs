//! Python with the packages that people open our files with.
//!
//! Leaves out: installing it (`cargo xtask test` does and names it in `GLMEVAL_TEST_PYTHON`).

use crate::process::succeed;
use crate::real;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The Python of the tests; without one it says aloud that `what` is skipped.
///
/// # Panics
/// Without one where `GLMEVAL_REQUIRE_REAL=1`.
pub fn python(what: &str) -> Option<PathBuf> {
    let python = std::env::var_os("GLMEVAL_TEST_PYTHON").map(PathBuf::from);
    if python.is_none() {
        real::skip(what, "no Python in GLMEVAL_TEST_PYTHON: run `cargo xtask test`");
    }
    python
}

/// Runs `script` in `folder`; returns what it printed.
///
/// # Panics
/// With what it said when it fails.
pub async fn run(python: &Path, folder: &Path, script: &str) -> String {
    let mut command = Command::new(python);
    command.args(["-W", "error::DeprecationWarning", "-c", script]).current_dir(folder);
    succeed(command.stdin(Stdio::null()).kill_on_drop(true)).await
}

/// Whether `python` can import `module`.
pub async fn has_module(python: &Path, module: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {module}")]).stdin(Stdio::null());
    let status = command.stderr(Stdio::null()).kill_on_drop(true).status().await;
    status.is_ok_and(|status| status.success())
}
