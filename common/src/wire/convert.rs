//! Plain values to messages and back.
//!
//! Leaves out: calls. Invariant: a message that lacks a part is `Invalid`, never a default; every text
//! that arrives is bounded and fit for logs, labels and object paths.

use super::proto;
use crate::control::{
    Ask, Failure, FitFailure, Grant, Grants, Heartbeat, HeartbeatReply, JobStatus, LeaseKey,
    Outcome, Progress, Registered, Registration, Renamed, Report, WorkerFacts,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{FitId, Generation, JobId, WorkerId, check_name};
use crate::limits::{
    CHAIN_BYTES_MAX, FITS_PER_REPORT_MAX, LEASES_PER_MESSAGE_MAX, NUMERIC_CLASSES_MAX,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

/// Letters of a text about a worker that people are shown.
const FACT_LETTERS_MAX: usize = 200;

/// The whole chain goes over the wire; the kind becomes the code.
pub(super) fn to_status(error: &Error) -> Status {
    Status::new(error.kind().grpc_code(), error.chain())
}

/// What a coordinator answered; or, where nobody answered, that it could not be reached.
///
/// A status with a cause was made on this side of a broken connection, whatever code HTTP/2 gave it.
pub(super) fn from_status(status: &Status) -> Error {
    if std::error::Error::source(status).is_some() {
        return Error::unavailable(status.message());
    }
    Error::new(ErrorKind::from_grpc_code(status.code()), status.message())
}

pub(super) fn encode_named(value: &impl Serialize) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(|e| Error::bug("encode a message").with_source(e))
}

/// As older programs send plans.
#[cfg(test)]
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    rmp_serde::to_vec(value).map_err(|e| Error::bug("encode a message").with_source(e))
}

pub(super) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("decode a {what}")).with_source(e))
}

/// A part that older programs do not send.
fn decode_or_default<T: DeserializeOwned + Default>(what: &str, bytes: &[u8]) -> Result<T> {
    if bytes.is_empty() { Ok(T::default()) } else { decode(what, bytes) }
}

fn missing(what: &str) -> Error {
    Error::invalid(format!("the message lacks its {what}"))
}

pub(super) fn worker(id: String) -> Result<WorkerId> {
    WorkerId::parse(id)
}

pub(super) fn job(id: String) -> Result<JobId> {
    JobId::parse(id)
}

/// Refuses a list that is longer than any honest one.
fn at_most<T>(what: &str, most: usize, list: Vec<T>) -> Result<Vec<T>> {
    if list.len() <= most {
        return Ok(list);
    }
    Err(Error::invalid(format!("expected at most {most} {what}, found {}", list.len())))
}

/// An error chain as one bounded line: control characters would forge lines of a log.
fn one_line(chain: &str) -> String {
    let mut line = String::with_capacity(chain.len().min(CHAIN_BYTES_MAX));
    for letter in chain.chars() {
        if line.len() + letter.len_utf8() > CHAIN_BYTES_MAX {
            line.push('…');
            break;
        }
        line.push(if letter.is_control() { ' ' } else { letter });
    }
    line
}

pub(super) fn lease_out(lease: &LeaseKey) -> proto::Lease {
    proto::Lease {
        job: lease.job.as_str().to_owned(),
        unit: lease.unit,
        epoch: lease.generation.epoch,
        counter: lease.generation.counter,
    }
}

pub(super) fn lease_in(lease: Option<proto::Lease>) -> Result<LeaseKey> {
    let proto::Lease { job, unit, epoch, counter } = lease.ok_or_else(|| missing("lease"))?;
    Ok(LeaseKey { job: JobId::parse(job)?, unit, generation: Generation { epoch, counter } })
}

fn leases_out(leases: &[LeaseKey]) -> Vec<proto::Lease> {
    leases.iter().map(lease_out).collect()
}

fn leases_in(leases: Vec<proto::Lease>) -> Result<Vec<LeaseKey>> {
    let leases = at_most("leases", LEASES_PER_MESSAGE_MAX, leases)?;
    leases.into_iter().map(|lease| lease_in(Some(lease))).collect()
}

fn renamed_out(renamed: &[Renamed]) -> Vec<proto::RenamedLease> {
    let out = renamed.iter().map(|renamed| proto::RenamedLease {
        from: Some(lease_out(&renamed.from)),
        epoch: renamed.to.epoch,
        counter: renamed.to.counter,
    });
    out.collect()
}

