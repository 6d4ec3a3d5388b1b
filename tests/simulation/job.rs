//! The simulated jobs, what becomes of them, and what each of their shards and fits must hold.
//!
//! Leaves out: how a plan is made (coordinator). Invariant: a row's bytes are a pure function of gLM, layer and
//! row, and a fit's of the fit, so every attempt computes the same.

use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor};
use glmeval_common::error::Result;
use glmeval_common::example::ExampleSchema;
use glmeval_common::ids::{DatasetId, ModelId};
use glmeval_common::job::{
    Job, JobDataset, JobEmbedding, JobModel, JobProbe, LayerChoice, Protocol,
};
use glmeval_common::model::{MemoryFacts, ModelFacts, ModelOptions, TokenRule};
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::representation::{Pooling, StoredDtype};
use glmeval_common::rng::Rng;
use glmeval_common::unit::{ExtractUnit, Fit, ProbeSpec, WorkUnit};
use std::path::PathBuf;

/// Numeric class of every simulated worker.
pub(crate) const CLASS: &str = "f32.cpu";
const WIDTH: u32 = 4;

/// What the operator does with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Lets it end.
    Kept,
    /// Cancels it.
    Cancelled { at_ms: u64 },
    /// Cancels it and submits it again.
    Resumed { at_ms: u64, after_ms: u64 },
}

/// A job and its fate.
pub(crate) struct SimJob {
    pub(crate) plan: Plan,
    /// What a coordinator reads of the job file.
    pub(crate) toml: &'static str,
    pub(crate) fate: Fate,
}

/// Two jobs that share the workers: two gLMs over one data set with fits, and one gLM over another data set or over
/// the same one, whose shards are then shards of both.
pub(crate) fn jobs(seed: u64) -> Vec<SimJob> {
    let mut rng = Rng::derive(seed, "job");
    let (rows, shard_rows) = (40 + rng.below(60), 4 + rng.below(5));
    let first = plan(seed, ("first", &["NT", "GPN"]), ("d", rows), shard_rows);
    let shares = rng.below(3) == 0;
    let (model, dataset) = match shares {
        true => ("NT", ("d", rows)),
        false => ("GPN", ("e", 20 + rng.below(30))),
    };
    let second = plan(seed, ("second", &[model]), dataset, shard_rows);
    let at_ms = 4_000 + rng.below(50_000);
    let fate = match rng.below(4) {
        0 => Fate::Cancelled { at_ms },
        1 => Fate::Resumed { at_ms, after_ms: 1_000 + rng.below(30_000) },
        _ => Fate::Kept,
    };
    let toml = ["", "[schedule]\nweight = 4\n", "[schedule]\nweight = 0.5\nworkers_max = 1\n"];
    let toml = toml[rng.below(3) as usize];
    vec![SimJob { plan: first, toml: "", fate: Fate::Kept }, SimJob { plan: second, toml, fate }]
}

