//! What an agent says to its coordinator, and what it makes of the answers.
//!
//! Leaves out: waiting and running (session). Invariant: an answer of a lower epoch than one seen
//! is no answer; a failed call loses nothing, it is made again at the next beat.

use super::Readiness;
use super::session::{Session, beat_interval};
use glmeval_common::control::{
    Ask, Heartbeat, LeaseKey, Progress, Registered, Registration, Renamed,
};
use glmeval_common::error::{Error, ErrorKind, Result};
use tracing::Instrument;

impl Session {
    /// Everything that is due: registration, reports, heartbeat, the next units.
    pub(super) async fn call(&mut self) -> Result<()> {
        let result = self.call_all().await;
        self.judge(result)
    }

    async fn call_all(&mut self) -> Result<()> {
        if !self.registered {
            self.register().await?;
        }
        // A coordinator that cannot reach the store takes no report, but signs of life.
        let reported = self.send_reports().await;
        self.heartbeat(false).await?;
        reported?;
        if !self.registered {
            self.register().await?;
        }
        // While a shard is on its way to the store, the next unit may be computed.
        let wanted = self.agent.settings.prefetch_units_max + usize::from(self.running.is_none());
        let room = wanted.saturating_sub(self.queue.len());
        if room > 0 && self.has_in_hand() {
            self.ask_for(room, 0).await?;
        }
        Ok(())
    }

    /// Asks for units with nothing in hand: the coordinator may wait for one.
    pub(super) async fn ask(&mut self) -> Result<()> {
        let wait_ms = u64::try_from(self.beat.period().as_millis()).unwrap_or(u64::MAX);
        let room = self.agent.settings.prefetch_units_max + 1;
        let result = self.ask_for(room, wait_ms).await;
        self.judge(result)
    }

    /// Sorts errors: refusals end the agent, everything else is waited out.
    fn judge(&mut self, result: Result<()>) -> Result<()> {
        let Err(error) = result else {
            self.detached_since_ms = None;
            return Ok(());
        };
        match error.kind() {
            ErrorKind::NotFound => {
                self.registered = false;
                self.beat.reset_immediately();
            }
            ErrorKind::Invalid | ErrorKind::Bug => return Err(error),
            _ => {
                if self.detached_since_ms.is_none() {
                    tracing::warn!(error = error.chain(), "coordinator is away; working on");
                }
                let now_ms = self.agent.clock.now_ms();
                self.detached_since_ms.get_or_insert(now_ms);
            }
        }
        Ok(())
    }

    /// # Errors
    /// `Unavailable` for the answer of a coordinator that was replaced.
    fn accept(&mut self, epoch: u64) -> Result<()> {
        if epoch < self.epoch {
            let message = format!("coordinator of epoch {epoch} answers, {} was seen", self.epoch);
            return Err(Error::unavailable(message));
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.registered = false;
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<()> {
        let settings = &self.agent.settings;
        let registration = Registration {
            worker: settings.worker.clone(),
            host: settings.host.clone(),
            numeric_classes: settings.numeric_classes.clone(),
            held: self.held().into_iter().map(|progress| progress.lease).collect(),
            facts: settings.facts.clone(),
        };
        let answer = self.agent.control.register(registration).await?;
        self.accept(answer.epoch)?;
        self.registered = true;
        let Registered { heartbeat_interval_ms, renamed, revoked, .. } = answer;
        if self.beat.period().as_millis() != u128::from(heartbeat_interval_ms.max(1)) {
            self.beat = beat_interval(heartbeat_interval_ms);
            self.beat.reset();
        }
        self.take_news(&renamed, &revoked);
        Ok(())
    }

    async fn send_reports(&mut self) -> Result<()> {
        while let Some((report, attempt)) = self.reports.front() {
            let span = tracing::info_span!(parent: attempt, "report");
            let call = self.agent.control.report(report.clone());
            let answer = call.instrument(span).await?;
            self.accept(answer.epoch)?;
            self.reports.pop_front();
        }
        Ok(())
    }

    async fn heartbeat(&mut self, leaving: bool) -> Result<()> {
        let worker = self.agent.settings.worker.clone();
        let health = self.agent.health();
        let heartbeat = Heartbeat { worker, held: self.held(), leaving, health };
        let answer = self.agent.control.heartbeat(heartbeat).await?;
        self.accept(answer.epoch)?;
        self.finished = answer.finished;
        self.take_news(&answer.renamed, &answer.revoked);
        if answer.drain && !self.is_stopping() {
            let reason = "drained".to_owned();
            self.begin_stop(super::Stop { grace_ms: u64::from(u32::MAX), reason });
        }
        Ok(())
    }

    async fn ask_for(&mut self, units: usize, wait_ms: u64) -> Result<()> {
        if self.is_stopping() || self.agent.runner.readiness() != Readiness::Ready {
            return Ok(());
        }
        let ask = Ask {
            worker: self.agent.settings.worker.clone(),
            units_max: u32::try_from(units).unwrap_or(u32::MAX),
            wait_ms,
            or_finished: self.agent.settings.until_idle,
        };
        let answer = self.agent.control.ask(ask).await?;
        self.accept(answer.epoch)?;
        self.finished = answer.finished;
        self.queue.extend(answer.grants);
        Ok(())
    }

    /// Everything leased to this worker. A report that is on its way still holds its lease.
    fn held(&self) -> Vec<Progress> {
        let waiting = |lease: &LeaseKey| Progress {
            lease: lease.clone(),
            running: false,
            rows_done: 0,
            rows_per_second: 0.0,
            waiting_for_store: false,
        };
        let clock = &*self.agent.clock;
        let running = self.in_hand().filter(|running| !running.revoked);
        let running = running.map(|running| Progress {
            lease: running.lease.clone(),
            running: true,
            rows_done: running.progress.rows_done(),
            rows_per_second: running.progress.rows_per_second(clock),
            waiting_for_store: running.progress.is_waiting(),
        });
        let queued = self.queue.iter().map(|grant| waiting(&grant.lease));
        let reported = self.reports.iter().map(|(report, _)| waiting(&report.lease));
        running.chain(queued).chain(reported).collect()
    }

    fn take_news(&mut self, renamed: &[Renamed], revoked: &[LeaseKey]) {
        for lease in revoked {
            self.revoke(lease);
        }
        for Renamed { from, to } in renamed {
            let in_hand = self.running.iter_mut().chain(&mut self.committing);
            let running = in_hand.map(|running| &mut running.lease);
            let queued = self.queue.iter_mut().map(|grant| &mut grant.lease);
            let reported = self.reports.iter_mut().map(|(report, _)| &mut report.lease);
            for lease in running.chain(queued).chain(reported) {
                if lease == from {
                    lease.generation = *to;
                }
            }
        }
    }

    /// Last reports and the farewell; a coordinator that is away learns it from the silence.
    pub(super) async fn farewell(&mut self) {
        let mut result = self.send_reports().await;
        if result.is_ok() {
            result = self.heartbeat(true).await;
        }
        if let Err(error) = result {
            tracing::warn!(error = error.chain(), "worker leaves unheard");
        }
    }
}
