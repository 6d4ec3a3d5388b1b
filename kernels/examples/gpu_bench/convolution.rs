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

pub(super) fn training(bench: &Bench) -> Result<()> {
    for shape in SHAPES {
        let (batch, length, inputs, outputs) = if bench.is_smoke { (2, 9, 4, 5) } else { shape };
        let shape = Shape { batch, length, inputs, outputs };
        for (class, dtype) in
            [(ConvClass::F32, "f32"), (ConvClass::Tf32x3, "tf32x3"), (ConvClass::Tf32, "tf32")]
        {
            one(bench, &shape, (class, dtype))?;
        }
    }
    Ok(())
}

/// What is convolved.
struct Shape {
    batch: usize,
    length: usize,
    inputs: usize,
    outputs: usize,
}

impl Shape {
    fn rows(&self) -> usize {
        self.batch * self.length
    }

    fn weights(&self) -> usize {
        TAPS * self.inputs * self.outputs
    }

    fn x(&self) -> Vec<f32> {
        draw(1, self.rows() * self.inputs)
    }

    fn kernel(&self) -> Vec<f32> {
        draw(2, self.weights())
    }

    fn dy(&self) -> Vec<f32> {
        draw(3, self.rows() * self.outputs)
    }
}

fn one(bench: &Bench, shape: &Shape, (class, dtype): (ConvClass, &'static str)) -> Result<()> {
    let Shape { batch, length, inputs, outputs } = *shape;
    let case = |part: &str| {
        let name = format!("conv1d_{batch}x{length}x{inputs}x{outputs}_k{TAPS}{part}");
        let bytes = (4 * (shape.rows() * (inputs + outputs) + shape.weights())) as f64;
        let flop = 2.0 * (shape.rows() * shape.weights()) as f64;
        Case { suite: "gpu", name, dtype, bytes, flop }
    };
    let conv = BatchConv1d::new(BatchConv1dShape::same(length, inputs, outputs, TAPS, 1), class)?;
    let parts: [(&str, Part); 3] =
        [("", forward), ("_input_gradient", input_gradient), ("_weight_gradient", weight_gradient)];
    for (part, measure) in parts {
        let case = case(part);
        bench.attempt(&case, || measure(bench, &case, shape, &conv))?;
    }
    Ok(())
}

/// Measures one product of a convolution.
type Part = fn(&Bench, &Case, &Shape, &BatchConv1d) -> Result<()>;

/// What sums of so many random terms may be off.
fn tolerance(terms: usize) -> f32 {
    2e-3 * (terms as f32).sqrt() + 1e-3
}

fn forward(bench: &Bench, case: &Case, shape: &Shape, conv: &BatchConv1d) -> Result<()> {
    let (gpu, (x, kernel)) = (&bench.gpu, (shape.x(), shape.kernel()));
    let (there, weights) =
        (DeviceArray::from_slice(gpu, &x)?, DeviceArray::from_slice(gpu, &kernel)?);
    let bias = DeviceArray::<f32>::zeros(gpu, shape.outputs)?;
    let mut y = DeviceArray::<f32>::new(gpu, shape.rows() * shape.outputs)?;
    bench.row(case, 1, |_| {
        let filters = (weights.view(), Some(bias.view()));
        conv.forward(there.view(), filters, DeviceEpilogue::default(), &mut y.view_mut())
    })?;
    // Position 0 of the first sequence reads the padding and the taps from the middle on.
    let (middle, inputs, outputs) = (TAPS / 2, shape.inputs, shape.outputs);
    let taps = (middle..TAPS).filter(|tap| tap - middle < shape.length);
    let terms = taps.flat_map(|tap| (0..inputs).map(move |input| (tap, input)));
    let expected: f32 = terms
        .map(|(tap, input)| {
            x[(tap - middle) * inputs + input] * kernel[(tap * inputs + input) * outputs]
        })
        .sum();
    look(case, y.view().part(0..1).to_vec()?[0], expected, tolerance(TAPS * inputs))
}

fn input_gradient(bench: &Bench, case: &Case, shape: &Shape, conv: &BatchConv1d) -> Result<()> {
    let (gpu, (dy, kernel)) = (&bench.gpu, (shape.dy(), shape.kernel()));
    let (there, weights) =
        (DeviceArray::from_slice(gpu, &dy)?, DeviceArray::from_slice(gpu, &kernel)?);
    let mut dx = DeviceArray::<f32>::new(gpu, shape.rows() * shape.inputs)?;
    bench.row(case, 1, |_| {
        let none = DeviceEpilogue::default();
        conv.input_gradient(there.view(), weights.view(), none, &mut dx.view_mut())
    })?;
    // Position 0 of the first sequence was read by the taps up to the middle.
    let (middle, inputs, outputs) = (TAPS / 2, shape.inputs, shape.outputs);
    let taps = (0..=middle).filter(|tap| middle - tap < shape.length);
    let terms = taps.flat_map(|tap| (0..outputs).map(move |output| (tap, output)));
    let expected: f32 = terms
        .map(|(tap, output)| {
            dy[(middle - tap) * outputs + output] * kernel[tap * inputs * outputs + output]
        })
        .sum();
    look(case, dx.view().part(0..1).to_vec()?[0], expected, tolerance(TAPS * outputs))
}

fn weight_gradient(bench: &Bench, case: &Case, shape: &Shape, conv: &BatchConv1d) -> Result<()> {
    let (gpu, (x, dy)) = (&bench.gpu, (shape.x(), shape.dy()));
    let (there, gradient) = (DeviceArray::from_slice(gpu, &x)?, DeviceArray::from_slice(gpu, &dy)?);
    let mut parts = DeviceArray::<f32>::new(gpu, conv.part_count(shape.batch))?;
    let mut dkernel = DeviceArray::<f32>::new(gpu, shape.weights())?;
    let mut dbias = DeviceArray::<f32>::new(gpu, shape.outputs)?;
    bench.row(case, 1, |_| {
        let dbias = Some(&mut dbias.view_mut());
        let operands = (there.view(), gradient.view());
        conv.weight_gradient(operands, &mut parts.view_mut(), &mut dkernel.view_mut(), dbias)
    })?;
    // The middle tap meets each position with itself.
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let expected: f32 = (0..shape.rows()).map(|row| x[row * inputs] * dy[row * outputs]).sum();
    let place = TAPS / 2 * inputs * outputs;
    let found = dkernel.view().part(place..place + 1).to_vec()?[0];
    look(case, found, expected, tolerance(shape.rows()))
}
