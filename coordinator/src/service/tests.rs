use super::*;
use crate::certificates::{Order, mint};
use crate::driver::Recovery;
use crate::job_store::{CoordinatorRecord, JobStore};
use crate::settings::Settings;
use async_trait::async_trait;
use glmeval_common::clock::ManualClock;
use glmeval_common::control::{Control, Failure};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::JobId;
use glmeval_common::plan::Plan;
use glmeval_common::trust::{Role, TlsFiles, TlsIdentity};
use glmeval_common::wire::GrpcControl;
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
    async fn resume(&self, _job: &JobId) -> Result<u32> {
        Ok(0)
    }
    async fn failed_units(&self, _job: &JobId) -> Result<BTreeMap<u32, String>> {
        Ok(BTreeMap::new())
    }
    async fn record_failed(
        &self,
        _job: &JobId,
        _round: u32,
        _unit: u32,
        _why: &Failure,
    ) -> Result<()> {
        Ok(())
    }
    async fn is_cancelled(&self, _job: &JobId) -> Result<bool> {
        Ok(false)
    }
    async fn record_cancelled(&self, _job: &JobId, _round: u32) -> Result<()> {
        Ok(())
    }
}

async fn coordinator() -> Coordinator {
    let record = CoordinatorRecord {
        version: 1,
        token: "t".into(),
        address: None,
        program: "test".into(),
        started_unix_ms: 0,
    };
    let (store, clock) = (Arc::new(Empty), Arc::new(ManualClock::default()));
    let settings = Settings::default();
    Coordinator::start("c", store, clock, settings, &record, Recovery::AllJobs).await.unwrap()
}

/// Asks a coordinator with `trust` for its health in plain text, then for its jobs.
async fn probe(trust: Trust) -> Option<ErrorKind> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve_trusted(coordinator().await, listener, trust, async {
        let _ = stopped.await;
    }));
    let channel = tonic::transport::Endpoint::from_shared(address.clone()).unwrap().connect_lazy();
    let request = HealthCheckRequest { service: SERVICE_NAME.to_owned() };
    let answer = HealthClient::new(channel).check(request).await.unwrap().into_inner();
    assert_eq!(answer.status, 1, "SERVING");
    let jobs = GrpcControl::connect(&address).unwrap().jobs().await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    jobs.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_health_check_says_that_the_control_service_serves() {
    assert_eq!(probe(Trust::open()).await, None);
}

#[tokio::test]
async fn a_probe_without_certificates_learns_the_health_of_a_coordinator_and_nothing_else() {
    let order = Order { name: "test", hosts: &[], days: 1, now_unix_s: 1_700_000_000 };
    let (folder, minted) = (tempfile::tempdir().unwrap(), mint(&order).unwrap());
    let files = TlsFiles::in_folder(folder.path(), Role::Coordinator);
    let issued = minted.issued.iter().find(|one| one.role == Role::Coordinator).unwrap();
    std::fs::write(&files.ca, &minted.ca_pem).unwrap();
    std::fs::write(&files.certificate, &issued.certificate_pem).unwrap();
    std::fs::write(&files.key, &issued.key_pem).unwrap();
    let identity = TlsIdentity::read(files).unwrap();
    identity.check(Role::Coordinator, 1_700_000_000_000).unwrap();
    for (role, unix_ms) in [
        (Role::Coordinator, 1_700_100_000_000),
        (Role::Coordinator, 1_699_000_000_000),
        (Role::Worker, 1_700_000_000_000),
    ] {
        let error = identity.check(role, unix_ms).unwrap_err();
        assert!(error.chain().contains("expected a certificate of the role"), "{}", error.chain());
    }
    let trust = Trust::new(Some(identity), None, None).unwrap();
    assert_eq!(probe(trust).await, Some(ErrorKind::Invalid));
}
