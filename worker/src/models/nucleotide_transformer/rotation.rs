//! Frequencies of rotary positions, and the angles of a forward pass.
//!
//! Leaves out: the rotation. Invariant: blocks with equal frequencies share one table.

use crate::config::EsmConfig;
use crate::config::esm::PositionEmbedding;
use crate::layers::Positions;
use crate::model::TensorSource;
use glmeval_common::error::Result;
use glmeval_kernels::ops::rotary::RotaryTable;

/// How often the slowest pair turns less than the fastest one.
const BASE: f64 = 10_000.0;
const NAME: &str = "attention.self.rotary_embeddings.inv_freq";

/// Whether `name` is that of stored frequencies.
pub(super) fn is_frequencies(name: &str) -> bool {
    name.ends_with(NAME)
}

/// What upstream computes where nothing is stored: `[d/2]`.
///
/// ```text
/// 1 / 10000^(2j/d), each step rounded to f32
/// ```
///
/// Source: Su et al. 2021, section 3.2.2; rounded as transformers 4.46.3 `RotaryEmbedding` does.
pub(super) fn frequencies(config: &EsmConfig) -> Vec<f32> {
    let width = config.hidden_size / config.num_attention_heads;
    let exponent = |pair: usize| (2 * pair) as f32 / width as f32;
    let power = |pair| BASE.powf(f64::from(exponent(pair))) as f32;
    (0..width / 2).map(|pair| 1.0 / power(pair)).collect()
}

/// Frequencies of every block; none for learned positions.
pub(super) struct Rotation {
    distinct: Vec<Vec<f32>>,
    /// For each block, which of `distinct` are its own.
    of_block: Vec<usize>,
}

impl Rotation {
    /// Takes the frequencies that are stored.
    pub(super) fn load(config: &EsmConfig, tensors: &mut dyn TensorSource) -> Result<Self> {
        let mut rotation = Self { distinct: Vec::new(), of_block: Vec::new() };
        if config.position_embedding != PositionEmbedding::Rotary {
            return Ok(rotation);
        }
        let computed = frequencies(config);
        for index in 0..config.num_hidden_layers {
            let name = format!("esm.encoder.layer.{index}.{NAME}");
            let own = if tensors.contains(&name) {
                tensors.take_f32(&name, &[computed.len()])?
            } else {
                computed.clone()
            };
            let known = rotation.distinct.iter().position(|known| *known == own);
            rotation.of_block.push(known.unwrap_or(rotation.distinct.len()));
            if known.is_none() {
                rotation.distinct.push(own);
            }
        }
        Ok(rotation)
    }

    /// Whether positions are rotations.
    pub(super) fn is_used(&self) -> bool {
        !self.distinct.is_empty()
    }

    /// Cosines and sines of each set of frequencies, for sequences of at most `length` tokens.
    pub(super) fn tables(&self, length: usize) -> Vec<RotaryTable> {
        self.distinct.iter().map(|frequencies| RotaryTable::new(frequencies, length)).collect()
    }

    /// Which of the tables block `index` takes.
    pub(super) fn of_block(&self, index: usize) -> Option<usize> {
        self.of_block.get(index).copied()
    }

    /// Angles for sequences of at most `length` tokens.
    pub(super) fn angles(&self, length: usize) -> Angles<'_> {
        Angles { rotation: self, tables: self.tables(length) }
    }
}

/// Cosines and sines of one forward pass.
pub(super) struct Angles<'r> {
    rotation: &'r Rotation,
    tables: Vec<RotaryTable>,
}

impl Angles<'_> {
    /// How positions enter block `index`.
    pub(super) fn of_block(&self, index: usize) -> Positions<'_> {
        let own = self.rotation.of_block(index);
        own.and_then(|own| self.tables.get(own)).map_or(Positions::None, Positions::Rotary)
    }
}
