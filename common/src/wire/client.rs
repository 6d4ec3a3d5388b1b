//! A coordinator over gRPC, as a [`Control`].
//!
//! Leaves out: patience. Each call is tried a bounded number of times; waiting for a coordinator
//! that is away is the agent's business. Invariant: only calls that may be repeated are.

use super::proto::control_client::ControlClient;
use super::{Control, convert, proto};
use crate::control::{
    Ask, Grants, Heartbeat, HeartbeatReply, JobStatus, Registered, Registration, Report,
    ReportReply, WorkerStatus,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{JobId, WorkerId};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::plan::Plan;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

const CONNECT_MS_MAX: u64 = 5_000;
const CALL_MS_MAX: u64 = 20_000;
const CALL_ATTEMPTS_MAX: u32 = 2;
const RETRY_MS: u64 = 100;

/// A coordinator at an address. Connects on first use and again after every break.
#[derive(Clone, Debug)]
pub struct GrpcControl {
    client: ControlClient<Channel>,
}

impl GrpcControl {
    /// Points to `address` (`http://host:port`, or `host:port`); nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid` when the address is none.
    pub fn connect(address: &str) -> Result<Self> {
        let scheme = if address.contains("://") { "" } else { "http://" };
        let endpoint = Endpoint::from_shared(format!("{scheme}{address}")).map_err(|e| {
            Error::invalid(format!("coordinator address {address:?}")).with_source(e)
        })?;
        let channel = endpoint
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .http2_keep_alive_interval(Duration::from_millis(CALL_MS_MAX))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        let client = ControlClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client })
    }
}

/// Calls with a time limit, and again if the coordinator could not be reached.
async fn call<Q, A, F>(
    client: &ControlClient<Channel>,
    request: Q,
    wait_ms: u64,
    method: impl Fn(ControlClient<Channel>, Request<Q>) -> F,
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
                let error = convert::from_status(&status);
                if error.kind() != ErrorKind::Unavailable || attempt == CALL_ATTEMPTS_MAX {
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
        let plan = convert::encode(&plan)?;
        if plan.len() >= MESSAGE_BYTES_MAX {
            let found = format!("a plan of {} bytes; larger shards make it shorter", plan.len());
            return Err(Error::invalid(format!("at most {MESSAGE_BYTES_MAX} bytes, {found}")));
        }
        let request = proto::SubmitRequest { job_toml: job_toml.to_owned(), plan };
        // Listing the commits of a large job takes a while.
        let reply =
            call(&self.client, request, 600_000, |mut c, r| async move { c.submit(r).await });
        Ok(JobId::new(reply.await?.job))
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
        let stream = stream.map_err(|status| convert::from_status(&status))?.into_inner();
        let statuses = stream.map(|message| {
            let message = message.map_err(|status| convert::from_status(&status))?;
            convert::status_in(&message)
        });
        Ok(statuses.boxed())
    }
}
