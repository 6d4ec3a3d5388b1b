//! A store with a small data set, its embeddings in shards of any size, and units that fit on them.

use crate::agent::{RunContext, StopHandle, StopSource, UnitProgress, stop_pair};
use crate::attempt::UnitContext;
use crate::device::SharedDevice;
use crate::fit::fit_within;
use glmeval_common::clock::Clock;
use glmeval_common::dataset::TaskName;
use glmeval_common::dna::DnaSequence;
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor, narrow};
use glmeval_common::error::Result;
use glmeval_common::example::{Example, ExampleSchema, Split};
use glmeval_common::ids::{Attempt, DatasetId, FitId, Generation, ModelId, SetId, WorkerId};
use glmeval_common::model::Precision;
use glmeval_common::network::{
    Activation, Adam, Architecture, Draws, ExampleOrder, Initializer, LayerKind, LayerSpec, Loss,
    Monitor, NetworkSpec, Plateau, Restore, TrainingSpec,
};
use glmeval_common::representation::{FeatureSource, Pooling, StoredDtype};
use glmeval_common::rng::Rng;
use glmeval_common::score::{FitIdentity, FitScores};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{ShardAttempt, commit_shard};
use glmeval_common::store::examples::ExampleWriter;
use glmeval_common::store::fits::find_scores;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens of an example and values of a token.
pub(super) const TOKENS: usize = 6;
pub(super) const WIDTH: usize = 5;

/// A clock that moves by `step_ms` whenever it is read, and gives an order to stop at one reading.
pub(super) struct SteppingClock {
    step_ms: u64,
    reads: AtomicU64,
    stop: Option<(u64, StopHandle)>,
}

impl Clock for SteppingClock {
    fn now_ms(&self) -> u64 {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((at, handle)) = &self.stop
            && *at == reads
        {
            handle.stop(0, "the test says so");
        }
        reads * self.step_ms
    }

    fn unix_ms(&self) -> u64 {
        0
    }
}

/// Examples with targets that follow their features.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) examples: Vec<Example>,
    pub(super) target_names: Vec<String>,
    pub(super) dtype: StoredDtype,
}

impl World {
    /// `rows` examples: three of five to train on, one to watch, one to score; one target, which is 0
    /// or 1 where `is_binary`.
    pub(super) fn new(rows: usize, is_binary: bool) -> Self {
        let examples = (0..rows).map(|row| {
            let features = features(row);
            let value = features[0] + 0.5 * features[WIDTH + 1] - features[WIDTH * TOKENS - 1];
            let target = if is_binary { f32::from(u8::from(value > 0.0)) } else { value };
            let split = [Split::Train, Split::Train, Split::Valid, Split::Train, Split::Test];
            Example {
                id: format!("e{row}"),
                sequences: vec![sequence(row, 12)],
                interval: None,
                split: Some(split[row % 5]),
                targets: vec![target],
            }
        });
        Self {
            store: Store::memory(),
            examples: examples.collect(),
            target_names: vec!["target".to_owned()],
            dtype: StoredDtype::F16,
        }
    }

    /// Writes examples, and embeddings in shards of `shard_rows`.
    pub(super) async fn write(&self, shard_rows: usize) {
        self.write_examples().await;
        for start in (0..self.examples.len()).step_by(shard_rows) {
            let end = (start + shard_rows).min(self.examples.len());
            self.write_shard(start, end, TOKENS).await;
        }
    }

    pub(super) async fn write_examples(&self) {
        self.write_examples_as("dataset").await;
    }

    /// As another data set.
    pub(super) async fn write_examples_as(&self, id: &str) {
        let sequences = self.examples[0].sequences.len();
        let schema = ExampleSchema {
            sequences: (0..sequences).map(|side| format!("sequence{side}")).collect(),
            targets: self.target_names.clone(),
            has_intervals: false,
            has_splits: true,
        };
        let who = (Attempt::new("prepare"), WorkerId::new("w"));
        let id = DatasetId::new(id);
        let writer = ExampleWriter::new(&self.store, &id, "REST", schema, who);
        let mut writer = writer.with_rows_per_part(11);
        for example in &self.examples {
            writer.push(example.clone()).await.unwrap();
        }
        writer.commit(BTreeMap::new()).await.unwrap();
    }

