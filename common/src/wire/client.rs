//! A coordinator over gRPC, as a [`Control`].
//!
//! Leaves out: patience. Each call is tried a bounded number of times; waiting for a coordinator
//! that is away is the agent's business. Invariant: only calls that may be repeated are.

use super::proto::control_client::ControlClient;
use super::secure::{Bearer, answered, endpoint};
use super::{Control, convert, proto};
use crate::control::{
    Ask, Grants, Heartbeat, HeartbeatReply, JobStatus, Registered, Registration, Report,
    ReportReply, WorkerStatus,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{JobId, WorkerId};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::plan::Plan;
use crate::trust::Credentials;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

const CALL_MS_MAX: u64 = 20_000;
const CALL_ATTEMPTS_MAX: u32 = 2;
const RETRY_MS: u64 = 100;

type Client = ControlClient<InterceptedService<Channel, Bearer>>;

/// A coordinator at an address. Connects on first use and again after every break.
#[derive(Clone, Debug)]
pub struct GrpcControl {
    client: Client,
}

impl GrpcControl {
    /// Points to `address` without certificates or token; nothing is sent yet.
    ///
    /// # Errors
    /// As [`GrpcControl::connect_as`].
    pub fn connect(address: &str) -> Result<Self> {
        Self::connect_as(address, &Credentials::default())
    }

    /// Points to `address` (`host:port`, `http://host:port` or `https://host:port`); nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid` when the address is none, when it and the credentials disagree about TLS, or when the
    /// token would leave this machine in plain text.
    pub fn connect_as(address: &str, credentials: &Credentials) -> Result<Self> {
        Self::over(Self::endpoint(address, credentials)?.connect_lazy(), credentials)
    }

    /// `address` with the limits and signs of life of every connection to a coordinator.
    ///
    /// # Errors
    /// As [`GrpcControl::connect_as`].
    pub fn endpoint(address: &str, credentials: &Credentials) -> Result<Endpoint> {
        let endpoint = endpoint(address, credentials)?;
        Ok(endpoint
            .http2_keep_alive_interval(Duration::from_millis(CALL_MS_MAX))
            .keep_alive_while_idle(true))
    }

    /// Speaks over a channel that the caller made of [`GrpcControl::endpoint`], such as one of a
    /// simulated network.
    ///
    /// # Errors
    /// `Bug` for a token that is no header.
    pub fn over(channel: Channel, credentials: &Credentials) -> Result<Self> {
        let client = ControlClient::with_interceptor(channel, Bearer::new(credentials)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client })
    }
}

/// Calls with a time limit, and again if the coordinator could not be reached.
async fn call<Q, A, F>(
    client: &Client,
    request: Q,
    wait_ms: u64,
    method: impl Fn(Client, Request<Q>) -> F,
) -> Result<A>
where
    Q: Clone,
    F: Future<Output = Result<Response<A>, Status>>,
{
    let mut attempt = 1;
    loop {
        let mut message = Request::new(request.clone());
        message.set_timeout(Duration::from_millis(CALL_MS_MAX.saturating_add(wait_ms)));
        match method(client.clone(), message).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => {
                let error = answered(&status);
                // Who is told to ask less often waits for its next turn.
                let asked_too_often = status.code() == Code::ResourceExhausted;
                let lasting = error.kind() != ErrorKind::Unavailable || asked_too_often;
                if lasting || attempt == CALL_ATTEMPTS_MAX {
                    return Err(error);
                }
            }
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

fn job_request(job: &JobId) -> proto::JobRequest {
    proto::JobRequest { job: job.as_str().to_owned() }
}

#[async_trait]
impl Control for GrpcControl {
    async fn register(&self, registration: Registration) -> Result<Registered> {
        let request = convert::registration_out(&registration)?;
        let reply =
            call(&self.client, request, 0, |mut c, r| async move { c.register(r).await }).await?;
        convert::registered_in(reply)
    }

    async fn ask(&self, ask: Ask) -> Result<Grants> {
        let request = convert::ask_out(&ask);
        let reply =
            call(&self.client, request, ask.wait_ms, |mut c, r| async move { c.ask(r).await })
                .await?;
        convert::grants_in(reply)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply> {
        let request = convert::heartbeat_out(&heartbeat)?;
        let reply =
            call(&self.client, request, 0, |mut c, r| async move { c.heartbeat(r).await }).await?;
        convert::heartbeat_reply_in(reply)
    }

    async fn report(&self, report: Report) -> Result<ReportReply> {
        let request = convert::report_out(&report);
        let reply =
            call(&self.client, request, 0, |mut c, r| async move { c.report(r).await }).await?;
        Ok(ReportReply { epoch: reply.epoch })
    }

    async fn submit(&self, job_toml: &str, plan: Plan) -> Result<JobId> {
        // By name: options of a gLM leave fields out of the middle.
        let plan = convert::encode_named(&plan)?;
        if plan.len() >= MESSAGE_BYTES_MAX {
            let found = format!("a plan of {} bytes; larger shards make it shorter", plan.len());
            return Err(Error::invalid(format!("at most {MESSAGE_BYTES_MAX} bytes, {found}")));
        }
        let request = proto::SubmitRequest { job_toml: job_toml.to_owned(), plan };
        // Listing the commits of a large job takes a while.
        let reply =
            call(&self.client, request, 600_000, |mut c, r| async move { c.submit(r).await });
        convert::job(reply.await?.job)
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus> {
        let request = job_request(job);
        let reply =
            call(&self.client, request, 0, |mut c, r| async move { c.status(r).await }).await?;
        convert::status_in(&reply)
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>> {
        let request = proto::JobsRequest {};
        let reply =
            call(&self.client, request, 0, |mut c, r| async move { c.jobs(r).await }).await?;
        reply.jobs.iter().map(convert::status_in).collect()
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        let request = proto::WorkersRequest {};
        let reply =
            call(&self.client, request, 0, |mut c, r| async move { c.workers(r).await }).await?;
        reply.workers.iter().map(|bytes| convert::decode("worker", bytes)).collect()
    }

    async fn cancel(&self, job: &JobId) -> Result<()> {
        let request = job_request(job);
        call(&self.client, request, 0, |mut c, r| async move { c.cancel(r).await }).await?;
        Ok(())
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        let request = proto::DrainRequest { worker: worker.as_str().to_owned() };
        call(&self.client, request, 0, |mut c, r| async move { c.drain(r).await }).await?;
        Ok(())
    }

    async fn watch(&self, job: &JobId) -> Result<BoxStream<'static, Result<JobStatus>>> {
        let mut client = self.client.clone();
        let stream = client.watch(job_request(job)).await;
        let stream = stream.map_err(|status| answered(&status))?.into_inner();
        let statuses = stream.map(|message| {
            let message = message.map_err(|status| answered(&status))?;
            convert::status_in(&message)
        });
        Ok(statuses.boxed())
    }
}
