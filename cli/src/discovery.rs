//! A coordinator found by its record in the store, and found again when another takes its place.
//!
//! Leaves out: patience of a worker in the middle of its work (the agent's). Invariant: a worker that
//! discovers never talks to an address that the newest record does not name for longer than one pause.

mod ended;

use crate::output::complain;
use async_trait::async_trait;
use ended::Ended;
use futures::stream::BoxStream;
use glmeval_common::clock::Clock;
use glmeval_common::control::{
    Ask, Control, Grants, Heartbeat, HeartbeatReply, JobStatus, Registered, Registration, Report,
    ReportReply,
};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::plan::Plan;
use glmeval_common::store::Store;
use glmeval_common::store::coordinators::{CoordinatorRecord, newest};
use glmeval_worker::agent::StopSource;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two looks at the store.
const PAUSE_MS: u64 = 2_000;

/// Makes a connection from a record.
type Connect = dyn Fn(&CoordinatorRecord) -> Result<Arc<dyn Control>> + Send + Sync;

/// Where the newest record was seen to point.
#[derive(Clone)]
struct Seen {
    token: String,
    control: Arc<dyn Control>,
    looked_ms: u64,
}

/// The newest coordinator of a name.
pub(crate) struct Discovered {
    wanted: Wanted,
    seen: Mutex<Seen>,
}

/// A coordinator to look for.
pub(crate) struct Wanted {
    pub(crate) store: Store,
    pub(crate) name: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) connect: Box<Connect>,
    /// The end of a name counts as the end of its work.
    pub(crate) until_idle: bool,
    /// How long the first record is waited for.
    pub(crate) wait_ms_max: u64,
}

impl Wanted {
    /// Who speaks for the coordinator of `record`; nobody if it has ended and another may follow.
    fn control(&self, record: &CoordinatorRecord) -> Result<Option<Arc<dyn Control>>> {
        match (&record.address, self.until_idle) {
            (Some(_), _) => (self.connect)(record).map(Some),
            (None, true) => Ok(Some(Arc::new(Ended { epoch: record.epoch }))),
            (None, false) => Ok(None),
        }
    }

    /// Waits for a coordinator's record; `None` when it was told to stop first, or, said on stderr, when none
    /// came in time.
    ///
    /// # Errors
    /// As the store and `connect`.
    pub(crate) async fn found(self, stop: &StopSource) -> Result<Option<Discovered>> {
        let began_ms = self.clock.now_ms();
        let mut told = false;
        loop {
            let record = newest(&self.store, &self.name).await?;
            let control = record.as_ref().map(|record| self.control(record)).transpose()?;
            if let (Some(record), Some(Some(control))) = (record, control) {
                let looked_ms = self.clock.now_ms();
                let seen = Mutex::new(Seen { token: record.token, control, looked_ms });
                return Ok(Some(Discovered { wanted: self, seen }));
            }
            let (name, url) = (&self.name, self.store.url());
            let missing = || format!("no record of a coordinator named {name} in {url}");
            if self.clock.now_ms().saturating_sub(began_ms) >= self.wait_ms_max {
                complain(&format!("{}: waited long enough", missing()));
                return Ok(None);
            }
            if !std::mem::replace(&mut told, true) {
                complain(&format!("{}; waiting for one", missing()));
            }
            tokio::select! {
                _ = stop.stopped() => return Ok(None),
                () = tokio::time::sleep(Duration::from_millis(PAUSE_MS)) => {}
            }
        }
    }
}

impl Discovered {
    fn control(&self) -> Arc<dyn Control> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&seen.control)
    }

    /// Passes an answer on; a coordinator that is gone is looked for again, for the next call.
    async fn heard<T>(&self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer
            && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Fenced)
            && self.is_time()
            && let Err(error) = self.look_again().await
        {
            tracing::debug!(error = error.chain(), "no look at the coordinator's record");
        }
        answer
    }

    /// Whether the last look is a pause ago; if so, this is the next one.
    fn is_time(&self) -> bool {
        let now_ms = self.wanted.clock.now_ms();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = now_ms.saturating_sub(seen.looked_ms) >= PAUSE_MS;
        if is_time {
            seen.looked_ms = now_ms;
        }
        is_time
    }

    async fn look_again(&self) -> Result<()> {
        let Wanted { store, name, .. } = &self.wanted;
        let Some(record) = newest(store, name).await? else { return Ok(()) };
        let is_known = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.token == record.token
        };
        if is_known {
            return Ok(());
        }
        let Some(control) = self.wanted.control(&record)? else { return Ok(()) };
        tracing::info!(epoch = record.epoch, address = record.address, "a newer coordinator");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.token, seen.control) = (record.token, control);
        Ok(())
    }
}

#[async_trait]
impl Control for Discovered {
    async fn register(&self, registration: Registration) -> Result<Registered> {
        self.heard(self.control().register(registration).await).await
    }

    async fn ask(&self, ask: Ask) -> Result<Grants> {
        self.heard(self.control().ask(ask).await).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply> {
        self.heard(self.control().heartbeat(heartbeat).await).await
    }

    async fn report(&self, report: Report) -> Result<ReportReply> {
        self.heard(self.control().report(report).await).await
    }

    async fn submit(&self, job_toml: &str, plan: Plan) -> Result<JobId> {
        self.heard(self.control().submit(job_toml, plan).await).await
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus> {
        self.heard(self.control().status(job).await).await
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>> {
        self.heard(self.control().jobs().await).await
    }

    async fn cancel(&self, job: &JobId) -> Result<()> {
        self.heard(self.control().cancel(job).await).await
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        self.heard(self.control().drain(worker).await).await
    }

    async fn watch(&self, job: &JobId) -> Result<BoxStream<'static, Result<JobStatus>>> {
        self.heard(self.control().watch(job).await).await
    }
}
