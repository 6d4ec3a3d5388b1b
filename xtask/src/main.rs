//! The project's own commands: `cargo xtask ci|fuzz|gpu|sim|test|tidy`.
//!
//! Leaves out: anything the product needs; nothing of the product depends on this crate.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

mod ci;
mod fuzz;
mod gpu;
mod packages;
mod sim;
mod test;
mod tidy;

const HELP: &str = "\
cargo xtask <command>

  test   install what tests need (as root on Debian; elsewhere name it and skip aloud), run every test
  sim    replay one seed of the simulated cluster with its trace (--seed N), or run many (--seeds A..B);
         --pure: of the coordinator's state alone
  fuzz   feed readers with what libFuzzer makes up (names of targets, --seconds N each; stable compiler)
  tidy   check module heads, sizes, crate edges, import rings, file names
  gpu    pack tests, benchmarks and peers for a machine with a GPU: target/gpu/glmeval-gpu.tar.xz
  ci     format, lints, tidy, documentation, quickstart, then every test with skips forbidden
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let root = root();
    let result = match command.as_str() {
        "ci" => ci::run(&root),
        "fuzz" => fuzz::run(&root, &arguments),
        "gpu" => gpu::run(&root, &arguments),
        "sim" => sim::run(&root, &arguments),
        "test" => test::run(&root, std::env::var_os("GLMEVAL_REQUIRE_REAL").is_some()),
        "tidy" => tidy::run(&root),
        _ => {
            say(HELP);
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("xtask {command}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

#[expect(clippy::print_stderr, reason = "a command's own output")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Hides from a command what `cargo xtask` tells this program of its own package: a build script that reads the same names,
/// ring's, would run again whenever cargo is called by hand or from here in turn, and all that is built on it be built again.
fn forget_package(command: &mut Command) -> &mut Command {
    let names = std::env::vars_os().map(|(name, _)| name);
    let of_package =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    for name in names.filter(|name| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command
}

/// Runs a command in `root`, printing it first.
fn sh(root: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    run(Command::new(program).args(arguments).current_dir(root))
}

fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    say(&format!("$ {line}"));
    let status = forget_package(command).status()?;
    if !status.success() {
        bail!("{line} ended with {status}");
    }
    Ok(())
}
