//! The program `glmeval` as a child process.
//!
//! Leaves out: what it is asked to do. Invariant: a child never outlives the test that started it.

use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;

/// What a child came to.
pub struct Finished {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
}

/// The folder that holds the built `glmeval`: above that of this test program.
///
/// # Panics
/// When it is not built.
pub fn program_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a test has a path");
    let folder = program.ancestors().nth(2).expect("a test program lies in deps").to_path_buf();
    let glmeval = folder.join("glmeval");
    assert!(glmeval.is_file(), "{} is missing: cargo build --bins", glmeval.display());
    folder
}

/// A command `glmeval` that dies with the test; `variables` are added to the environment.
pub fn glmeval(arguments: &[&str], variables: &[(&str, String)]) -> Command {
    let mut command = Command::new(program_folder().join("glmeval"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    command
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started.
pub async fn finish(command: &mut Command) -> Finished {
    let output = command.output().await.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command that must exit with 0; returns its data.
///
/// # Panics
/// With all it said when it exits otherwise.
pub async fn succeed(command: &mut Command) -> String {
    let Finished { code, stdout, stderr } = finish(command).await;
    assert!(code == Some(0), "{command:?} ended with {code:?}\n{stdout}\n{stderr}");
    stdout
}
