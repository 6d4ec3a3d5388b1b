//! Sei on a CUDA device: weights and states stay there; what the classifier gives is made of states in host memory.
//!
//! Leaves out: the config. Invariant: a sequence's states are its own in every bit; what is summed is f32 whatever the products
//! are.

mod tower;

use super::spline::basis;
use crate::config::SeiConfig;
use crate::config::sei::CLASSIFIER;
use crate::device::device_error;
use crate::layers::cuda::DeviceLoader;
use crate::layers::{Kept, NUCLEOTIDES, centred};
use crate::model::{LayerRequest, Network, Precision, Sink, States, TensorSource, TokenBatch};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{
    Bf16, DeviceArray, Gpu, Operand, Output, Product, ProductClass, View, ViewMut,
};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::conv1d::cuda::{
    ConvValue, DeviceActivation, DeviceConv1d, DeviceEpilogue, dense,
};
use glmeval_kernels::ops::sigmoid::sigmoid;
use tower::{Space, Tower};

/// Sequences that are computed at once: enough to fill a device at the last stage's few positions.
const SEQUENCES: usize = 16;

/// Takes the tensors to the device.
pub(super) fn load(
    config: &SeiConfig,
    precision: Precision,
    gpu: &Gpu,
    tensors: &mut dyn TensorSource,
) -> Result<Box<dyn Network>> {
    let mut loader = DeviceLoader { gpu, tensors, precision };
    Ok(match precision {
        Precision::F32 | Precision::Tf32 => Box::new(Loaded::<f32>::load(config, &mut loader)?),
        Precision::Bf16 => Box::new(Loaded::<Bf16>::load(config, &mut loader)?),
    })
}

/// A loaded network whose products read `T`.
struct Loaded<T: ConvValue> {
    gpu: Gpu,
    tower: Tower<T>,
    /// `[positions, functions]`
    basis: DeviceArray<f32>,
    classifier: Option<[DeviceConv1d<T>; 2]>,
    config: SeiConfig,
    kept: Kept<Space<T>>,
}

impl<T: ConvValue> Loaded<T> {
    fn load(config: &SeiConfig, loader: &mut DeviceLoader<'_>) -> Result<Self> {
        let has_classifier = loader.tensors.contains(&format!("{}.weight", CLASSIFIER[0]));
        let classifier = match config.outputs.filter(|_| has_classifier) {
            None => None,
            Some(outputs) => Some([
                loader.linear(CLASSIFIER[0], ((outputs, config.states()), true))?,
                loader.linear(CLASSIFIER[1], ((outputs, outputs), true))?,
            ]),
        };
        Ok(Self {
            gpu: loader.gpu.clone(),
            tower: Tower::load(config, loader)?,
            basis: loader.array(&basis(config.pooled_length(), config.spline_df))?,
            classifier,
            config: config.clone(),
            kept: Kept::default(),
        })
    }

    /// Writes the states `[B, C, functions]` of padded sequences `[B, T]`.
    fn write(&self, space: &mut Space<T>, ids: &[u32], mut out: ViewMut<'_, f32>) -> Result<()> {
        let (length, functions) = (self.config.pooled_length(), self.config.spline_df);
        let width = self.config.channels[2];
        let batch = ids.len() / self.config.sequence_length;
        let maps = self.tower.maps(&self.gpu, space, ids)?;
        for sequence in 0..batch {
            let map = maps.view().part(sequence * length * width..(sequence + 1) * length * width);
            let place = sequence * width * functions..(sequence + 1) * width * functions;
            self.sum(map, out.part(place)).map_err(device_error)?;
        }
        Ok(())
    }

    /// Sums `[C, functions]` of channels `[length, C]`.
    ///
    /// ```text
    /// out[c,s] = sum_t map[t,c] basis[t,s]
    /// ```
    fn sum(&self, map: View<'_, f32>, out: ViewMut<'_, f32>) -> Result<(), KernelError> {
        let (width, functions) = (self.config.channels[2], self.config.spline_df);
        self.gpu.multiply(&Product {
            rows: width,
            columns: functions,
            depth: self.config.pooled_length(),
            left: Operand::transposed(map, width),
            right: Operand::transposed(self.basis.view(), functions),
            bias: None,
            adds: false,
            out: Output::rows(out, functions),
            class: ProductClass::F32,
        })
    }

    fn predictions(
        &self,
        [hidden, output]: &[DeviceConv1d<T>; 2],
        states: &[f32],
    ) -> Result<Vec<f32>, KernelError> {
        let rounded: Vec<T> = states.iter().map(|&x| T::rounded(x)).collect();
        let left = DeviceArray::from_slice(&self.gpu, &rounded)?;
        let outputs = output.shape().output_width;
        let count = states.len() / hidden.shape().input_width * outputs;
        let mut middle = DeviceArray::<T>::new(&self.gpu, count)?;
        dense(left.view(), hidden, DeviceActivation::Relu.into(), &mut middle.view_mut())?;
        let mut out = DeviceArray::<f32>::new(&self.gpu, count)?;
        dense(middle.view(), output, DeviceEpilogue::default(), &mut out.view_mut())?;
        out.to_vec()
    }
}

impl<T: ConvValue> Network for Loaded<T> {
    /// Some sequences at once, so that only the states grow with the batch.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let length = self.config.sequence_length;
        let padded = batch.sequences().map(|sequence| centred(sequence, length));
        let padded = padded.collect::<Result<Vec<_>>>()?;
        let values = self.config.states();
        let mut states = DeviceArray::<f32>::new(&self.gpu, padded.len().saturating_mul(values))
            .map_err(device_error)?;
        for (index, part) in padded.chunks(SEQUENCES).enumerate() {
            let (ids, first) = (part.concat(), index * SEQUENCES);
            let mut states = states.view_mut();
            let out = states.part(first * values..(first + part.len()) * values);
            self.kept.lend(ids.len(), |space| self.write(space, &ids, out))?;
        }
        if request.wants(1) {
            sink(1, States::Device(states.view()))?;
        }
        Ok(())
    }

    fn vocabulary_size(&self) -> usize {
        NUCLEOTIDES
    }

    /// As the CPU's: `sigmoid(output(relu(hidden(states))))`.
    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        let Some(classifier) = &self.classifier else {
            return Err(Error::invalid("these weights have no classifier"));
        };
        let inputs = self.config.states();
        if !states.len().is_multiple_of(inputs) {
            let found = states.len();
            return Err(Error::invalid(format!(
                "predictions: expected {inputs} numbers for each whole sequence, found {found}"
            )));
        }
        let mut predictions = self.predictions(classifier, states).map_err(device_error)?;
        sigmoid(&mut predictions);
        Ok(predictions)
    }
}

#[cfg(test)]
mod tests;
