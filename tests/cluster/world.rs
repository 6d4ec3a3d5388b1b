//! A store and a runner in memory, and short ways to start coordinators and workers over them.

#![expect(clippy::unwrap_used, reason = "support of tests: a panic is how they fail")]

use async_trait::async_trait;
use glmeval_common::clock::ManualClock;
use glmeval_common::control::{Control, CoordinatorRecord, Failure};
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::example::ExampleSchema;
use glmeval_common::ids::{Attempt, DatasetId, JobId, ModelId, WorkerId};
use glmeval_common::job::{
    Job, JobDataset, JobEmbedding, JobModel, JobProbe, LayerChoice, Protocol,
};
use glmeval_common::model::{MemoryFacts, ModelFacts, ModelOptions, TokenRule};
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::representation::{Pooling, SequenceFeature, StoredDtype};
use glmeval_common::unit::{ProbeSpec, WorkUnit};
use glmeval_common::wire::GrpcControl;
use glmeval_coordinator::job_store::Quarantined;
use glmeval_coordinator::{Coordinator, JobStore, Recovery, Settings, service};
use glmeval_worker::agent::{
    Agent, AgentSettings, CommitCheck, PartitionOutcome, PartitionWorker, RunContext, StopSource,
    UnitOutcome, UnitRunner, stop_pair,
};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

const CLASS: &str = "f32.cpu.1";

/// Ends a test that hangs.
pub(crate) async fn within(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs");
}

fn plan() -> Plan {
    let job = Job {
        file: "job.toml".into(),
        toml: String::new(),
        name: "test".into(),
        seed: 7,
        protocol: Protocol::Published,
        shard_rows: Some(100),
        prices: None,
        attributions: Vec::new(),
        models: vec![JobModel {
            name: "NT".into(),
            source: "/nt".into(),
            options: ModelOptions::default(),
            published: None,
        }],
        datasets: vec![JobDataset {
            name: "D".into(),
            task: TaskName::Regression,
            source: DatasetSource::Fasta { path: PathBuf::from("/d.fa") },
        }],
        embeddings: vec![JobEmbedding {
            model_index: 0,
            layers: LayerChoice::List(vec![1, 2]),
            poolings: vec![Pooling::Mean],
            dtype: StoredDtype::F32,
            options: Default::default(),
            key: "representation[0]".into(),
            dataset_indices: None,
            zero_shot: None,
        }],
        features: vec![SequenceFeature::OneHot.into()],
        probes: vec![JobProbe::linear(ProbeSpec::LeastSquares, vec![0])],
    };
    let dataset = DatasetFacts {
        id: DatasetId::new("d"),
        schema: ExampleSchema { targets: vec!["y".into()], ..ExampleSchema::sequences_only() },
        rows: 1_000,
        nucleotides: 200_000,
        length_min: 200,
        length_max: 200,
        split_rows: [("train", 800), ("test", 200)]
            .map(|(split, rows)| (split.to_owned(), rows))
            .into(),
        notes: Vec::new(),
        leakage: Vec::new(),
        target_titles: Vec::new(),
    };
    let model = ModelFacts {
        id: ModelId::new("m"),
        architecture: "nucleotide-transformer-v1".into(),
        parameters: 1,
        layer_count: 2,
        width: 8,
        tokens_max: 1_000,
        token_rule: TokenRule::Blocks { length: 6, special: 1 },
        states_fixed: None,
        flops_per_token: 1e6,
        flops_per_token_pair: 10.0,
        memory: MemoryFacts::default(),
    };
    glmeval_coordinator::plan::plan(&job, &[dataset], &[model], &|_| CLASS.to_owned()).unwrap()
}

