//! Facts about the typed records: data sets, sets, fits, jobs, coordinators, reports.

use crate::commits::{attempt, shard};
use crate::for_each_store;
use bytes::Bytes;
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::ErrorKind;
use glmeval_common::example::{Example, ExampleSchema, Split};
use glmeval_common::ids::{Attempt, DatasetId, FitId, JobId, ModelId, SetId, WorkerId};
use glmeval_common::job::Protocol;
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::model::{MemoryFacts, ModelFacts, ModelOptions, TokenRule};
use glmeval_common::plan::{
    DatasetFacts, EntrySpec, Plan, PlanEntry, PlannedDataset, PlannedModel,
};
use glmeval_common::representation::{FeatureSource, Pooling, StoredDtype};
use glmeval_common::score::{FitIdentity, FitScores, Statistic};
use glmeval_common::store::coordinators::{Claim, claim_epoch, newest};
use glmeval_common::store::embeddings::{
    SetManifest, commit_shard, create_set, find_commit, read_rows, read_set, read_shard,
};
use glmeval_common::store::examples::{ExampleWriter, read_examples, read_manifest};
use glmeval_common::store::fits::{
    FitObjects, Prediction, commit_fit, find_scores, read_predictions, read_weights,
};
use glmeval_common::store::jobs::{self, FailedUnit, Snapshot};
use glmeval_common::store::{Outcome, Store, gc, reports};
use glmeval_common::unit::{Fit, FitUnit, ModelRef, ProbeSpec, SetSpec};
use std::collections::BTreeMap;

pub(crate) fn identity() -> FitIdentity {
    FitIdentity {
        fit: FitId::new("fit"),
        task: "chip-seq".to_owned(),
        dataset: "REST".to_owned(),
        dataset_id: DatasetId::new("dataset"),
        model: Some("NT".to_owned()),
        model_id: Some(ModelId::new("model")),
        layer: Some(1),
        representation: "mean".to_owned(),
        probe: "ridge".to_owned(),
        factor: 1.0,
        fraction: 0.1,
        repeat: 0,
        seed: 7,
        protocol: "published".to_owned(),
        trained_on: None,
    }
}

pub(crate) fn scores() -> FitScores {
    FitScores {
        version: FORMAT_VERSION,
        identity: identity(),
        statistics: vec![Statistic {
            name: "pearson".to_owned(),
            split: "test".to_owned(),
            target: "bound".to_owned(),
            value: Some(0.1 + 0.2),
            low: None,
            high: None,
            examples: 2,
        }],
        objects: Vec::new(),
        seconds: 1.5,
        worker: "worker".to_owned(),
        notes: vec!["a note".to_owned()],
    }
}

fn predictions() -> Vec<Prediction> {
    let row = |id: &str, split, measured, prediction| Prediction {
        id: id.to_owned(),
        split,
        target: "bound".to_owned(),
        measured,
        prediction,
    };
    vec![row("id0", Split::Train, 1.0, 0.75), row("id1", Split::Test, -1.0, 0.25)]
}

fn model() -> ModelRef {
    let options = ModelOptions::default();
    ModelRef {
        id: ModelId::new("model"),
        name: "NT".to_owned(),
        source: "/models/nt".into(),
        options,
    }
}

pub(crate) fn set() -> SetSpec {
    SetSpec {
        id: SetId::new("set"),
        model: model(),
        dataset: DatasetId::new("dataset"),
        layers: vec![1],
        poolings: vec![Pooling::Mean],
        dtype: StoredDtype::F16,
        options: Default::default(),
        numeric_class: "f32.cpu.1".to_owned(),
        effects: None,
    }
}

fn schema() -> ExampleSchema {
    ExampleSchema {
        sequences: vec!["sequence".to_owned()],
        targets: vec!["bound".to_owned()],
        has_intervals: false,
        has_splits: true,
    }
}

