//! `glmeval certs new|token`: certificates of a job, tokens.
//!
//! Leaves out: what stands in a certificate (coordinator). Invariant: a secret lies in files of mode
//! 0600 from their first byte on, and nothing is ever overwritten.

use crate::output::{complain, say};
use clap::{Args, Subcommand};
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::rng::random_token;
use glmeval_common::trust::{Token, write_secret};
use glmeval_coordinator::certificates::{Minted, Order, mint};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to make.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a CA and certificates of a coordinator, workers and operators.
    New(NewArguments),
    /// Make a bearer token: 32 random bytes.
    Token(TokenArguments),
}

/// Arguments of `certs new`.
#[derive(Args)]
#[command(after_help = "Example:
  glmeval certs new certificates --host head.cluster.lan
  glmeval coordinator --listen 0.0.0.0:7070 --store s3://lab/glmeval --tls certificates
  glmeval worker --discover --store s3://lab/glmeval --tls certificates
  glmeval certs new k8s --kubernetes-secret | kubectl apply -f -

The CA's own key is thrown away: nobody can add a certificate later. Make a new folder to renew.")]
pub(crate) struct NewArguments {
    /// Folder to make.
    dir: PathBuf,
    /// Name in the certificates and of the Kubernetes Secrets.
    #[arg(long, default_value = "glmeval")]
    name: String,
    /// Host name or address of the coordinator, for programs that check it; repeat for more.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Days they are valid.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Print Kubernetes Secrets with the same files, one for each role.
    #[arg(long)]
    kubernetes_secret: bool,
}

/// Arguments of `certs token`.
#[derive(Args)]
#[command(after_help = "Example:
  glmeval certs token token
  glmeval coordinator --store store --token-file token
  glmeval worker --coordinator 127.0.0.1:7070 --store store --token-file token")]
pub(crate) struct TokenArguments {
    /// File to write.
    file: PathBuf,
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::New(arguments) => new(&arguments)?,
        Command::Token(arguments) => {
            Token::random()?.write(&arguments.file)?;
            complain(&format!("{} holds a new token", arguments.file.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new(arguments: &NewArguments) -> Result<()> {
    let now_unix_s = SystemClock::default().unix_ms() / 1_000;
    let NewArguments { dir, name, hosts, days, .. } = arguments;
    let minted = mint(&Order { name, hosts, days: *days, now_unix_s })?;
    write_folder(dir, &minted)?;
    let fingerprint = format!("CA sha256 {}", minted.ca_sha256);
    if arguments.kubernetes_secret {
        complain(&fingerprint);
        say(&secrets(name, &minted));
    } else {
        say(&fingerprint);
    }
    complain(&format!("{} is valid for {days} days", dir.display()));
    Ok(())
}

/// Every file of the folder: name and contents.
fn files(minted: &Minted) -> Vec<(String, &str)> {
    let mut files = vec![("ca.pem".to_owned(), minted.ca_pem.as_str())];
    for issued in &minted.issued {
        let name = issued.role.name();
        files.push((format!("{name}.pem"), &issued.certificate_pem));
        files.push((format!("{name}.key"), &issued.key_pem));
    }
    files
}

/// Writes a folder beside `folder` and moves it there: it is there as a whole or not at all.
fn write_folder(folder: &Path, minted: &Minted) -> Result<()> {
    let mut staged = folder.as_os_str().to_owned();
    staged.push(format!(".{}", random_token()));
    let staged = PathBuf::from(staged);
    std::fs::DirBuilder::new().mode(0o700).create(&staged).map_err(|e| io_error(&staged, e))?;
    let written = fill(&staged, minted).and_then(|()| {
        // Only a name that is free or an empty folder can be replaced so.
        std::fs::rename(&staged, folder).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOTEMPTY | libc::EEXIST | libc::ENOTDIR) => {
                let expected = "a name that is free or an empty folder: nothing is overwritten";
                InputError::new(folder.display(), "", expected, "files").into()
            }
            _ => io_error(folder, e),
        })
    });
    if written.is_err() {
        drop(std::fs::remove_dir_all(&staged));
    }
    written
}

fn fill(folder: &Path, minted: &Minted) -> Result<()> {
    files(minted).iter().try_for_each(|(name, text)| -> Result<(), Error> {
        write_secret(&folder.join(name), text.as_bytes())
    })
}

/// Manifests of one Secret for each role: none holds another role's key.
fn secrets(name: &str, minted: &Minted) -> String {
    let indented = |text: &str| -> String {
        text.lines().map(|line| format!("    {}\n", line.trim_end())).collect()
    };
    let secret = |issued: &glmeval_coordinator::certificates::Issued| {
        let role = issued.role.name();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}-{role}\n  labels:\n    \
             app.kubernetes.io/name: {name}\ntype: Opaque\nstringData:\n  ca.pem: |\n{}  \
             {role}.pem: |\n{}  {role}.key: |\n{}",
            indented(&minted.ca_pem),
            indented(&issued.certificate_pem),
            indented(&issued.key_pem)
        )
    };
    minted.issued.iter().map(secret).collect::<Vec<_>>().join("---\n")
}
