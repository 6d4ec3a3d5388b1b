//! Any [`Control`] as a gRPC service.
//!
//! Leaves out: listening (coordinator). Invariant: a request becomes one call, nothing else.

use super::proto::control_server::{Control as Service, ControlServer};
use super::{Control, convert, proto};
use crate::error::Error;
use crate::ids::JobId;
use crate::limits::{JOB_FILE_BYTES_MAX, MESSAGE_BYTES_MAX};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Passes requests on to a [`Control`].
#[derive(Clone)]
pub struct Adapter(Arc<dyn Control>);

/// The service, ready for a tonic server.
pub fn control_server(control: Arc<dyn Control>) -> ControlServer<Adapter> {
    ControlServer::new(Adapter(control))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T, Error>) -> Answer<T> {
    result.map(Response::new).map_err(|error| convert::to_status(&error))
}

fn job(request: Request<proto::JobRequest>) -> Result<JobId, Error> {
    convert::job(request.into_inner().job)
}

#[tonic::async_trait]
impl Service for Adapter {
    type WatchStream = BoxStream<'static, Result<proto::StatusReply, Status>>;

    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Answer<proto::RegisterReply> {
        let call = async {
            let registration = convert::registration_in(request.into_inner())?;
            Ok(convert::registered_out(&self.0.register(registration).await?))
        };
        answer(call.await)
    }

    async fn ask(&self, request: Request<proto::AskRequest>) -> Answer<proto::AskReply> {
        let call = async {
            let ask = convert::ask_in(request.into_inner())?;
            convert::grants_out(&self.0.ask(ask).await?)
        };
        answer(call.await)
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Answer<proto::HeartbeatReply> {
        let call = async {
            let heartbeat = convert::heartbeat_in(request.into_inner())?;
            Ok(convert::heartbeat_reply_out(&self.0.heartbeat(heartbeat).await?))
        };
        answer(call.await)
    }

    async fn report(&self, request: Request<proto::ReportRequest>) -> Answer<proto::ReportReply> {
        let call = async {
            let report = convert::report_in(request.into_inner())?;
            Ok(proto::ReportReply { epoch: self.0.report(report).await?.epoch })
        };
        answer(call.await)
    }

    async fn submit(&self, request: Request<proto::SubmitRequest>) -> Answer<proto::SubmitReply> {
        let call = async {
            let proto::SubmitRequest { job_toml, plan } = request.into_inner();
            if job_toml.len() > JOB_FILE_BYTES_MAX {
                let found = job_toml.len();
                let expected = format!("expected a job file of at most {JOB_FILE_BYTES_MAX} bytes");
                return Err(Error::invalid(format!("{expected}, found {found}")));
            }
            let plan = convert::decode("plan", &plan)?;
            let job = self.0.submit(&job_toml, plan).await?;
            Ok(proto::SubmitReply { job: job.as_str().to_owned() })
        };
        answer(call.await)
    }

    async fn status(&self, request: Request<proto::JobRequest>) -> Answer<proto::StatusReply> {
        let call = async { convert::status_out(&self.0.status(&job(request)?).await?) };
        answer(call.await)
    }

    async fn jobs(&self, _request: Request<proto::JobsRequest>) -> Answer<proto::JobsReply> {
        let call = async {
            let jobs = self.0.jobs().await?;
            let jobs = jobs.iter().map(convert::status_out).collect::<Result<Vec<_>, _>>()?;
            Ok(proto::JobsReply { jobs })
        };
        answer(call.await)
    }

    async fn cancel(&self, request: Request<proto::JobRequest>) -> Answer<proto::Empty> {
        let call = async {
            self.0.cancel(&job(request)?).await?;
            Ok(proto::Empty {})
        };
        answer(call.await)
    }

    async fn drain(&self, request: Request<proto::DrainRequest>) -> Answer<proto::Empty> {
        let call = async {
            let worker = convert::worker(request.into_inner().worker)?;
            self.0.drain(&worker).await?;
            Ok(proto::Empty {})
        };
        answer(call.await)
    }

    async fn watch(&self, request: Request<proto::JobRequest>) -> Answer<Self::WatchStream> {
        let watched = async { self.0.watch(&job(request)?).await };
        let stream = watched.await.map(|stream| {
            let messages = stream.map(|status| {
                status
                    .and_then(|status| convert::status_out(&status))
                    .map_err(|error| convert::to_status(&error))
            });
            messages.boxed()
        });
        answer(stream)
    }
}