fn example(row: u64) -> Example {
    Example {
        id: format!("id{row}"),
        sequences: vec![DnaSequence::new("ACGTN").unwrap()],
        interval: None,
        split: Some(Split::Test),
        targets: vec![row as f32],
    }
}

pub(crate) fn plan() -> Plan {
    let source = DatasetSource::Fasta { path: "/data/rest.fa".into() };
    let facts = DatasetFacts {
        id: DatasetId::new("dataset"),
        schema: schema(),
        rows: 4,
        nucleotides: 20,
        length_min: 5,
        length_max: 5,
        split_rows: BTreeMap::from([("test".to_owned(), 4)]),
        notes: Vec::new(),
        leakage: Vec::new(),
        target_titles: Vec::new(),
    };
    let model_facts = ModelFacts {
        id: ModelId::new("model"),
        architecture: "nucleotide-transformer-v1".to_owned(),
        parameters: 1,
        layer_count: 1,
        width: 2,
        tokens_max: 1_000,
        token_rule: TokenRule::Blocks { length: 6, special: 1 },
        states_fixed: None,
        flops_per_token: 1.5e9,
        flops_per_token_pair: 0.1,
        memory: MemoryFacts::default(),
    };
    let fit = FitUnit {
        dataset: DatasetId::new("dataset"),
        task: TaskName::ChipSeq,
        features: FeatureSource::Embedding {
            set: SetId::new("set"),
            layer: 1,
            pooling: Pooling::Mean,
        },
        validated_on: None,
        training_class: None,
        fits: vec![Fit { identity: identity(), probe: ProbeSpec::Ridge { alpha: 1e-3 } }],
    };
    let unit = |spec, prerequisites| PlanEntry { spec, prerequisites, flops: 1e12, bytes: 16 };
    Plan {
        version: FORMAT_VERSION,
        job: JobId::new("job"),
        name: "a job".to_owned(),
        seed: 7,
        protocol: Protocol::Published,
        datasets: vec![PlannedDataset {
            name: "REST".to_owned(),
            task: TaskName::ChipSeq,
            source,
            facts,
        }],
        models: vec![PlannedModel { model: model(), facts: model_facts }],
        sets: vec![set()],
        entries: vec![
            unit(EntrySpec::Prepare { dataset: 0 }, vec![]),
            unit(EntrySpec::Extract { set: 0, dataset: 0, start: 0, end: 4 }, vec![(0, 1)]),
            unit(EntrySpec::Fit(Box::new(fit)), vec![(1, 2)]),
            unit(EntrySpec::Report, vec![(2, 3)]),
        ]
        .into(),
    }
}

fn failed_unit() -> FailedUnit {
    FailedUnit {
        version: FORMAT_VERSION,
        unit: 1,
        label: "extract NT 0-4".to_owned(),
        kind: ErrorKind::Invalid,
        error: "embed id3: expected finite values, found NaN".to_owned(),
        failures: 3,
        workers: vec!["worker".to_owned(), "worker2".to_owned()],
        token: "token".to_owned(),
        fits: Vec::new(),
        rows: None,
    }
}

