//! `cargo xtask test`: what tests need, then every test.
//!
//! Invariant: on a machine where nothing can be installed, missing parts are named and their tests
//! skip aloud; with skips forbidden a missing part is a failure.

use crate::{run as run_command, say, sh};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Python packages that tests open our files with, and the S3 server they store in.
const PYTHON_PACKAGES: [&str; 4] =
    ["numpy==2.4.6", "safetensors==0.8.0", "pyarrow==26.0.1", "moto[server]==5.2.5"];

pub(crate) fn run(root: &Path, skips_forbidden: bool) -> Result<()> {
    let python = python_tools(root);
    let mut environment: Vec<(&str, String)> = Vec::new();
    match python {
        Ok(python) => environment.push(("GLMEVAL_TEST_PYTHON", python.display().to_string())),
        Err(error) if skips_forbidden => return Err(error),
        Err(error) => say(&format!("SKIPPED tests that use Python and moto: {error:#}")),
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
    let mut tests = Command::new("cargo");
    tests.args(arguments).envs(environment).current_dir(root);
    run_command(&mut tests)?;
    if nextest { sh(root, "cargo", &["test", "--workspace", "--doc", "--locked"]) } else { Ok(()) }
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A virtual environment under `target/`, made once per list of packages.
fn python_tools(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/test-tools");
    let (venv, stamp) = (folder.join("venv"), folder.join("packages.txt"));
    let python = venv.join("bin/python");
    let wanted = PYTHON_PACKAGES.join("\n");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    if !succeeds(Command::new("python3").args(["-m", "venv", "--help"])) {
        install_python().context("python3 with venv is missing: apt-get install python3-venv")?;
    }
    std::fs::create_dir_all(&folder)?;
    sh(root, "python3", &["-m", "venv", "--clear", &venv.display().to_string()])?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run_command(pip.args(PYTHON_PACKAGES))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

fn install_python() -> Result<()> {
    let root = succeeds(Command::new("sh").args(["-c", "test \"$(id -u)\" = 0"]));
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        bail!("not root on Debian, so nothing is installed");
    }
    sh(Path::new("/"), "apt-get", &["update", "-qq"])?;
    sh(Path::new("/"), "apt-get", &["install", "-y", "-qq", "python3-venv"])
}
