//! Supervised networks in the emulator against their published code, and against themselves.
//!
//! Leaves out: gLMs. Invariant: every supervised network is held to the same bounds.

use super::OnHost;
use crate::device::Device;
use crate::extract::{ShardExamples, embed};
use crate::model::{Model, ModelOptions, Precision, TokenBatch};
use crate::models;
use crate::tokenizer::UnknownLetters;
use glmeval_common::dna::DnaSequence;
use glmeval_common::example::Example;
use glmeval_common::ids::{DatasetId, SetId};
use glmeval_common::representation::{Pooling, RepresentationOptions, StoredDtype, Strands};
use glmeval_common::unit::{ModelRef, SetSpec};
use glmeval_kernels::cuda::Gpu;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// At most four times what the CPU is held to, in shares of the largest value.
const TOLERANCE: f32 = 4e-5;

/// A supervised network: its fixture, and a small one of random weights.
pub(crate) struct Supervised {
    /// Folder of the fixture.
    pub(crate) fixture: &'static str,
    /// A case of it that has one sequence.
    pub(crate) case: &'static str,
    /// What the fixture calls the states.
    pub(crate) states: &'static str,
    /// Config of the small one.
    pub(crate) config: Value,
    /// Tokens that it reads.
    pub(crate) length: usize,
    /// Values of the states of one sequence.
    pub(crate) values: usize,
    /// Sequences that are more than it computes at once.
    pub(crate) together: usize,
}

fn open(folder: &Path, precision: Precision) -> Model {
    let unknown_letters = UnknownLetters::Replace;
    let options = ModelOptions { unknown_letters, precision, ..ModelOptions::default() };
    let device = Device::Cuda(Gpu::for_tests().unwrap());
    models::open_on(folder, &options, &device).unwrap_or_else(|e| panic!("{}", e.chain()))
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let difference = found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(difference <= tolerance * largest, "{difference:e} of {largest}");
}

impl Supervised {
    fn golden(&self) -> PathBuf {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
        models.join(self.fixture)
    }

    /// The batch of the case, its states and its predictions.
    fn expected(&self, model: &Model) -> (TokenBatch, [Vec<f32>; 2]) {
        let bytes = std::fs::read(self.golden().join("io.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |part: &str| -> Vec<f32> {
            let tensor = file.tensor(&format!("{}.{part}", self.case)).unwrap();
            let values = tensor.data().as_chunks::<4>().0.iter();
            values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let text = std::fs::read_to_string(self.golden().join("sequences.json")).unwrap();
        let description: Value = serde_json::from_str(&text).unwrap();
        let cases = description["cases"].as_array().unwrap();
        let chosen = cases.iter().find(|case| case["name"] == self.case).unwrap();
        let text = chosen["sequences"][0].as_str().unwrap();
        let ids = model.tokenize(&DnaSequence::new(text).unwrap()).unwrap();
        (TokenBatch::pack([ids.as_slice()]), [floats(self.states), floats("predict")])
    }

    /// A small network of random weights.
    fn small(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), self.config.to_string()).unwrap();
        models::write_random(folder.path(), 3).unwrap();
        folder
    }

    fn sequences(&self) -> [Vec<u32>; 3] {
        [vec![0, 1, 2, 3, 4], vec![3; self.length], vec![2, 2, 1]]
    }

    /// States and predictions are those of upstream.
    pub(crate) fn agrees_with_upstream(&self) {
        let model = open(&self.golden(), Precision::F32);
        let (batch, [states, predictions]) = self.expected(&model);
        assert_near(&model.last_states(&batch).unwrap(), &states, TOLERANCE);
        assert_near(&model.logits(&batch).unwrap(), &predictions, TOLERANCE);
    }

    /// A device gives nearly the states and predictions of the CPU.
    pub(crate) fn agrees_with_the_cpu(&self) {
        let folder = self.small();
        let batch = TokenBatch::pack(self.sequences().iter().map(Vec::as_slice));
        let unknown_letters = UnknownLetters::Replace;
        let options = ModelOptions { unknown_letters, ..ModelOptions::default() };
        let cpu = models::open_with(folder.path(), &options).unwrap();
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.05)] {
            let device = open(folder.path(), precision);
            assert_eq!(device.facts(), cpu.facts());
            let [found, expected] = [&device, &cpu].map(|model| model.last_states(&batch).unwrap());
            assert_near(&found, &expected, tolerance);
            let [found, expected] = [&device, &cpu].map(|model| model.logits(&batch).unwrap());
            assert_near(&found, &expected, tolerance);
        }
    }

    /// Rows made of the states on the device have the bytes of rows made of them on the host.
    pub(crate) fn is_pooled_on_the_device(&self) {
        let folder = self.small();
        let model = || open(folder.path(), Precision::F32);
        let (there, here) = (model(), model().wrapped(|network| Box::new(OnHost(network))));
        let example = |(row, text): (usize, &str)| Example {
            id: row.to_string(),
            sequences: vec![DnaSequence::new(text).unwrap()],
            interval: None,
            split: None,
            targets: Vec::new(),
        };
        let texts = ["ACGTA", "TTTTTTTTTTTTT", "GGC"];
        let examples: Vec<Example> = texts.into_iter().enumerate().map(example).collect();
        let shard = ShardExamples { start: 0, end: 3, examples, indices: None };
        for dtype in [StoredDtype::F32, StoredDtype::F16] {
            for (strands, poolings) in [
                (Strands::Forward, vec![Pooling::Cls, Pooling::Mean, Pooling::Full]),
                (Strands::Averaged, vec![Pooling::Mean]),
            ] {
                let set = SetSpec {
                    id: SetId::new("set"),
                    model: ModelRef {
                        id: there.facts().id.clone(),
                        name: self.fixture.to_owned(),
                        source: folder.path().to_owned(),
                        options: ModelOptions::default(),
                    },
                    dataset: DatasetId::new("data"),
                    layers: vec![1],
                    poolings,
                    dtype,
                    options: RepresentationOptions { strands, ..Default::default() },
                    numeric_class: String::new(),
                    effects: None,
                };
                let found = embed(&there, &set, &shard, &mut |_| {}).unwrap();
                assert_eq!(found, embed(&here, &set, &shard, &mut |_| {}).unwrap(), "{dtype:?}");
            }
        }
    }

    /// A sequence has the same bits alone and in a batch.
    pub(crate) fn is_the_same_alone(&self) {
        let folder = self.small();
        let model = open(folder.path(), Precision::Bf16);
        let sequences = self.sequences();
        let bits = |sequences: &[Vec<u32>]| -> Vec<u32> {
            let batch = TokenBatch::pack(sequences.iter().map(Vec::as_slice));
            model.last_states(&batch).unwrap().iter().map(|x| x.to_bits()).collect()
        };
        let many: Vec<Vec<u32>> = sequences.iter().cycle().take(self.together).cloned().collect();
        let together = bits(&many);
        assert_eq!(together.len(), self.together * self.values);
        let alone: Vec<_> = sequences.into_iter().map(|sequence| bits(&[sequence])).collect();
        for (alone, shared) in alone.iter().cycle().zip(together.chunks(self.values)) {
            assert_eq!(alone, shared);
        }
    }
}
