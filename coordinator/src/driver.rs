//! The one owner of a [`State`]: takes events in, does what follows, in order.
//!
//! Leaves out: decisions (state), bytes (service). Invariant: the state is locked only for the
//! moment of one `apply`, never while anything is waited for; a fenced coordinator answers nothing.

use crate::job_store::{CoordinatorRecord, JobStore, Quarantined};
use crate::recover;
use crate::settings::Settings;
use crate::state::{Effect, Event, State};
use glmeval_common::clock::Clock;
use glmeval_common::control::{Failure, JobPhase};
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::job::Prices;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

mod control;
pub mod gauges;
mod history;
mod ledger;
mod overview;
mod refusals;
mod snapshots;
pub mod telemetry;

pub use history::{History, Point};
pub use overview::{CoordinatorView, JobView, Overview};
#[cfg(test)]
mod tests;

/// Which jobs a coordinator takes up at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Every job in the store.
    AllJobs,
    /// None: only what is submitted to it.
    SubmittedOnly,
}

/// Time between two looks at how fast jobs go.
const SAMPLE_MS: u64 = 1_000;

/// What is to last, on its way to the store.
#[derive(Clone)]
enum Record {
    /// Job, round, unit, last failure.
    Unit(JobId, u32, u32, Failure),
    /// Job, round, rows, what their last error asks for.
    Rows(JobId, u32, Quarantined, ErrorKind),
    Refused(WorkerId, String),
}

struct Inner {
    name: String,
    epoch: u64,
    settings: Settings,
    store: Arc<dyn JobStore>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Locked after the state, where both are.
    ledger: Mutex<ledger::Ledger>,
    started_ms: u64,
    /// When rates were last taken note of.
    sampled_ms: AtomicU64,
    /// Rounds of the jobs that the state knows: what it decides is no part of a later one.
    rounds: Mutex<BTreeMap<JobId, u32>>,
    /// Records the store does not hold yet, oldest first.
    records: Mutex<VecDeque<Record>>,
    /// Held while records are written, so that they are written in order.
    recording: tokio::sync::Mutex<()>,
    /// Wakes, in the order they came, those who wait for units that became ready or a job's end.
    work: Notify,
    /// Counts up when watchers should look again.
    news: watch::Sender<u64>,
    fenced: AtomicBool,
    closed: AtomicBool,
    /// The store did not answer when it was last asked: no unit is granted.
    store_away: AtomicBool,
    /// Until then, workers that the coordinator before knew may name what they hold.
    settles_ms: AtomicU64,
    fence_checked_ms: AtomicU64,
    /// When refusals by coordinators of the same name were last looked for.
    refusals_checked_ms: AtomicU64,
    /// Held while snapshots are written, so that their numbers rise.
    snapshots: tokio::sync::Mutex<snapshots::Snapshots>,
}

