//! `cargo xtask gpu`: one file that proves and measures the kernels on a machine with a GPU and nothing of ours.
//!
//! Leaves out: that machine. Invariant: the bundle holds all that `run.sh` needs but the driver, CUDA's libraries and Python, and
//! stays small enough to be carried.

use crate::{run as run_command, say};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("gpu/run.sh");
const TABLE: &str = include_str!("gpu/table.py");

/// Bytes that a bundle may have.
const BYTES_MAX: u64 = 60 << 20;

/// Test binaries: the package, what is built of it, and its name in the bundle.
const TESTS: [(&str, &[&str], &str); 4] = [
    ("glmeval-kernels", &["--lib"], "kernels-tests"),
    ("glmeval-worker", &["--lib"], "worker-tests"),
    ("glmeval-tests", &["--test", "golden_models"], "golden-models"),
    ("glmeval-tests", &["--test", "golden_networks"], "golden-networks"),
];

/// Files that tests read, by their path in the repository.
const FIXTURES: [&str; 2] = ["tests/golden", "examples"];

/// Programs that measure PyTorch.
const PEERS: [&str; 2] = ["bench/peers/gpu.py", "bench/peers/amx.py"];

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let profile = match arguments {
        [] => "release",
        [flag, profile] if flag == "--profile" => profile,
        _ => bail!("expected nothing or --profile NAME, found {arguments:?}"),
    };
    let target = root.join("target/gpu");
    let folder = target.join("glmeval-gpu");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let binaries = folder.join("bin");
    std::fs::create_dir_all(&binaries)?;
    for (package, parts, name) in TESTS {
        let mut build = vec!["test", "--no-run", "-p", package];
        build.extend(parts);
        place(root, profile, &build, &binaries.join(name))?;
    }
    place(
        root,
        profile,
        &["build", "-p", "glmeval", "--bin", "glmeval"],
        &binaries.join("glmeval"),
    )?;
    let bench = ["build", "-p", "glmeval-kernels", "--example", "gpu_bench"];
    place(root, profile, &bench, &binaries.join("gpu_bench"))?;
    for path in FIXTURES.iter().chain(&PEERS) {
        copy(&root.join(path), &folder.join("repository").join(path))?;
    }
    // Tests know their fixtures by the path they were compiled at; the script makes it lead here.
    std::fs::write(folder.join("root"), root.display().to_string())?;
    std::fs::write(folder.join("run.sh"), SCRIPT)?;
    std::fs::write(folder.join("table.py"), TABLE)?;
    let archive = target.join("glmeval-gpu.tar.gz");
    let mut pack = Command::new("tar");
    pack.arg("-czf").arg(&archive).arg("-C").arg(&target).arg("glmeval-gpu");
    run_command(&mut pack)?;
    let bytes = std::fs::metadata(&archive)?.len();
    say(&format!("{}: {:.1} MB", archive.display(), bytes as f64 / 1e6));
    say("there: tar xzf glmeval-gpu.tar.gz && bash glmeval-gpu/run.sh");
    if bytes > BYTES_MAX {
        bail!("expected at most {BYTES_MAX} bytes, found {bytes}");
    }
    Ok(())
}

/// Builds something with one executable and puts it at `to` without symbols.
fn place(root: &Path, profile: &str, build: &[&str], to: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(build).args(["--profile", profile, "--locked", "--message-format", "json"]);
    say(&format!("$ {command:?}"));
    let output = command.current_dir(root).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("cargo's messages")?;
    let built = text.lines().filter_map(executable).next_back();
    let built = built.with_context(|| format!("{command:?} made no executable"))?;
    let mut strip = Command::new("strip");
    run_command(strip.arg("-o").arg(to).arg(built))
}

/// The executable that a message of cargo's names.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    Some(PathBuf::from(rest.split_once('"')?.0))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_of_a_message_is_found() {
        let message = r#"{"reason":"compiler-artifact","executable":"/a/b-1","fresh":true}"#;
        assert_eq!(executable(message), Some(PathBuf::from("/a/b-1")));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
    }

    #[test]
    fn what_is_bundled_is_there() {
        let root = crate::root();
        for path in FIXTURES.iter().chain(&PEERS) {
            assert!(root.join(path).exists(), "{path}");
        }
    }
}
