//! The convolutions before the spline on a device.
//!
//! Leaves out: the formulas, which are the CPU's (`sei::tower`). Invariant: sequences of one length do not mix.

use crate::config::SeiConfig;
use crate::config::sei::{DILATED_KERNEL, DILATIONS, KERNEL, STAGES};
use crate::device::device_error;
use crate::layers::NUCLEOTIDES;
use crate::layers::cuda::{DeviceLoader, Room};
use crate::models::sei::tower::POOL;
use glmeval_common::error::Result;
use glmeval_kernels::cuda::{DeviceArray, Gpu, View, ViewMut};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::branch_norm::cuda::token_rows;
use glmeval_kernels::ops::conv1d::Conv1dShape;
use glmeval_kernels::ops::conv1d::cuda::{
    ConvValue, DeviceActivation, DeviceConv1d, DeviceEpilogue, Residual, conv1d_even,
};
use glmeval_kernels::ops::max_pool::cuda::{MaxPool, max_pool};

/// Bases, which are the channels of the input.
const BASES: usize = NUCLEOTIDES - 1;

/// Work space, kept between passes.
pub(super) struct Space<T: ConvValue> {
    ids: Room<u32>,
    hot: Room<f32>,
    linear: Room<f32>,
    out: Room<f32>,
    first: Room<T>,
    second: Room<T>,
}

impl<T: ConvValue> Default for Space<T> {
    fn default() -> Self {
        Self {
            ids: Room::default(),
            hot: Room::default(),
            linear: Room::default(),
            out: Room::default(),
            first: Room::default(),
            second: Room::default(),
        }
    }
}

/// All convolutions.
pub(super) struct Tower<T: ConvValue> {
    /// Rows of the input by nucleotide, zeros for none of them.
    bases: DeviceArray<f32>,
    /// Reads one-hot DNA, in f32 at any precision.
    first: DeviceConv1d<f32>,
    stages: Vec<Stage<T>>,
    dilated: Vec<DeviceConv1d<T>>,
    length: usize,
}

/// Convolutions at one resolution; the first stage's first one reads bases instead.
struct Stage<T: ConvValue> {
    entrance: Option<DeviceConv1d<T>>,
    linear: DeviceConv1d<T>,
    rectified: [DeviceConv1d<T>; 2],
    width: usize,
}

impl<T: ConvValue> Tower<T> {
    pub(super) fn load(config: &SeiConfig, loader: &mut DeviceLoader<'_>) -> Result<Self> {
        let shape = |output_width, input_width, (kernel, dilation)| Conv1dShape {
            output_width,
            input_width,
            kernel,
            dilation,
        };
        let first = shape(config.channels[0], BASES, (KERNEL, 1));
        let first = loader.conv(STAGES[0][0], (first, true))?;
        let mut stages = Vec::new();
        let mut inputs = None;
        for (names, width) in STAGES.into_iter().zip(config.channels) {
            let [entrance, linear, second, third] = names;
            let entrance = match inputs {
                None => None,
                Some(inputs) => {
                    Some(loader.conv(entrance, (shape(width, inputs, (KERNEL, 1)), true))?)
                }
            };
            let mut load = |name| loader.conv(name, (shape(width, width, (KERNEL, 1)), true));
            let (linear, rectified) = (load(linear)?, [load(second)?, load(third)?]);
            stages.push(Stage { entrance, linear, rectified, width });
            inputs = Some(width);
        }
        let width = config.channels[2];
        let dilated = (1..).zip(DILATIONS).map(|(number, dilation): (u32, usize)| {
            let shape = shape(width, width, (DILATED_KERNEL, dilation));
            loader.conv(&format!("dconv{number}.1"), (shape, true))
        });
        let dilated = dilated.collect::<Result<_>>()?;
        let mut bases = vec![0.0; NUCLEOTIDES * BASES];
        bases.iter_mut().step_by(BASES + 1).take(BASES).for_each(|value| *value = 1.0);
        Ok(Self {
            bases: loader.array(&bases)?,
            first,
            stages,
            dilated,
            length: config.sequence_length,
        })
    }

