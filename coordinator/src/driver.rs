//! The one owner of a [`State`]: takes events in, does what follows, in order.
//!
//! Leaves out: decisions (state), bytes (service). Invariant: the state is locked only for the
//! moment of one `apply`, never while anything is waited for; a fenced coordinator answers nothing.

use crate::job_store::{CoordinatorRecord, JobStore};
use crate::recover;
use crate::settings::Settings;
use crate::state::{Effect, Event, State};
use glmeval_common::clock::Clock;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::JobId;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

mod control;
mod snapshots;

/// Which jobs a coordinator takes up at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Every job in the store.
    AllJobs,
    /// None: only what is submitted to it.
    SubmittedOnly,
}

/// A unit that was given up, on its way to the store.
type FailedRecord = (JobId, u32, String);

struct Inner {
    name: String,
    epoch: u64,
    settings: Settings,
    store: Arc<dyn JobStore>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
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
            records: Mutex::default(),
            recording: tokio::sync::Mutex::new(()),
            work: Notify::new(),
            news: watch::Sender::new(0),
            fenced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            fence_checked_ms: AtomicU64::new(now_ms),
            snapshots: tokio::sync::Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
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
        self.apply(Event::Tick);
        self.write_records().await;
        self.look_for_higher_epoch().await;
        self.write_snapshots(false).await;
        self.inner.news.send_modify(|count| *count += 1);
        self.serving()
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
                self.fence();
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = error.chain(), "epochs cannot be listed"),
        }
    }
}
