//! What a coordinator costs at 1e4, 1e5 and 1e6 units and 10,000 workers: bytes per unit, processor time
//! per event, recovery. One JSON row per measurement.
//!
//! ```text
//! cargo run --release -p glmeval-coordinator --example scale -- [units ...] [--folder]
//! ```
//!
//! Leaves out: network and latency of a store; requests are counted by the names they list.
//! Invariant: time is this thread's processor time, bytes are those that are allocated.

#![expect(clippy::print_stdout, reason = "rows are what a bench is for")]

use glmeval_common::control::{Failure, LeaseKey, Outcome, Progress};
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::example::ExampleSchema;
use glmeval_common::ids::{Attempt, DatasetId, JobId, ModelId, WorkerId};
use glmeval_common::job::{
    Job, JobDataset, JobEmbedding, JobModel, JobSchedule, LayerChoice, Protocol,
};
use glmeval_common::layout;
use glmeval_common::model::{MemoryFacts, ModelFacts, TokenRule};
use glmeval_common::plan::{DatasetFacts, Plan, UnitSpec};
use glmeval_common::representation::{Pooling, StoredDtype};
use glmeval_common::rng::Rng;
use glmeval_common::store::Store;
use glmeval_common::store::jobs::{self, Snapshot};
use glmeval_coordinator::evidence::Evidence;
use glmeval_coordinator::job_store::JobSnapshot;
use glmeval_coordinator::state::{Effect, Ended, Event, State};
use glmeval_coordinator::{Settings, StoredJobs, plan, recover};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[path = "scale/meters.rs"]
mod meters;

use meters::{allocated_bytes, cpu_ns, percentile};

const WORKERS: usize = 10_000;
const ROWS_PER_UNIT: u64 = 64;
const CLASS: &str = "f32.cpu.1";

/// A job of one lazy data set in `units` shards and nothing else.
fn planned(units: u64) -> Plan {
    let source = DatasetSource::Windows {
        genome: "/genome.fa".into(),
        window: 200,
        stride: 100,
        undefined_share_max: 0.5,
    };
    let embedding = JobEmbedding {
        model_index: 0,
        layers: LayerChoice::Word("last".into()),
        poolings: vec![Pooling::Mean],
        dtype: StoredDtype::F32,
        options: Default::default(),
        dataset_indices: None,
        key: "representation[0]".into(),
        zero_shot: None,
    };
    let job = Job {
        file: "job.toml".into(),
        toml: String::new(),
        name: format!("scale {units}"),
        seed: 1,
        prices: None,
        attributions: Vec::new(),
        protocol: Protocol::Published,
        shard_rows: Some(ROWS_PER_UNIT),
        models: vec![JobModel {
            name: "NT".into(),
            source: "/nt".into(),
            options: Default::default(),
            published: None,
        }],
        datasets: vec![JobDataset { name: "genome".into(), task: TaskName::Regression, source }],
        embeddings: vec![embedding],
        features: Vec::new(),
        probes: Vec::new(),
    };
    let rows = units * ROWS_PER_UNIT;
    let dataset = DatasetFacts {
        id: DatasetId::new("d"),
        schema: ExampleSchema::sequences_only(),
        rows,
        nucleotides: rows * 200,
        length_min: 200,
        length_max: 200,
        split_rows: BTreeMap::new(),
        notes: Vec::new(),
        leakage: Vec::new(),
        target_titles: Vec::new(),
    };
    let model = ModelFacts {
        id: ModelId::new("m"),
        architecture: "nucleotide-transformer-v1".into(),
        parameters: 1,
        layer_count: 4,
        width: 8,
        tokens_max: 1_000,
        token_rule: TokenRule::Blocks { length: 6, special: 1 },
        states_fixed: None,
        flops_per_token: 1e6,
        flops_per_token_pair: 10.0,
        memory: MemoryFacts::default(),
    };
    plan::plan(&job, &[dataset], &[model], &|_| CLASS.to_owned()).expect("the job is sound")
}

/// Workers, what they hold, and how long each event took.
struct Cluster {
    state: State,
    now_ms: u64,
    held: Vec<VecDeque<LeaseKey>>,
    rng: Rng,
    asks: Vec<u64>,
    reports: Vec<u64>,
    beats: Vec<u64>,
    ticks: Vec<u64>,
}

fn worker(index: usize) -> WorkerId {
    WorkerId::new(format!("worker-{index:05}"))
}

