//! `glmeval run JOB.toml`.

use crate::commands::control::complain_of_failures;
use crate::commands::doctor::store::check_once;
use crate::embedded::{self, MachineArguments};
use crate::output::{Format, say, say_json};
use crate::planning::plan_file;
use clap::Args;
use glmeval_common::error::Result;
use glmeval_common::plan::Plan;
use glmeval_common::store::Store;
use glmeval_common::store::fits::find_scores;
use glmeval_common::store::jobs::read_plan;
use glmeval_worker::publish::Gathered;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `run`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval run examples/quickstart.toml
  glmeval run job.toml --store s3://lab/glmeval --workers 2 --report report

Run again = resume: what is committed in the store is never computed again. ctrl-c stops and keeps
what is done.")]
pub(crate) struct Arguments {
    /// The job file.
    job: PathBuf,
    /// Folder or URL of the store.
    #[arg(long, default_value = embedded::STORE_DEFAULT)]
    store: String,
    /// Folder of the report.
    #[arg(long, default_value = embedded::REPORT_DEFAULT)]
    report: PathBuf,
    /// How to print the scores.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    machine: MachineArguments,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    arguments.machine.start_threads()?;
    let devices = arguments.machine.open_devices()?;
    let kind = embedded::kind(&devices);
    let planned = tokio::task::block_in_place(|| plan_file(&arguments.job, &kind))?;
    let store = Store::open(&arguments.store)?;
    check_once(&store).await?;
    let finished = embedded::run(&store, &planned, (&arguments.machine, devices)).await?;
    complain_of_failures(&finished.status);
    let has_fits = planned.plan.fit_units().next().is_some();
    if has_fits && finished.status.phase.is_over() {
        let page = embedded::write_report(&store, &planned.plan.job, &arguments.report).await?;
        print_scores(&store, &planned.plan, &arguments).await?;
        crate::output::complain(&format!("report: {}", page.display()));
    }
    Ok(embedded::exit_code(&finished))
}

async fn print_scores(store: &Store, plan: &Plan, arguments: &Arguments) -> Result<()> {
    if arguments.format == Format::Json {
        let mut scores = Vec::new();
        for fit in plan.fit_units().flat_map(|(_, unit)| &unit.fits) {
            scores.extend(find_scores(store, fit.id()).await?);
        }
        return say_json(&scores);
    }
    if arguments.format == Format::Tsv {
        let plan = read_plan(store, &plan.job).await?;
        say(Gathered::read(store, &plan).await?.scores_tsv(&plan).trim_end());
        return Ok(());
    }
    let path = arguments.report.join("scores.txt");
    let text =
        std::fs::read_to_string(&path).map_err(|e| glmeval_common::error::io_error(&path, e))?;
    say(text.trim_end());
    Ok(())
}
