//! A whole job in one process: coordinator, workers and store without a socket.
//!
//! Leaves out: decisions and computing; it wires the same coordinator, agent loop and runner that a
//! cluster runs.

use crate::full_disk::StopWhenFull;
use crate::interruption;
use crate::output::complain;
use crate::planning::Planned;
use crate::progress::Progress;
use crate::report_folder;
use clap::Args;
use futures::StreamExt;
use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::control::{Control, JobStatus};
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::{JobId, SetId, WorkerId};
use glmeval_common::plan::Plan;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_coordinator::driver::Recovery;
use glmeval_coordinator::{Coordinator, CoordinatorRecord, Settings, StoredJobs};
use glmeval_worker::agent::{Agent, AgentExit, AgentSettings, StopHandle, StopSource, stop_pair};
use glmeval_worker::device::{Device, DeviceChoice};
use glmeval_worker::publish::Gathered;
use glmeval_worker::runner::Runner;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Where `run` keeps its store unless told otherwise.
pub(crate) const STORE_DEFAULT: &str = "glmeval-store";
/// Where `run` and `report` write unless told otherwise.
pub(crate) const REPORT_DEFAULT: &str = "glmeval-report";
/// How long a unit may go on after the first interrupt.
const INTERRUPT_GRACE_MS: u64 = 2_000;

/// What of this machine a command uses.
#[derive(Args, Clone)]
pub(crate) struct MachineArguments {
    /// Units computed at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// CPU threads of all workers together [default: all].
    #[arg(long)]
    threads: Option<usize>,
    /// Where gLMs run and networks are trained: cpu, cuda, cuda:N, cuda:N,M for several, or emulated (slow, for tests).
    #[arg(long, default_value = "cpu", env = "GLMEVAL_DEVICE")]
    device: DeviceChoice,
}

impl MachineArguments {
    /// Sizes the pool that all kernels share; before anything else uses it.
    pub(crate) fn start_threads(&self) -> Result<()> {
        glmeval_worker::start_threads(self.threads)
    }

    /// The devices that were asked for.
    pub(crate) fn open_devices(&self) -> Result<Vec<Device>> {
        self.device.open()
    }

    /// Their kind, which need not be on this machine.
    pub(crate) fn device_kind(&self) -> Result<String> {
        self.device.kind()
    }
}

/// What `run` came to.
pub(crate) struct Finished {
    /// Where the job stands.
    pub(crate) status: JobStatus,
    /// Whether the user interrupted it.
    pub(crate) interrupted: bool,
}

/// The one embedding set of an ad hoc extraction.
pub(crate) struct Embedding {
    /// The set.
    pub(crate) set: SetId,
    /// Examples; for windows the skipped ones included.
    pub(crate) rows: u64,
}

impl Embedding {
    /// The set of a plan with exactly one.
    pub(crate) fn of(plan: &Plan) -> Result<Self> {
        let set = plan.sets.first().ok_or_else(|| Error::bug("a plan without an embedding set"))?;
        let rows = plan.datasets.first().map_or(0, |dataset| dataset.facts.rows);
        Ok(Self { set: set.id.clone(), rows })
    }
}

/// Runs a planned job to its end, showing progress.
pub(crate) async fn run(
    store: &Store,
    planned: &Planned,
    (machine, devices): (&MachineArguments, Vec<Device>),
) -> Result<Finished> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let coordinator = start_coordinator(store, &clock).await?;
    let plan = planned.plan.clone();
    let job = coordinator.submit(&planned.job.toml, plan).await?;
    let ticking = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.run().await }
    });
    let (stop, source) = stop_pair();
    let runners = devices.into_iter().map(|device| {
        let classes = device.numeric_classes();
        let runner = Runner::new(store.clone(), Arc::clone(&clock)).with_device(device);
        (classes, Arc::new(StopWhenFull::new(runner, stop.clone())))
    });
    let runners: Vec<_> = runners.collect();
    let mut agents = Vec::new();
    for runner in &runners {
        agents.extend(agents_of(runner, &clock, &coordinator, machine.workers, &source));
    }
    let boards = agents.iter().map(Agent::board).collect();
    let progress = Progress::of_workers(&planned.plan, boards);
    let running: Vec<_> = agents.into_iter().map(|agent| tokio::spawn(agent.run())).collect();
    let working = std::pin::pin!(all_of(running));
    let interrupted = follow((&coordinator, &job), progress, (stop, source), working).await?;
    ticking.abort();
    if let Some(error) = runners.iter().find_map(|(_, runner)| runner.take_error()) {
        return Err(error);
    }
    let mut status = coordinator.status(&job).await?;
    if interrupted {
        // That its workers have left is no news.
        status.notices.clear();
    }
    Ok(Finished { status, interrupted })
}