impl Cluster {
    fn new(plan: &Arc<Plan>) -> Self {
        let mut state = State::new(1, Settings::default());
        state.apply(submitted(plan), 0);
        let held = vec![VecDeque::new(); WORKERS];
        let rng = Rng::derive(1, "scale");
        let (asks, reports, beats, ticks) = Default::default();
        Self { state, now_ms: 0, held, rng, asks, reports, beats, ticks }
    }

    fn register(&mut self) {
        for index in 0..WORKERS {
            let event = Event::Register {
                worker: worker(index),
                host: format!("host-{}", index / 8),
                numeric_classes: vec![CLASS.to_owned()],
                device: "cpu".to_owned(),
                held: Vec::new(),
            };
            self.state.apply(event, self.now_ms);
        }
    }

    fn ask(&mut self, index: usize, units_max: u32) {
        let event = Event::Ask { worker: worker(index), units_max };
        let start = cpu_ns();
        let effects = self.state.apply(event, self.now_ms);
        self.asks.push(cpu_ns() - start);
        for effect in effects {
            if let Effect::Grant(lease) = effect {
                self.held[index].push_back(lease);
            }
        }
    }

    /// One in a hundred attempts fails and one in a hundred is handed back; the others commit.
    fn report(&mut self, index: usize) {
        let Some(lease) = self.held[index].pop_front() else { return };
        let outcome = match self.rng.below(100) {
            0 => Outcome::Failed(Failure::new(ErrorKind::Unavailable, "store")),
            1 => Outcome::HandedBack,
            _ => Outcome::Committed,
        };
        let (worker, evidence) = (worker(index), Evidence::Sound(None));
        let event = Event::Report { worker, lease, outcome, ran_ms: 10_000, evidence };
        let start = cpu_ns();
        self.state.apply(event, self.now_ms);
        self.reports.push(cpu_ns() - start);
    }

    /// All workers beat once, five seconds pass, the clock ticks.
    fn beat(&mut self) {
        for index in 0..WORKERS {
            let held = self.held[index].iter().enumerate().map(|(at, lease)| Progress {
                lease: lease.clone(),
                running: at == 0,
                waiting_for_store: false,
                rows_done: 1,
                rows_per_second: 1.0,
            });
            let held = held.collect();
            let event = Event::Heartbeat { worker: worker(index), held, leaving: false };
            let start = cpu_ns();
            self.state.apply(event, self.now_ms);
            self.beats.push(cpu_ns() - start);
        }
        self.now_ms += 5_000;
        let start = cpu_ns();
        self.state.apply(Event::Tick, self.now_ms);
        self.ticks.push(cpu_ns() - start);
    }

    /// One unit after the other, by workers in no order, until `commits` stand.
    fn work_until(&mut self, commits: u64) {
        let mut events = 0_u64;
        while self.state.commits().iter().map(|(_, committed, _)| committed).sum::<u64>() < commits
        {
            let index = self.rng.below(WORKERS as u64) as usize;
            self.report(index);
            self.ask(index, 2 - self.held[index].len() as u32);
            events += 1;
            if events.is_multiple_of(WORKERS as u64) {
                self.beat();
            }
        }
    }
}

fn submitted(plan: &Arc<Plan>) -> Event {
    Event::Submit {
        plan: Arc::clone(plan),
        committed: Vec::new(),
        ended: Ended::default(),
        schedule: JobSchedule::default(),
    }
}

