//! Arrays of a fit on a device: weights and the optimiser's state in flat ones, values and gradients of one batch.
//!
//! Leaves out: who reads what (layers). Invariant: all is made when the fit begins, so that steps can be recorded.

use crate::network::NetworkState;
use crate::network::plan::{Norm, Plan, ValueIndex};
use glmeval_kernels::cuda::{DeviceArray, Gpu, View, ViewMut};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::adam::cuda::FACTORS;
use glmeval_kernels::ops::arithmetic::cuda as arithmetic;
use glmeval_kernels::ops::batch_norm::cuda as norms;
use std::ops::Range;
use std::sync::Arc;

type Result<T> = std::result::Result<T, KernelError>;

/// Values between the starts of two weights are a multiple of it: 256 bytes, so that products read whole vectors.
const ALIGNMENT: usize = 64;

/// Where the clock has the number of the batch.
pub(super) const BATCH: Range<usize> = 2..3;

/// Weights, their gradients, and what the optimiser keeps.
pub(super) struct Weights {
    pub(super) values: Values,
    pub(super) gradients: Gradients,
    pub(super) first: DeviceArray<f32>,
    pub(super) second: DeviceArray<f32>,
    /// Penalised weights and their coefficients.
    pub(super) penalised: Vec<(Range<usize>, f32)>,
}

/// The weights.
pub(super) struct Values {
    /// Those that are trained, one after another with zeros between.
    pub(super) trained: DeviceArray<f32>,
    /// Moving statistics.
    moving: DeviceArray<f32>,
    places: Arc<[Place]>,
}

/// Gradients of trained weights, laid out as they are.
pub(super) struct Gradients {
    pub(super) flat: DeviceArray<f32>,
    places: Arc<[Place]>,
}

/// Where a weight lies among the trained or the moving ones; empty if the prediction does not depend on it.
struct Place {
    range: Range<usize>,
    is_trained: bool,
}

impl Weights {
    pub(super) fn new(gpu: &Gpu, plan: &Plan, state: &NetworkState) -> Result<Self> {
        let mut lengths = [0_usize; 2];
        let (mut places, mut penalised) = (Vec::new(), Vec::new());
        for (index, (shape, values)) in state.weights().enumerate() {
            let is_trained = shape.role.is_trained();
            let length = &mut lengths[usize::from(!is_trained)];
            let count = if plan.weights.contains(&index) { values.len() } else { 0 };
            let range = *length..*length + count;
            *length = range.end.next_multiple_of(ALIGNMENT);
            if shape.l2 != 0.0 && count > 0 {
                penalised.push((range.clone(), shape.l2 as f32));
            }
            places.push(Place { range, is_trained });
        }
        let [trained, moving] = lengths;
        let array = |length: usize| DeviceArray::zeros(gpu, length);
        let (first, second) = (array(trained)?, array(trained)?);
        let (weights, moving) = (array(trained)?, array(moving)?);
        let places: Arc<[Place]> = places.into();
        let values = Values { trained: weights, moving, places: Arc::clone(&places) };
        let gradients = Gradients { flat: array(trained)?, places };
        let mut made = Self { values, gradients, first, second, penalised };
        made.write(state)?;
        Ok(made)
    }

    /// Copies all that training changes from `state`.
    pub(super) fn write(&mut self, state: &NetworkState) -> Result<()> {
        let Values { trained, moving, places } = &mut self.values;
        let write = |into: &mut DeviceArray<f32>, is_trained: bool, from: &[Vec<f32>]| {
            let mut values = vec![0.0; into.len()];
            let own = places.iter().zip(from).filter(|(place, _)| place.is_trained == is_trained);
            for (place, from) in own.filter(|(place, _)| !place.range.is_empty()) {
                values[place.range.clone()].copy_from_slice(from);
            }
            into.view_mut().write(&values)
        };
        write(&mut self.first, true, &state.first)?;
        write(&mut self.second, true, &state.second)?;
        write(moving, false, &state.weights)?;
        write(trained, true, &state.weights)
    }

    /// Copies all that training changed to `state`.
    pub(super) fn read(&self, state: &mut NetworkState) -> Result<()> {
        let [trained, moving] = [self.values.trained.to_vec()?, self.values.moving.to_vec()?];
        let [first, second] = [self.first.to_vec()?, self.second.to_vec()?];
        for (index, Place { range, is_trained }) in self.values.places.iter().enumerate() {
            if range.is_empty() {
                continue;
            }
            let from = if *is_trained { &trained } else { &moving };
            state.weights[index].copy_from_slice(&from[range.clone()]);
            if *is_trained {
                state.first[index].copy_from_slice(&first[range.clone()]);
                state.second[index].copy_from_slice(&second[range.clone()]);
            }
        }
        Ok(())
    }
}

