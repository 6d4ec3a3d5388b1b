//! The binary `glmeval` as a child process: run to its end, or started and watched line by line.
//!
//! Leaves out: what a test expects of it. Invariant: no child outlives its handle, and waits end by
//! an event; the time limit only turns a hang into a failure.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// No wait of a test is longer.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Lines of a child that wait for their reader; later ones are dropped.
const LINES_MAX: usize = 10_000;

/// Path of the binary, beside the folder of the running test.
///
/// # Panics
/// If it was not built.
pub fn binary() -> PathBuf {
    crate::process::program_folder().join("glmeval")
}

/// A small gLM with random weights.
pub fn model() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("examples/models/nt-v1-random")
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

/// A command line of `glmeval` in `folder`, free of the environment's settings.
pub fn command<S: AsRef<std::ffi::OsStr>>(folder: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments);
    prepared(command, folder)
}

/// Sets folder, pipes and environment of a command that ends in `glmeval`.
pub fn prepared(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["RUST_LOG", "GLMEVAL_COORDINATOR", "GLMEVAL_TLS", "GLMEVAL_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started or does not end.
pub async fn ended(mut command: Command) -> Ended {
    let output = tokio::time::timeout(WAIT_MAX, command.output()).await;
    let output = output.expect("the command ends in time").unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `glmeval` to its end.
///
/// # Panics
/// As [`ended`].
pub async fn glmeval<S: AsRef<std::ffi::OsStr>>(folder: &Path, arguments: &[S]) -> Ended {
    ended(command(folder, arguments)).await
}

/// Runs `glmeval`, which must succeed; returns stdout.
///
/// # Panics
/// If it fails.
pub async fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let ended = glmeval(folder, arguments).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended.stdout
}

/// A child that runs on while the test goes on.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts `command`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel(LINES_MAX);
        tokio::spawn(forward(child.stdout.take().unwrap(), sender.clone()));
        tokio::spawn(forward(child.stderr.take().unwrap(), sender));
        Self { child, lines }
    }

    /// The next line of stdout or stderr; none at the end of both.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(WAIT_MAX, self.lines.recv()).await;
        line.expect("a line comes in time")
    }

    /// The next line that contains `text`.
    ///
    /// # Panics
    /// If the output ends, or too long nothing comes, without one.
    pub async fn line_with(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(WAIT_MAX, self.lines.recv()).await {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line has {text:?}: {seen:#?}");
    }

    /// Takes the lines that have come so far.
    pub fn lines_so_far(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// `kill -9`, waits until it is gone, and returns the lines that were left.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub async fn kill(mut self) -> Vec<String> {
        self.child.kill().await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }

    /// Sends a signal by name, such as `TERM`.
    ///
    /// # Panics
    /// If `kill` cannot be run.
    pub async fn signal(&self, name: &str) {
        if let Some(process) = self.child.id() {
            let arguments = [format!("-{name}"), process.to_string()];
            Command::new("kill").args(arguments).status().await.unwrap();
        }
    }

    /// Waits for its end; returns the exit code and the lines that were left.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn exit(mut self) -> (Option<i32>, Vec<String>) {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        let status = tokio::time::timeout(WAIT_MAX, self.child.wait()).await;
        (status.expect("the child ends in time").unwrap().code(), lines)
    }
}

async fn forward(pipe: impl AsyncRead + Unpin, sender: mpsc::Sender<String>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A full queue must not hold up the child.
        let _ = sender.try_send(line);
    }
}

/// A coordinator on loopback.
pub struct Coordinator {
    /// The process.
    pub process: Running,
    /// `host:port` it listens on.
    pub address: String,
}

impl Coordinator {
    /// Starts one on `listen` over the store `store` in `folder` and waits until it listens.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(folder: &Path, listen: &str, more: &[&str]) -> Self {
        let first = ["coordinator", "--listen", listen, "--store", "store"];
        let mut process = Running::start(command(folder, &[&first, more].concat()));
        let line = process.line_with("listens on ").await;
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { process, address }
    }
}
