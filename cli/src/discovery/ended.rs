//! What a coordinator that left with its work done would still answer: that it is done.

use async_trait::async_trait;
use futures::stream::BoxStream;
use glmeval_common::control::{
    Ask, Control, Grants, Heartbeat, HeartbeatReply, JobStatus, Registered, Registration, Report,
    ReportReply,
};
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::limits::LEASE_TTL_MS;
use glmeval_common::plan::Plan;

/// A name whose last record has no address.
pub(super) struct Ended {
    /// Number of that record.
    pub(super) epoch: u64,
}

fn nobody<T>() -> Result<T> {
    Err(Error::unavailable("the coordinator has left: its jobs were over"))
}

#[async_trait]
impl Control for Ended {
    async fn register(&self, _registration: Registration) -> Result<Registered> {
        Ok(Registered {
            epoch: self.epoch,
            lease_ttl_ms: LEASE_TTL_MS,
            heartbeat_interval_ms: LEASE_TTL_MS / 6,
            renamed: Vec::new(),
            revoked: Vec::new(),
        })
    }

    async fn ask(&self, _ask: Ask) -> Result<Grants> {
        Ok(Grants { epoch: self.epoch, grants: Vec::new(), finished: true })
    }

    async fn heartbeat(&self, _heartbeat: Heartbeat) -> Result<HeartbeatReply> {
        Ok(HeartbeatReply {
            epoch: self.epoch,
            revoked: Vec::new(),
            renamed: Vec::new(),
            drain: false,
            finished: true,
        })
    }

    async fn report(&self, _report: Report) -> Result<ReportReply> {
        Ok(ReportReply { epoch: self.epoch })
    }

    async fn submit(&self, _job_toml: &str, _plan: Plan) -> Result<JobId> {
        nobody()
    }

    async fn status(&self, _job: &JobId) -> Result<JobStatus> {
        nobody()
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>> {
        nobody()
    }

    async fn cancel(&self, _job: &JobId) -> Result<()> {
        nobody()
    }

    async fn drain(&self, _worker: &WorkerId) -> Result<()> {
        nobody()
    }

    async fn watch(&self, _job: &JobId) -> Result<BoxStream<'static, Result<JobStatus>>> {
        nobody()
    }
}
