//! `glmeval submit|status|watch|cancel|jobs|drain`: a person's side of a coordinator.

use crate::connecting::TrustArguments;
use crate::exit;
use crate::interruption;
use crate::output::{Format, Table, bytes, complain, say, say_json, seconds};
use crate::planning::{KindArguments, Planned, plan_file};
use crate::progress::summary;
use clap::Args;
use glmeval_common::control::{Control, JobCost, JobStatus, UnitFailure, WorkerStatus};
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::wire::GrpcControl;
use std::path::PathBuf;
use std::process::ExitCode;

mod following;

use following::Followed;

/// Where the coordinator is.
#[derive(Args)]
pub(crate) struct Coordinator {
    /// Address of the coordinator, such as `head:7070`.
    #[arg(long, value_name = "HOST:PORT", env = "GLMEVAL_COORDINATOR")]
    coordinator: String,
    #[command(flatten)]
    trust: TrustArguments,
}

impl Coordinator {
    fn connect(&self) -> Result<GrpcControl> {
        self.trust.connect(&self.coordinator)
    }

    /// Says which coordinator an error came from.
    fn named(&self, error: Error) -> Error {
        error.context(format!("ask coordinator {}", self.coordinator))
    }
}

/// Arguments of `submit`.
#[derive(Args)]
#[command(after_help = "Example:
  glmeval submit job.toml --coordinator head:7070 --watch

The job is planned here; its files must lie where workers see them under the same path.")]
pub(crate) struct SubmitArguments {
    /// The job file.
    job: PathBuf,
    #[command(flatten)]
    device: KindArguments,
    #[command(flatten)]
    coordinator: Coordinator,
    /// Follow the job until it ends.
    #[arg(long)]
    watch: bool,
}