/// Writes one object of every kind, the same bytes each time.
pub(crate) async fn write_everything(store: &Store) {
    let (a, w) = (Attempt::new("attempt"), WorkerId::new("worker"));
    let who = (a.clone(), w.clone());
    let mut writer = ExampleWriter::new(store, &DatasetId::new("dataset"), "REST", schema(), who)
        .with_rows_per_part(3);
    for row in 0..4 {
        writer.push(example(row)).await.unwrap();
    }
    let provenance = BTreeMap::from([("path".to_owned(), "/data/rest.fa".to_owned())]);
    assert!(writer.commit(provenance).await.unwrap().is_won());
    create_set(store, &SetManifest::of(&set())).await.unwrap();
    let bytes = shard(0, 4).encode().unwrap();
    assert!(commit_shard(store, &attempt(0, 4, "attempt"), bytes).await.unwrap().is_won());
    let weights = Some(Bytes::from_static(b"weights"));
    let objects = FitObjects { weights, history: None, predictions: &predictions() };
    assert!(commit_fit(store, &a, scores(), objects).await.unwrap().is_won());
    assert!(jobs::create_job(store, &plan(), "name = \"a job\"\n").await.unwrap().is_won());
    let job = plan().job;
    jobs::record_failure(store, &job, 0, failed_unit()).await.unwrap();
    let state = vec![(0_u32, "committed".to_owned())];
    let snapshot = Snapshot { number: 1, epoch: 1, state, name: "main".to_owned() };
    jobs::put_snapshot(store, &job, &snapshot, "token").await.unwrap();
    jobs::cancel(store, &job, 0, "by hand", "token").await.unwrap();
    let files = BTreeMap::from([("scores.csv".to_owned(), Bytes::from_static(b"a,b\n"))]);
    reports::commit_report(store, &job, &a, &w, files).await.unwrap();
    let claim = Claim {
        token: "token".to_owned(),
        address: Some("10.0.0.1:7000".to_owned()),
        ca_sha256: None,
        program: "0.1.0".to_owned(),
        started_unix_ms: 1_000,
    };
    claim_epoch(store, "main", &claim).await.unwrap();
}

/// Reads what [`write_everything`] wrote, and checks every value.
pub(crate) async fn check_everything(store: &Store) {
    let manifest = read_manifest(store, &DatasetId::new("dataset")).await.unwrap();
    assert_eq!((manifest.rows, manifest.parts.len()), (4, 2));
    let read = read_examples(store, &manifest, 1, 4).await.unwrap();
    assert_eq!(read, (1..4).map(example).collect::<Vec<_>>());
    let set_manifest = read_set(store, &SetId::new("set")).await.unwrap();
    assert_eq!(set_manifest, SetManifest::of(&set()));
    let commit = find_commit(store, &SetId::new("set"), 0, 4).await.unwrap().unwrap();
    let found = read_shard(store, &commit).await.unwrap();
    assert_eq!(found, shard(0, 4));
    let found = find_scores(store, &FitId::new("fit")).await.unwrap().unwrap();
    assert_eq!(found.statistics, scores().statistics);
    assert_eq!(found.identity, identity());
    assert_eq!(read_predictions(store, &found).await.unwrap(), predictions());
    assert_eq!(read_weights(store, &found).await.unwrap(), Bytes::from_static(b"weights"));
    let job = plan().job;
    assert_eq!(jobs::read_plan(store, &job).await.unwrap(), plan());
    assert_eq!(jobs::read_job_toml(store, &job).await.unwrap(), "name = \"a job\"\n");
    let failed = jobs::failed_units(store, &job).await.unwrap();
    assert_eq!(failed, BTreeMap::from([(1, failed_unit())]));
    assert_eq!(jobs::cancelled(store, &job).await.unwrap().unwrap().reason, "by hand");
    let snapshot: Snapshot<Vec<(u32, String)>> =
        jobs::newest_snapshot(store, &job).await.unwrap().unwrap();
    assert_eq!((snapshot.number, snapshot.epoch), (1, 1));
    assert_eq!(snapshot.state, [(0, "committed".to_owned())]);
    let report = reports::find_report(store, &job).await.unwrap().unwrap();
    let files = reports::read_report(store, &report).await.unwrap();
    assert_eq!(files["scores.csv"], Bytes::from_static(b"a,b\n"));
    let coordinator = newest(store, "main").await.unwrap().unwrap();
    assert_eq!((coordinator.epoch, coordinator.token.as_str()), (1, "token"));
}

#[tokio::test]
async fn one_object_of_every_kind_is_read_back() {
    for_each_store(async |store: Store| {
        write_everything(&store).await;
        check_everything(&store).await;
        let jobs = jobs::list_jobs(&store).await.unwrap();
        assert_eq!(jobs.iter().map(|entry| &entry.job).collect::<Vec<_>>(), [&plan().job]);
    })
    .await;
}

