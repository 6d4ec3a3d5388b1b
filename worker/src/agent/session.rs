//! One life of an agent: what it holds, and what it waits for.
//!
//! Leaves out: the calls themselves (talk). Invariant: a unit runs on its own task, so nothing it
//! does delays a heartbeat, and its panic is its own failure.

use super::{
    Agent, AgentExit, REVOKED, Readiness, RunContext, Stop, StopHandle, UnitOutcome, UnitProgress,
    stop_pair, unit_rows,
};
use glmeval_common::control::{Failure, Grant, LeaseKey, Outcome, Report};
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::{Attempt, WorkerId};
use glmeval_common::limits;
use glmeval_common::rng::random_token;
use glmeval_common::trace;
use glmeval_common::unit::WorkUnit;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{Instrument, Span};

/// How long what is in hand may still find its way into the store once this worker is known to be unfit or the
/// disk of its spool takes no more.
const BROKEN_GRACE_MS: u64 = 20_000;

/// A unit in hand.
pub(super) struct Running {
    pub(super) lease: LeaseKey,
    pub(super) progress: Arc<UnitProgress>,
    stop: StopHandle,
    task: JoinHandle<Result<UnitOutcome>>,
    span: Span,
    /// When only the way to the store was left.
    computed_ms: Option<u64>,
    /// The coordinator needs it no more.
    pub(super) revoked: bool,
}

/// An order to stop that is being followed.
struct Stopping {
    /// When the unit in hand is told to give up.
    grace_ends: Instant,
    /// When it is dropped.
    drop_at: Instant,
    /// Whether units were told that the grace is over.
    pressed: bool,
}

/// State of the loop.
pub(super) struct Session {
    pub(super) agent: Agent,
    pub(super) queue: VecDeque<Grant>,
    /// The unit that is computed.
    pub(super) running: Option<Running>,
    /// Units that are computed and on their way to the store.
    pub(super) committing: Vec<Running>,
    /// Reports the coordinator has not taken yet, oldest first, each with the span of its attempt; as
    /// many as leases at most.
    pub(super) reports: VecDeque<(Report, Span)>,
    pub(super) registered: bool,
    pub(super) epoch: u64,
    pub(super) beat: Interval,
    pub(super) finished: bool,
    pub(super) detached_since_ms: Option<u64>,
    stopping: Option<Stopping>,
    /// Why this worker can do no such unit as it met, and leaves.
    unfit: Option<Error>,
}

type TaskResult = Result<Result<UnitOutcome>, JoinError>;

/// What ended the wait.
enum Woken {
    /// The unit that was computed has ended.
    Ended(TaskResult),
    /// The unit that is computed is ready to be committed.
    Computed,
    /// This one of those on their way to the store has ended.
    Delivered(usize, TaskResult),
    Stop(Stop),
    Grace,
    Beat,
}