/// Everything a coordinator and its workers share.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) runner: Arc<FakeRunner>,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let runner = Arc::new(FakeRunner {
            store: Arc::clone(&store),
            runs: watch::Sender::new(0),
            gate_open: watch::Sender::new(true),
            fails: Mutex::default(),
            unfit: Mutex::default(),
            panics: Mutex::default(),
        });
        Self { plan: plan(), store, runner, clock: Arc::default() }
    }

    pub(crate) fn numeric_class(&self) -> &'static str {
        CLASS
    }

    pub(crate) async fn coordinator(&self, name: &str, recovery: Recovery) -> Coordinator {
        let settings =
            Settings { heartbeat_interval_ms: 10, tick_interval_ms: 10, ..Settings::default() };
        let record = CoordinatorRecord {
            version: 1,
            token: name.into(),
            address: None,
            program: "test".into(),
            started_unix_ms: 0,
        };
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Coordinator::start(name, store, clock, settings, &record, recovery).await.unwrap()
    }

    pub(crate) fn agent(&self, name: &str, control: Arc<dyn Control>) -> Agent {
        self.agent_with(name, control, stop_pair().1)
    }

    pub(crate) fn agent_with(
        &self,
        name: &str,
        control: Arc<dyn Control>,
        stop: StopSource,
    ) -> Agent {
        let settings = AgentSettings {
            until_idle: true,
            call_interval_ms: 10,
            abandon_ms_max: 5_000,
            ..AgentSettings::new(
                WorkerId::new(name),
                &format!("host-{name}"),
                vec![CLASS.to_owned()],
            )
        };
        Agent::new(control, self.runner.clone(), self.clock.clone(), settings, stop)
    }

    pub(crate) async fn partition_worker(&self, index: u32, count: u32) -> PartitionOutcome {
        self.try_partition(index, count).await.unwrap()
    }

    pub(crate) async fn try_partition(&self, index: u32, count: u32) -> Result<PartitionOutcome> {
        let worker = PartitionWorker {
            plan: &self.plan,
            worker: WorkerId::new(format!("p{index}")),
            check: &*self.store,
            runner: &*self.runner,
            clock: &*self.clock,
            stop: stop_pair().1,
        };
        worker.run(index, count).await
    }
}

/// A coordinator behind a socket.
pub(crate) struct Served {
    pub(crate) address: String,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<()>>,
}

impl Served {
    pub(crate) async fn start(coordinator: Coordinator, address: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let server = tokio::spawn(service::serve(coordinator, listener, stopped));
        Self { address, stop, server }
    }

    pub(crate) fn client(&self) -> Arc<dyn Control> {
        Arc::new(GrpcControl::connect(&self.address).unwrap())
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }
}

/// Runs a unit by waiting for the gate and committing it.
pub(crate) struct FakeRunner {
    store: Arc<MemoryStore>,
    runs: watch::Sender<usize>,
    gate_open: watch::Sender<bool>,
    fails: Mutex<Option<u64>>,
    unfit: Mutex<BTreeSet<WorkerId>>,
    panics: Mutex<Option<String>>,
}

impl FakeRunner {
    pub(crate) fn runs(&self) -> usize {
        *self.runs.borrow()
    }

    pub(crate) async fn started(&self, runs: usize) {
        self.runs.subscribe().wait_for(|now| *now >= runs).await.unwrap();
    }

    pub(crate) fn close_gate(&self) {
        self.gate_open.send_replace(false);
    }

    pub(crate) fn open_gate(&self) {
        self.gate_open.send_replace(true);
    }

    /// From now on shards that hold this row fail.
    pub(crate) fn fail_on(&self, row: u64) {
        *self.fails.lock().unwrap() = Some(row);
    }

    pub(crate) fn heal(&self) {
        *self.fails.lock().unwrap() = None;
    }

    /// From now on this worker can do no shard.
    pub(crate) fn disable(&self, worker: &str) {
        self.unfit.lock().unwrap().insert(WorkerId::new(worker));
    }

    pub(crate) fn panic_on(&self, label: &str) {
        *self.panics.lock().unwrap() = Some(label.to_owned());
    }
}

#[async_trait]
impl UnitRunner for FakeRunner {
    async fn run(
        &self,
        unit: &WorkUnit,
        _attempt: &Attempt,
        context: &RunContext,
    ) -> Result<UnitOutcome> {
        self.runs.send_modify(|runs| *runs += 1);
        let mut gate = self.gate_open.subscribe();
        tokio::select! {
            _ = gate.wait_for(|open| *open) => {}
            _ = context.stop.stopped() => return Err(Error::unavailable("stopped")),
        }
        let label = unit.label();
        assert_ne!(self.panics.lock().unwrap().as_ref(), Some(&label), "ordered to panic");
        if let (WorkUnit::Extract(shard), Some(row)) = (unit, *self.fails.lock().unwrap())
            && (shard.start..shard.end).contains(&row)
        {
            return Err(Error::invalid(format!("row {row}: not finite")));
        }
        let is_unfit = self.unfit.lock().unwrap().contains(&context.worker);
        if is_unfit && matches!(unit, WorkUnit::Extract(_)) {
            let error = Error::invalid("model: expected a, found b").of_place();
            return Err(error.context(label));
        }
        context.progress.add_rows(context.progress.rows_total());
        let won = self.store.commit(unit);
        Ok(if won { UnitOutcome::Committed } else { UnitOutcome::Lost })
    }
}

