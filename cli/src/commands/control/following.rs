//! Following a job to its end, past coordinators that go and come again.
//!
//! Leaves out: asking once (`control`). Invariant: a coordinator that has answered is waited for, however
//! long it is away; one that never did, or that says no, is an error at once.

use super::complain_of_failures;
use crate::output::{Format, Table, complain, say};
use crate::progress::Progress;
use futures::StreamExt;
use glmeval_common::control::{Control, JobStatus, KindCounts};
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::JobId;
use std::collections::BTreeSet;
use std::time::Duration;

/// First wait for a coordinator that is away.
const WAIT_MS_MIN: u64 = 250;
/// Longest wait between two looks; short beside the time that one stays after its last job.
const WAIT_MS_MAX: u64 = 4_000;

/// A job at a coordinator.
pub(super) struct Followed<'a> {
    pub(super) control: &'a dyn Control,
    /// Address of the coordinator, for people.
    pub(super) address: &'a str,
    pub(super) job: &'a JobId,
    pub(super) format: Format,
    /// Whether the coordinator has answered before.
    pub(super) has_answered: bool,
}

impl Followed<'_> {
    /// Shows every status of the job until it is over; the last one.
    ///
    /// # Errors
    /// Of a coordinator that never answered; `NotFound` or `Invalid` as an answer.
    pub(super) async fn to_its_end(&self) -> Result<JobStatus> {
        let mut shown = Shown::new(self.format, self.has_answered);
        let mut wait_ms = WAIT_MS_MIN;
        loop {
            let answers_before = shown.answers;
            let error = match self.until_it_breaks(&mut shown).await {
                Ok(status) => return Ok(shown.end(status)),
                Err(error) => error,
            };
            let is_away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Fenced);
            if !is_away || shown.answers == 0 {
                return Err(error);
            }
            if shown.answers > answers_before {
                wait_ms = WAIT_MS_MIN;
            }
            shown.away(self, &error);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(WAIT_MS_MAX);
        }
    }

    /// Shows what one connection tells; the last status once the job is over.
    async fn until_it_breaks(&self, shown: &mut Shown) -> Result<JobStatus> {
        let mut statuses = self.control.watch(self.job).await?;
        while let Some(status) = statuses.next().await {
            let status = status?;
            shown.show(self, &status)?;
            if status.phase.is_over() {
                return Ok(status);
            }
        }
        Err(Error::unavailable(format!("follow job {}: the coordinator hung up", self.job)))
    }
}

/// What people and programs were told.
struct Shown {
    format: Format,
    progress: Progress,
    /// Statuses that came, and the answers before them.
    answers: u64,
    /// Whether the coordinator was said to be away.
    is_away: bool,
    notices: BTreeSet<String>,
    /// Last line of a table.
    row: Vec<String>,
}

impl Shown {
    fn new(format: Format, has_answered: bool) -> Self {
        Self {
            format,
            progress: Progress::new(),
            answers: u64::from(has_answered),
            is_away: false,
            notices: BTreeSet::new(),
            row: Vec::new(),
        }
    }

    fn show(&mut self, followed: &Followed<'_>, status: &JobStatus) -> Result<()> {
        self.answers += 1;
        if std::mem::take(&mut self.is_away) {
            let text = format!("coordinator {} answers again", followed.address);
            self.progress.beside(|| complain(&text));
        }
        if self.format == Format::Json {
            let line = serde_json::to_string(status);
            say(&line.map_err(|e| Error::bug("encode a status").with_source(e))?);
            return Ok(());
        }
        for notice in &status.notices {
            if self.notices.insert(said_once(notice).to_owned()) {
                self.progress.beside(|| complain(notice));
            }
        }
        if self.format == Format::Tsv {
            self.row(status);
        }
        self.progress.show(status);
        Ok(())
    }

    /// A line of the table, unless it is the last one again.
    fn row(&mut self, status: &JobStatus) {
        let table = table(status);
        let row = table.rows().next().map(<[String]>::to_vec).unwrap_or_default();
        if row == self.row {
            return;
        }
        let text = table.text(Format::Tsv);
        let lines = text.lines().skip(usize::from(!self.row.is_empty()));
        self.progress.beside(|| lines.for_each(say));
        self.row = row;
    }

    fn away(&mut self, followed: &Followed<'_>, error: &Error) {
        if !std::mem::replace(&mut self.is_away, true) {
            let (address, error) = (followed.address, error.chain());
            let text = format!(
                "coordinator {address} is away ({error}); asking again until it answers, Ctrl-C ends only this"
            );
            self.progress.beside(|| complain(&text));
        }
    }

    /// Says what is left to say at the end.
    fn end(mut self, mut status: JobStatus) -> JobStatus {
        if self.format != Format::Json {
            self.progress.finish(&status);
        }
        let notices = status.notices.clone();
        status.notices.retain(|notice| !self.notices.contains(said_once(notice)));
        complain_of_failures(&status);
        JobStatus { notices, ..status }
    }
}

/// What makes a notice another one: how many units it speaks of changes all the time.
fn said_once(notice: &str) -> &str {
    notice.trim_start_matches(|letter: char| letter.is_ascii_digit())
}

