//! `glmeval doctor`: is this machine, is this store fit?

use crate::output::{Format, Table, say, say_json};
use clap::Args;
use glmeval_common::error::Result;
use glmeval_worker::device::Finding;
use serde::Serialize;
use std::process::ExitCode;

pub(crate) mod store;

/// Arguments of `doctor`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval doctor
  glmeval doctor --store s3://lab/glmeval

A store is fit when a race of creators has exactly one winner, what was written is read and listed at
once, and large objects arrive whole. The check writes under `doctor/` and deletes it again; `run` and
`coordinator` make its short form by themselves, once for each store.")]
pub(crate) struct Arguments {
    /// Folder or URL of a store to check.
    #[arg(long)]
    store: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Check {
    check: &'static str,
    passed: bool,
    found: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut checks = machine();
    let devices = tokio::task::block_in_place(glmeval_worker::device::survey);
    checks.extend(devices.into_iter().map(|finding| {
        let Finding { name, passed, found } = finding;
        Check { check: name, passed, found }
    }));
    if let Some(url) = &arguments.store {
        checks.extend(store::checks(url).await);
    }
    if arguments.format == Format::Json {
        say_json(&checks)?;
    } else {
        let mut table = Table::new(&["check", "result", "found"]);
        for check in &checks {
            let result = if check.passed { "ok" } else { "FAILED" };
            table.row(vec![check.check.to_owned(), result.to_owned(), check.found.clone()]);
        }
        say(&table.text(arguments.format));
    }
    let passed = checks.iter().all(|check| check.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn machine() -> Vec<Check> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vec![
        Check { check: "CPU threads", passed: true, found: threads.to_string() },
        Check {
            check: "CPU instructions",
            passed: true,
            found: glmeval_worker::instruction_set().to_owned(),
        },
        Check {
            check: "numeric classes",
            passed: true,
            found: glmeval_worker::numeric_classes().join(", "),
        },
        Check {
            check: "bf16 matrix products",
            passed: true,
            found: match glmeval_worker::bf16_kind() {
                "emulated" => "emulated: slower than f32, for its bits only".to_owned(),
                kind => kind.to_owned(),
            },
        },
    ]
}
