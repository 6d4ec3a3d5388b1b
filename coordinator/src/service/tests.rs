use super::*;
use crate::driver::Recovery;
use crate::job_store::{CoordinatorRecord, JobStore};
use crate::settings::Settings;
use async_trait::async_trait;
use glmeval_common::clock::ManualClock;
use glmeval_common::ids::JobId;
use glmeval_common::plan::Plan;
use std::collections::BTreeMap;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A store without jobs.
struct Empty;

#[async_trait]
impl JobStore for Empty {
    async fn claim_epoch(&self, _name: &str, _record: &CoordinatorRecord) -> Result<u64> {
        Ok(1)
    }
    async fn highest_epoch(&self, _name: &str) -> Result<u64> {
        Ok(1)
    }
    async fn put_job(&self, _job_toml: &str, _plan: &Plan) -> Result<()> {
        Ok(())
    }
    async fn list_jobs(&self) -> Result<Vec<JobId>> {
        Ok(Vec::new())
    }
    async fn plan(&self, _job: &JobId) -> Result<Plan> {
        Err(Error::not_found("no job"))
    }
    async fn committed(&self, _plan: &Plan) -> Result<Vec<bool>> {
        Ok(Vec::new())
    }
    async fn resume(&self, _job: &JobId) -> Result<()> {
        Ok(())
    }
    async fn failed_units(&self, _job: &JobId) -> Result<BTreeMap<u32, String>> {
        Ok(BTreeMap::new())
    }
    async fn record_failed(&self, _job: &JobId, _unit: u32, _reason: &str) -> Result<()> {
        Ok(())
    }
    async fn is_cancelled(&self, _job: &JobId) -> Result<bool> {
        Ok(false)
    }
    async fn record_cancelled(&self, _job: &JobId) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_health_check_says_that_the_control_service_serves() {
    let record = CoordinatorRecord {
        version: 1,
        token: "t".into(),
        address: None,
        program: "test".into(),
        started_unix_ms: 0,
    };
    let (store, clock) = (Arc::new(Empty), Arc::new(ManualClock::default()));
    let settings = Settings::default();
    let coordinator =
        Coordinator::start("c", store, clock, settings, &record, Recovery::AllJobs).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(coordinator, listener, async {
        let _ = stopped.await;
    }));
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect_lazy();
    let request = HealthCheckRequest { service: SERVICE_NAME.to_owned() };
    let answer = HealthClient::new(channel).check(request).await.unwrap().into_inner();
    assert_eq!(answer.status, 1, "SERVING");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
