//! Random weights: the control that shows what an architecture gives without pre-training.
//!
//! Invariant: a tensor depends only on seed, name and shape, not on who asks first.

use super::{Blueprint, TensorSource};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, Result};
use glmeval_common::rng::Rng;
use half::f16;

/// Standard deviation of matrices and embeddings, `initializer_range` of BERT and ESM.
const STANDARD_DEVIATION: f64 = 0.02;

/// Tensors initialised as BERT and ESM are before training: matrices and embeddings N(0, 0.02²),
/// norms 1, biases 0; what a blueprint fixes, such as positional features, as it says.
#[derive(Clone, Copy)]
pub struct RandomTensors<'a> {
    seed: u64,
    blueprint: &'a dyn Blueprint,
}

impl<'a> RandomTensors<'a> {
    /// The tensors of `seed` for a gLM of `blueprint`.
    pub fn new(seed: u64, blueprint: &'a dyn Blueprint) -> Self {
        Self { seed, blueprint }
    }
}

impl TensorSource for RandomTensors<'_> {
    fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let count = shape.iter().try_fold(1_usize, |count, &extent| count.checked_mul(extent));
        let mut values = Vec::new();
        let reserved = count.filter(|&count| values.try_reserve_exact(count).is_ok());
        let Some(count) = reserved else {
            return Err(Error::invalid(format!("{name}: shape {shape:?} does not fit in memory")));
        };
        if let Some(fixed) = self.blueprint.initial_values(name) {
            if fixed.len() != count {
                return Err(Error::bug(format!("{name}: {} initial values", fixed.len())));
            }
            values = fixed;
        } else if name.ends_with("bias") || name.ends_with("beta") || name.ends_with("moving_mean")
        {
            values.resize(count, 0.0);
        } else if shape.len() == 1 {
            values.resize(count, 1.0);
        } else {
            let mut rng = Rng::derive(self.seed, &format!("weights/{name}"));
            let mut draw = || f16::from_f64(STANDARD_DEVIATION * rng.normal()).to_f32();
            values.extend((0..count).map(|_| draw()));
        }
        Ok(values)
    }

    fn contains(&self, name: &str) -> bool {
        self.blueprint.expected_tensors().iter().any(|tensor| tensor.name == name)
    }

    fn digest(&self) -> Result<String> {
        Ok(ContentDigest::new("random-weights/1").field("seed", self.seed.to_le_bytes()).finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelShape, Network};
    use crate::tokenizer::Tokenizer;
    use crate::weights::ExpectedTensor;
    use std::path::Path;

    /// Fixes one tensor and has another.
    struct Fixed;

    impl Blueprint for Fixed {
        fn shape(&self) -> ModelShape {
            unreachable!()
        }

        fn identity(&self) -> Vec<(&'static str, u64)> {
            Vec::new()
        }

        fn expected_tensors(&self) -> Vec<ExpectedTensor> {
            vec![ExpectedTensor::required("a.weight", &[40, 50])]
        }

        fn initial_values(&self, name: &str) -> Option<Vec<f32>> {
            (name == "positions").then(|| vec![0.5, 0.25])
        }

        fn tokenizer(&self, _: &Path) -> Result<Box<dyn Tokenizer>> {
            unreachable!()
        }

        fn load(&self, _: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
            unreachable!()
        }
    }

    #[test]
    fn a_tensor_depends_on_seed_and_name_alone() {
        let take = |seed, name| RandomTensors::new(seed, &Fixed).take_f32(name, &[40, 50]).unwrap();
        assert_eq!(take(1, "a.weight"), take(1, "a.weight"));
        assert_ne!(take(1, "a.weight"), take(1, "b.weight"));
        assert_ne!(take(1, "a.weight"), take(2, "a.weight"));
    }

    #[test]
    fn matrices_have_the_published_spread_norms_are_one_biases_zero() {
        let mut tensors = RandomTensors::new(7, &Fixed);
        let matrix = tensors.take_f32("dense.weight", &[100, 100]).unwrap();
        let variance = matrix.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 1e4;
        assert!((variance.sqrt() - 0.02).abs() < 1e-3, "{variance}");
        assert_eq!(tensors.take_f32("LayerNorm.weight", &[2]).unwrap(), [1.0, 1.0]);
        assert_eq!(tensors.take_f32("dense.bias", &[2]).unwrap(), [0.0, 0.0]);
        tensors.take_f32("x", &[usize::MAX, 3]).unwrap_err();
    }

    #[test]
    fn what_the_blueprint_fixes_is_not_drawn() {
        let mut tensors = RandomTensors::new(7, &Fixed);
        assert_eq!(tensors.take_f32("positions", &[1, 2]).unwrap(), [0.5, 0.25]);
        tensors.take_f32("positions", &[3]).unwrap_err();
        assert!(tensors.contains("a.weight") && !tensors.contains("lm_head.weight"));
    }
}
