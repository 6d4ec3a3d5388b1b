//! `glmeval report JOB --store URL --out DIR`.

use crate::embedded;
use crate::output::say;
use crate::planning::{KindArguments, plan_file};
use clap::Args;
use glmeval_common::error::Result;
use glmeval_common::ids::JobId;
use glmeval_common::store::Store;
use glmeval_common::store::jobs::read_plan;
use glmeval_worker::publish::Gathered;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `report`.
#[derive(Args)]
#[command(after_help = "Examples:
  glmeval report 3f2a… --store glmeval-store --out report
  glmeval report examples/quickstart.toml --store s3://lab/glmeval --out report")]
pub(crate) struct Arguments {
    /// Id of a job in the store, or its job file.
    job: String,
    #[command(flatten)]
    device: KindArguments,
    /// Folder or URL of the store.
    #[arg(long, default_value = embedded::STORE_DEFAULT)]
    store: String,
    /// Folder to write to.
    #[arg(long, default_value = embedded::REPORT_DEFAULT)]
    out: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let store = Store::open_existing(&arguments.store)?;
    let file = PathBuf::from(&arguments.job);
    let job = if file.is_file() {
        plan_file(&file, &arguments.device.kind()?)?.plan.job
    } else {
        JobId::parse(arguments.job.clone())?
    };
    let plan = read_plan(&store, &job).await?;
    let gathered = Gathered::read(&store, &plan).await?;
    let written = embedded::write_report(&plan, &gathered, &arguments.out)?;
    say(&written.display().to_string());
    Ok(ExitCode::SUCCESS)
}