/// A coordinator; clones share it. Used in process through `common::control::Control`.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Coordinator {
    /// Claims the next epoch of coordinator `name` and takes up jobs.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be read or written.
    pub async fn start(
        name: &str,
        store: Arc<dyn JobStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        record: &CoordinatorRecord,
        recovery: Recovery,
    ) -> Result<Self> {
        let epoch = store.claim_epoch(name, record).await?;
        let now_ms = clock.now_ms();
        let mut state = State::new(epoch, settings.clone());
        for (worker, reason) in store.refused(name, &BTreeSet::new()).await? {
            state.apply(Event::Refuse { worker, reason }, now_ms);
        }
        let known = match recovery {
            Recovery::AllJobs => recover::recover(&*store, &mut state, now_ms).await?,
            Recovery::SubmittedOnly => BTreeMap::new(),
        };
        let mut ledger = ledger::Ledger::default();
        let mut rounds = BTreeMap::new();
        for (job, known) in known {
            ledger.go_on(&job, known.spent);
            rounds.insert(job, known.round);
        }
        tracing::info!(name, epoch, "coordinator claimed its epoch");
        let runs = state.statuses(now_ms).iter().any(|status| !status.phase.is_over());
        let takes_over = epoch > 1 && runs;
        let settles_ms = now_ms.saturating_add(if takes_over { settings.settle_ms } else { 0 });
        let inner = Inner {
            name: name.to_owned(),
            epoch,
            settings,
            store,
            clock,
            state: Mutex::new(state),
            ledger: Mutex::new(ledger),
            started_ms: now_ms,
            sampled_ms: AtomicU64::new(0),
            rounds: Mutex::new(rounds),
            records: Mutex::default(),
            recording: tokio::sync::Mutex::new(()),
            work: Notify::new(),
            news: watch::Sender::new(0),
            fenced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            store_away: AtomicBool::new(false),
            settles_ms: AtomicU64::new(settles_ms),
            fence_checked_ms: AtomicU64::new(now_ms),
            refusals_checked_ms: AtomicU64::new(now_ms),
            snapshots: tokio::sync::Mutex::default(),
        };
        let coordinator = Self { inner: Arc::new(inner) };
        coordinator.read_prices().await;
        Ok(coordinator)
    }

    /// Looks up what device time of the recovered jobs costs; without, they have no price.
    async fn read_prices(&self) {
        let jobs: Vec<_> = lock(&self.inner.state).plans().map(|plan| plan.job.clone()).collect();
        for job in jobs {
            match self.inner.store.job_toml(&job).await {
                Ok(text) => self.price(&job, text.as_deref().unwrap_or_default()),
                Err(error) => tracing::warn!(%job, error = error.chain(), "prices not read"),
            }
        }
    }

    /// Takes note of the prices in a job file; one that names none leaves the job without.
    fn price(&self, job: &JobId, job_toml: &str) {
        let prices = Prices::of_job_file(job_toml, "the job file").unwrap_or_else(|error| {
            tracing::debug!(%job, error = error.chain(), "the job file has no prices");
            None
        });
        lock(&self.inner.ledger).price(job, prices);
    }

    /// Whether it answers: neither closed nor replaced.
    ///
    /// # Errors
    /// `Fenced` or `Unavailable`, with the reason.
    pub fn ready(&self) -> Result<()> {
        self.serving()
    }

    /// Changes whenever watchers should look again.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.inner.news.subscribe()
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// Ticks until a newer coordinator is found or this one is closed.
    ///
    /// # Errors
    /// Always, with `Fenced` or `Unavailable`.
    pub async fn run(&self) -> Result<()> {
        let interval = Duration::from_millis(self.inner.settings.tick_interval_ms.max(1));
        let ticks = async {
            loop {
                tokio::time::sleep(interval).await;
                if let Err(error) = self.tick().await {
                    break Err(error);
                }
            }
        };
        // What takes as long as a job has commits holds up no lease.
        let looks = async {
            loop {
                tokio::time::sleep(interval).await;
                self.look_at_suspects().await;
            }
        };
        tokio::select! {
            biased;
            ended = ticks => ended,
            never = looks => never,
        }
    }

    /// Lets time pass: leases expire, records are written, watchers look again.
    ///
    /// # Errors
    /// `Fenced` once a newer coordinator was found, `Unavailable` once closed.
    pub async fn tick(&self) -> Result<()> {
        self.serving()?;
        self.settle();
        self.expire();
        self.sample();
        self.write_records().await;
        self.look_for_higher_epoch().await;
        self.write_snapshots(false).await;
        self.inner.news.send_modify(|count| *count += 1);
        self.serving()
    }

    /// Whether units may be granted now: the store answers, and workers have had time to say what they hold.
    fn grants(&self) -> bool {
        let settled = self.inner.clock.now_ms() >= self.inner.settles_ms.load(Ordering::Relaxed);
        settled && !self.inner.store_away.load(Ordering::Relaxed)
    }

    /// Wakes who waits for units once the coordinator has settled.
    fn settle(&self) {
        let settles_ms = self.inner.settles_ms.load(Ordering::Relaxed);
        if settles_ms > 0 && self.inner.clock.now_ms() >= settles_ms {
            self.inner.settles_ms.store(0, Ordering::Relaxed);
            self.inner.work.notify_waiters();
        }
    }

    /// Lets leases expire, and takes note of whose.
    fn expire(&self) {
        let now_ms = self.inner.clock.now_ms();
        let expiring = lock(&self.inner.state).expiring(now_ms);
        self.apply(Event::Tick);
        let state = lock(&self.inner.state);
        let mut ledger = lock(&self.inner.ledger);
        ledger.expired(&expiring);
        ledger.keep(&state.worker_views(now_ms).map(|view| view.worker).collect());
    }

    /// Takes note of how fast jobs go, now and then.
    fn sample(&self) {
        let now_ms = self.inner.clock.now_ms();
        let sampled_ms = self.inner.sampled_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(sampled_ms) < SAMPLE_MS {
            return;
        }
        self.inner.sampled_ms.store(now_ms, Ordering::Relaxed);
        let statuses: Vec<_> = {
            let state = lock(&self.inner.state);
            let jobs = state.plans().map(|plan| &plan.job);
            let running = jobs.filter(|job| state.phase(job) == Some(JobPhase::Running));
            running.filter_map(|job| state.status(job, now_ms)).collect()
        };
        let mut ledger = lock(&self.inner.ledger);
        for status in &statuses {
            ledger.sample(status, now_ms);
        }
    }

    fn serving(&self) -> Result<()> {
        if self.inner.fenced.load(Ordering::Relaxed) {
            let message =
                format!("coordinator {} of epoch {} was replaced", self.inner.name, self.epoch());
            return Err(Error::new(ErrorKind::Fenced, message));
        }
        if self.inner.closed.load(Ordering::Relaxed) {
            return Err(Error::unavailable(format!("coordinator {} stops", self.inner.name)));
        }
        Ok(())
    }

    /// Asks the store whether this coordinator is still the newest, after the store was told something that the next
    /// one reads as it starts: one that started before has not read it and never will.
    ///
    /// # Errors
    /// `Fenced` when a newer one exists: the caller repeats its request there; store errors.
    async fn still_newest(&self) -> Result<()> {
        if self.inner.store.highest_epoch(&self.inner.name).await? > self.epoch() {
            self.fence();
        }
        self.serving()
    }

    /// A newer coordinator exists: nothing is answered any more.
    fn fence(&self) {
        self.inner.fenced.store(true, Ordering::Relaxed);
        self.inner.work.notify_waiters();
        self.inner.news.send_modify(|count| *count += 1);
    }

    /// Writes down what is committed, for the coordinator that comes next; best before [`Self::close`].
    pub async fn leave_snapshots(&self) {
        if self.serving().is_ok() {
            self.write_snapshots(true).await;
        }
    }

    /// Stops answering: workers take it as away and work on.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        self.inner.work.notify_waiters();
        self.inner.news.send_modify(|count| *count += 1);
    }

    /// Writes what the store does not hold yet, for at most `limit`.
    pub async fn write_what_is_left(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.write_records()).await.is_err() {
            tracing::warn!("the store is slow: failures of units are not written down");
        }
    }

    /// Applies an event, queues what goes to the store, wakes who waits; the rest is for the caller.
    fn apply(&self, event: Event) -> Vec<Effect> {
        let now_ms = self.inner.clock.now_ms();
        let effects = lock(&self.inner.state).apply(event, now_ms);
        let mut for_caller = Vec::new();
        for effect in effects {
            match effect {
                Effect::RecordFailed { job, unit, why } => {
                    tracing::warn!(%job, unit, reason = why.chain, "unit given up");
                    let round = self.round(&job);
                    lock(&self.inner.records).push_back(Record::Unit(job, round, unit, why));
                }
                Effect::RecordQuarantined { job, rows, kind } => {
                    let Quarantined { unit, start, end, reason } = &rows;
                    tracing::warn!(%job, unit, start, end, reason, "rows quarantined");
                    let round = self.round(&job);
                    lock(&self.inner.records).push_back(Record::Rows(job, round, rows, kind));
                }
                Effect::Refused { worker, reason } => {
                    tracing::error!(%worker, reason, "a worker lied and is refused");
                    lock(&self.inner.records).push_back(Record::Refused(worker, reason));
                }
                Effect::HostDrained { host, reason } => {
                    tracing::error!(host, reason, "nothing is granted to this host any more");
                }
                Effect::JobOver(job) => {
                    tracing::info!(%job, "job is over");
                    self.inner.news.send_modify(|count| *count += 1);
                    self.inner.work.notify_waiters();
                }
                Effect::WorkReady => self.inner.work.notify_waiters(),
                other => for_caller.push(other),
            }
        }
        for_caller
    }

    /// Writes down units that were given up and workers that lied; what fails is tried again at the next tick.
    async fn write_records(&self) {
        let _in_order = self.inner.recording.lock().await;
        loop {
            let next = lock(&self.inner.records).front().cloned();
            let Some(record) = next else { return };
            let (store, name) = (&self.inner.store, &self.inner.name);
            let written = match &record {
                Record::Unit(job, round, unit, why) => {
                    store.record_failed(job, *round, *unit, why).await
                }
                Record::Rows(job, round, rows, kind) => {
                    store.record_quarantined(job, *round, rows, *kind).await
                }
                Record::Refused(worker, reason) => store.record_refused(name, worker, reason).await,
            };
            if let Err(error) = written {
                tracing::warn!(error = error.chain(), "failure not recorded yet");
                return;
            }
            lock(&self.inner.records).pop_front();
        }
    }

    /// The round of a job that the state knows of.
    fn round(&self, job: &JobId) -> u32 {
        lock(&self.inner.rounds).get(job).copied().unwrap_or(0)
    }

    /// Drops failures of a job that were not written down: its next round must not begin with them.
    async fn forget_records(&self, job: &JobId) {
        let _in_order = self.inner.recording.lock().await;
        lock(&self.inner.records).retain(|record| match record {
            Record::Unit(of, ..) | Record::Rows(of, ..) => of != job,
            Record::Refused(..) => true,
        });
    }

    /// Lists the epochs: a higher one fences this coordinator, no answer pauses its grants.
    async fn look_for_higher_epoch(&self) {
        let now_ms = self.inner.clock.now_ms();
        let checked_ms = self.inner.fence_checked_ms.load(Ordering::Relaxed);
        let away = self.inner.store_away.load(Ordering::Relaxed);
        if !away && now_ms.saturating_sub(checked_ms) < self.inner.settings.fence_interval_ms {
            return;
        }
        self.inner.fence_checked_ms.store(now_ms, Ordering::Relaxed);
        let patience = Duration::from_millis(self.inner.settings.fence_interval_ms);
        let asked =
            tokio::time::timeout(patience, self.inner.store.highest_epoch(&self.inner.name));
        match asked.await {
            Ok(Ok(highest)) => {
                self.store_answered(true, "");
                self.look_for_refusals().await;
                if highest > self.epoch() {
                    tracing::error!(epoch = self.epoch(), highest, "a newer coordinator exists");
                    self.fence();
                }
            }
            Ok(Err(error)) => self.store_answered(false, &error.chain()),
            Err(_) => self.store_answered(false, "no answer in time"),
        }
    }

    /// Pauses grants while the store is away: workers could read no input and commit nothing.
    fn store_answered(&self, answered: bool, why: &str) {
        let was_away = self.inner.store_away.swap(!answered, Ordering::Relaxed);
        match (was_away, answered) {
            (false, false) => tracing::warn!(why, "the store is away: no unit is granted"),
            (true, true) => {
                tracing::info!("the store is back");
                self.inner.work.notify_waiters();
            }
            _ => {}
        }
    }
}