/// A store in memory.
#[derive(Default)]
pub(crate) struct MemoryStore {
    epochs: Mutex<BTreeMap<String, u64>>,
    jobs: Mutex<BTreeMap<JobId, Plan>>,
    commits: Mutex<BTreeSet<String>>,
    failed: Mutex<BTreeMap<(JobId, u32), String>>,
    quarantined: Mutex<Vec<(JobId, Quarantined)>>,
    cancelled: Mutex<BTreeSet<JobId>>,
}

fn key(unit: &WorkUnit) -> String {
    serde_json::to_string(unit).unwrap()
}

impl MemoryStore {
    fn commit(&self, unit: &WorkUnit) -> bool {
        self.commits.lock().unwrap().insert(key(unit))
    }

    pub(crate) fn commit_count(&self) -> usize {
        self.commits.lock().unwrap().len()
    }
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn claim_epoch(&self, name: &str, _record: &CoordinatorRecord) -> Result<u64> {
        let mut epochs = self.epochs.lock().unwrap();
        let epoch = epochs.entry(name.to_owned()).or_default();
        *epoch += 1;
        Ok(*epoch)
    }

    async fn highest_epoch(&self, name: &str) -> Result<u64> {
        Ok(self.epochs.lock().unwrap().get(name).copied().unwrap_or(0))
    }

    async fn put_job(&self, _job_toml: &str, plan: &Plan) -> Result<()> {
        self.jobs.lock().unwrap().insert(plan.job.clone(), plan.clone());
        Ok(())
    }

    async fn list_jobs(&self) -> Result<Vec<JobId>> {
        Ok(self.jobs.lock().unwrap().keys().cloned().collect())
    }

    async fn plan(&self, job: &JobId) -> Result<Plan> {
        let plan = self.jobs.lock().unwrap().get(job).cloned();
        plan.ok_or_else(|| Error::not_found(format!("job {job}")))
    }

    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>> {
        let commits = self.commits.lock().unwrap();
        let units = (0..plan.unit_count()).map(|unit| plan.work_unit(unit).unwrap());
        Ok(units.map(|unit| commits.contains(&key(&unit))).collect())
    }

    async fn resume(&self, job: &JobId) -> Result<u32> {
        self.cancelled.lock().unwrap().remove(job);
        self.failed.lock().unwrap().retain(|(of, _), _| of != job);
        self.quarantined.lock().unwrap().retain(|(of, _)| of != job);
        Ok(0)
    }

    async fn failed_units(&self, job: &JobId) -> Result<BTreeMap<u32, String>> {
        let failed = self.failed.lock().unwrap();
        let of_job = failed.iter().filter(|((of, _), _)| of == job);
        Ok(of_job.map(|((_, unit), reason)| (*unit, reason.clone())).collect())
    }

    async fn quarantined(&self, job: &JobId) -> Result<Vec<Quarantined>> {
        let all = self.quarantined.lock().unwrap();
        Ok(all.iter().filter(|(of, _)| of == job).map(|(_, rows)| rows.clone()).collect())
    }

    async fn kept_rows(&self, plan: &Plan, units: &BTreeSet<u32>) -> Result<Vec<(u32, u64, u64)>> {
        let commits = self.commits.lock().unwrap();
        let shards = commits.iter().filter_map(|key| match serde_json::from_str(key).unwrap() {
            WorkUnit::Extract(shard) => Some((shard.set.id, shard.start, shard.end)),
            _ => None,
        });
        let mut kept = Vec::new();
        for (set, start, end) in shards {
            for &unit in units {
                let Some(WorkUnit::Extract(whole)) = plan.work_unit(unit) else { continue };
                let (start, end) = (start.max(whole.start), end.min(whole.end));
                if whole.set.id == set && start < end {
                    kept.push((unit, start, end));
                }
            }
        }
        kept.sort_unstable();
        Ok(kept)
    }

    async fn record_quarantined(
        &self,
        job: &JobId,
        _round: u32,
        rows: &Quarantined,
        _kind: ErrorKind,
    ) -> Result<()> {
        self.quarantined.lock().unwrap().push((job.clone(), rows.clone()));
        Ok(())
    }

    async fn record_failed(
        &self,
        job: &JobId,
        _round: u32,
        unit: u32,
        why: &Failure,
    ) -> Result<()> {
        self.failed.lock().unwrap().insert((job.clone(), unit), why.chain.clone());
        Ok(())
    }

    async fn is_cancelled(&self, job: &JobId) -> Result<bool> {
        Ok(self.cancelled.lock().unwrap().contains(job))
    }

    async fn record_cancelled(&self, job: &JobId, _round: u32) -> Result<()> {
        self.cancelled.lock().unwrap().insert(job.clone());
        Ok(())
    }
}

#[async_trait]
impl CommitCheck for MemoryStore {
    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>> {
        JobStore::committed(self, plan).await
    }
}
