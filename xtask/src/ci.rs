//! What continuous integration runs, cheapest first.

use crate::{run as run_command, sh, test, tidy};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn run(root: &Path) -> Result<()> {
    sh(root, "cargo", &["fmt", "--all", "--check"])?;
    tidy::run(root)?;
    sh(
        root,
        "cargo",
        &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    let mut docs = Command::new("cargo");
    docs.args(["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]);
    run_command(docs.env("RUSTDOCFLAGS", "-D warnings").current_dir(root))?;
    // The tests' build: a release build besides would take a fifth of the whole run.
    sh(root, "cargo", &["build", "--workspace", "--bins", "--locked"])?;
    example(root, "quickstart")?;
    example(root, "paper-smoke")?;
    test::run(root, true)
}

/// The README's first command with the job file of that name and the tests' program, into a folder of its own.
fn example(root: &Path, name: &str) -> Result<()> {
    let folder = root.join("target").join(format!("ci-{name}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let store = folder.join("store");
    let report = folder.join("report");
    // `cargo run` would build it again, with the features of one crate alone.
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let mut command = Command::new(target.join("debug").join("glmeval"));
    command.arg("run").arg(format!("examples/{name}.toml"));
    command.arg("--store").arg(&store).arg("--report").arg(&report);
    run_command(command.current_dir(root))
}