/// Planning, one whole job, memory at its start and its middle.
fn whole_job(units: u64) {
    let (bytes, start) = (allocated_bytes(), cpu_ns());
    let plan = Arc::new(planned(units));
    let (plan_ms, plan_bytes) = (ms(cpu_ns() - start), allocated_bytes() - bytes);
    let json_bytes = serde_json::to_vec(&*plan).expect("a plan is JSON").len();
    let start = cpu_ns();
    let mut cluster = Cluster::new(&plan);
    let submit_ms = ms(cpu_ns() - start);
    let vectors = std::mem::size_of::<VecDeque<LeaseKey>>() * WORKERS;
    let state_bytes = allocated_bytes() - bytes - plan_bytes - vectors as i64;
    cluster.register();
    cluster.work_until(units / 2);
    let job = plan.job.clone();
    let ranges = cluster.state.committed_units(&job).map_or(0, |(_, set)| set.ranges().count());
    let copy = cluster.state.clone();
    let before = allocated_bytes();
    drop(copy);
    let half_bytes = before - allocated_bytes();
    cluster.work_until(units);
    assert!(cluster.state.finished(), "the job ends");
    let [asks, reports, beats, ticks] =
        [&mut cluster.asks, &mut cluster.reports, &mut cluster.beats, &mut cluster.ticks];
    let total_ns: u64 = [&*asks, &*reports, &*beats, &*ticks].into_iter().flatten().sum();
    let us = |times: &mut Vec<u64>, part| percentile(times, part) as f64 / 1e3;
    println!(
        "{{\"what\":\"job\",\"units\":{units},\"workers\":{WORKERS},\"plan_ms\":{plan_ms:.3},\
         \"plan_bytes\":{plan_bytes},\"plan_json_bytes\":{json_bytes},\"submit_ms\":{submit_ms:.3},\
         \"state_bytes_per_unit\":{:.3},\"half_bytes_per_pending_unit\":{:.2},\
         \"half_ranges\":{ranges},\"asks\":{},\"ask_us_p50\":{:.1},\"ask_us_p99\":{:.1},\
         \"ask_us_max\":{:.1},\"report_us_p50\":{:.1},\"report_us_p99\":{:.1},\
         \"beat_us_p50\":{:.1},\"beat_us_p99\":{:.1},\"tick_us_max\":{:.1},\"us_per_unit\":{:.2}}}",
        state_bytes as f64 / units as f64,
        half_bytes as f64 / (units as f64 / 2.0),
        asks.len(),
        us(asks, 0.5),
        us(asks, 0.99),
        us(asks, 1.0),
        us(reports, 0.5),
        us(reports, 0.99),
        us(beats, 0.5),
        us(beats, 0.99),
        us(ticks, 1.0),
        total_ns as f64 / 1e3 / units as f64,
    );
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Recovery of a half-done job, by listing and by a snapshot with the last thousandth missing.
async fn recovery(units: u64, store: Store, kind: &str) -> Result<()> {
    let plan = planned(units);
    jobs::create_job(&store, &plan, "").await?;
    let mut rng = Rng::derive(2, "holes");
    let mut known = Vec::new();
    for unit in (0..plan.unit_count() / 2).filter(|_| rng.below(100) > 0) {
        let Some(UnitSpec::Extract { start, end, .. }) = plan.unit(unit).map(|it| it.spec) else {
            continue;
        };
        let (set, attempt) = (&plan.sets[0].id, Attempt::new("a"));
        store.create(&layout::shard_data_path(set, start, end, &attempt), "{}".into()).await?;
        store.create(&layout::shard_commit_path(set, start, end), "{}".into()).await?;
        if u64::from(unit) < units / 2 - units / 1_000 {
            known.push((unit, unit + 1));
        }
    }
    let recovered = async |by: &str| -> Result<()> {
        let jobs = StoredJobs::shared(store.clone());
        let start = cpu_ns();
        let mut state = State::new(2, Settings::default());
        recover::recover(&jobs, &mut state, 0).await.map(drop)?;
        let time_ms = ms(cpu_ns() - start);
        let committed = state.commits().first().map_or(0, |(_, committed, _)| *committed);
        println!(
            "{{\"what\":\"recovery\",\"units\":{units},\"store\":\"{kind}\",\"by\":\"{by}\",\
             \"committed\":{committed},\"cpu_ms\":{time_ms:.1}}}"
        );
        Ok(())
    };
    recovered("listing").await?;
    let committed = glmeval_coordinator::schedule::UnitSet::of_ranges(known).ranges().collect();
    let state = JobSnapshot { units: plan.unit_count(), committed, spent: Default::default() };
    let job: &JobId = &plan.job;
    let snapshot = Snapshot { number: 1, epoch: 1, state, name: "c".to_owned() };
    jobs::put_snapshot(&store, job, &snapshot, "t").await?;
    recovered("snapshot").await
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked: Vec<u64> = arguments.iter().filter_map(|units| units.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![10_000, 100_000, 1_000_000] } else { asked };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of one thread");
    for units in sizes {
        whole_job(units);
        runtime.block_on(recovery(units, Store::memory(), "memory"))?;
        if arguments.iter().any(|argument| argument == "--folder") {
            let folder = tempfile::tempdir().expect("a folder");
            let store = Store::open(&folder.path().display().to_string())?;
            runtime.block_on(recovery(units, store, "folder"))?;
        }
    }
    Ok(())
}