#[tokio::test]
async fn the_same_plan_again_finds_the_same_job() {
    for_each_store(async |store: Store| {
        jobs::create_job(&store, &plan(), "one").await.unwrap();
        let again = jobs::create_job(&store, &plan(), "two, with a comment").await.unwrap();
        assert_eq!(again.into_record(), plan());
        assert_eq!(jobs::read_job_toml(&store, &plan().job).await.unwrap(), "one");
    })
    .await;
}

#[tokio::test]
async fn a_set_id_never_stands_for_two_descriptions() {
    let store = Store::memory();
    let manifest = SetManifest::of(&set());
    create_set(&store, &manifest).await.unwrap();
    create_set(&store, &manifest).await.unwrap();
    let other = SetManifest { layers: vec![2], ..manifest };
    assert_eq!(create_set(&store, &other).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_fit_done_twice_keeps_the_first_scores_and_objects() {
    for_each_store(async |store: Store| {
        let commit = async |attempt: &str, seconds: f64| {
            let scores = FitScores { seconds, ..scores() };
            let objects = FitObjects { predictions: &predictions(), ..FitObjects::default() };
            commit_fit(&store, &Attempt::new(attempt), scores, objects).await.unwrap()
        };
        assert!(commit("a", 1.0).await.is_won());
        let Outcome::Lost(standing) = commit("b", 2.0).await else { panic!("two winners") };
        assert_eq!(standing.seconds, 1.0);
        assert_eq!(store.list("probes/fit/data").await.unwrap().len(), 1);
        assert_eq!(read_weights(&store, &standing).await.unwrap_err().kind(), ErrorKind::NotFound);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coordinators_that_race_take_different_epochs_without_gaps() {
    for_each_store(async |store: Store| {
        let claims = (0..8).map(|index| {
            let store = store.clone();
            let claim = Claim { token: format!("token{index}"), ..Claim::default() };
            tokio::spawn(async move { claim_epoch(&store, "main", &claim).await.unwrap() })
        });
        let mut epochs: Vec<u64> = futures::future::join_all(claims)
            .await
            .into_iter()
            .map(|claimed| claimed.unwrap().epoch)
            .collect();
        epochs.sort_unstable();
        assert_eq!(epochs, (1..=8).collect::<Vec<_>>());
        assert_eq!(newest(&store, "main").await.unwrap().unwrap().epoch, 8);
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_number_taken_by_a_higher_epoch_fences() {
    for_each_store(async |store: Store| {
        let job = JobId::new("job");
        let put = async |number, epoch, state: &str| {
            let (state, name) = (state.to_owned(), "main".to_owned());
            let snapshot = Snapshot { number, epoch, state, name };
            jobs::put_snapshot(&store, &job, &snapshot, &format!("token{epoch}")).await
        };
        put(1, 1, "old").await.unwrap();
        put(2, 2, "new").await.unwrap();
        assert_eq!(put(2, 1, "stale").await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(put(1, 2, "late").await.unwrap_err().kind(), ErrorKind::Conflict);
        let snapshot: Snapshot<String> =
            jobs::newest_snapshot(&store, &job).await.unwrap().unwrap();
        let (state, name) = ("new".to_owned(), "main".to_owned());
        assert_eq!(snapshot, Snapshot { number: 2, epoch: 2, state, name });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_can_be_written_and_read_on_a_spawned_task() {
    let store = Store::memory();
    let task = tokio::spawn(async move {
        write_everything(&store).await;
        check_everything(&store).await;
        jobs::list_jobs(&store).await.unwrap();
        let rows = read_rows(&store, &SetId::new("set"), (1, Pooling::Mean), (0, 4)).await.unwrap();
        let swept = gc::sweep(&store, gc::default_grace(), true).await.unwrap();
        (rows.ids.len(), swept.orphans.len())
    });
    assert_eq!(task.await.unwrap(), (4, 0));
}
