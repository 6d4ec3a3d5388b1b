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
        let plan = read_plan(&store, &planned.plan.job).await?;
        let gathered = Gathered::read(&store, &plan).await?;
        let page = embedded::write_report(&plan, &gathered, &arguments.report)?;
        print_scores(&plan, &gathered, arguments.format)?;
        crate::output::complain(&format!("report: {}", page.display()));
    }
    Ok(embedded::exit_code(&finished))
}

fn print_scores(plan: &Plan, gathered: &Gathered<'_>, format: Format) -> Result<()> {
    match format {
        Format::Json => return say_json(&gathered.scores().collect::<Vec<_>>()),
        Format::Tsv => say(gathered.scores_tsv(plan).trim_end()),
        Format::Table => say(gathered.scores_text(plan).trim_end()),
    }
    Ok(())
}
