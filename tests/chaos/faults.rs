//! What can go wrong with a cluster, drawn from a seed.
//!
//! Leaves out: doing it (`cluster`).

use glmeval_common::rng::Rng;
use std::time::Duration;

/// Workers of the cluster.
pub(crate) const WORKERS: usize = 4;

/// A cut that outlasts the attempts at one request.
const OUTAGE: Duration = Duration::from_secs(15);

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// `kill -9`.
    KillWorker(usize),
    /// A stop signal with notice: it hands back and exits.
    TerminateWorker(usize),
    /// SIGSTOP, and SIGCONT after a while.
    FreezeWorker(usize, Duration),
    /// The worker cannot send to the coordinator.
    CutWorkerCoordinator(usize, Duration),
    /// The worker cannot send to the store.
    CutWorkerStore(usize, Duration),
    /// The worker's requests reach the store, the answers are lost.
    LoseStoreAnswers(usize, Duration),
    /// The worker is off the network.
    UnplugWorker(usize, Duration),
    /// The coordinator cannot send to the store.
    CutCoordinatorStore(Duration),
    /// `kill -9`, and a new one takes over.
    KillCoordinator,
}

impl Fault {
    /// Short name, for counting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillWorker(_) => "kill -9 worker",
            Self::TerminateWorker(_) => "SIGTERM worker",
            Self::FreezeWorker(..) => "SIGSTOP worker",
            Self::CutWorkerCoordinator(..) => "cut worker - coordinator",
            Self::CutWorkerStore(..) => "cut worker - store",
            Self::LoseStoreAnswers(..) => "answers of the store lost",
            Self::UnplugWorker(..) => "worker off the network",
            Self::CutCoordinatorStore(_) => "cut coordinator - store",
            Self::KillCoordinator => "kill -9 coordinator",
        }
    }

    /// The next fault: kills and signals as often as all cuts together.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let worker = rng.below(WORKERS as u64) as usize;
        let time = Duration::from_millis(200 + rng.below(2_300));
        match rng.below(12) {
            0..=2 => Self::KillWorker(worker),
            3..=4 => Self::TerminateWorker(worker),
            5 => Self::FreezeWorker(worker, time),
            6 => Self::CutWorkerCoordinator(worker, time),
            // Some longer than the store's own patience: shards go to the spool.
            7 if rng.below(4) == 0 => Self::CutWorkerStore(worker, OUTAGE),
            7 => Self::CutWorkerStore(worker, time),
            8 => Self::LoseStoreAnswers(worker, time),
            9 => Self::UnplugWorker(worker, time),
            10 => Self::CutCoordinatorStore(time),
            _ => Self::KillCoordinator,
        }
    }
}