pub(super) fn beat_interval(interval_ms: u64) -> Interval {
    let mut beat = tokio::time::interval(Duration::from_millis(interval_ms.max(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

impl Session {
    pub(super) fn new(agent: Agent) -> Self {
        let beat = beat_interval(agent.settings.call_interval_ms);
        Self {
            agent,
            queue: VecDeque::new(),
            running: None,
            committing: Vec::new(),
            reports: VecDeque::new(),
            registered: false,
            epoch: 0,
            beat,
            finished: false,
            detached_since_ms: None,
            stopping: None,
            unfit: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<AgentExit> {
        loop {
            self.start_next();
            if !self.has_in_hand() {
                if let Some(exit) = self.exit_when_idle().await {
                    return self.unfit.map_or(Ok(exit), Err);
                }
                if self.registered && self.detached_since_ms.is_none() {
                    self.ask_and_wait().await?;
                    continue;
                }
            }
            match self.wait().await {
                Woken::Ended(result) => {
                    let running = self.running.take();
                    self.agent.board.show(None);
                    self.ended(running, result);
                    self.call().await?;
                }
                Woken::Computed => {
                    self.agent.board.show(None);
                    let computed_ms = Some(self.agent.clock.now_ms());
                    let running = self.running.take();
                    let running = running.map(|running| Running { computed_ms, ..running });
                    self.committing.extend(running);
                    if self.queue.is_empty() {
                        self.call().await?;
                    }
                }
                Woken::Delivered(index, result) => {
                    let delivered = self.committing.remove(index);
                    self.ended(Some(delivered), result);
                    self.call().await?;
                }
                Woken::Stop(order) => self.begin_stop(order),
                Woken::Grace => self.press_on(),
                Woken::Beat => self.call().await?,
            }
        }
    }

    /// Whether a unit is computed or on its way to the store.
    pub(super) fn has_in_hand(&self) -> bool {
        self.running.is_some() || !self.committing.is_empty()
    }

    /// Units that are computed or on their way to the store.
    pub(super) fn in_hand(&self) -> impl Iterator<Item = &Running> {
        self.running.iter().chain(&self.committing)
    }

    /// Waits for an answer with units, or for the order to stop.
    async fn ask_and_wait(&mut self) -> Result<()> {
        let stop = self.agent.stop.clone();
        let order = tokio::select! {
            biased;
            order = stop.stopped() => order,
            asked = self.ask() => {
                asked?;
                return if self.queue.is_empty() { self.call().await } else { Ok(()) };
            }
        };
        self.begin_stop(order);
        Ok(())
    }

    /// The exit of an agent that has nothing in hand, if it is time.
    async fn exit_when_idle(&mut self) -> Option<AgentExit> {
        let limit_ms = self.agent.settings.detached_ms_max;
        let now_ms = self.agent.clock.now_ms();
        let detached = self
            .detached_since_ms
            .is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= limit_ms);
        let done = self.agent.settings.until_idle && self.finished && self.reports.is_empty();
        if self.stopping.is_none() && !detached && !done {
            return None;
        }
        self.farewell().await;
        Some(if self.finished { AgentExit::Finished } else { AgentExit::WorkLeft })
    }

    /// Whether a further unit may be computed now; hands back what is queued where none will be soon.
    fn may_start(&mut self) -> bool {
        // A shard that waits for a store that is away lies in the spool, which has a bound of its own.
        let sending = self.committing.iter().filter(|running| !running.progress.is_waiting());
        if self.running.is_some() || sending.count() >= limits::COMMITS_IN_FLIGHT_MAX {
            return false;
        }
        match self.agent.runner.readiness() {
            Readiness::Ready => return true,
            Readiness::Full => self.hand_back_queue(),
            Readiness::Broken(reason) => {
                self.begin_stop(Stop { grace_ms: BROKEN_GRACE_MS, reason });
            }
        }
        false
    }

    /// Starts the next unit of the queue, if none runs.
    fn start_next(&mut self) {
        if !self.may_start() {
            return;
        }
        let Some(Grant { lease, work, trace }) = self.queue.pop_front() else { return };
        let now_ms = self.agent.clock.now_ms();
        let progress = Arc::new(UnitProgress::new(now_ms, unit_rows(&work)));
        let (stop, source) = stop_pair();
        let worker = self.agent.settings.worker.clone();
        let worker_name = worker.clone();
        let attempt = Attempt::new(random_token());
        let context = RunContext {
            worker,
            generation: lease.generation,
            progress: Arc::clone(&progress),
            stop: source,
        };
        let span = attempt_span(&lease, &work, &worker_name, &trace);
        span.in_scope(|| tracing::debug!("unit starts"));
        self.agent.board.show(Some((work.label(), Arc::clone(&progress))));
        let runner = Arc::clone(&self.agent.runner);
        let run = async move { runner.run(&work, &attempt, &context).await };
        // Lines that are wanted while spans of units are not stand in the worker's.
        let task = tokio::spawn(run.instrument(span.clone()).instrument(Span::current()));
        let (computed_ms, revoked) = (None, false);
        self.running = Some(Running { lease, progress, stop, task, span, computed_ms, revoked });
    }

    async fn wait(&mut self) -> Woken {
        let stop = self.agent.stop.clone();
        let wake_at = self
            .stopping
            .as_ref()
            .map(|stopping| if stopping.pressed { stopping.drop_at } else { stopping.grace_ends });
        let progress = self.running.as_ref().map(|running| Arc::clone(&running.progress));
        let computed = async {
            match progress {
                Some(progress) => progress.computed().await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match &mut self.running {
                Some(running) => (&mut running.task).await,
                None => std::future::pending().await,
            }
        };
        let tasks: Vec<_> = self.committing.iter_mut().map(|running| &mut running.task).collect();
        let delivered = async {
            if tasks.is_empty() {
                std::future::pending::<()>().await;
            }
            let (result, index, _) = futures::future::select_all(tasks).await;
            (index, result)
        };
        let grace = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = ended => Woken::Ended(result),
            (index, result) = delivered => Woken::Delivered(index, result),
            () = computed => Woken::Computed,
            order = stop.stopped(), if self.stopping.is_none() => Woken::Stop(order),
            () = grace => Woken::Grace,
            _ = self.beat.tick() => Woken::Beat,
        }
    }

    /// Takes note of how a unit in hand ended.
    fn ended(&mut self, running: Option<Running>, result: TaskResult) {
        let Some(running) = running else { return };
        let told = running.stop_was_told();
        let outcome = match result {
            Ok(Ok(UnitOutcome::Committed)) => Outcome::Committed,
            Ok(Ok(UnitOutcome::Lost)) => Outcome::Lost,
            _ if running.revoked => return,
            _ if told => Outcome::HandedBack,
            Ok(Err(error)) if error.is_of_place() => {
                let chain = error.chain();
                self.unfit.get_or_insert(error);
                Outcome::Unfit { chain }
            }
            Ok(Err(error)) => Outcome::Failed(Failure::of(&error)),
            Err(panic) => {
                let error = Error::bug("the unit panicked").with_source(panic);
                Outcome::Failed(Failure::of(&error))
            }
        };
        match &outcome {
            Outcome::Committed | Outcome::Lost => self.agent.board.count(true),
            Outcome::Failed(Failure { chain, .. }) => {
                let unit = running.lease.unit;
                running.span.in_scope(|| tracing::warn!(unit, error = chain, "unit failed"));
                self.agent.board.count(false);
            }
            Outcome::Unfit { chain } => {
                let unit = running.lease.unit;
                running.span.in_scope(|| tracing::error!(unit, error = chain, "worker is unfit"));
            }
            Outcome::HandedBack => {}
        }
        let now_ms = self.agent.clock.now_ms();
        let elapsed_ms = running.progress.elapsed_ms(&*self.agent.clock);
        // The device was the next unit's while this one was on its way to the store.
        let away_ms =
            running.computed_ms.map_or(0, |computed_ms| now_ms.saturating_sub(computed_ms));
        let device_ms = elapsed_ms.saturating_sub(away_ms);
        let report = self.report(running.lease, outcome, (elapsed_ms, device_ms));
        self.reports.push_back((report, running.span));
        if self.unfit.is_some() {
            let reason = "unfit for its units".to_owned();
            self.begin_stop(Stop { grace_ms: BROKEN_GRACE_MS, reason });
        }
    }

    fn report(
        &self,
        lease: LeaseKey,
        outcome: Outcome,
        (elapsed_ms, device_ms): (u64, u64),
    ) -> Report {
        let worker = self.agent.settings.worker.clone();
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        let (seconds, device_seconds) = (seconds(elapsed_ms), seconds(device_ms));
        Report { worker, lease, outcome, seconds, device_seconds }
    }

    /// Reports a lease that came to nothing here.
    fn hand_back(&mut self, lease: LeaseKey, span: Span) {
        let report = self.report(lease, Outcome::HandedBack, (0, 0));
        self.reports.push_back((report, span));
    }

    /// Stops asking, hands back what has not begun, gives the unit in hand its grace.
    pub(super) fn begin_stop(&mut self, order: Stop) {
        if self.stopping.is_some() {
            return;
        }
        let Stop { grace_ms, reason } = order;
        let handed_back = self.queue.len();
        tracing::info!(reason, grace_ms, handed_back, "worker stops");
        let running = self.running.as_ref();
        let left_ms = running.and_then(|running| running.progress.left_ms(&*self.agent.clock));
        let fits = left_ms.is_none_or(|left_ms| left_ms <= grace_ms);
        // Another worker can begin at once what this one cannot finish.
        let grace_ms = if fits { grace_ms } else { 0 };
        let grace_ends = Instant::now() + Duration::from_millis(grace_ms);
        let drop_at = grace_ends + Duration::from_millis(self.agent.settings.abandon_ms_max);
        self.stopping = Some(Stopping { grace_ends, drop_at, pressed: false });
        self.hand_back_queue();
        self.beat.reset_immediately();
    }

    fn hand_back_queue(&mut self) {
        for grant in std::mem::take(&mut self.queue) {
            self.hand_back(grant.lease, Span::none());
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The grace is over: first a word, then the axe.
    fn press_on(&mut self) {
        let Some(stopping) = &mut self.stopping else { return };
        if std::mem::replace(&mut stopping.pressed, true) {
            let in_hand: Vec<Running> =
                self.running.take().into_iter().chain(self.committing.drain(..)).collect();
            for running in in_hand {
                running.task.abort();
                self.hand_back(running.lease, running.span);
            }
        } else {
            for running in self.in_hand() {
                running.stop.stop(0, "grace is over");
            }
        }
    }

    /// The coordinator needs a unit no more.
    pub(super) fn revoke(&mut self, lease: &LeaseKey) {
        let same = |other: &LeaseKey| other.job == lease.job && other.unit == lease.unit;
        self.queue.retain(|grant| !same(&grant.lease));
        let in_hand = self.running.iter_mut().chain(&mut self.committing);
        for running in in_hand.filter(|running| same(&running.lease)) {
            running.revoked = true;
            running.stop.stop(0, REVOKED);
        }
    }
}

impl Running {
    fn stop_was_told(&self) -> bool {
        self.stop.was_told()
    }
}

/// The span of one attempt, under the lease that `trace` names; logs within it carry its fields.
fn attempt_span(lease: &LeaseKey, work: &WorkUnit, worker: &WorkerId, trace: &str) -> Span {
    let LeaseKey { job, unit, generation } = lease;
    let span = tracing::info_span!(
        parent: None, "unit", %job, unit, %generation, %worker, label = work.label()
    );
    trace::set_parent(&span, trace);
    span
}
