//! The implicit filter of a Hyena operator, on a device.
//!
//! Leaves out: the formula (`filter`), transforms. Invariant: a tap depends on its position alone.

use crate::cuda::{
    Arguments, Budget, DeviceArray, Gpu, Instance, LaunchShape, Operand, Output, Product,
    ProductClass, Source, View, ViewMut,
};
use crate::error::Result;
use crate::ops::hyena::{FilterWeights, ImplicitFilter};
use std::ops::Range;

/// Threads of a block of `filter.cu`.
const THREADS: usize = 256;

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: "hyena_filter",
    text: include_str!("filter.cu"),
    kernels: &["hyena_sines", "hyena_window"],
    instances: &[Instance {
        defines: &[],
        budgets: &[
            Budget { kernel: "hyena_sines", registers: 32, shared_bytes: 0 },
            Budget { kernel: "hyena_window", registers: 32, shared_bytes: 0 },
        ],
    }],
};

/// A layer: weight `[O, inputs]`, bias `[O]`.
struct Layer {
    weight: DeviceArray<f32>,
    bias: DeviceArray<f32>,
}

/// The weights of an implicit filter on a device.
pub(super) struct DeviceFilter {
    gpu: Gpu,
    /// `[P, E]`
    features: DeviceArray<f32>,
    /// `[P]`
    times: DeviceArray<f32>,
    /// `[D]`
    deltas: DeviceArray<f32>,
    /// `[O]`
    frequency: DeviceArray<f32>,
    /// The first and the inner layers.
    layers: Vec<Layer>,
    /// `[D, O]`
    last: DeviceArray<f32>,
}

impl DeviceFilter {
    /// Copies the weights; refused as [`ImplicitFilter::new`] does.
    pub(super) fn new(gpu: &Gpu, weights: &FilterWeights<'_>) -> Result<Self> {
        ImplicitFilter::new(weights)?;
        let upload = |values: &[f32]| DeviceArray::from_slice(gpu, values);
        let layers = [weights.first].into_iter().chain(weights.inner.iter().copied());
        let layers =
            layers.map(|(weight, bias)| Ok(Layer { weight: upload(weight)?, bias: upload(bias)? }));
        Ok(Self {
            gpu: gpu.clone(),
            features: upload(weights.features)?,
            times: upload(weights.times)?,
            deltas: upload(weights.deltas)?,
            frequency: upload(weights.frequency)?,
            layers: layers.collect::<Result<_>>()?,
            last: upload(weights.last)?,
        })
    }

    /// D: channels.
    pub(super) fn width(&self) -> usize {
        self.deltas.len()
    }

    /// P: the longest response.
    pub(super) fn length_max(&self) -> usize {
        self.times.len()
    }

    /// The last hidden values of the first `length` positions, `[length, O]`.
    pub(super) fn hidden(&self, length: usize) -> Result<DeviceArray<f32>> {
        let width = self.frequency.len();
        let mut inputs = self.features.len() / self.times.len();
        let mut values: Option<DeviceArray<f32>> = None;
        for layer in &self.layers {
            let mut out = DeviceArray::new(&self.gpu, length * width)?;
            let input = values.as_ref().unwrap_or(&self.features).view().part(0..length * inputs);
            self.gpu.multiply(&Product {
                rows: length,
                columns: width,
                depth: inputs,
                left: Operand::rows(input, inputs),
                right: Operand::rows(layer.weight.view(), inputs),
                bias: Some(layer.bias.view()),
                adds: false,
                out: Output::rows(out.view_mut(), width),
                class: ProductClass::F32,
            })?;
            let arguments = Arguments::new().output(&out.view_mut()).array(&self.frequency.view());
            self.each("hyena_sines", &out.view_mut(), arguments.u32(width as u32))?;
            inputs = width;
            values = Some(out);
        }
        // There is a first layer always.
        values.map_or_else(|| DeviceArray::new(&self.gpu, 0), Ok)
    }

    /// The taps of some channels at the positions of `hidden`, `[length, channels]`.
    pub(super) fn taps(
        &self,
        hidden: &View<'_, f32>,
        channels: Range<usize>,
    ) -> Result<DeviceArray<f32>> {
        let (inputs, width) = (self.frequency.len(), channels.len());
        let length = hidden.len() / inputs;
        let mut out = DeviceArray::new(&self.gpu, length * width)?;
        let last = self.last.view().part(channels.start * inputs..channels.end * inputs);
        self.gpu.multiply(&Product {
            rows: length,
            columns: width,
            depth: inputs,
            left: Operand::rows(*hidden, inputs),
            right: Operand::rows(last, inputs),
            bias: None,
            adds: false,
            out: Output::rows(out.view_mut(), width),
            class: ProductClass::F32,
        })?;
        let arguments = Arguments::new()
            .output(&out.view_mut())
            .array(&self.times.view())
            .array(&self.deltas.view().part(channels));
        self.each("hyena_window", &out.view_mut(), arguments.u32(width as u32))?;
        Ok(out)
    }

    /// Runs a kernel of one thread for each of `values`.
    fn each(
        &self,
        name: &'static str,
        values: &ViewMut<'_, f32>,
        arguments: Arguments,
    ) -> Result<()> {
        let kernel = self.gpu.kernel(&SOURCE, name, &[])?;
        let shape = LaunchShape::line(values.len().div_ceil(THREADS), THREADS as u32);
        // SAFETY: tables are as long as rows or columns of the values; threads past them do nothing.
        unsafe { kernel.launch(shape, arguments.u64(values.len() as u64)) }
    }
}
