//! `glmeval worker`: units for a coordinator, or a static share of a job without one.

use crate::connecting::{TrustArguments, coordinator_name, host_name};
use crate::embedded::MachineArguments;
use crate::exit;
use crate::output::complain;
use crate::planning::plan_file;
use async_trait::async_trait;
use clap::{ArgGroup, Args};
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::control::Control;
use glmeval_common::error::{Error, ErrorKind, InputError, Result};
use glmeval_common::ids::WorkerId;
use glmeval_common::limits;
use glmeval_common::plan::Plan;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_common::store::coordinators::newest;
use glmeval_common::trust::{Credentials, Role};
use glmeval_common::wire::GrpcControl;
use glmeval_coordinator::{JobStore, StoredJobs};
use glmeval_worker::agent::{
    Agent, AgentSettings, CommitCheck, PartitionWorker, StopSource, UnitRunner,
};
use glmeval_worker::runner::Runner;
use glmeval_worker::spool::Spool;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Variables that number the members of an array, and how many there are.
const ARRAY_VARIABLES: [(&str, &str); 2] = [
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "GLMEVAL_PARTITIONS"),
];

/// Which units of a job are this process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// What the array's variables say.
    OfArray,
    /// Share I of N.
    Of(u32, u32),
}

/// Arguments of `worker`.
#[derive(Args)]
#[command(group(ArgGroup::new("source of work").required(true).multiple(true)
    .args(["coordinator", "discover", "partition"])))]
#[command(after_help = "Examples:
  glmeval worker --coordinator head:7070 --store s3://lab/glmeval
  glmeval worker --discover --store s3://lab/glmeval
  glmeval worker --partition 3/16 --store s3://lab/glmeval job.toml

A worker may be killed at any moment. On SIGTERM it finishes what fits into the grace time, hands the
rest back and exits with 75 while work is left, with 0 once there is none. While the store is away it
computes on and keeps finished shards in its spool; once that is full it hands back, and the next worker
on the machine commits what is left there.")]
pub(crate) struct Arguments {
    /// Address of the coordinator.
    #[arg(long, value_name = "HOST:PORT", env = "GLMEVAL_COORDINATOR")]
    coordinator: Option<String>,
    /// Read the coordinator's address from the store.
    #[arg(long, conflicts_with = "coordinator")]
    discover: bool,
    /// Name of the coordinator to discover.
    #[arg(long, default_value = "default", value_parser = coordinator_name)]
    name: String,
    /// Take share I of N of a job without a coordinator [default: from the array's variables].
    #[arg(long, value_name = "I/N", num_args = 0..=1, default_missing_value = "auto",
          value_parser = parse_share,
          conflicts_with_all = ["coordinator", "discover"], requires = "job")]
    partition: Option<Share>,
    /// The job file of --partition.
    job: Option<PathBuf>,
    /// Folder or URL of the store.
    #[arg(long)]
    store: String,
    /// Leave once every job is over, rather than wait for the next.
    #[arg(long)]
    until_idle: bool,
    /// Seconds the unit in hand may go on after SIGTERM.
    #[arg(long, default_value_t = 60)]
    grace_seconds: u64,
    /// Folder for finished shards while the store is away [default: below the temporary folder].
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
    /// Bytes of finished shards kept there; 0 keeps none.
    #[arg(long, value_name = "BYTES", default_value_t = limits::SPOOL_BYTES_MAX)]
    spool_bytes: u64,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    trust: TrustArguments,
}