/// Some gLMs over one data set, in shards and with a fit per layer.
fn plan(
    seed: u64,
    (name, models): (&str, &[&str]),
    (dataset, rows): (&str, u64),
    shard_rows: u64,
) -> Plan {
    let model = |name: &&str| JobModel {
        name: (*name).into(),
        source: format!("/{name}").into(),
        options: ModelOptions::default(),
        published: None,
    };
    let embedding = |model_index: usize| JobEmbedding {
        model_index,
        layers: LayerChoice::List(vec![1, 2]),
        poolings: vec![Pooling::Mean],
        dtype: StoredDtype::F32,
        options: Default::default(),
        dataset_indices: None,
        key: format!("representation[{model_index}]"),
        zero_shot: None,
    };
    let job = Job {
        file: "job.toml".into(),
        toml: String::new(),
        name: format!("{name} of seed {seed}"),
        seed,
        protocol: Protocol::Published,
        shard_rows: Some(shard_rows),
        prices: None,
        attributions: Vec::new(),
        models: models.iter().map(model).collect(),
        datasets: vec![JobDataset {
            name: dataset.to_uppercase(),
            task: TaskName::Regression,
            source: DatasetSource::Fasta { path: PathBuf::from(format!("/{dataset}.fa")) },
        }],
        embeddings: (0..models.len()).map(embedding).collect(),
        features: vec![],
        probes: vec![JobProbe::linear(ProbeSpec::Ridge { alpha: 1.0 }, vec![0])],
    };
    let facts = |name: &&str| ModelFacts {
        id: ModelId::new(name.to_lowercase()),
        architecture: "nucleotide-transformer-v1".into(),
        parameters: 1,
        layer_count: 2,
        width: WIDTH,
        tokens_max: 1_000,
        token_rule: TokenRule::Blocks { length: 6, special: 1 },
        states_fixed: None,
        flops_per_token: 1e6,
        flops_per_token_pair: 10.0,
        memory: MemoryFacts::default(),
    };
    let dataset = DatasetFacts {
        id: DatasetId::new(dataset),
        schema: schema(),
        rows,
        nucleotides: rows * 12,
        length_min: 12,
        length_max: 12,
        split_rows: [("train", rows / 2), ("test", rows / 2)]
            .map(|(split, rows)| (split.to_owned(), rows))
            .into(),
        notes: Vec::new(),
        leakage: Vec::new(),
        target_titles: Vec::new(),
    };
    let models: Vec<_> = models.iter().map(facts).collect();
    glmeval_coordinator::plan::plan(&job, &[dataset], &models, &|_| CLASS.to_owned())
        .expect("the simulated job can be planned")
}

/// What every simulated example has.
pub(crate) fn schema() -> ExampleSchema {
    ExampleSchema { targets: vec!["y".into()], ..ExampleSchema::sequences_only() }
}

/// Every unit of a plan.
pub(crate) fn units(plan: &Plan) -> Vec<WorkUnit> {
    (0..).map_while(|index| plan.work_unit(index)).collect()
}

/// The shards of a plan.
pub(crate) fn shards(plan: &Plan) -> Vec<ExtractUnit> {
    let units = units(plan).into_iter();
    units
        .filter_map(|unit| match unit {
            WorkUnit::Extract(unit) => Some(unit),
            _ => None,
        })
        .collect()
}

/// The shard that any attempt at `unit` computes.
pub(crate) fn shard(unit: &ExtractUnit) -> EmbeddingShard {
    let rows = unit.start..unit.end;
    let tensors = unit.set.layers.iter().map(|&layer| {
        let purpose = |row: u64| format!("{} {layer} {row}", unit.set.model.name);
        let values = rows.clone().flat_map(|row| {
            let mut rng = Rng::derive(1, &purpose(row));
            (0..WIDTH).flat_map(move |_| (rng.uniform() as f32).to_le_bytes()).collect::<Vec<u8>>()
        });
        ShardTensor {
            layer,
            pooling: Pooling::Mean,
            rows: unit.end - unit.start,
            width: WIDTH.into(),
            values: values.collect::<Vec<u8>>().into(),
        }
    });
    EmbeddingShard {
        identity: ShardIdentity::of(&unit.set),
        start: unit.start,
        end: unit.end,
        row_ids: rows.clone().map(|row| format!("r{row}")).collect(),
        example_indices: None,
        sequences: 1,
        tensors: tensors.collect(),
        token_offsets: None,
    }
}

/// The bytes of that shard.
///
/// # Errors
/// None that a test expects.
pub(crate) fn shard_bytes(unit: &ExtractUnit) -> Result<bytes::Bytes> {
    shard(unit).encode()
}

/// The weights that any attempt at `fit` leaves.
pub(crate) fn weights(fit: &Fit) -> bytes::Bytes {
    let mut rng = Rng::derive(1, fit.id().as_str());
    let values = (0..WIDTH).flat_map(|_| (rng.uniform() as f32).to_le_bytes());
    values.collect::<Vec<u8>>().into()
}
