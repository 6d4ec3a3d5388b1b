//! Python with the packages that people open our files with.
//!
//! Leaves out: installing it (`cargo xtask test` does and names it in `GLMEVAL_TEST_PYTHON`).

use crate::process::succeed;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The Python of the tests; without one it says aloud that `what` is skipped.
///
/// # Panics
/// Without one where `GLMEVAL_REQUIRE_REAL=1`.
#[expect(clippy::print_stderr, reason = "a skipped test is said aloud")]
pub fn python(what: &str) -> Option<PathBuf> {
    let python = std::env::var_os("GLMEVAL_TEST_PYTHON").map(PathBuf::from);
    if python.is_none() {
        let required = std::env::var("GLMEVAL_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "{what}: GLMEVAL_TEST_PYTHON is not set, and real components are required"
        );
        eprintln!("SKIPPED {what} (no Python: run `cargo xtask test`)");
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