async fn start_coordinator(store: &Store, clock: &Arc<dyn Clock>) -> Result<Coordinator> {
    let record = CoordinatorRecord {
        version: glmeval_common::layout::FORMAT_VERSION,
        token: random_token(),
        address: None,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_ms: clock.unix_ms(),
    };
    let jobs = Arc::new(StoredJobs::embedded(store.clone()));
    let settings = Settings { tick_interval_ms: 100, ..Settings::default() };
    let clock = Arc::clone(clock);
    Coordinator::start("embedded", jobs, clock, settings, &record, Recovery::SubmittedOnly).await
}

/// What the devices are in a numeric class; all are of one kind.
pub(crate) fn kind(devices: &[Device]) -> String {
    devices.first().unwrap_or(&Device::Cpu).kind()
}

/// The workers of one device, not started yet.
fn agents_of(
    (classes, runner): &(Vec<String>, Arc<StopWhenFull>),
    clock: &Arc<dyn Clock>,
    coordinator: &Coordinator,
    workers: u16,
    stop: &StopSource,
) -> Vec<Agent> {
    let token = random_token();
    (0..workers)
        .map(|number| {
            let worker = WorkerId::new(format!("embedded-{number}-{token}"));
            let mut settings = AgentSettings::new(worker, "localhost", classes.clone());
            settings.until_idle = true;
            settings.prefetch_units_max = 0;
            let control: Arc<dyn Control> = Arc::new(coordinator.clone());
            Agent::new(control, runner.clone(), Arc::clone(clock), settings, stop.clone())
        })
        .collect()
}

/// Ends as the last of `workers` does, with the first error.
async fn all_of(workers: Vec<JoinHandle<Result<AgentExit>>>) -> Result<()> {
    let mut first = Ok(());
    for worker in workers {
        let ended = worker.await.map_err(|e| Error::bug("run a worker").with_source(e))?;
        first = first.and(ended.map(drop));
    }
    first
}

/// Shows progress until the job is over or stopped, and waits for its workers; returns whether the user interrupted it.
///
/// # Errors
/// What ended the workers, at once if none is left: nobody else would ever end the job.
async fn follow(
    (coordinator, job): (&Coordinator, &JobId),
    mut progress: Progress,
    (stop, source): (StopHandle, StopSource),
    mut working: Pin<&mut impl Future<Output = Result<()>>>,
) -> Result<bool> {
    let mut statuses = coordinator.watch(job).await?;
    let mut last = None;
    let (mut interrupted, mut is_worked) = (false, false);
    // One listener for the whole loop: none is there between two of them.
    let mut asked = std::pin::pin!(interruption::asked());
    loop {
        tokio::select! {
            status = statuses.next() => match status {
                Some(status) => {
                    let status = status?;
                    progress.show(&status);
                    last = Some(status);
                }
                None => break,
            },
            _ = source.stopped() => break,
            ended = &mut working, if !is_worked => {
                ended?;
                is_worked = true;
            }
            signal = &mut asked => {
                signal.map_err(|e| Error::unavailable("listen for signals").with_source(e))?;
                interrupted = true;
                stop.stop(INTERRUPT_GRACE_MS, "interrupted");
                complain("interrupted: finishing what is nearly done; run again to resume");
                break;
            }
        }
    }
    if let Some(status) = &last {
        progress.finish(status);
    }
    if !is_worked {
        working.await?;
    }
    Ok(interrupted)
}

/// Exit code of a command that ran a job.
pub(crate) fn exit_code(finished: &Finished) -> ExitCode {
    let code = if finished.interrupted && !finished.status.phase.is_over() {
        crate::exit::INTERRUPTED
    } else {
        finished.status.phase.exit_code()
    };
    ExitCode::from(code)
}

/// Renders the report of `plan` from what was `gathered` of it and writes it below `folder`; where its page lies.
pub(crate) fn write_report(plan: &Plan, gathered: &Gathered<'_>, folder: &Path) -> Result<PathBuf> {
    let files = tokio::task::block_in_place(|| gathered.render(plan))?;
    report_folder::write(folder, files)
}
