//! The simulated job, what each of its shards must hold, and what is committed of it.
//!
//! Leaves out: how a plan is made (coordinator). Invariant: a row's bytes are a pure function of gLM, layer and
//! row, so every attempt computes the same.

use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor};
use glmeval_common::error::Result;
use glmeval_common::example::ExampleSchema;
use glmeval_common::ids::{DatasetId, ModelId};
use glmeval_common::job::{Job, JobDataset, JobEmbedding, JobModel, LayerChoice, Protocol};
use glmeval_common::model::{MemoryFacts, ModelFacts, ModelOptions, TokenRule};
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::representation::{Pooling, StoredDtype};
use glmeval_common::rng::Rng;
use glmeval_common::unit::{ExtractUnit, WorkUnit};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Numeric class of every simulated worker.
pub(crate) const CLASS: &str = "f32.cpu";
const WIDTH: u32 = 4;

/// Two gLMs over one data set, in as many shards as the seed says.
pub(crate) fn plan(seed: u64) -> Plan {
    let mut rng = Rng::derive(seed, "job");
    let rows = 50 + rng.below(90);
    let model = |name: &str| JobModel {
        name: name.into(),
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
        name: format!("seed {seed}"),
        seed,
        protocol: Protocol::Published,
        shard_rows: Some(4 + rng.below(5)),
        prices: None,
        models: vec![model("NT"), model("GPN")],
        datasets: vec![JobDataset {
            name: "D".into(),
            task: TaskName::None,
            source: DatasetSource::Fasta { path: PathBuf::from("/d.fa") },
        }],
        embeddings: vec![embedding(0), embedding(1)],
        features: vec![],
        probes: vec![],
    };
    let facts = |name: &str| ModelFacts {
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
        id: DatasetId::new("d"),
        schema: ExampleSchema::sequences_only(),
        rows,
        nucleotides: rows * 12,
        length_min: 12,
        length_max: 12,
        split_rows: BTreeMap::new(),
        notes: Vec::new(),
        leakage: Vec::new(),
    };
    let models = [facts("NT"), facts("GPN")];
    glmeval_coordinator::plan::plan(&job, &[dataset], &models, &|_| CLASS.to_owned())
        .expect("the simulated job can be planned")
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
