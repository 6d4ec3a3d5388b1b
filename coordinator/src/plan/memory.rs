//! How many tokens a plan embeds, and about how many bytes a worker that runs it holds.
//!
//! Leaves out: reports, and linear probes beside their features. Invariant: plain arithmetic on the
//! plan; undefined letters, which are a token each, are not counted.

use super::{cost, reads};
use glmeval_common::job::published::predictions;
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_common::model::{MemoryFacts, ModelFacts};
use glmeval_common::plan::{EntrySpec, Plan, PlanEntry, PlannedDataset, PlannedModel};
use glmeval_common::representation::{FeatureSource, StoredDtype};
use glmeval_common::unit::{FitUnit, ProbeSpec};

/// Token states held at a time by a forward pass, in widths of a state, of a gLM that does not tell:
/// the states, their norm, what attention gives, four for queries, keys and values or the
/// feed-forward part, one to store.
const STATES_PER_TOKEN: u64 = 8;
/// Examples of a part of a prepared data set: the fetched object and the rows made of it.
const EXAMPLE_BYTES_MAX: u64 = 128 << 20;

/// The program itself, opened files and what its allocator keeps of what was freed: what was left
/// unexplained in three runs (`bench/runs/`).
const PROGRAM_BYTES: u64 = 32 << 20;

/// Bytes a worker holds while it embeds, and while it fits; each number is of the costliest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerMemory {
    /// Weights of every gLM of the plan, as f32.
    pub weights: u64,
    /// Activations of one forward pass.
    pub activations: u64,
    /// The largest shard, as tensors and as a file.
    pub shard: u64,
    /// Examples while a part of them is written or read.
    pub examples: u64,
    /// The program and its allocator.
    pub program: u64,
    /// Training a network: a batch in every layer, weights with their moments, and the features of a
    /// data set. What exceeds a worker's share of memory of these last lies in a file.
    pub training: u64,
}

impl WorkerMemory {
    /// Everything that is held at the same time: a worker embeds or fits, and keeps what it opened.
    pub fn total(&self) -> u64 {
        let embedding = [self.activations, self.shard, self.examples];
        let embedding = embedding.into_iter().fold(0, u64::saturating_add);
        let unit = embedding.max(self.training);
        self.weights.saturating_add(self.program).saturating_add(unit)
    }
}

/// About what a worker of `threads` threads holds while it embeds what `plan` asks for.
pub fn worker_memory(plan: &Plan, threads: u64) -> WorkerMemory {
    let mut memory = WorkerMemory { program: PROGRAM_BYTES, ..WorkerMemory::default() };
    for model in &plan.models {
        let told = model.facts.memory.weights;
        let weights = if told > 0 { told } else { model.facts.parameters.saturating_mul(4) };
        memory.weights = memory.weights.saturating_add(weights);
    }
    for (_, unit) in plan.fit_units() {
        memory.training = memory.training.max(training(plan, unit));
    }
    for (set, dataset, rows) in plan.entries.iter().filter_map(|(_, entry)| largest_shard(entry)) {
        let Some(dataset) = plan.datasets.get(dataset) else { continue };
        let Some((spec, model)) = plan.sets.get(set).and_then(|spec| {
            Some((spec, find_model(plan, |model| model.model.id == spec.model.id)?))
        }) else {
            continue;
        };
        let facts = &dataset.facts;
        let tensors = cost::bytes_per_row_max(facts, &model.facts, spec).saturating_mul(rows);
        let longest = model.facts.tokens(facts.length_max);
        let sides = facts.schema.sequences.len().max(1) as u64;
        let strands = cost::strands(spec).saturating_mul(sides);
        memory.shard = memory.shard.max(tensors.saturating_mul(2));
        let held = activations(&model.facts, (rows, longest, strands), threads);
        memory.activations = memory.activations.max(held);
        let letters = facts.length_max.saturating_mul(sides);
        let part = if dataset.source.is_lazy() {
            0
        } else {
            cost::prepare_bytes(facts).saturating_mul(4).min(EXAMPLE_BYTES_MAX)
        };
        let held = letters.saturating_mul(rows).max(part);
        memory.examples = memory.examples.max(held);
    }
    memory
}