/// One line on a job.
pub(super) fn table(status: &JobStatus) -> Table {
    let mut table = Table::new(&[
        "job",
        "name",
        "phase",
        "waiting",
        "ready",
        "leased",
        "cooling",
        "committed",
        "failed",
        "rows",
        "rows_done",
        "rows/s",
        "eta_seconds",
        "workers",
    ]);
    let sum = |of: fn(&KindCounts) -> u64| status.kinds.iter().map(of).sum::<u64>().to_string();
    table.row(vec![
        status.job.to_string(),
        status.name.clone(),
        status.phase.name().to_owned(),
        sum(|counts| counts.waiting),
        sum(|counts| counts.ready),
        sum(|counts| counts.leased),
        sum(|counts| counts.cooling),
        sum(|counts| counts.committed),
        sum(|counts| counts.failed),
        status.rows.to_string(),
        status.rows_done.to_string(),
        format!("{:.1}", status.rows_per_second),
        status.eta_seconds.map_or(String::new(), |left| format!("{left:.0}")),
        status.workers.to_string(),
    ]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use glmeval_common::control::{
        Ask, Grants, Heartbeat, HeartbeatReply, JobCost, JobPhase, Registered, Registration,
        Report, ReportReply,
    };
    use glmeval_common::ids::WorkerId;
    use glmeval_common::plan::Plan;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    type Connection = Result<Vec<Result<JobStatus>>>;

    /// Answers each `watch` with the next of these.
    struct Scripted(Mutex<VecDeque<Connection>>);

    fn unasked<T>() -> Result<T> {
        Err(Error::bug("only watched"))
    }

    #[async_trait]
    impl Control for Scripted {
        async fn register(&self, _registration: Registration) -> Result<Registered> {
            unasked()
        }
        async fn ask(&self, _ask: Ask) -> Result<Grants> {
            unasked()
        }
        async fn heartbeat(&self, _heartbeat: Heartbeat) -> Result<HeartbeatReply> {
            unasked()
        }
        async fn report(&self, _report: Report) -> Result<ReportReply> {
            unasked()
        }
        async fn submit(&self, _job_toml: &str, _plan: Plan) -> Result<JobId> {
            unasked()
        }
        async fn status(&self, _job: &JobId) -> Result<JobStatus> {
            unasked()
        }
        async fn jobs(&self) -> Result<Vec<JobStatus>> {
            unasked()
        }
        async fn cancel(&self, _job: &JobId) -> Result<()> {
            unasked()
        }
        async fn drain(&self, _worker: &WorkerId) -> Result<()> {
            unasked()
        }
        async fn watch(&self, _job: &JobId) -> Result<BoxStream<'static, Result<JobStatus>>> {
            let next = self.0.lock().unwrap().pop_front().expect("a connection is left");
            Ok(futures::stream::iter(next?).boxed())
        }
    }

    fn status(phase: JobPhase) -> JobStatus {
        JobStatus {
            job: JobId::new("j"),
            name: "a job".into(),
            phase,
            kinds: Vec::new(),
            rows: 8,
            rows_done: 4,
            rows_per_second: 2.0,
            workers: 1,
            eta_seconds: None,
            failures: Vec::new(),
            units_without_worker: 0,
            cost: JobCost::default(),
            notices: Vec::new(),
        }
    }

    async fn followed(connections: Vec<Connection>) -> Result<JobStatus> {
        let control = Scripted(Mutex::new(connections.into()));
        let (address, job) = ("head:7070", JobId::new("j"));
        let format = Format::Table;
        let has_answered = false;
        let followed = Followed { control: &control, address, job: &job, format, has_answered };
        let ended = followed.to_its_end().await;
        assert!(control.0.lock().unwrap().is_empty(), "it ended too early");
        ended
    }

    fn replaced() -> Error {
        Error::new(ErrorKind::Fenced, "coordinator default of epoch 1 was replaced")
    }

    #[tokio::test]
    async fn a_coordinator_that_answered_is_waited_for() {
        let running = || Ok(status(JobPhase::Running));
        let connections = vec![
            Ok(vec![running(), Err(Error::unavailable("it stops"))]),
            Err(Error::unavailable("connection refused")),
            Ok(vec![running()]),
            Ok(vec![Err(replaced())]),
            Ok(vec![running(), Ok(status(JobPhase::FinishedWithFailures))]),
        ];
        assert_eq!(followed(connections).await.unwrap().phase, JobPhase::FinishedWithFailures);
    }

    #[tokio::test]
    async fn a_coordinator_that_never_answered_and_a_no_end_it() {
        let ended = followed(vec![Err(Error::unavailable("connection refused"))]).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unavailable);
        let heard = Ok(vec![Ok(status(JobPhase::Running))]);
        let ended = followed(vec![heard, Err(Error::not_found("job j is not known"))]).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_table_of_a_job_has_a_cell_for_each_column() {
        let text = table(&status(JobPhase::Running)).text(Format::Tsv);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), lines[1].len());
        assert_eq!(lines[1][..3], ["j", "a job", "running"]);
    }

    #[test]
    fn a_notice_whose_number_changes_is_said_once() {
        assert_eq!(said_once("12 units wait"), said_once("9 units wait"));
        assert_ne!(said_once("host a is drained"), said_once("host b is drained"));
    }
}
