//! What continuous integration runs, cheapest first.

use crate::{run as run_command, sh, test, tidy};
use anyhow::Result;
use std::path::Path;
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
    example(root, "quickstart")?;
    example(root, "paper-smoke")?;
    test::run(root, true)
}

/// The README's first command with the job file of that name, into a folder of its own.
fn example(root: &Path, name: &str) -> Result<()> {
    let folder = root.join("target").join(format!("ci-{name}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let store = folder.join("store");
    let report = folder.join("report");
    let mut command = Command::new("cargo");
    command.args(["run", "--release", "--locked", "--", "run"]);
    command.arg(format!("examples/{name}.toml"));
    command.arg("--store").arg(&store).arg("--report").arg(&report);
    run_command(command.current_dir(root))
}
