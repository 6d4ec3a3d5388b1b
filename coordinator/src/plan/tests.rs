use super::*;
use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::example::ExampleSchema;
use glmeval_common::ids::DatasetId;
use glmeval_common::job::{JobDataset, JobEmbedding, JobModel, JobProbe, LayerChoice, Protocol};
use glmeval_common::model::{MemoryFacts, Precision, TokenRule};
use glmeval_common::plan::UnitSpec;
use glmeval_common::representation::{Pooling, SequenceFeature, StoredDtype};
use glmeval_common::unit::{ProbeSpec, UnitKind};
use std::path::PathBuf;

pub(crate) fn dataset_facts(id: &str, rows: u64) -> DatasetFacts {
    DatasetFacts {
        id: DatasetId::new(id),
        schema: ExampleSchema {
            targets: vec!["activity".into()],
            has_splits: true,
            ..ExampleSchema::sequences_only()
        },
        rows,
        nucleotides: rows * 200,
        length_min: 200,
        length_max: 200,
        split_rows: [("train", 7), ("valid", 1), ("test", 2)]
            .map(|(split, tenths)| (split.to_owned(), (rows * tenths).div_ceil(10)))
            .into(),
        notes: Vec::new(),
        leakage: Vec::new(),
        target_titles: Vec::new(),
    }
}

pub(crate) fn model_facts(id: &str) -> ModelFacts {
    ModelFacts {
        id: ModelId::new(id),
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
    }
}

fn class(precision: Precision) -> String {
    format!("{}.cpu.1", precision.name())
}

fn embedding(layers: LayerChoice, poolings: &[Pooling]) -> JobEmbedding {
    JobEmbedding {
        model_index: 0,
        layers,
        poolings: poolings.to_vec(),
        dtype: StoredDtype::F32,
        options: Default::default(),
        dataset_indices: None,
        key: "representation[0]".into(),
        zero_shot: None,
    }
}

pub(crate) fn job() -> Job {
    let source = DatasetSource::Fasta { path: PathBuf::from("/d.fa") };
    Job {
        file: "job.toml".into(),
        toml: String::new(),
        name: "test".into(),
        seed: 7,
        prices: None,
        attributions: Vec::new(),
        protocol: Protocol::Published,
        shard_rows: Some(100),
        models: vec![JobModel {
            name: "NT".into(),
            source: PathBuf::from("/nt"),
            options: Default::default(),
            published: None,
        }],
        datasets: vec![JobDataset { name: "D".into(), task: TaskName::Regression, source }],
        embeddings: vec![embedding(LayerChoice::List(vec![2, 4]), &[Pooling::Mean])],
        features: vec![SequenceFeature::OneHot.into()],
        probes: vec![JobProbe::linear(ProbeSpec::Ridge { alpha: 1.0 }, vec![0])],
    }
}

pub(crate) fn planned(job: &Job, rows: u64) -> Plan {
    planned_over(job, "d", rows)
}

pub(crate) fn planned_over(job: &Job, dataset: &str, rows: u64) -> Plan {
    plan(job, &[dataset_facts(dataset, rows)], &[model_facts("m")], &class).unwrap()
}

fn count(plan: &Plan, kind: UnitKind) -> usize {
    plan.units().filter(|unit| unit.spec.kind() == kind).count()
}

#[test]
fn a_plan_runs_prepare_then_shards_then_fits_then_the_report() {
    let plan = planned(&job(), 250);
    assert_eq!(count(&plan, UnitKind::Prepare), 1);
    assert_eq!(count(&plan, UnitKind::Extract), 3);
    assert_eq!(count(&plan, UnitKind::Fit), 3, "two layers and one-hot");
    assert_eq!(count(&plan, UnitKind::Report), 1);
    let prerequisites: Vec<_> = plan.units().map(|unit| unit.prerequisites).collect();
    assert_eq!(prerequisites[1], [(0, 1)]);
    assert_eq!(prerequisites[4], [(0, 1), (1, 4)]);
    assert_eq!(prerequisites[6], [(0, 1)], "one-hot needs no shard");
    assert_eq!(prerequisites[7], [(4, 7)]);
    verify(&plan).unwrap();
}