    /// Channels `[B, T / 16, C]` of padded sequences `[B, T]`, before the spline.
    pub(super) fn maps<'a>(
        &self,
        gpu: &Gpu,
        space: &'a mut Space<T>,
        ids: &[u32],
    ) -> Result<ViewMut<'a, f32>> {
        let (batch, most) = (ids.len() / self.length, self.most());
        let mut codes = space.ids.fit(gpu, ids.len(), 1)?;
        codes.write(ids).map_err(device_error)?;
        let mut hot = space.hot.fit(gpu, ids.len(), BASES)?;
        let mut linear = space.linear.fit(gpu, batch, most)?;
        let mut out = space.out.fit(gpu, batch, most)?;
        let mut first = space.first.fit(gpu, batch, most)?;
        let mut second = space.second.fit(gpu, batch, most)?;
        token_rows(codes.view(), self.bases.view(), BASES, &mut hot).map_err(device_error)?;
        let rooms = (&mut linear, &mut out, &mut first, &mut second);
        let count = self.run(batch, hot.view(), rooms).map_err(device_error)?;
        Ok(out.into_part(0..count))
    }

    /// Values of a sequence at the stage that has the most.
    fn most(&self) -> usize {
        let lengths = std::iter::successors(Some(self.length), |length| Some(length / POOL));
        self.stages
            .iter()
            .zip(lengths)
            .map(|(stage, length)| stage.width * length)
            .max()
            .unwrap_or(0)
    }

    /// Leaves the maps at the start of the second room, and tells how many values they are.
    fn run(
        &self,
        batch: usize,
        hot: View<'_, f32>,
        (linear, out, first, second): Rooms<'_, '_, T>,
    ) -> Result<usize, KernelError> {
        let mut length = self.length;
        let (none, relu) = (DeviceEpilogue::default(), DeviceActivation::Relu);
        let mut count = 0;
        for (index, stage) in self.stages.iter().enumerate() {
            count = batch * length * stage.width;
            let (mut linear, mut out) = (linear.part(0..count), out.part(0..count));
            {
                let mut second = second.part(0..count);
                match &stage.entrance {
                    None => conv1d_even(hot, length, &self.first, none, &mut second)?,
                    Some(entrance) => {
                        let inputs = batch * length * entrance.shape().input_width;
                        let pooled = first.view().part(0..inputs);
                        conv1d_even(pooled, length, entrance, none, &mut second)?;
                    }
                }
                conv1d_even(second.view(), length, &stage.linear, none, &mut linear)?;
            }
            let plain = MaxPool { length, width: stage.width, window: 1, has_relu: false };
            max_pool(linear.view(), None, plain, &mut first.part(0..count))?;
            let mut second = second.part(0..count);
            let [one, two] = &stage.rectified;
            let rounded = first.view().part(0..count);
            conv1d_even(rounded, length, one, relu.into(), &mut second)?;
            conv1d_even(second.view(), length, two, relu.into(), &mut out)?;
            let is_last = index + 1 == self.stages.len();
            let window = if is_last { 1 } else { POOL };
            let pool = MaxPool { window, ..plain };
            let pooled = batch * (length / window) * stage.width;
            max_pool(linear.view(), Some(out.view()), pool, &mut first.part(0..pooled))?;
            length /= window;
        }
        self.widen_context((batch, length), (out, first))?;
        Ok(count)
    }

    /// The dilated convolutions: `out` holds the rectified maps, `input` their sum with the linear ones.
    fn widen_context(
        &self,
        (batch, length): (usize, usize),
        (out, input): (&mut ViewMut<'_, f32>, &mut ViewMut<'_, T>),
    ) -> Result<(), KernelError> {
        for conv in &self.dilated {
            let width = conv.shape().output_width;
            let count = batch * length * width;
            let (mut out, mut input) = (out.part(0..count), input.part(0..count));
            let epilogue =
                DeviceEpilogue { activation: DeviceActivation::Relu, residual: Residual::Own };
            conv1d_even(input.view(), length, conv, epilogue, &mut out)?;
            let plain = MaxPool { length, width, window: 1, has_relu: false };
            max_pool(out.view(), None, plain, &mut input)?;
        }
        Ok(())
    }
}

/// Linear maps, rectified maps, and two rooms of what products read.
type Rooms<'a, 'b, T> = (
    &'a mut ViewMut<'b, f32>,
    &'a mut ViewMut<'b, f32>,
    &'a mut ViewMut<'b, T>,
    &'a mut ViewMut<'b, T>,
);
