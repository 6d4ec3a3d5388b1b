//! Real components that tests start: where their programs lie, and what happens where they are absent.
//!
//! Leaves out: installing them (`cargo xtask test`), how each is started (`s3`, and others beside it).

use std::path::{Path, PathBuf};

/// Folders beside `PATH` that hold servers.
const SERVER_FOLDERS: &str = ":/usr/sbin:/sbin";

/// Where `program` lies; without it, says aloud that `what` is skipped.
///
/// # Panics
/// Without it where `GLMEVAL_REQUIRE_REAL=1`.
pub fn program(program: &str, what: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + SERVER_FOLDERS;
    let found = path.split(':').map(|folder| Path::new(folder).join(program)).find(|p| p.is_file());
    if found.is_none() {
        skip(
            what,
            &format!("{program} is not installed: run `cargo xtask test` as root on Debian"),
        );
    }
    found
}

/// Says aloud that `what` is skipped and why.
///
/// # Panics
/// Where `GLMEVAL_REQUIRE_REAL=1`.
#[expect(clippy::print_stderr, reason = "a skipped test is said aloud")]
pub fn skip(what: &str, why: &str) {
    let required = std::env::var("GLMEVAL_REQUIRE_REAL").is_ok_and(|value| value == "1");
    assert!(!required, "{what}: {why}; real components are required");
    eprintln!("SKIPPED {what} ({why})");
}