fn renamed_in(renamed: Vec<proto::RenamedLease>) -> Result<Vec<Renamed>> {
    let values = renamed.into_iter().map(|renamed| {
        let to = Generation { epoch: renamed.epoch, counter: renamed.counter };
        Ok(Renamed { from: lease_in(renamed.from)?, to })
    });
    values.collect()
}

pub(super) fn registration_out(registration: &Registration) -> Result<proto::RegisterRequest> {
    Ok(proto::RegisterRequest {
        worker: registration.worker.as_str().to_owned(),
        host: registration.host.clone(),
        numeric_classes: registration.numeric_classes.clone(),
        held: leases_out(&registration.held),
        facts: encode_named(&registration.facts)?,
    })
}

pub(super) fn registration_in(message: proto::RegisterRequest) -> Result<Registration> {
    check_name("host", &message.host)?;
    let classes = at_most("numeric classes", NUMERIC_CLASSES_MAX, message.numeric_classes)?;
    classes.iter().try_for_each(|class| check_name("numeric class", class))?;
    Ok(Registration {
        worker: worker(message.worker)?,
        host: message.host,
        numeric_classes: classes,
        held: leases_in(message.held)?,
        facts: facts_in(&message.facts)?,
    })
}

/// What a worker says it is: its kind is a label and a name, the rest is shown to people.
fn facts_in(facts: &[u8]) -> Result<WorkerFacts> {
    let mut facts: WorkerFacts = decode_or_default("worker", facts)?;
    if !facts.device_kind.is_empty() {
        check_name("device kind", &facts.device_kind)?;
    }
    for text in [&mut facts.device, &mut facts.program] {
        text.retain(|letter| !letter.is_control());
        *text = text.chars().take(FACT_LETTERS_MAX).collect();
    }
    Ok(facts)
}

pub(super) fn registered_out(registered: &Registered) -> proto::RegisterReply {
    proto::RegisterReply {
        epoch: registered.epoch,
        lease_ttl_ms: registered.lease_ttl_ms,
        heartbeat_interval_ms: registered.heartbeat_interval_ms,
        renamed: renamed_out(&registered.renamed),
        revoked: leases_out(&registered.revoked),
    }
}

pub(super) fn registered_in(message: proto::RegisterReply) -> Result<Registered> {
    Ok(Registered {
        epoch: message.epoch,
        lease_ttl_ms: message.lease_ttl_ms,
        heartbeat_interval_ms: message.heartbeat_interval_ms,
        renamed: renamed_in(message.renamed)?,
        revoked: leases_in(message.revoked)?,
    })
}

pub(super) fn ask_out(ask: &Ask) -> proto::AskRequest {
    proto::AskRequest {
        worker: ask.worker.as_str().to_owned(),
        units_max: ask.units_max,
        wait_ms: ask.wait_ms,
        or_finished: ask.or_finished,
    }
}

pub(super) fn ask_in(message: proto::AskRequest) -> Result<Ask> {
    Ok(Ask {
        worker: worker(message.worker)?,
        units_max: message.units_max,
        wait_ms: message.wait_ms,
        or_finished: message.or_finished,
    })
}

pub(super) fn grants_out(grants: &Grants) -> Result<proto::AskReply> {
    let list = grants.grants.iter().map(|grant| {
        let work = encode_named(&grant.work)?;
        let (lease, trace) = (Some(lease_out(&grant.lease)), grant.trace.clone());
        Ok(proto::Grant { lease, work, trace })
    });
    let list = list.collect::<Result<Vec<_>>>()?;
    Ok(proto::AskReply { epoch: grants.epoch, grants: list, finished: grants.finished })
}

pub(super) fn grants_in(message: proto::AskReply) -> Result<Grants> {
    let list = message.grants.into_iter().map(|grant| {
        let work = decode("unit", &grant.work)?;
        Ok(Grant { lease: lease_in(grant.lease)?, work, trace: grant.trace })
    });
    let grants = list.collect::<Result<Vec<_>>>()?;
    Ok(Grants { epoch: message.epoch, grants, finished: message.finished })
}

pub(super) fn heartbeat_out(heartbeat: &Heartbeat) -> Result<proto::HeartbeatRequest> {
    let held = heartbeat.held.iter().map(|progress| proto::Progress {
        lease: Some(lease_out(&progress.lease)),
        running: progress.running,
        rows_done: progress.rows_done,
        rows_per_second: progress.rows_per_second,
        waiting_for_store: progress.waiting_for_store,
    });
    Ok(proto::HeartbeatRequest {
        worker: heartbeat.worker.as_str().to_owned(),
        held: held.collect(),
        leaving: heartbeat.leaving,
        health: encode_named(&heartbeat.health)?,
    })
}

