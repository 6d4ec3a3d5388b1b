//! `glmeval store gc`.

use crate::output::{bytes, complain, say};
use clap::{Args, Subcommand};
use glmeval_common::error::Result;
use glmeval_common::ids::JobId;
use glmeval_common::store::Store;
use glmeval_common::store::gc;
use glmeval_coordinator::Unfinished;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

/// Unfinished jobs that are named.
const JOBS_NAMED_MAX: usize = 5;

/// What to do with a store.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Delete data that no commit names, uploads that never ended and old snapshots; never committed data.
    Gc(GcArguments),
}

/// Arguments of `store gc`.
#[derive(Args)]
#[command(after_help = "Example:
  glmeval store gc --store s3://lab/glmeval --dry-run")]
pub(crate) struct GcArguments {
    /// Folder or URL of the store.
    #[arg(long)]
    store: String,
    /// Keep attempts younger than this many hours; those of jobs that are not finished stay 24 h, whatever this says.
    #[arg(long, default_value_t = 24)]
    grace_hours: u64,
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

/// Folders in which a worker may be about to commit; says so on stderr.
async fn unfinished(store: &Store) -> Result<BTreeSet<String>> {
    let Unfinished { jobs, folders } = Unfinished::of(store).await?;
    if !jobs.is_empty() {
        let names: Vec<&str> = jobs.iter().map(JobId::as_str).take(JOBS_NAMED_MAX).collect();
        let (names, more) = (names.join(", "), jobs.len().saturating_sub(names.len()));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        complain(&format!(
            "what unfinished jobs read and write stays until it is 24 h old: {names}{more}"
        ));
    }
    Ok(folders)
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    let Command::Gc(arguments) = command;
    let store = Store::open_existing(&arguments.store)?;
    let grace = Duration::from_secs(arguments.grace_hours.saturating_mul(3_600));
    let sweep = gc::sweep_beside(
        &store,
        grace,
        async || {
            if grace < gc::default_grace() { unfinished(&store).await } else { Ok(BTreeSet::new()) }
        },
        !arguments.dry_run,
    );
    let sweep = sweep.await?;
    for entry in &sweep.orphans {
        say(&entry.path);
    }
    for upload in &sweep.uploads {
        say(&format!("{} (upload {} that never ended)", upload.path, upload.id));
    }
    let deed = if arguments.dry_run { "would delete" } else { "deleted" };
    let count = sweep.orphans.len() + sweep.staging_files.len() + sweep.uploads.len();
    complain(&format!(
        "{deed} {count} of {} objects, {}",
        sweep.examined,
        bytes(sweep.orphan_bytes())
    ));
    Ok(ExitCode::SUCCESS)
}