impl Values {
    /// A weight's values.
    pub(super) fn weight(&self, index: usize) -> View<'_, f32> {
        let Place { range, is_trained } = &self.places[index];
        let array = if *is_trained { &self.trained } else { &self.moving };
        array.view().part(range.clone())
    }

    /// A scale, and the two moving statistics that follow it and its shift.
    pub(super) fn scale_and_moving(
        &mut self,
        gamma: usize,
    ) -> (View<'_, f32>, [ViewMut<'_, f32>; 2]) {
        let ranges = [gamma + 2, gamma + 3].map(|index| self.places[index].range.clone());
        let scale = self.trained.view().part(self.places[gamma].range.clone());
        (scale, self.moving.view_mut().parts(ranges))
    }
}

impl Gradients {
    /// Those of several weights, in ascending order of their indices.
    pub(super) fn of<const N: usize>(&mut self, indices: [usize; N]) -> [ViewMut<'_, f32>; N] {
        let ranges = indices.map(|index| self.places[index].range.clone());
        self.flat.view_mut().parts(ranges)
    }

    /// All, by the index of the weight.
    pub(super) fn read(&self) -> Result<Vec<Vec<f32>>> {
        let all = self.flat.to_vec()?;
        let own = |Place { range, is_trained }: &Place| {
            if *is_trained { all[range.clone()].to_vec() } else { Vec::new() }
        };
        Ok(self.places.iter().map(own).collect())
    }
}

/// Values and gradients of a batch, and what all steps share.
pub(super) struct Memory {
    /// None where a layer has taken it out to write it.
    pub(super) values: Vec<Option<DeviceArray<f32>>>,
    pub(super) gradients: Vec<Option<DeviceArray<f32>>>,
    /// Whether a gradient was written in this step.
    pub(super) held: Vec<bool>,
    /// Gradients that are added to others.
    pub(super) spare: Option<DeviceArray<f32>>,
    pub(super) targets: DeviceArray<f32>,
    pub(super) scratch: DeviceArray<f32>,
    /// Seed, steps taken, batches of the epoch done.
    pub(super) clock: DeviceArray<u64>,
    pub(super) rate: DeviceArray<f32>,
    pub(super) factors: DeviceArray<f32>,
    /// One for each batch of the epoch.
    pub(super) losses: DeviceArray<f64>,
}

/// How much a step and an epoch need.
pub(super) struct BatchSizes {
    /// Examples of a batch.
    pub(super) rows: usize,
    /// Values of an example's target.
    pub(super) targets: usize,
    /// Values of scratch memory.
    pub(super) scratch: usize,
    /// Batches of an epoch.
    pub(super) batches: usize,
}

impl Memory {
    /// Room for a batch and for what an epoch adds up.
    pub(super) fn new(
        gpu: &Gpu,
        plan: &Plan,
        &BatchSizes { rows, targets, scratch, batches }: &BatchSizes,
        clock: &[u64; 3],
    ) -> Result<Self> {
        let longest = plan.values.iter().filter(|value| value.needs_gradient);
        let longest = longest.map(|value| value.length).max().unwrap_or(0);
        let array = |length: usize| DeviceArray::new(gpu, length.saturating_mul(rows));
        let used = |place: ValueIndex| {
            place < plan.inputs || plan.nodes.iter().any(|node| node.output == place)
        };
        let mut values = Vec::new();
        let mut gradients = Vec::new();
        for (place, value) in plan.values.iter().enumerate() {
            let length = if used(place) { value.length } else { 0 };
            values.push(Some(array(length)?));
            gradients.push(Some(array(if value.needs_gradient { length } else { 0 })?));
        }
        Ok(Self {
            held: vec![false; values.len()],
            values,
            gradients,
            spare: Some(array(longest)?),
            targets: array(targets)?,
            scratch: DeviceArray::new(gpu, scratch)?,
            clock: DeviceArray::from_slice(gpu, clock)?,
            rate: DeviceArray::zeros(gpu, 1)?,
            factors: DeviceArray::zeros(gpu, FACTORS)?,
            losses: DeviceArray::zeros(gpu, batches)?,
        })
    }