/// A runner with its spool, which takes up what a worker that is gone has left there.
fn runner(
    arguments: &Arguments,
    store: &Store,
    clock: &Arc<dyn Clock>,
    stop: &StopSource,
) -> Result<Arc<Runner>> {
    let runner = Runner::new(store.clone(), Arc::clone(clock));
    if arguments.spool_bytes == 0 {
        return Ok(Arc::new(runner));
    }
    let default = || std::env::temp_dir().join("glmeval-spool");
    let root = arguments.spool.clone().unwrap_or_else(default);
    let (spool, left) = match Spool::open(&root, store.url(), arguments.spool_bytes) {
        Ok(opened) => opened,
        // Nobody asked for this folder: a worker can do without.
        Err(error) if arguments.spool.is_none() => {
            tracing::warn!(error = error.chain(), "no spool");
            return Ok(Arc::new(runner));
        }
        Err(error) => return Err(error),
    };
    let runner = Arc::new(runner.with_spool(spool));
    runner.deliver_left(left, stop);
    Ok(runner)
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    arguments.machine.start_threads()?;
    let store = Store::open(&arguments.store)?;
    let stop = StopSource::from_signals(arguments.grace_seconds.saturating_mul(1_000))?;
    if let (Some(share), Some(job)) = (&arguments.partition, &arguments.job) {
        return partition(&arguments, &store, (*share, job), stop).await;
    }
    let control = match connect(&arguments, &store).await {
        Ok(control) => control,
        Err(error) => return refused(error),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let runner: Arc<dyn UnitRunner> = runner(&arguments, &store, &clock, &stop)?;
    let host = host_name();
    let worker = WorkerId::new(format!("{host}-{}-{}", std::process::id(), random_token()));
    let mut settings = AgentSettings::new(worker, &host, glmeval_worker::numeric_classes());
    settings.until_idle = arguments.until_idle;
    match Agent::new(control, runner, clock, settings, stop).run().await {
        Ok(exit) => Ok(ExitCode::from(exit.exit_code())),
        Err(error) => refused(error),
    }
}

/// A worker that will be refused every time says so by its exit code.
fn refused(error: Error) -> Result<ExitCode> {
    if error.kind() != ErrorKind::Invalid {
        return Err(error);
    }
    complain(&format!("error: {}", error.chain()));
    Ok(ExitCode::from(exit::NEVER_RETRY))
}

async fn connect(arguments: &Arguments, store: &Store) -> Result<Arc<dyn Control>> {
    let credentials = arguments.trust.credentials(Role::Worker)?;
    let address = match &arguments.coordinator {
        Some(address) => address.clone(),
        None => discovered(&arguments.name, store, &credentials).await?,
    };
    Ok(Arc::new(GrpcControl::connect_as(&address, &credentials)?))
}

/// The address in the newest record, which must speak of the CA that this worker was given.
async fn discovered(name: &str, store: &Store, credentials: &Credentials) -> Result<String> {
    let record = newest(store, name).await?.ok_or_else(|| {
        Error::not_found(format!("no record of a coordinator named {name} in {}", store.url()))
    })?;
    let place = format!("record of coordinator {name} epoch {}", record.epoch);
    let defect = |expected: &str, found: &str| {
        Err(InputError::new(&place, "ca_sha256", expected, found).into())
    };
    match (&credentials.tls, &record.ca_sha256) {
        (Some(given), Some(named)) if !given.believes(named) => {
            return defect(&format!("the CA given, {}", given.ca_sha256()), named);
        }
        (Some(given), None) => {
            let expected = format!("the CA given, {}", given.ca_sha256());
            return defect(&expected, "a coordinator without TLS");
        }
        (None, Some(named)) => {
            return defect("a coordinator without TLS, as no --tls is given", named);
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    record.address.ok_or_else(|| Error::not_found(format!("{place}: it names no address")))
}

/// Commits as the store lists them.
struct Committed(StoredJobs);

#[async_trait]
impl CommitCheck for Committed {
    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>> {
        self.0.committed(plan).await
    }
}

async fn partition(
    arguments: &Arguments,
    store: &Store,
    (share, job): (Share, &Path),
    stop: StopSource,
) -> Result<ExitCode> {
    let (index, count) = match share {
        Share::OfArray => array_share()?,
        Share::Of(index, count) => (index, count),
    };
    let planned = tokio::task::block_in_place(|| plan_file(job))?;
    let jobs = StoredJobs::shared(store.clone());
    jobs.put_job(&planned.job.toml, &planned.plan).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let runner = runner(arguments, store, &clock, &stop)?;
    let worker = PartitionWorker {
        plan: &planned.plan,
        worker: WorkerId::new(format!("{}-{index}-{}", host_name(), random_token())),
        check: &Committed(jobs),
        runner: &*runner,
        clock: clock.as_ref(),
        stop,
    };
    let outcome = worker.run(index, count).await?;
    for (unit, reason) in &outcome.failed {
        complain(&format!("failed: unit {unit}: {reason}"));
    }
    let code = match (outcome.left, outcome.stopped) {
        (0, _) => 0,
        (_, true) => exit::WORK_LEFT,
        (_, false) => exit::FINISHED_WITH_FAILED_UNITS,
    };
    Ok(ExitCode::from(code))
}

fn parse_share(share: &str) -> Result<Share, String> {
    if share == "auto" {
        return Ok(Share::OfArray);
    }
    let parsed = share
        .split_once('/')
        .and_then(|(i, n)| Some((i.parse::<u32>().ok()?, n.parse::<u32>().ok()?)))
        .filter(|(index, count)| index < count);
    let (index, count) = parsed.ok_or("expected I/N with I from 0 to N - 1")?;
    Ok(Share::Of(index, count))
}

/// The share that a Slurm array or an indexed Kubernetes job gives this process.
fn array_share() -> Result<(u32, u32)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let share = ARRAY_VARIABLES.iter().find_map(|(index, count)| {
        let first = number("SLURM_ARRAY_TASK_MIN").unwrap_or(0);
        let first = if *index == "SLURM_ARRAY_TASK_ID" { first } else { 0 };
        let share = (number(index)?.checked_sub(first)?, number(count)?);
        (share.0 < share.1).then_some(share)
    });
    share.ok_or_else(|| {
        let expected = "--partition I/N, or SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, or \
                        JOB_COMPLETION_INDEX and GLMEVAL_PARTITIONS";
        InputError::new("environment", "--partition", expected, "none of them").into()
    })
}

#[cfg(test)]
mod tests {
    use super::{Share, parse_share};

    #[test]
    fn a_share_lies_within_its_count() {
        assert_eq!(parse_share("3/16"), Ok(Share::Of(3, 16)));
        for share in ["16/16", "1", "a/b", "-1/2"] {
            assert!(parse_share(share).is_err(), "{share}");
        }
    }
}
