//! The convolution of a probe's training, forward and both gradients, in each class of products.
//!
//! Leaves out: the rest of a step (`network_rate --device` of the worker). Invariant: a few values of each product are compared
//! with sums on the host.

use super::{Bench, Case, draw, look};
use glmeval_kernels::cuda::DeviceArray;
use glmeval_kernels::error::Result;
use glmeval_kernels::ops::batch_conv1d::BatchConv1dShape;
use glmeval_kernels::ops::batch_conv1d::cuda::BatchConv1d;
use glmeval_kernels::ops::conv1d::cuda::{ConvClass, DeviceEpilogue};

/// Sequences, their length, input and output channels.
const SHAPES: [(usize, usize, usize, usize); 3] =
    [(256, 41, 196, 196), (64, 230, 128, 128), (128, 230, 4, 196)];
const TAPS: usize = 7;

pub(super) fn training(bench: &mut Bench) -> Result<()> {
    for shape in SHAPES {
        let shape = if bench.is_smoke { (2, 9, 4, 5) } else { shape };
        for (class, dtype) in
            [(ConvClass::F32, "f32"), (ConvClass::Tf32x3, "tf32x3"), (ConvClass::Tf32, "tf32")]
        {
            one(bench, shape, (class, dtype))?;
        }
    }
    Ok(())
}

fn one(
    bench: &Bench,
    (batch, length, inputs, outputs): (usize, usize, usize, usize),
    (class, dtype): (ConvClass, &'static str),
) -> Result<()> {
    let gpu = &bench.gpu;
    let (rows, weights) = (batch * length, TAPS * inputs * outputs);
    let bytes = (4 * (rows * (inputs + outputs) + weights)) as f64;
    let flop = 2.0 * (rows * weights) as f64;
    let case = |part: &str| {
        let name = format!("conv1d_{batch}x{length}x{inputs}x{outputs}_k{TAPS}{part}");
        Case { suite: "gpu", name, dtype, bytes, flop }
    };
    if !bench.wants(&case("").name) {
        return Ok(());
    }
    let conv = BatchConv1d::new(BatchConv1dShape::same(length, inputs, outputs, TAPS, 1), class)?;
    let host = (draw(1, rows * inputs), draw(2, weights), draw(3, rows * outputs));
    let x = DeviceArray::from_slice(gpu, &host.0)?;
    let kernel = DeviceArray::from_slice(gpu, &host.1)?;
    let dy = DeviceArray::from_slice(gpu, &host.2)?;
    let bias = DeviceArray::<f32>::zeros(gpu, outputs)?;
    let mut y = DeviceArray::<f32>::new(gpu, rows * outputs)?;
    let mut dx = DeviceArray::<f32>::new(gpu, rows * inputs)?;
    let mut parts = DeviceArray::<f32>::new(gpu, conv.part_count(batch))?;
    let mut dkernel = DeviceArray::<f32>::new(gpu, weights)?;
    let mut dbias = DeviceArray::<f32>::new(gpu, outputs)?;
    let none = DeviceEpilogue::default;
    bench.row(&case(""), 1, |_| {
        let filters = (kernel.view(), Some(bias.view()));
        conv.forward(x.view(), filters, none(), &mut y.view_mut())
    })?;
    bench.row(&case("_input_gradient"), 1, |_| {
        conv.input_gradient(dy.view(), kernel.view(), none(), &mut dx.view_mut())
    })?;
    bench.row(&case("_weight_gradient"), 1, |_| {
        let dbias = Some(&mut dbias.view_mut());
        let operands = (x.view(), dy.view());
        conv.weight_gradient(operands, &mut parts.view_mut(), &mut dkernel.view_mut(), dbias)
    })?;
    // Position 0 of the first sequence reads the padding and the taps from the middle on.
    let middle = TAPS / 2;
    let tolerance = |terms: usize| 2e-3 * (terms as f32).sqrt() + 1e-3;
    let taps = (middle..TAPS).filter(|tap| tap - middle < length);
    let terms = taps.flat_map(|tap| (0..inputs).map(move |input| (tap, input)));
    let expected: f32 = terms
        .map(|(tap, input)| {
            host.0[(tap - middle) * inputs + input] * host.1[(tap * inputs + input) * outputs]
        })
        .sum();
    look(&case(""), y.view().part(0..1).to_vec()?[0], expected, tolerance(TAPS * inputs))?;
    // The middle tap meets each position with itself.
    let expected: f32 = (0..rows).map(|row| host.0[row * inputs] * host.2[row * outputs]).sum();
    let place = middle * inputs * outputs;
    let found = dkernel.view().part(place..place + 1).to_vec()?[0];
    look(&case("_weight_gradient"), found, expected, tolerance(rows))
}