pub(super) fn heartbeat_in(message: proto::HeartbeatRequest) -> Result<Heartbeat> {
    let held = at_most("leases", LEASES_PER_MESSAGE_MAX, message.held)?;
    let held = held.into_iter().map(|progress| {
        Ok(Progress {
            lease: lease_in(progress.lease)?,
            running: progress.running,
            rows_done: progress.rows_done,
            rows_per_second: progress.rows_per_second,
            waiting_for_store: progress.waiting_for_store,
        })
    });
    let held = held.collect::<Result<Vec<_>>>()?;
    let health = decode_or_default("health", &message.health)?;
    Ok(Heartbeat { worker: worker(message.worker)?, held, leaving: message.leaving, health })
}

pub(super) fn heartbeat_reply_out(reply: &HeartbeatReply) -> proto::HeartbeatReply {
    proto::HeartbeatReply {
        epoch: reply.epoch,
        revoked: leases_out(&reply.revoked),
        renamed: renamed_out(&reply.renamed),
        drain: reply.drain,
        finished: reply.finished,
    }
}

pub(super) fn heartbeat_reply_in(message: proto::HeartbeatReply) -> Result<HeartbeatReply> {
    Ok(HeartbeatReply {
        epoch: message.epoch,
        revoked: leases_in(message.revoked)?,
        renamed: renamed_in(message.renamed)?,
        drain: message.drain,
        finished: message.finished,
    })
}

fn failure_out(failure: &Failure) -> proto::Failure {
    let fits = failure.fits.iter().map(|failed| proto::FitFailure {
        fit: failed.fit.as_str().to_owned(),
        label: failed.label.clone(),
        reason: failed.reason.clone(),
    });
    proto::Failure {
        code: i32::from(failure.kind.grpc_code()),
        chain: failure.chain.clone(),
        of_all_rows: failure.of_all_rows,
        fits: fits.collect(),
    }
}

fn failure_in(message: proto::Failure) -> Result<Failure> {
    let proto::Failure { code, chain, of_all_rows, fits } = message;
    let fits = at_most("fits", FITS_PER_REPORT_MAX, fits)?.into_iter().map(|failed| {
        let (label, reason) = (one_line(&failed.label), one_line(&failed.reason));
        Ok(FitFailure { fit: FitId::parse(failed.fit)?, label, reason })
    });
    Ok(Failure {
        kind: ErrorKind::from_grpc_code(tonic::Code::from_i32(code)),
        chain: one_line(&chain),
        of_all_rows,
        fits: fits.collect::<Result<_>>()?,
    })
}

pub(super) fn report_out(report: &Report) -> proto::ReportRequest {
    use proto::report_request::Outcome as Wire;
    let outcome = match &report.outcome {
        Outcome::Committed => Wire::Committed(proto::Empty {}),
        Outcome::Lost => Wire::Lost(proto::Empty {}),
        Outcome::HandedBack => Wire::HandedBack(proto::HandedBack::default()),
        Outcome::Unfit { chain } => Wire::HandedBack(proto::HandedBack { unfit: chain.clone() }),
        Outcome::Failed(failure) => Wire::Failed(failure_out(failure)),
    };
    proto::ReportRequest {
        worker: report.worker.as_str().to_owned(),
        lease: Some(lease_out(&report.lease)),
        seconds: report.seconds,
        outcome: Some(outcome),
        device_seconds: Some(report.device_seconds),
    }
}

pub(super) fn report_in(message: proto::ReportRequest) -> Result<Report> {
    use proto::report_request::Outcome as Wire;
    let outcome = match message.outcome.ok_or_else(|| missing("outcome"))? {
        Wire::Committed(_) => Outcome::Committed,
        Wire::Lost(_) => Outcome::Lost,
        Wire::HandedBack(proto::HandedBack { unfit }) if unfit.is_empty() => Outcome::HandedBack,
        Wire::HandedBack(proto::HandedBack { unfit }) => Outcome::Unfit { chain: one_line(&unfit) },
        Wire::Failed(failure) => Outcome::Failed(failure_in(failure)?),
    };
    let (worker, lease) = (worker(message.worker)?, lease_in(message.lease)?);
    let seconds = message.seconds;
    let device_seconds = message.device_seconds.unwrap_or(seconds);
    Ok(Report { worker, lease, outcome, seconds, device_seconds })
}

pub(super) fn status_out(status: &JobStatus) -> Result<proto::StatusReply> {
    Ok(proto::StatusReply { status: encode_named(status)? })
}

pub(super) fn status_in(message: &proto::StatusReply) -> Result<JobStatus> {
    decode("status", &message.status)
}
