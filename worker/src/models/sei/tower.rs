//! The convolutions before the spline: three stages with pools between them, then dilated ones.

use crate::config::SeiConfig;
use crate::config::sei::{DILATED_KERNEL, DILATIONS, KERNEL, STAGES};
use crate::layers::{defect, kernel_precision, pack_nucleotide_conv, zeros};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::conv1d::{
    Conv1dShape, PackedConv1d, PackedTokenConv1d, conv1d, conv1d_tokens,
};
use glmeval_kernels::ops::linear::Epilogue;
use glmeval_kernels::ops::max_pool::max_pool;

/// Positions that a pool joins.
pub(super) const POOL: usize = 4;

/// Values held at once for one sequence: three maps of a stage and the pooled one before it.
pub(super) fn activations(config: &SeiConfig) -> u64 {
    let [first, second, third] = config.channels.map(|width| width as u64);
    let length = config.sequence_length as u64;
    let first = first.saturating_mul(length);
    let second = second.saturating_mul(length / 4);
    let third = third.saturating_mul(length / 16);
    first.max(second).max(third).saturating_mul(4)
}

/// All convolutions.
pub(super) struct Tower {
    /// Reads one-hot DNA: sums of its weights, in f32 at any precision.
    first: PackedTokenConv1d,
    stages: Vec<Stage>,
    dilated: Vec<PackedConv1d>,
    length: usize,
}

/// Convolutions at one resolution; the first stage's first one reads tokens instead.
struct Stage {
    entrance: Option<PackedConv1d>,
    linear: PackedConv1d,
    rectified: [PackedConv1d; 2],
    width: usize,
}

impl Tower {
    pub(super) fn load(
        config: &SeiConfig,
        precision: Precision,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let width = config.channels[0];
        let name = STAGES[0][0];
        let weight = tensors.take_f32(&format!("{name}.weight"), &[width, 4, KERNEL])?;
        let bias = tensors.take_f32(&format!("{name}.bias"), &[width])?;
        let first = pack_nucleotide_conv((width, KERNEL), Some(&bias), |output, base, tap| {
            weight.get((output * 4 + base) * KERNEL + tap).copied().unwrap_or_default()
        })?;
        let mut stages = Vec::new();
        let mut inputs = None;
        for (names, width) in STAGES.into_iter().zip(config.channels) {
            let [entrance, linear, second, third] = names;
            let mut load =
                |name, inputs| load_conv(name, (width, inputs, KERNEL), (1, precision), tensors);
            let (linear, rectified) =
                (load(linear, width)?, [load(second, width)?, load(third, width)?]);
            let entrance = match inputs {
                None => None,
                Some(inputs) => Some(load(entrance, inputs)?),
            };
            stages.push(Stage { entrance, linear, rectified, width });
            inputs = Some(width);
        }
        let width = config.channels[2];
        let dilated = (1..).zip(DILATIONS).map(|(number, dilation): (u32, usize)| {
            let name = format!("dconv{number}.1");
            let shape = (width, width, DILATED_KERNEL);
            load_conv(&name, shape, (dilation, precision), tensors)
        });
        let dilated = dilated.collect::<Result<_>>()?;
        Ok(Self { first, stages, dilated, length: config.sequence_length })
    }

    /// Channels `[T / 16, C]` of one padded sequence `[T]`, before the spline.
    ///
    /// ```text
    /// l = linear(entrance(x));  o = relu(conv(relu(conv(l))));  x of the next stage = pool(l + o)
    /// c = o + relu(dconv1(o + l));  c += relu(dconv(c)) for the others
    /// ```
    ///
    /// The last `l` enters `dconv1`, but not the running sum.
    pub(super) fn maps(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut length = self.length;
        let mut pooled: Option<Vec<f32>> = None;
        let mut last = None;
        for stage in &self.stages {
            let mut scratch = zeros(length, stage.width)?;
            match (&stage.entrance, &pooled) {
                (Some(entrance), Some(x)) => apply(entrance, x, length, &mut scratch)?,
                _ => {
                    let ends = [0, length];
                    conv1d_tokens(ids, &ends, &self.first, Epilogue::None, &mut scratch)
                        .map_err(defect)?;
                }
            }
            let mut linear = zeros(length, stage.width)?;
            apply(&stage.linear, &scratch, length, &mut linear)?;
            let mut out = zeros(length, stage.width)?;
            let [second, third] = &stage.rectified;
            rectify(second, &linear, length, &mut scratch)?;
            rectify(third, &scratch, length, &mut out)?;
            let before = length;
            length /= POOL;
            if self.is_last(stage) {
                last = Some((linear, out, before));
                break;
            }
            add(&mut linear, &out);
            let mut next = zeros(length, stage.width)?;
            max_pool(&linear, before, stage.width, POOL, &mut next).map_err(defect)?;
            pooled = Some(next);
        }
        let (linear, out, length) = last.ok_or_else(|| Error::bug("a tower without stages"))?;
        self.widen_context(linear, out, length)
    }

    fn is_last(&self, stage: &Stage) -> bool {
        self.stages.last().is_some_and(|last| std::ptr::eq(last, stage))
    }

    /// The dilated convolutions on linear and rectified maps `[T / 16, C]` of the last stage.
    fn widen_context(&self, linear: Vec<f32>, out: Vec<f32>, length: usize) -> Result<Vec<f32>> {
        let mut input = linear;
        add(&mut input, &out);
        let mut sum = out;
        let mut branch = vec![0.0; sum.len()];
        for conv in &self.dilated {
            rectify(conv, &input, length, &mut branch)?;
            add(&mut sum, &branch);
            input.copy_from_slice(&sum);
        }
        Ok(sum)
    }
}

fn apply(conv: &PackedConv1d, x: &[f32], length: usize, out: &mut [f32]) -> Result<()> {
    conv1d(x, &[0, length], conv, Epilogue::None, out).map_err(defect)
}

fn rectify(conv: &PackedConv1d, x: &[f32], length: usize, out: &mut [f32]) -> Result<()> {
    conv1d(x, &[0, length], conv, Epilogue::Relu, out).map_err(defect)
}

fn add(sum: &mut [f32], term: &[f32]) {
    sum.iter_mut().zip(term).for_each(|(sum, term)| *sum += term);
}

fn load_conv(
    name: &str,
    (output_width, input_width, kernel): (usize, usize, usize),
    (dilation, precision): (usize, Precision),
    tensors: &mut dyn TensorSource,
) -> Result<PackedConv1d> {
    let shape = [output_width, input_width, kernel];
    let weight = tensors.take_f32(&format!("{name}.weight"), &shape)?;
    let bias = tensors.take_f32(&format!("{name}.bias"), &[output_width])?;
    let shape = Conv1dShape { output_width, input_width, kernel, dilation };
    let precision = kernel_precision(precision);
    PackedConv1d::pack_as(precision, &weight, Some(&bias), shape).map_err(defect)
}
