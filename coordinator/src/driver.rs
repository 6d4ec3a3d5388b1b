//! The one owner of a [`State`]: takes events in, does what follows, in order.
//!
//! Leaves out: decisions (state), bytes (service). Invariant: the state is locked only for the
//! moment of one `apply`, never while anything is waited for; a fenced coordinator answers nothing.

use crate::job_store::{CoordinatorRecord, JobStore};
use crate::recover;
use crate::settings::Settings;
use crate::state::{Effect, Event, State};
use glmeval_common::clock::Clock;
use glmeval_common::control::JobPhase;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::JobId;
use glmeval_common::job::Prices;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

mod control;
pub mod gauges;
mod history;
mod ledger;
mod overview;
pub mod telemetry;

pub use history::{History, Point};
pub use overview::{CoordinatorView, JobView, Overview};

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

/// A unit that was given up, on its way to the store.
type FailedRecord = (JobId, u32, String);

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
    /// Records the store does not hold yet, oldest first.
    records: Mutex<VecDeque<FailedRecord>>,
    /// Held while records are written, so that they are written in order.
    recording: tokio::sync::Mutex<()>,
    /// Wakes, in the order they came, those who wait for units that became ready or a job's end.
    work: Notify,
    /// Counts up when watchers should look again.
    news: watch::Sender<u64>,
    fenced: AtomicBool,
    closed: AtomicBool,
    fence_checked_ms: AtomicU64,
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
        let state = match recovery {
            Recovery::AllJobs => recover::recover(&*store, epoch, settings.clone(), now_ms).await?,
            Recovery::SubmittedOnly => State::new(epoch, settings.clone()),
        };
        tracing::info!(name, epoch, "coordinator claimed its epoch");
        let inner = Inner {
            name: name.to_owned(),
            epoch,
            settings,
            store,
            clock,
            state: Mutex::new(state),
            ledger: Mutex::default(),
            started_ms: now_ms,
            sampled_ms: AtomicU64::new(0),
            records: Mutex::default(),
            recording: tokio::sync::Mutex::new(()),
            work: Notify::new(),
            news: watch::Sender::new(0),
            fenced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            fence_checked_ms: AtomicU64::new(now_ms),
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
        loop {
            tokio::time::sleep(interval).await;
            self.tick().await?;
        }
    }

    /// Lets time pass: leases expire, records are written, watchers look again.
    ///
    /// # Errors
    /// `Fenced` once a newer coordinator was found, `Unavailable` once closed.
    pub async fn tick(&self) -> Result<()> {
        self.serving()?;
        self.expire();
        self.sample();
        self.write_records().await;
        self.look_for_higher_epoch().await;
        self.inner.news.send_modify(|count| *count += 1);
        self.serving()
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

    /// Stops answering: workers take it as away and work on.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        self.inner.work.notify_waiters();
        self.inner.news.send_modify(|count| *count += 1);
    }

    /// Applies an event, queues what goes to the store, wakes who waits; the rest is for the caller.
    fn apply(&self, event: Event) -> Vec<Effect> {
        let now_ms = self.inner.clock.now_ms();
        let effects = lock(&self.inner.state).apply(event, now_ms);
        let mut for_caller = Vec::new();
        for effect in effects {
            match effect {
                Effect::RecordFailed { job, unit, reason } => {
                    tracing::warn!(%job, unit, reason, "unit given up");
                    lock(&self.inner.records).push_back((job, unit, reason));
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

    /// Writes down units that were given up; what fails is tried again at the next tick.
    async fn write_records(&self) {
        let _in_order = self.inner.recording.lock().await;
        loop {
            let next = lock(&self.inner.records).front().cloned();
            let Some((job, unit, reason)) = next else { return };
            if let Err(error) = self.inner.store.record_failed(&job, unit, &reason).await {
                tracing::warn!(%job, unit, error = error.chain(), "failure not recorded yet");
                return;
            }
            lock(&self.inner.records).pop_front();
        }
    }

    /// Drops failures of a job that were not written down: its next round must not begin with them.
    async fn forget_records(&self, job: &JobId) {
        let _in_order = self.inner.recording.lock().await;
        lock(&self.inner.records).retain(|(of, ..)| of != job);
    }

    async fn look_for_higher_epoch(&self) {
        let now_ms = self.inner.clock.now_ms();
        let checked_ms = self.inner.fence_checked_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(checked_ms) < self.inner.settings.fence_interval_ms {
            return;
        }
        self.inner.fence_checked_ms.store(now_ms, Ordering::Relaxed);
        match self.inner.store.highest_epoch(&self.inner.name).await {
            Ok(highest) if highest > self.epoch() => {
                tracing::error!(epoch = self.epoch(), highest, "a newer coordinator exists");
                self.inner.fenced.store(true, Ordering::Relaxed);
                self.inner.work.notify_waiters();
                self.inner.news.send_modify(|count| *count += 1);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = error.chain(), "epochs cannot be listed"),
        }
    }
}
