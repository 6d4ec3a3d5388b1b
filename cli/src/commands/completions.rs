//! `glmeval completions SHELL`.

use crate::output::say_bytes;
use clap::Args;
use clap_complete::Shell;
use glmeval_common::error::Result;
use std::process::ExitCode;

/// Arguments of `completions`.
#[derive(Args)]
#[command(
    after_help = "Example:\n  glmeval completions bash > ~/.local/share/bash-completion/completions/glmeval"
)]
pub(crate) struct Arguments {
    /// bash, elvish, fish, powershell or zsh.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, command: &mut clap::Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "glmeval", &mut script);
    say_bytes(&script);
    Ok(ExitCode::SUCCESS)
}
