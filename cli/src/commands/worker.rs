//! `glmeval worker`: units for a coordinator, or a static share of a job without one.

use crate::commands::doctor::store::check_once;
use crate::connecting::{TrustArguments, coordinator_name};
use crate::discovery::Wanted;
use crate::embedded::MachineArguments;
use crate::exit;
use crate::host::node;
use crate::output::complain;
use crate::planning::plan_file;
use crate::stopping::StopArguments;
use crate::telemetry::{self, MetricsArguments};
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
use glmeval_common::store::coordinators::CoordinatorRecord;
use glmeval_common::trust::{Credentials, Role};
use glmeval_common::wire::GrpcControl;
use glmeval_coordinator::{JobStore, StoredJobs, Trust};
use glmeval_worker::agent::{
    Agent, AgentSettings, CommitCheck, PartitionWorker, StopSource, UnitRunner,
};
use glmeval_worker::device::Device;
use glmeval_worker::runner::Runner;
use glmeval_worker::spool::Spool;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Variables that number the members of an array, and how many there are.
const ARRAY_VARIABLES: [(&str, &str); 2] = [
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "GLMEVAL_PARTITIONS"),
];

/// Names a coordinator for workers that are told of none.
const COORDINATOR_VARIABLE: &str = "GLMEVAL_COORDINATOR";

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

A worker may be killed at any moment. On SIGTERM, SIGINT, SIGUSR1, a cloud's notice, a drain file or
`glmeval drain` it finishes what fits into the grace time, hands the rest back and exits with 75 while
work is left, with 0 once there is none. While the store is away it computes on and keeps finished shards
in its spool; once that is full it hands back, and the next worker on the machine commits what is left there.
One that is refused, that holds other files than were planned or that may not write to the store hands back
and exits with 42: others do its units, and whoever starts workers does not start it again like this.")]
pub(crate) struct Arguments {
    /// Address of the coordinator; --discover and --partition overrule the environment's.
    #[arg(long, value_name = "HOST:PORT", env = COORDINATOR_VARIABLE)]
    coordinator: Option<String>,
    /// Read the coordinator's address from the store.
    #[arg(long)]
    discover: bool,
    /// Name of the coordinator to discover.
    #[arg(long, default_value = "default", value_parser = coordinator_name)]
    name: String,
    /// Take share I of N of a job without a coordinator [default: from the array's variables].
    #[arg(long, value_name = "I/N", num_args = 0..=1, default_missing_value = "auto",
          value_parser = parse_share,
          conflicts_with = "discover", requires = "job")]
    partition: Option<Share>,
    /// The job file of --partition.
    job: Option<PathBuf>,
    /// Folder or URL of the store.
    #[arg(long)]
    store: String,
    /// Leave once every job is over, rather than wait for the next.
    #[arg(long)]
    until_idle: bool,
    /// Leave with 75 once no coordinator has answered for so long: whoever starts workers starts another later.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    detached_seconds: u64,
    /// Machine it runs on, as `drain` names it [default: Slurm's node, else the host's name].
    #[arg(long, env = "GLMEVAL_HOST")]
    host: Option<String>,
    #[command(flatten)]
    stop: StopArguments,
    /// Folder for finished shards while the store is away [default: below the temporary folder].
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
    /// Bytes of finished shards kept there; 0 keeps none.
    #[arg(long, value_name = "BYTES", default_value_t = limits::SPOOL_BYTES_MAX)]
    spool_bytes: u64,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    metrics: MetricsArguments,
    #[command(flatten)]
    trust: TrustArguments,
}

impl Arguments {
    /// What of the command line, beside the coordinator's address there, says where work comes from.
    fn other_source(&self) -> Option<&'static str> {
        if self.discover { Some("--discover") } else { self.partition.map(|_| "--partition") }
    }

    /// Leaves out the environment's coordinator where the command line names another source of work.
    ///
    /// # Errors
    /// Names the second source that the command line has.
    fn with_one_source(self, in_environment: Option<OsString>) -> Result<Self, String> {
        let Some(other) = self.other_source() else { return Ok(self) };
        match &self.coordinator {
            Some(address) if in_environment.as_deref() != Some(address.as_ref()) => Err(format!(
                "the argument '--coordinator <HOST:PORT>' cannot be used with '{other}'"
            )),
            _ => Ok(Self { coordinator: None, ..self }),
        }
    }
}