    /// Starts to count batches anew.
    pub(super) fn begin_epoch(&mut self, learning_rate: f32) -> Result<()> {
        self.rate.view_mut().write(&[learning_rate])?;
        self.set_batch(0)
    }

    /// Which batch is taken next.
    pub(super) fn set_batch(&mut self, batch: usize) -> Result<()> {
        self.clock.view_mut().part(BATCH).write(&[batch as u64])
    }

    /// Number of the batch, `[1]`.
    pub(super) fn batch(&self) -> View<'_, u64> {
        self.clock.view().part(BATCH)
    }

    /// The same, to count it.
    pub(super) fn batch_mut(&mut self) -> ViewMut<'_, u64> {
        let [batch] = self.clock.view_mut().parts([BATCH]);
        batch
    }

    /// How many steps were taken.
    pub(super) fn set_steps(&mut self, steps: u64) -> Result<()> {
        self.clock.view_mut().part(1..2).write(&[steps])
    }

    /// Steps taken.
    pub(super) fn steps(&self) -> Result<u64> {
        Ok(self.clock.view().part(1..2).to_vec()?.first().copied().unwrap_or(0))
    }

    /// Losses of the first batches of the epoch.
    pub(super) fn losses(&self, batches: usize) -> Result<Vec<f64>> {
        self.losses.view().part(0..batches.min(self.losses.len())).to_vec()
    }

    /// Adds the spare gradient to that of `place`.
    pub(super) fn add_spare(&mut self, place: ValueIndex, length: usize) -> Result<()> {
        let (Some(into), Some(spare)) = (self.gradients[place].as_mut(), self.spare.as_ref())
        else {
            return Ok(());
        };
        arithmetic::add_in_place(&mut into.view_mut().part(0..length), spare.view().part(0..length))
    }
}

/// What is held at `place`, of `rows` examples; none while a layer writes it.
pub(super) fn part<'a>(
    arrays: &'a [Option<DeviceArray<f32>>],
    plan: &Plan,
    place: ValueIndex,
    rows: usize,
) -> Option<View<'a, f32>> {
    let array = arrays[place].as_ref()?;
    Some(array.view().part(0..plan.values[place].length * rows))
}

/// What all layers of one pass see.
pub(super) struct Run<'a> {
    /// Whether statistics are the batch's and values are dropped.
    pub(super) training: bool,
    pub(super) values: &'a mut Values,
    pub(super) gradients: &'a mut Gradients,
    /// Seed and step first.
    pub(super) draws: View<'a, u64>,
    pub(super) scratch: ViewMut<'a, f32>,
}

/// Statistics of channels, `[C]` each.
pub(super) struct Statistics {
    norm: Norm,
    pub(super) mean: DeviceArray<f32>,
    pub(super) inverse: DeviceArray<f32>,
    pub(super) scale: DeviceArray<f32>,
}

impl Statistics {
    pub(super) fn new(gpu: &Gpu, norm: Norm) -> Result<Self> {
        let array = || DeviceArray::new(gpu, norm.width);
        Ok(Self { norm, mean: array()?, inverse: array()?, scale: array()? })
    }

    /// Those of the batch in training, which also move the moving ones; the moving ones elsewhere.
    pub(super) fn find(&mut self, run: &mut Run<'_>, x: View<'_, f32>) -> Result<()> {
        let Norm { gamma, epsilon, momentum, .. } = self.norm;
        let Self { mean, inverse, scale, .. } = self;
        let (gamma, [moving_mean, moving_variance]) = run.values.scale_and_moving(gamma);
        let (mut mean, mut inverse, mut scale) =
            (mean.view_mut(), inverse.view_mut(), scale.view_mut());
        if !run.training {
            mean.copy_from(moving_mean.view())?;
            let variance = moving_variance.view();
            return norms::moving_scales(variance, Some(gamma), epsilon, &mut inverse, &mut scale);
        }
        let moving = norms::Moving { mean: moving_mean, variance: moving_variance, momentum };
        let into = norms::ChannelsMut { mean, inverse, scale };
        let mut finish = norms::Finish { gamma: Some(gamma), epsilon, moving: Some(moving), into };
        norms::batch_statistics(x, &mut finish, &mut run.scratch)
    }

    /// Mean and inverse deviation.
    pub(super) fn affine(&self) -> (View<'_, f32>, View<'_, f32>) {
        (self.mean.view(), self.inverse.view())
    }
}