    /// Writes one shard; its first example has `tokens` tokens.
    pub(super) async fn write_shard(&self, start: usize, end: usize, tokens: usize) {
        let (mut full, mut mean, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
        for row in start..end {
            let count = if row == start { tokens } else { TOKENS };
            let values = &features(row)[..count * WIDTH];
            full.extend_from_slice(values);
            mean.extend((0..WIDTH).map(|c| values.iter().skip(c).step_by(WIDTH).sum::<f32>()));
            offsets.push((full.len() / WIDTH) as u64);
        }
        let tensor = |pooling, values: &[f32]| ShardTensor {
            layer: 1,
            pooling,
            rows: (values.len() / WIDTH) as u64,
            width: WIDTH as u64,
            values: narrow(values, WIDTH, self.dtype, &|row| row.to_string()).unwrap().into(),
        };
        let set = SetId::new("set");
        let shard = EmbeddingShard {
            identity: ShardIdentity {
                set: set.clone(),
                model: ModelId::new("model"),
                dataset: DatasetId::new("dataset"),
                dtype: self.dtype,
                numeric_class: "f32.cpu.1".to_owned(),
                columns: Vec::new(),
            },
            start: start as u64,
            end: end as u64,
            row_ids: (start..end).map(|row| self.examples[row].id.clone()).collect(),
            example_indices: None,
            sequences: 1,
            tensors: vec![tensor(Pooling::Mean, &mean), tensor(Pooling::Full, &full)],
            token_offsets: Some(offsets),
        };
        let attempt = ShardAttempt {
            set,
            start: start as u64,
            end: end as u64,
            rows: (end - start) as u64,
            attempt: Attempt::new("extract"),
            worker: WorkerId::new("w"),
            generation: Generation::default(),
            seconds: 1.0,
        };
        commit_shard(&self.store, &attempt, shard.encode().unwrap()).await.unwrap();
    }

    /// Runs a unit on a clock that moves by `step_ms` a reading; with `stop_at`, told to stop then.
    pub(super) async fn run_on(
        &self,
        unit: &FitUnit,
        clock: (u64, Option<u64>),
        budget_bytes: u64,
    ) -> (Result<bool>, Arc<UnitProgress>) {
        self.run_with(unit, clock, (&SharedDevice::default(), budget_bytes)).await
    }

    /// As [`World::run_on`], on a worker with `device`.
    pub(super) async fn run_with(
        &self,
        unit: &FitUnit,
        (step_ms, stop_at): (u64, Option<u64>),
        (device, budget_bytes): (&SharedDevice, u64),
    ) -> (Result<bool>, Arc<UnitProgress>) {
        let (handle, source) = stop_pair();
        let stop = stop_at.map(|at| (at, handle));
        let clock = SteppingClock { step_ms, reads: AtomicU64::new(0), stop };
        let progress = Arc::new(UnitProgress::new(0, 0));
        let run = context(source, Arc::clone(&progress));
        let attempt = Attempt::new(glmeval_common::rng::random_token());
        let context = UnitContext::new(&self.store, &attempt, &run, &clock);
        (fit_within(&context, unit, (device, budget_bytes)).await, progress)
    }

    /// Runs a unit that is to succeed; the scores of its fits.
    pub(super) async fn run(&self, unit: &FitUnit) -> Vec<FitScores> {
        self.run_for(unit, &SharedDevice::default()).await
    }

    /// As [`World::run`], on a worker with `device`.
    pub(super) async fn run_for(&self, unit: &FitUnit, device: &SharedDevice) -> Vec<FitScores> {
        self.run_with(unit, (1, None), (device, u64::MAX)).await.0.unwrap();
        let mut scores = Vec::new();
        for fit in &unit.fits {
            scores.push(find_scores(&self.store, fit.id()).await.unwrap().unwrap());
        }
        scores
    }
}

fn context(stop: StopSource, progress: Arc<UnitProgress>) -> RunContext {
    RunContext { worker: WorkerId::new("w"), generation: Generation::default(), progress, stop }
}

/// Features of an example, `[TOKENS, WIDTH]`.
fn features(row: usize) -> Vec<f32> {
    let mut rng = Rng::derive(5, &format!("example {row}"));
    (0..TOKENS * WIDTH).map(|_| rng.normal() as f32).collect()
}

pub(super) fn sequence(row: usize, length: usize) -> DnaSequence {
    let mut rng = Rng::derive(6, &format!("sequence {row}"));
    let letters: String =
        (0..length).map(|_| ['A', 'C', 'G', 'T'][rng.below(4) as usize]).collect();
    DnaSequence::new(letters).unwrap()
}

pub(super) fn layer(name: &str, input: &str, kind: LayerKind) -> LayerSpec {
    LayerSpec { name: name.to_owned(), inputs: vec![input.to_owned()], kind }
}

pub(super) fn dense(units: usize, activation: Activation) -> LayerKind {
    let initializer = Initializer::GlorotUniform;
    LayerKind::Dense { units, bias: true, activation, initializer, l2: 1e-4 }
}

/// Every value in one vector, a hidden layer with normalisation and dropout, one output.
pub(super) fn small_network(last: Activation) -> Architecture {
    Architecture::Layers(NetworkSpec {
        inputs: vec!["x".to_owned()],
        layers: vec![
            layer("flat", "x", LayerKind::Flatten),
            layer("hidden", "flat", dense(7, Activation::Relu)),
            layer("norm", "hidden", LayerKind::BatchNorm { momentum: 0.9, epsilon: 1e-3 }),
            layer("drop", "norm", LayerKind::Dropout { rate: 0.25 }),
            layer("output", "drop", dense(1, last)),
        ],
    })
}

pub(super) fn training(loss: Loss, order: ExampleOrder) -> TrainingSpec {
    TrainingSpec {
        loss,
        learning_rate: 0.02,
        adam: Adam::KERAS,
        batch_rows: 8,
        epochs_max: 6,
        order,
        monitor: Monitor::Loss,
        stop_patience: Some(4),
        restore: Restore::Always,
        plateau: Some(Plateau {
            factor: 0.5,
            patience: 1,
            learning_rate_min: 1e-6,
            improvement_min: 1e-4,
            cooldown: 0,
        }),
        draws: Draws::Independent,
        precision: Precision::F32,
    }
}

pub(super) fn network_fit(id: &str, architecture: Architecture, training: TrainingSpec) -> Fit {
    fit(id, ProbeSpec::Network { architecture, training })
}

pub(super) fn fit(id: &str, probe: ProbeSpec) -> Fit {
    let identity = FitIdentity {
        fit: FitId::new(id),
        task: "a-task".to_owned(),
        dataset: "REST".to_owned(),
        dataset_id: DatasetId::new("dataset"),
        model: None,
        model_id: None,
        layer: Some(1),
        representation: "full".to_owned(),
        probe: probe.label(),
        factor: 1.0,
        fraction: 1.0,
        repeat: 0,
        seed: 11,
        protocol: "published".to_owned(),
        trained_on: None,
    };
    Fit { identity, probe }
}

pub(super) fn embedded(pooling: Pooling) -> FeatureSource {
    FeatureSource::Embedding { set: SetId::new("set"), layer: 1, pooling }
}

pub(super) fn unit(task: TaskName, features: FeatureSource, fits: Vec<Fit>) -> FitUnit {
    let (dataset, validated_on, training_class) = (DatasetId::new("dataset"), None, None);
    FitUnit { dataset, task, features, fits, validated_on, training_class }
}

/// Digests of what a fit left, by role.
pub(super) fn digests(scores: &FitScores) -> BTreeMap<&str, &str> {
    scores.objects.iter().map(|object| (object.role.as_str(), object.sha256.as_str())).collect()
}
