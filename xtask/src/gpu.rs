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

/// Packages that are built together, so that each of their dependencies is built once.
const PACKAGES: [&str; 4] = ["glmeval-kernels", "glmeval-worker", "glmeval-tests", "glmeval"];

/// What is tested: kind and name of a target of cargo's, and its name in the bundle.
const TESTS: [(&str, &str, &str); 4] = [
    ("lib", "glmeval_kernels", "kernels-tests"),
    ("lib", "glmeval_worker", "worker-tests"),
    ("test", "golden_models", "golden-models"),
    ("test", "golden_networks", "golden-networks"),
];

/// Programs, likewise.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("bin", "glmeval", "glmeval"),
    ("example", "gpu_bench", "gpu_bench"),
    ("example", "network_rate", "network_rate"),
];

/// Files that tests read, by their path in the repository.
const FIXTURES: [&str; 3] = ["tests/golden/models", "tests/golden/probes", "examples/models"];

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
    place(root, profile, &["test", "--no-run", "--lib"], &TESTS, &binaries)?;
    place(root, profile, &["build"], &PROGRAMS, &binaries)?;
    for path in FIXTURES.iter().chain(&PEERS) {
        copy(&root.join(path), &folder.join("repository").join(path))?;
    }
    // Tests know their fixtures by the path they were compiled at; the script makes it lead here.
    std::fs::write(folder.join("root"), root.display().to_string())?;
    std::fs::write(folder.join("run.sh"), SCRIPT)?;
    std::fs::write(folder.join("table.py"), TABLE)?;
    // Python unpacks it too, where a bare machine has no xz.
    let archive = target.join("glmeval-gpu.tar.xz");
    let mut pack = Command::new("tar");
    pack.env("XZ_OPT", "-6T0").arg("-cJf").arg(&archive).arg("-C").arg(&target).arg("glmeval-gpu");
    run_command(&mut pack)?;
    let bytes = std::fs::metadata(&archive)?.len();
    say(&format!("{}: {:.1} MB", archive.display(), bytes as f64 / 1e6));
    say("there: python3 -m tarfile -e glmeval-gpu.tar.xz && bash glmeval-gpu/run.sh");
    if bytes > BYTES_MAX {
        bail!("expected at most {BYTES_MAX} bytes, found {bytes}");
    }
    Ok(())
}

/// Builds targets and puts them into a folder without symbols.
fn place(
    root: &Path,
    profile: &str,
    words: &[&str],
    targets: &[(&str, &str, &str)],
    folder: &Path,
) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(words).args(["--profile", profile, "--locked", "--message-format", "json"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    for (kind, name, _) in targets.iter().filter(|(kind, ..)| *kind != "lib") {
        command.arg(format!("--{kind}")).arg(name);
    }
    say(&format!("$ {command:?}"));
    let output = command.current_dir(root).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("cargo's messages")?;
    for (kind, name, to) in targets {
        let built = text.lines().find_map(|message| executable(message, kind, name));
        let built = built.with_context(|| format!("{command:?} made no {kind} {name}"))?;
        let mut strip = Command::new("strip");
        run_command(strip.arg("-o").arg(folder.join(to)).arg(built))?;
    }
    Ok(())
}

/// The executable of a target, if a message of cargo's names it.
fn executable(message: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let target = format!("\"kind\":[\"{kind}\"]");
    let name = format!("\"name\":\"{name}\"");
    if !message.contains(&target) || !message.contains(&name) {
        return None;
    }
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
    fn the_executable_of_a_target_is_found() {
        let message =
            r#"{"target":{"kind":["lib"],"name":"a"},"executable":"/a/b-1","fresh":true}"#;
        assert_eq!(executable(message, "lib", "a"), Some(PathBuf::from("/a/b-1")));
        assert_eq!(executable(message, "lib", "b"), None);
        assert_eq!(executable(message, "test", "a"), None);
        let library = r#"{"target":{"kind":["lib"],"name":"a"},"executable":null}"#;
        assert_eq!(executable(library, "lib", "a"), None);
    }

    #[test]
    fn what_is_bundled_is_there() {
        let root = crate::root();
        for path in FIXTURES.iter().chain(&PEERS) {
            assert!(root.join(path).exists(), "{path}");
        }
    }
}
