//! `cargo xtask test`: what tests need, then every test.
//!
//! Invariant: on a machine where nothing can be installed, missing parts are named and their tests
//! skip aloud; with skips forbidden a missing part is a failure.

use crate::packages::{self, succeeds};
use crate::{run as run_command, say, sh};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Python packages that tests open our files with, and the S3 server they store in: every version pinned.
const REQUIREMENTS: &str = "tests/python-requirements.txt";
/// PyTorch, with all that it loads even where it computes on the CPU.
const TORCH_REQUIREMENTS: &str = "tests/python-torch-requirements.txt";
/// Room for it on the disk: 2.8 GB of packages are unpacked to 5.3.
const TORCH_BYTES: u64 = 12_000_000_000;
/// Seconds without an answer after which a package registry counts as out of reach.
const REGISTRY_TIMEOUT_SECONDS: &str = "20";

pub(crate) fn run(root: &Path, skips_forbidden: bool) -> Result<()> {
    match packages::install() {
        Ok(()) => {}
        Err(error) if skips_forbidden => return Err(error),
        Err(error) => say(&format!("SKIPPED tests of what is missing: {error:#}")),
    }
    let python = python_tools(root);
    let mut environment: Vec<(&str, String)> = Vec::new();
    match python {
        Ok(python) => {
            if skips_forbidden {
                install_torch(root, &python)?;
            }
            environment.extend(library_path(&python));
            environment.push(("GLMEVAL_TEST_PYTHON", python.display().to_string()));
        }
        Err(error) if skips_forbidden => return Err(error),
        Err(error) => say(&format!("SKIPPED tests that use Python or an S3 server: {error:#}")),
    }
    if skips_forbidden {
        environment.push(("GLMEVAL_REQUIRE_REAL", "1".to_owned()));
    }
    sh(root, "cargo", &["build", "--workspace", "--bins", "--locked"])?;
    let nextest = succeeds(Command::new("cargo").args(["nextest", "--version"]));
    let arguments: &[&str] = if nextest {
        &["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]
    } else {
        &["test", "--workspace", "--locked", "--no-fail-fast"]
    };
    if nextest {
        // First, so that the summary of all other tests is what a run ends with.
        sh(root, "cargo", &["test", "--workspace", "--doc", "--locked"])?;
    }
    let mut tests = Command::new("cargo");
    run_command(tests.args(arguments).envs(environment).current_dir(root))
}

/// A virtual environment under `target/`, made once per list of packages.
///
/// The stamp is written last, so a run that was cut off leaves nothing that looks finished.
fn python_tools(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/test-tools");
    let (venv, stamp) = (folder.join("venv"), folder.join("requirements.txt"));
    let python = venv.join("bin/python");
    let requirements = root.join(REQUIREMENTS);
    let wanted = std::fs::read_to_string(&requirements).context(REQUIREMENTS)?;
    let stamped = std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted);
    // A virtual environment breaks when the system's Python is replaced.
    if stamped && succeeds(Command::new(&python).args(["-c", "import moto, pyarrow"])) {
        return Ok(python);
    }
    std::fs::create_dir_all(&folder)?;
    if stamp.exists() {
        std::fs::remove_file(&stamp)?;
    }
    make_venv(root, &venv)?;
    install(root, &python, REQUIREMENTS)?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Installs what `requirements` lists for `python`.
fn install(root: &Path, python: &Path, requirements: &str) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--no-input", "--no-cache-dir", "--only-binary", ":all:"]);
    pip.args(["--timeout", REGISTRY_TIMEOUT_SECONDS, "--retries", "2"]);
    pip.arg("--requirement").arg(requirements).current_dir(root);
    run_command(&mut pip)
        .with_context(|| format!("install {requirements} (is a Python registry in reach?)"))
}

/// Installs PyTorch where there is room for it; without room its blocks of the guide are skipped aloud.
fn install_torch(root: &Path, python: &Path) -> Result<()> {
    if succeeds(Command::new(python).args(["-c", "import torch"])) {
        return Ok(());
    }
    let free = Command::new("df").args(["--output=avail", "--block-size=1"]).arg(root).output();
    let free = free.context("df")?;
    let free = String::from_utf8_lossy(&free.stdout).lines().nth(1).unwrap_or_default().to_owned();
    if free.trim().parse::<u64>().is_ok_and(|free| free < TORCH_BYTES) {
        say(&format!("SKIPPED PyTorch: expected {TORCH_BYTES} bytes of free disk, found {free}"));
        return Ok(());
    }
    install(root, python, TORCH_REQUIREMENTS)
}

/// Where the compiler of kernels (NVRTC) lies in the environment, before what the caller's variable names.
fn library_path(python: &Path) -> Option<(&'static str, String)> {
    const NAME: &str = "LD_LIBRARY_PATH";
    let libraries = python.parent()?.parent()?.join("lib");
    let versions = std::fs::read_dir(libraries).ok()?.filter_map(Result::ok);
    let folder = versions
        .map(|version| version.path().join("site-packages/nvidia/cuda_nvrtc/lib"))
        .find(|folder| folder.is_dir())?;
    let before = std::env::var(NAME).map(|paths| format!(":{paths}")).unwrap_or_default();
    Some((NAME, format!("{}{before}", folder.display())))
}

/// Makes an empty virtual environment; as root on Debian it first installs what that takes.
fn make_venv(root: &Path, venv: &Path) -> Result<()> {
    let make = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(venv).current_dir(root);
        command
    };
    // Debian's python3 has `venv` without what it needs: only making one tells.
    if succeeds(&mut make()) {
        return Ok(());
    }
    packages::apt_install(&["python3", "python3-venv"])
        .context("python3 makes no virtual environment (python3-venv is missing)")?;
    run_command(&mut make())
}