/// A runner for each device, all with one spool; the first takes up what a worker that is gone has left there.
fn runners(
    arguments: &Arguments,
    devices: Vec<Device>,
    store: &Store,
    clock: &Arc<dyn Clock>,
    stop: &StopSource,
) -> Result<Vec<(Device, Arc<Runner>)>> {
    let runners = devices.into_iter().map(|device| {
        let runner = Runner::new(store.clone(), Arc::clone(clock)).with_device(device.clone());
        (device, runner)
    });
    let without = |runners: Vec<(Device, Runner)>| {
        runners.into_iter().map(|(device, runner)| (device, Arc::new(runner))).collect()
    };
    let runners: Vec<_> = runners.collect();
    if arguments.spool_bytes == 0 {
        return Ok(without(runners));
    }
    let default = || std::env::temp_dir().join("glmeval-spool");
    let root = arguments.spool.clone().unwrap_or_else(default);
    let (spool, left) = match Spool::open(&root, store.url(), arguments.spool_bytes) {
        Ok(opened) => opened,
        // Nobody asked for this folder: a worker can do without.
        Err(error) if arguments.spool.is_none() => {
            tracing::warn!(error = error.chain(), "no spool");
            return Ok(without(runners));
        }
        Err(error) => return Err(error),
    };
    let runners = runners.into_iter().map(|(device, runner)| {
        let runner = runner.with_spool(Arc::clone(&spool));
        (device, Arc::new(runner))
    });
    let runners: Vec<_> = runners.collect();
    if let Some((_, first)) = runners.first() {
        first.deliver_left(left, stop);
    }
    Ok(runners)
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let arguments = match arguments.with_one_source(std::env::var_os(COORDINATOR_VARIABLE)) {
        Ok(arguments) => arguments,
        Err(reason) => {
            complain(&format!("error: {reason}\n\nFor more information, try '--help'."));
            return Ok(ExitCode::from(exit::WRONG_USAGE));
        }
    };
    arguments.machine.start_threads()?;
    // A device that is not there is told at once, not when a coordinator is found.
    let devices = arguments.machine.open_devices()?;
    let store = Store::open(&arguments.store)?;
    let stop = arguments.stop.listen()?;
    if arguments.metrics.wanted() {
        let plain = (&Trust::open(), false);
        arguments.metrics.serve(telemetry::start_metrics()?, plain).await?;
    }
    if let (Some(share), Some(job)) = (&arguments.partition, &arguments.job) {
        let ended = partition(&arguments, (&store, devices), (*share, job), stop).await;
        return match ended {
            Err(error) if error.is_of_place() => refused(error),
            ended => ended,
        };
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let control = match control(&arguments, &store, &clock, &stop).await {
        Ok(Some(control)) => control,
        Ok(None) => return Ok(ExitCode::from(exit::WORK_LEFT)),
        Err(error) => return refused(error),
    };
    let host = arguments.host.clone().unwrap_or_else(node);
    let mut running = Vec::new();
    for (device, runner) in runners(&arguments, devices, &store, &clock, &stop)? {
        let worker = WorkerId::new(format!("{host}-{}-{}", std::process::id(), random_token()));
        let mut settings = AgentSettings::new(worker, &host, device.numeric_classes());
        settings.until_idle = arguments.until_idle;
        settings.detached_ms_max = arguments.detached_seconds.saturating_mul(1_000);
        settings.facts = telemetry::machine::facts(&device);
        tracing::info!(worker = %settings.worker, device = device.name(), "worker starts");
        let (control, clock, stop) = (Arc::clone(&control), Arc::clone(&clock), stop.clone());
        let runner: Arc<dyn UnitRunner> = runner;
        let agent = Agent::new(control, runner, clock, settings, stop);
        let health = telemetry::machine::health(store.clone());
        running.push(tokio::spawn(agent.with_health(health).run()));
    }
    // Each device's worker goes on when another is refused or unfit; else the code is of the one with most left to do.
    let (mut code, mut first) = (0, None);
    for agent in running {
        match agent.await.map_err(|e| Error::bug("run a worker").with_source(e))? {
            Ok(exit) => code = code.max(exit.exit_code()),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    first.map_or(Ok(ExitCode::from(code)), refused)
}

/// A worker that will be refused, or unfit for its units, every time says so by its exit code.
fn refused(error: Error) -> Result<ExitCode> {
    if error.kind() != ErrorKind::Invalid && !error.is_of_place() {
        return Err(error);
    }
    complain(&format!("error: {}", error.chain()));
    Ok(ExitCode::from(exit::NEVER_RETRY))
}

/// The coordinator; `None` when the worker was told to stop before it found one, or none came in time.
async fn control(
    arguments: &Arguments,
    store: &Store,
    clock: &Arc<dyn Clock>,
    stop: &StopSource,
) -> Result<Option<Arc<dyn Control>>> {
    let credentials = arguments.trust.credentials(Role::Worker)?;
    if let Some(address) = &arguments.coordinator {
        return Ok(Some(Arc::new(GrpcControl::connect_as(address, &credentials)?)));
    }
    let wanted = Wanted {
        store: store.clone(),
        name: arguments.name.clone(),
        clock: Arc::clone(clock),
        connect: Box::new(move |record| {
            check_record(record, &credentials)?;
            let address = record.address.as_deref().unwrap_or_default();
            Ok(Arc::new(GrpcControl::connect_as(address, &credentials)?))
        }),
        until_idle: arguments.until_idle,
        wait_ms_max: arguments.detached_seconds.saturating_mul(1_000),
    };
    let found = wanted.found(stop).await?;
    Ok(found.map(|found| -> Arc<dyn Control> { Arc::new(found) }))
}

/// Refuses a record that speaks of another CA than this worker was given.
fn check_record(record: &CoordinatorRecord, credentials: &Credentials) -> Result<()> {
    let place = format!("record of coordinator {} epoch {}", record.name, record.epoch);
    let defect = |expected: &str, found: &str| {
        Err(InputError::new(&place, "ca_sha256", expected, found).into())
    };
    match (&credentials.tls, &record.ca_sha256) {
        (Some(given), Some(named)) if !given.believes(named) => {
            defect(&format!("the CA given, {}", given.ca_sha256()), named)
        }
        (Some(given), None) => {
            let expected = format!("the CA given, {}", given.ca_sha256());
            defect(&expected, "a coordinator without TLS")
        }
        (None, Some(named)) => defect("a coordinator without TLS, as no --tls is given", named),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
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
    (store, devices): (&Store, Vec<Device>),
    (share, job): (Share, &Path),
    stop: StopSource,
) -> Result<ExitCode> {
    let (index, count) = match share {
        Share::OfArray => array_share()?,
        Share::Of(index, count) => (index, count),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut runners = runners(arguments, devices, store, &clock, &stop)?;
    let (Some((device, runner)), true) = (runners.pop(), runners.is_empty()) else {
        let expected = "one device with --partition: start one worker for each, --device cuda:N";
        return Err(InputError::new("--device", "", expected, "several").into());
    };
    let planned = tokio::task::block_in_place(|| plan_file(job, &device.kind()))?;
    check_once(store).await?;
    let jobs = StoredJobs::shared(store.clone());
    jobs.put_job(&planned.job.toml, &planned.plan).await?;
    let worker = PartitionWorker {
        plan: &planned.plan,
        worker: WorkerId::new(format!("{}-{index}-{}", node(), random_token())),
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
        // A part of an array that is run again numbers its members with gaps; shares only spread them.
        let (index, count) = (number(index)?.checked_sub(first)?, number(count)?);
        Some((index.checked_rem(count)?, count))
    });
    share.ok_or_else(|| {
        let expected = "--partition I/N, or SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, or \
                        JOB_COMPLETION_INDEX and GLMEVAL_PARTITIONS";
        InputError::new("environment", "--partition", expected, "none of them").into()
    })
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Share, parse_share};
    use clap::Parser;
    use std::ffi::OsString;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// The coordinator that is left of a command line beside one in the environment.
    fn coordinator(words: &[&str], in_environment: Option<&str>) -> Result<Option<String>, String> {
        let words = ["worker", "--store", "s"].iter().chain(words);
        let arguments = Line::try_parse_from(words).map_err(|e| e.to_string())?.arguments;
        let in_environment = in_environment.map(OsString::from);
        arguments.with_one_source(in_environment).map(|arguments| arguments.coordinator)
    }

    #[test]
    fn the_command_line_overrules_a_coordinator_in_the_environment() {
        let at = ["--coordinator", "head:7070"];
        let others: [&[&str]; 2] = [&["--discover"], &["--partition", "0/2", "job.toml"]];
        for other in others {
            let both = [&at[..], other].concat();
            assert_eq!(coordinator(&both, Some("head:7070")), Ok(None), "{both:?}");
            for in_environment in [None, Some("other:7070")] {
                let refused = coordinator(&both, in_environment).unwrap_err();
                assert!(refused.contains(other[0]), "{refused}");
            }
        }
        assert_eq!(coordinator(&at, Some("head:7070")), Ok(Some("head:7070".to_owned())));
    }

    #[test]
    fn a_share_lies_within_its_count() {
        assert_eq!(parse_share("3/16"), Ok(Share::Of(3, 16)));
        for share in ["16/16", "1", "a/b", "-1/2"] {
            assert!(parse_share(share).is_err(), "{share}");
        }
    }
}