#[test]
fn shards_tile_the_rows() {
    let plan = planned(&job(), 250);
    let ranges = plan.units().filter_map(|unit| match unit.spec {
        UnitSpec::Extract { start, end, .. } => Some((start, end)),
        _ => None,
    });
    assert_eq!(ranges.collect::<Vec<_>>(), [(0, 100), (100, 200), (200, 250)]);
}

#[test]
fn a_layer_the_model_lacks_is_refused_with_file_key_range_and_value() {
    let mut job = job();
    job.embeddings[0].layers = LayerChoice::List(vec![5]);
    let error = plan(&job, &[dataset_facts("d", 1)], &[model_facts("m")], &class).unwrap_err();
    assert_eq!(error.chain(), "job.toml: representation[0].layers: expected 0 to 4, found 5");
}

#[test]
fn a_sequence_longer_than_the_model_reads_is_refused_by_name() {
    let facts = DatasetFacts { length_max: 6_000, ..dataset_facts("d", 1) };
    let error = plan(&job(), &[facts], &[model_facts("m")], &class).unwrap_err().chain();
    for part in ["(D)", "1000 tokens", "NT", "6000 nucleotides", "1001 tokens"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn examples_of_two_sequences_cost_twice_that_of_one() {
    let one = planned(&job(), 10);
    let mut facts = one.datasets[0].facts.clone();
    facts.schema.sequences = vec!["left".to_owned(), "right".to_owned()];
    facts.nucleotides *= 2;
    let two = plan(&job(), &[facts], &[model_facts("m")], &class).unwrap();
    let cost = |plan: &Plan| -> Vec<_> {
        let shards = plan.units().filter(|unit| matches!(unit.spec, UnitSpec::Extract { .. }));
        shards.map(|unit| (unit.flops, unit.bytes)).collect()
    };
    let doubled: Vec<_> =
        cost(&one).iter().map(|(flops, bytes)| (2.0 * flops, 2 * bytes)).collect();
    assert_eq!(cost(&two), doubled);
    let [one, two] = [&one, &two].map(|plan| super::worker_memory(plan, 1).shard);
    assert_eq!(two, 2 * one);
}

#[test]
fn representations_of_one_model_share_a_set() {
    let mut job = job();
    job.embeddings.push(embedding(LayerChoice::Word("last".into()), &[Pooling::Cls]));
    let plan = planned(&job, 10);
    assert_eq!(plan.sets.len(), 1);
    assert_eq!(plan.sets[0].layers, [2, 4]);
    assert_eq!(plan.sets[0].poolings, [Pooling::Cls, Pooling::Mean]);
    assert_eq!(count(&plan, UnitKind::Fit), 4, "mean of 2 and 4, cls of 4, one-hot");
}

#[test]
fn equal_fits_are_planned_once() {
    let mut job = job();
    job.probes.push(job.probes[0].clone());
    job.embeddings.push(job.embeddings[0].clone());
    assert_eq!(planned(&job, 10).entries, planned(&super::tests::job(), 10).entries);
}

#[test]
fn a_fit_keeps_its_id_when_its_set_grows() {
    let fits = |job: &Job| -> Vec<_> {
        let plan = planned(job, 10);
        plan.fit_units().flat_map(|(_, unit)| &unit.fits).map(|fit| fit.id().clone()).collect()
    };
    let mut wider = job();
    wider.embeddings[0].layers = LayerChoice::List(vec![1, 2, 4]);
    let wider = fits(&wider);
    assert!(fits(&job()).iter().all(|fit| wider.contains(fit)));
}

#[test]
fn a_job_without_probes_ends_with_its_shards() {
    let mut job = job();
    job.probes.clear();
    let plan = planned(&job, 250);
    assert_eq!(count(&plan, UnitKind::Fit) + count(&plan, UnitKind::Report), 0);
}

#[test]
fn probes_that_fit_nothing_are_refused() {
    let mut job = job();
    job.features.clear();
    job.embeddings[0].poolings = vec![Pooling::Full];
    let error = plan(&job, &[dataset_facts("d", 1)], &[model_facts("m")], &class).unwrap_err();
    let error = error.chain();
    assert!(error.contains("job.toml: probe.representations: expected"), "{error}");
    assert!(error.contains("pooling cls or mean") && error.contains("found full for"), "{error}");
}

#[test]
fn a_genome_is_planned_by_shards_and_too_many_are_refused() {
    let mut job = job();
    job.probes.clear();
    job.shard_rows = None;
    job.datasets[0].source = DatasetSource::Windows {
        genome: PathBuf::from("/hg38.fa"),
        window: 200,
        stride: 1,
        undefined_share_max: 0.5,
    };
    let facts =
        DatasetFacts { rows: 3_100_000_000, nucleotides: 620_000_000_000, ..dataset_facts("d", 0) };
    let genome = plan(&job, std::slice::from_ref(&facts), &[model_facts("m")], &class).unwrap();
    assert_eq!(genome.unit_count(), 378_418, "shards of 8192 rows, no prepare unit");
    assert!(serde_json::to_vec(&genome).unwrap().len() < 4_000, "shards are counted, not listed");
    job.shard_rows = Some(64);
    let error = plan(&job, &[facts], &[model_facts("m")], &class).unwrap_err().chain();
    assert!(error.contains("shard_rows") && error.contains("48437500 units"), "{error}");
}

#[test]
fn shards_take_about_a_minute_of_the_slowest_device_within_bounds() {
    let shard_rows = |flops, bytes| cost::shard_rows(None, flops, bytes);
    assert_eq!(shard_rows(1e10, 100), 704, "7.5e12 FLOP, whole multiples of 64");
    assert_eq!(shard_rows(1e15, 100), 64);
    assert_eq!(shard_rows(0.0, 0), 8_192);
    assert_eq!(shard_rows(1e10, 1 << 26), 2, "128 MiB at most");
    assert_eq!(cost::shard_rows(Some(5), 1e10, 1 << 20), 5, "what the job says");
    assert_eq!(cost::shard_rows(Some(5_000), 1e10, 1 << 20), 128, "but no more than fits");
}

#[test]
fn a_shard_of_full_states_fits_the_bytes_even_if_every_sequence_is_the_longest() {
    let mut job = job();
    job.probes.clear();
    job.shard_rows = None;
    job.embeddings[0].poolings = vec![Pooling::Mean, Pooling::Full];
    job.embeddings[0].layers = LayerChoice::Word("all".into());
    let model = ModelFacts { width: 1_280, ..model_facts("m") };
    let facts = DatasetFacts { length_max: 5_994, ..dataset_facts("d", 3_000) };
    let plan = plan(&job, std::slice::from_ref(&facts), &[model], &class).unwrap();
    let longest = (1_000 + 1) * 4 * 1_280 * 4;
    for unit in plan.units() {
        if let UnitSpec::Extract { start, end, .. } = unit.spec {
            assert!((end - start) * longest <= cost::SHARD_BYTES_MAX);
            assert!(unit.bytes <= cost::SHARD_BYTES_MAX);
        }
    }
    let memory = worker_memory(&plan, 2);
    assert!(memory.shard <= 2 * cost::SHARD_BYTES_MAX && memory.shard > cost::SHARD_BYTES_MAX);
    assert_eq!(memory.weights, 4);
    assert_eq!(memory.activations, 4_096 * 1_280 * 4 * 8);
    assert_eq!(tokens(&plan), 3_000 * (1 + 33 + 2));
}

#[test]
fn memory_is_what_the_model_tells_of_its_weights_batches_and_threads() {
    let told = MemoryFacts {
        weights: 7,
        per_token: 10,
        per_longest_token: 5,
        per_longest_token_and_thread: 3,
    };
    let model = ModelFacts { memory: told, ..model_facts("m") };
    let held = |rows, threads| {
        let facts = [dataset_facts("d", rows)];
        worker_memory(&plan(&job(), &facts, std::slice::from_ref(&model), &class).unwrap(), threads)
    };
    let (few, many) = (held(2, 1), held(250, 4));
    assert_eq!(few.weights, 7);
    // 200 nucleotides are 36 tokens; a shard of 100 is less than a batch.
    assert_eq!(few.activations, 2 * 36 * 10 + 36 * (3 + 5));
    assert_eq!(many.activations, 100 * 36 * 10 + 36 * (4 * 3 + 5));
}

#[test]
fn an_example_beyond_the_bytes_has_a_shard_of_its_own() {
    let mut job = job();
    job.embeddings[0].poolings = vec![Pooling::Full];
    let facts =
        DatasetFacts { length_max: 12_000_000, nucleotides: 30_000_000, ..dataset_facts("d", 3) };
    job.probes.clear();
    let model = ModelFacts { tokens_max: u64::MAX, ..model_facts("m") };
    let plan = plan(&job, &[facts], &[model], &class).unwrap();
    assert_eq!(count(&plan, UnitKind::Extract), 3);
}

#[test]
fn planning_twice_gives_the_same_bytes_and_a_forged_plan_is_refused() {
    let mut one = planned(&job(), 250);
    assert_eq!(
        serde_json::to_vec(&one).unwrap(),
        serde_json::to_vec(&planned(&job(), 250)).unwrap()
    );
    one.seed = 8;
    assert!(verify(&one).unwrap_err().chain().contains("job"));
    let entries: Vec<PlanEntry> = one.entries.clone().into();
    let forged = |forge: &dyn Fn(&mut PlanEntry)| {
        let mut entries = entries.clone();
        forge(&mut entries[1]);
        verify(&Plan { entries: entries.into(), ..one.clone() }).unwrap_err().chain()
    };
    let shards = |set, end, rows_per_unit| EntrySpec::Shards {
        set,
        dataset: 0,
        start: 0,
        end,
        rows_per_unit,
    };
    assert!(forged(&|entry| entry.prerequisites = vec![(1, 2)]).contains("unit 1"));
    for spec in [shards(9, 250, 100), shards(0, 0, 100), shards(0, 250, 0)] {
        assert!(forged(&|entry| entry.spec = spec.clone()).contains("unit 1"), "{spec:?}");
    }
    assert!(forged(&|entry| entry.spec = shards(0, u64::MAX, 1)).contains("units"));
}

#[test]
fn a_plan_of_the_first_version_keeps_its_id_and_lists_its_shards() {
    let plan = planned(&job(), 250);
    let listed = plan.units().map(|unit| PlanEntry {
        spec: match unit.spec {
            UnitSpec::Prepare { dataset } => EntrySpec::Prepare { dataset },
            UnitSpec::Extract { set, dataset, start, end } => {
                EntrySpec::Extract { set, dataset, start, end }
            }
            UnitSpec::Fit(unit) => EntrySpec::Fit(Box::new(unit.clone())),
            UnitSpec::Report => EntrySpec::Report,
        },
        prerequisites: unit.prerequisites.to_vec(),
        flops: unit.flops,
        bytes: unit.bytes,
    });
    let entries = listed.collect::<Vec<_>>().into();
    let mut first = Plan { version: 1, entries, ..plan.clone() };
    first.job = job_id(&first).unwrap();
    verify(&first).unwrap();
    let text = serde_json::to_string(&first).unwrap();
    let read: Plan = serde_json::from_str(&text).unwrap();
    verify(&read).unwrap();
    assert!(read.units().eq(plan.units()));
    let runs = Plan { version: 1, ..plan };
    assert!(verify(&runs).unwrap_err().chain().contains("unit 1"));
}