/// Arguments of `watch` and `cancel`.
#[derive(Args)]
pub(crate) struct JobArguments {
    /// Id of the job, as `submit` and `jobs` print it.
    job: String,
    #[command(flatten)]
    coordinator: Coordinator,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `status`.
#[derive(Args)]
pub(crate) struct StatusArguments {
    /// Id of the job, as `submit` and `jobs` print it.
    #[arg(required_unless_present = "workers")]
    job: Option<String>,
    /// Show the workers instead.
    #[arg(long, conflicts_with = "job")]
    workers: bool,
    #[command(flatten)]
    coordinator: Coordinator,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `jobs`.
#[derive(Args)]
pub(crate) struct JobsArguments {
    #[command(flatten)]
    coordinator: Coordinator,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `drain`.
#[derive(Args)]
pub(crate) struct DrainArguments {
    /// Name of a worker, as its log has it, or of a host.
    #[arg(required = true, value_name = "WORKER|HOST")]
    names: Vec<String>,
    #[command(flatten)]
    coordinator: Coordinator,
}

pub(crate) async fn submit(arguments: SubmitArguments) -> Result<ExitCode> {
    let planned = plan_file(&arguments.job, &arguments.device.kind()?)?;
    let control = arguments.coordinator.connect()?;
    let job = control.submit(&planned.job.toml, planned.plan).await;
    let job = job.map_err(|e| arguments.coordinator.named(e))?;
    say(job.as_str());
    if !arguments.watch {
        return Ok(ExitCode::SUCCESS);
    }
    follow(&arguments.coordinator, &control, &job, (Format::Table, true)).await
}

pub(crate) async fn status(arguments: StatusArguments) -> Result<ExitCode> {
    let control = arguments.coordinator.connect()?;
    let Some(job) = &arguments.job else {
        let workers = control.workers().await.map_err(|e| arguments.coordinator.named(e))?;
        if arguments.format == Format::Json {
            say_json(&workers)?;
        } else {
            say(&worker_table(&workers).text(arguments.format));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let status = control.status(&JobId::parse(job.clone())?).await;
    let status = status.map_err(|e| arguments.coordinator.named(e))?;
    if arguments.format == Format::Json {
        say_json(&status)?;
    } else {
        say(&describe(&status, arguments.format));
        complain_of_failures(&status);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn watch(arguments: JobArguments) -> Result<ExitCode> {
    let control = arguments.coordinator.connect()?;
    let job = JobId::parse(arguments.job)?;
    follow(&arguments.coordinator, &control, &job, (arguments.format, false)).await
}

/// Follows a job; exits as the job ends, or when the user has seen enough.
async fn follow(
    coordinator: &Coordinator,
    control: &GrpcControl,
    job: &JobId,
    (format, has_answered): (Format, bool),
) -> Result<ExitCode> {
    let followed =
        Followed { control, address: &coordinator.coordinator, job, format, has_answered };
    tokio::select! {
        status = followed.to_its_end() => {
            let status = status.map_err(|e| coordinator.named(e))?;
            Ok(ExitCode::from(status.phase.exit_code()))
        }
        signal = interruption::asked() => {
            signal.map_err(|e| Error::unavailable("listen for signals").with_source(e))?;
            complain(&format!("job {job} goes on: `glmeval watch` shows it again"));
            Ok(ExitCode::from(exit::INTERRUPTED))
        }
    }
}

/// Hands a planned job to the coordinator at `address` and shows its progress to its end.
pub(crate) async fn submit_and_follow(
    address: &str,
    trust: &TrustArguments,
    planned: &Planned,
) -> Result<JobStatus> {
    let coordinator = Coordinator { coordinator: address.to_owned(), trust: trust.clone() };
    let control = coordinator.connect()?;
    let submitted = control.submit(&planned.job.toml, planned.plan.clone()).await;
    let job = submitted.map_err(|e| coordinator.named(e))?;
    let (address, format, has_answered) = (&coordinator.coordinator, Format::Table, true);
    let followed = Followed { control: &control, address, job: &job, format, has_answered };
    followed.to_its_end().await.map_err(|e| coordinator.named(e))
}

pub(crate) async fn cancel(arguments: JobArguments) -> Result<ExitCode> {
    let control = arguments.coordinator.connect()?;
    let job = JobId::parse(arguments.job)?;
    control.cancel(&job).await.map_err(|e| arguments.coordinator.named(e))?;
    // A job that was over stays as it ended: the answer says which.
    let status = control.status(&job).await.map_err(|e| {
        let told = format!("job {job} was cancelled or was over; which is not known");
        arguments.coordinator.named(e).context(told)
    })?;
    match arguments.format {
        Format::Json => say_json(&status)?,
        Format::Tsv => say(&following::table(&status).text(Format::Tsv)),
        Format::Table => say(&summary(&status)),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn drain(arguments: DrainArguments) -> Result<ExitCode> {
    let control = arguments.coordinator.connect()?;
    for name in arguments.names {
        let drained = control.drain(&WorkerId::parse(name)?).await;
        drained.map_err(|e| arguments.coordinator.named(e))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn jobs(arguments: JobsArguments) -> Result<ExitCode> {
    let control = arguments.coordinator.connect()?;
    let jobs = control.jobs().await.map_err(|e| arguments.coordinator.named(e))?;
    if arguments.format == Format::Json {
        say_json(&jobs)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["job", "name", "phase", "units", "done", "workers"]);
    for status in &jobs {
        let total: u64 = status.kinds.iter().map(|counts| counts.total()).sum();
        let done: u64 = status.kinds.iter().map(|counts| counts.committed).sum();
        table.row(vec![
            status.job.to_string(),
            status.name.clone(),
            status.phase.name().to_owned(),
            total.to_string(),
            done.to_string(),
            status.workers.to_string(),
        ]);
    }
    say(&table.text(arguments.format));
    Ok(ExitCode::SUCCESS)
}

fn worker_table(workers: &[WorkerStatus]) -> Table {
    let mut table = Table::new(&[
        "worker", "host", "state", "device", "gLM", "unit", "rows/s", "done", "failed", "lost",
        "memory", "seen",
    ]);
    let or_dash = |text: Option<&str>| text.filter(|t| !t.is_empty()).unwrap_or("-").to_owned();
    for worker in workers {
        let late = if worker.is_straggler { " (straggler)" } else { "" };
        table.row(vec![
            worker.worker.to_string(),
            worker.host.clone(),
            format!("{}{late}", worker.phase.name()),
            or_dash(Some(&worker.facts.device)),
            or_dash(worker.model.as_deref()),
            or_dash(worker.unit.as_deref()),
            format!("{:.1}", worker.rows_per_second),
            worker.health.units_done.to_string(),
            worker.health.units_failed.to_string(),
            worker.leases_lost.to_string(),
            bytes(worker.health.memory_bytes),
            format!("{} ago", seconds(worker.seen_ms_ago as f64 / 1_000.0)),
        ]);
    }
    table
}

fn describe(status: &JobStatus, format: Format) -> String {
    let mut table =
        Table::new(&["stage", "waiting", "ready", "leased", "cooling", "committed", "failed"]);
    for counts in status.kinds.iter().filter(|counts| counts.total() > 0) {
        let numbers = [
            counts.waiting,
            counts.ready,
            counts.leased,
            counts.cooling,
            counts.committed,
            counts.failed,
        ];
        let cells = std::iter::once(counts.kind.name().to_owned());
        table.row(cells.chain(numbers.iter().map(u64::to_string)).collect());
    }
    let mut text = format!("{}\n{}", summary(status), table.text(format));
    if let Some(left) = status.eta_seconds {
        text.push_str(&format!("\nabout {} left", seconds(left)));
    }
    text.push_str(&cost_lines(&status.cost));
    text
}

/// Lines on device time and its price; nothing before any attempt ended.
fn cost_lines(cost: &JobCost) -> String {
    let Some(efficiency) = cost.efficiency() else { return String::new() };
    let mut text = format!(
        "\ndevice time {}, {:.1} % useful; {} leases expired, {} handed back",
        seconds(cost.leased_seconds()),
        100.0 * efficiency,
        cost.leases_expired,
        cost.leases_handed_back
    );
    if let (Some(currency), Some(spent)) = (&cost.currency, cost.spent) {
        text.push_str(&format!("\ncost {spent:.4} {currency}"));
        if let Some(total) = cost.estimated_total {
            text.push_str(&format!(", about {total:.4} {currency} in the end"));
        }
    }
    text
}

/// Names every unit that was given up, on stderr; of one that was cut only the rows at fault.
pub(crate) fn complain_of_failures(status: &JobStatus) {
    for notice in &status.notices {
        complain(notice);
    }
    for line in failure_lines(&status.failures) {
        complain(&line);
    }
    let failed: u64 = status.kinds.iter().map(|counts| counts.failed).sum();
    if failed > 1 {
        complain(&format!("{failed} units failed in all, parts that were cut again among them"));
    }
}

/// A line on each unit that was given up. A unit that was cut repeats what its parts say, and so does one that
/// waits for it: there the first part stands for all.
fn failure_lines(failures: &[UnitFailure]) -> Vec<String> {
    let part_of = |unit: u32| failures.iter().find(|failure| failure.part_of == Some(unit));
    let told = failures.iter().filter(|failure| part_of(failure.unit).is_none());
    let line = |failure: &UnitFailure| {
        let label = &failure.label;
        match failure.behind.and_then(part_of) {
            Some(part) => format!("failed: {label}: it needs {}", own_words(part)),
            None => format!("failed: {}", own_words(failure)),
        }
    };
    told.map(line).collect()
}

/// The label and the reason, which may begin with the label.
fn own_words(UnitFailure { label, reason, .. }: &UnitFailure) -> String {
    let label = format!("{label}: ");
    format!("{label}{}", reason.strip_prefix(&label).unwrap_or(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(unit: u32, label: &str, reason: &str) -> UnitFailure {
        let (label, reason) = (label.to_owned(), reason.to_owned());
        UnitFailure { unit, label, reason, rows: None, part_of: None, behind: None }
    }

    #[test]
    fn rows_at_fault_are_told_once_whatever_their_reasons_say() {
        let words = "examples 3-4 are quarantined: a; examples 5-6 are quarantined: b";
        let part = |unit, rows, reason| UnitFailure {
            rows: Some(rows),
            part_of: Some(1),
            ..failure(unit, &format!("extract NT {}-{}", rows.0, rows.1), reason)
        };
        let behind = |unit, of| UnitFailure { behind: Some(of), ..failure(unit, "fit", words) };
        let failures = [
            UnitFailure { rows: Some((0, 8)), ..failure(1, "extract NT 0-8", words) },
            failure(2, "extract NT 8-16", words),
            behind(3, 1),
            behind(4, 2),
            part(9, (3, 4), "extract NT 3-4: not finite; examples "),
            part(10, (5, 6), "b"),
        ];
        let expected = [
            format!("failed: extract NT 8-16: {words}"),
            "failed: fit: it needs extract NT 3-4: not finite; examples ".to_owned(),
            format!("failed: fit: {words}"),
            "failed: extract NT 3-4: not finite; examples ".to_owned(),
            "failed: extract NT 5-6: b".to_owned(),
        ];
        assert_eq!(failure_lines(&failures), expected);
    }
}
