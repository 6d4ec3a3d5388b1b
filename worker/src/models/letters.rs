//! An example of a gLM of one's own, for tests: all that adding one takes. Its states are rows of a table.
//!
//! Leaves out: devices, a head. Invariant: a token's state depends on that token alone.

use crate::config::Config;
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, ModelOptions, ModelShape, Network, Sink,
    States, TensorSource, TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::NucleotideTokenizer;
use crate::weights::ExpectedTensor;
use glmeval_common::error::Result;
use glmeval_common::model::MemoryFacts;
use std::path::Path;

const MODEL_TYPE: &str = "letters";
/// A, C, G, T and N.
const LETTERS: usize = 5;
const TABLE: &str = "table.weight";

/// The architecture, for the list of models.
pub(super) static MODEL: Letters = Letters;

/// See [`MODEL`].
pub(super) struct Letters;

impl Architecture for Letters {
    fn name(&self) -> &'static str {
        MODEL_TYPE
    }

    fn looks_like(&self) -> &'static str {
        "model_type \"letters\""
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.config_text("model_type") == Some(MODEL_TYPE)
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let config = Config::read(&checkpoint.config_path())?;
        let width = config.u32("width", 1..=65_536)? as usize;
        Ok(Box::new(Plan { width, options: *options }))
    }
}

struct Plan {
    width: usize,
    options: ModelOptions,
}

impl Blueprint for Plan {
    fn shape(&self) -> ModelShape {
        let memory = MemoryFacts {
            weights: (LETTERS * self.width * 4) as u64,
            per_token: self.width as u64 * 4,
            per_longest_token: 0,
            per_longest_token_and_thread: 0,
        };
        ModelShape {
            layer_count: 1,
            width: self.width as u32,
            tokens_max: u64::MAX,
            states_fixed: None,
            flops_per_token: 0.0,
            flops_per_token_pair: 0.0,
            memory,
        }
    }

    fn identity(&self) -> Vec<(&'static str, u64)> {
        vec![("width", self.width as u64)]
    }

    fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        vec![ExpectedTensor::required(TABLE, &[LETTERS, self.width])]
    }

    fn tokenizer(&self, _folder: &Path) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(NucleotideTokenizer::new(self.options.unknown_letters)))
    }

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let table = tensors.take_f32(TABLE, &[LETTERS, self.width])?;
        Ok(Box::new(Loaded { table, width: self.width }))
    }
}

struct Loaded {
    /// `[LETTERS, width]`
    table: Vec<f32>,
    width: usize,
}

impl Network for Loaded {
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let rows = batch.ids.iter().flat_map(|&id| {
            self.table.chunks_exact(self.width).nth(id as usize).unwrap_or_default()
        });
        let states: Vec<f32> = rows.copied().collect();
        for layer in [0, 1] {
            if request.wants(layer) {
                sink(layer, States::Host(&states))?;
            }
        }
        Ok(())
    }

    fn vocabulary_size(&self) -> usize {
        LETTERS
    }
}

/// The example is this file and two lines of `models.rs`, and whatever opens a gLM opens it.
#[test]
fn a_gl_m_of_ones_own_is_recognised_described_and_run() {
    use glmeval_common::dna::DnaSequence;
    let folder = tempfile::tempdir().unwrap();
    let config = "{\"model_type\": \"letters\", \"width\": 3}";
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    super::write_random(folder.path(), 7).unwrap();
    let model = super::open(folder.path()).unwrap();
    let facts = model.facts();
    assert_eq!((facts.architecture.as_str(), facts.width, facts.parameters), ("letters", 3, 15));
    assert_eq!(super::describe(folder.path(), &ModelOptions::default()).unwrap().id, facts.id);
    let ids = model.tokenize(&DnaSequence::new("ACCA").unwrap()).unwrap();
    let states = model.last_states(&TokenBatch::pack([ids.as_slice()])).unwrap();
    assert_eq!(states.len(), 4 * 3);
    assert_eq!((&states[..3], &states[3..6]), (&states[9..], &states[6..9]));
    assert_ne!(states[..3], states[3..6]);
}