/// Set, data set and rows of the largest unit of an entry of shards.
fn largest_shard(entry: &PlanEntry) -> Option<(usize, usize, u64)> {
    match entry.spec {
        EntrySpec::Extract { set, dataset, start, end } => {
            Some((set, dataset, end.saturating_sub(start)))
        }
        EntrySpec::Shards { set, dataset, start, end, rows_per_unit } => {
            Some((set, dataset, rows_per_unit.min(end.saturating_sub(start))))
        }
        _ => None,
    }
}

/// Bytes of one forward pass over `rows` examples of `strands` token sequences of at most `longest`.
fn activations(facts: &ModelFacts, (rows, longest, strands): (u64, u64, u64), threads: u64) -> u64 {
    let example = longest.saturating_mul(strands);
    let batch = (TOKENS_PER_BATCH_MAX as u64).max(example);
    let told = facts.memory;
    if told == MemoryFacts::default() {
        let states = batch.saturating_mul(u64::from(facts.width)).saturating_mul(4);
        return states.saturating_mul(STATES_PER_TOKEN);
    }
    let tokens = batch.min(rows.saturating_mul(example));
    let of_longest = told
        .per_longest_token_and_thread
        .saturating_mul(threads)
        .saturating_add(told.per_longest_token);
    told.per_token.saturating_mul(tokens).saturating_add(of_longest.saturating_mul(longest))
}

/// Bytes of the costliest fit of `unit` if it trains a network; none for linear probes.
fn training(plan: &Plan, unit: &FitUnit) -> u64 {
    let same = |dataset: &&PlannedDataset| dataset.facts.id == unit.dataset;
    let Some(facts) = plan.datasets.iter().find(same).map(|dataset| &dataset.facts) else {
        return 0;
    };
    let spec = match &unit.features {
        FeatureSource::Embedding { set, .. } => plan.sets.iter().find(|spec| spec.id == *set),
        FeatureSource::Sequence(_) => None,
    };
    let model = spec.and_then(|spec| find_model(plan, |model| model.model.id == spec.model.id));
    let read = spec.zip(model).map(|(spec, model)| (&model.facts, spec.options));
    let extents = reads::extents(&unit.features, facts, read);
    let targets = predictions(unit.task, facts.schema.targets.len());
    let of_fit = |probe: &ProbeSpec| {
        let ProbeSpec::Network { architecture, training } = probe else { return None };
        let network = architecture.network(&extents, targets).ok()?.resolve(&extents).ok()?;
        Some(cost::training_memory(&network, training))
    };
    let width = extents.iter().map(|extent| extent.values() as u64).sum();
    let dtype = spec.map_or(StoredDtype::F32, |spec| spec.dtype);
    let costliest = unit.fits.iter().filter_map(|fit| of_fit(&fit.probe)).max();
    costliest.map_or(0, |bytes| {
        bytes.saturating_add(cost::features_memory(facts, &unit.features, (width, dtype)))
    })
}

/// Tokens that all extract units of `plan` embed together.
pub fn tokens(plan: &Plan) -> u64 {
    let of_entry = |spec: &EntrySpec| {
        let (EntrySpec::Extract { set, dataset, start, end }
        | EntrySpec::Shards { set, dataset, start, end, .. }) = spec
        else {
            return None;
        };
        let id = &plan.sets.get(*set)?.model.id;
        let model = find_model(plan, |model| model.model.id == *id)?;
        let facts = &plan.datasets.get(*dataset)?.facts;
        Some(cost::tokens_per_row(facts, &model.facts).saturating_mul(end.saturating_sub(*start)))
    };
    let all = plan.entries.iter().filter_map(|(_, entry)| of_entry(&entry.spec));
    all.fold(0, u64::saturating_add)
}

fn find_model(plan: &Plan, is_it: impl Fn(&PlannedModel) -> bool) -> Option<&PlannedModel> {
    plan.models.iter().find(|model| is_it(model))
}
