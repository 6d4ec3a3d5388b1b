use super::*;
use crate::cuda::testing::{assert_close, draw, for_each_device, for_small_device};
use crate::cuda::{Bf16, DeviceArray, Gpu};
use crate::ops::batch_conv1d::{BatchConv1d as OnCpu, Input};
use crate::ops::linear::Epilogue;
use crate::ops::precision::Precision;

/// What a step reads, and what the CPU makes of it.
struct Step {
    shape: BatchConv1dShape,
    x: Vec<f32>,
    dy: Vec<f32>,
    kernel: Vec<f32>,
    bias: Vec<f32>,
    out: Vec<f32>,
    dx: Vec<f32>,
    dkernel: Vec<f32>,
    dbias: Vec<f32>,
}

impl Step {
    fn draw(shape: BatchConv1dShape, batch: usize) -> Self {
        let outputs = batch * shape.output_length * shape.output_width;
        let x = draw(1, batch * shape.length * shape.input_width);
        let dy = draw(2, outputs);
        let kernel = draw(3, shape.steps() * shape.output_width);
        let bias = draw(4, shape.output_width);
        let mut on_cpu = OnCpu::new(shape, Precision::F32, true, true).unwrap();
        on_cpu.set_weights(&kernel, Some(&bias)).unwrap();
        let (mut out, mut dx) = (vec![0.0; outputs], vec![0.0; x.len()]);
        let (mut dkernel, mut dbias) = (vec![0.0; kernel.len()], vec![0.0; bias.len()]);
        on_cpu.forward(Input::plain(&x), Epilogue::None, &mut out).unwrap();
        on_cpu.input_gradient(&dy, &mut dx).unwrap();
        on_cpu.weight_gradient(Input::plain(&x), &dy, &mut dkernel, Some(&mut dbias)).unwrap();
        Self { shape, x, dy, kernel, bias, out, dx, dkernel, dbias }
    }
}

/// Output, gradients of input, weights and bias on a device.
fn on_device<T: ConvValue>(gpu: &Gpu, step: &Step, class: ConvClass) -> Result<[Vec<f32>; 4]> {
    let array = |values: &[f32]| {
        let values: Vec<T> = values.iter().map(|&x| T::rounded(x)).collect();
        DeviceArray::from_slice(gpu, &values)
    };
    let (x, dy, kernel) = (array(&step.x)?, array(&step.dy)?, array(&step.kernel)?);
    let bias = DeviceArray::from_slice(gpu, &step.bias)?;
    let conv = BatchConv1d::new(step.shape, class)?;
    let batch = step.x.len() / step.shape.length / step.shape.input_width;
    let mut out = DeviceArray::<f32>::new(gpu, step.out.len())?;
    let mut dx = DeviceArray::<f32>::new(gpu, step.x.len())?;
    let mut dkernel = DeviceArray::<f32>::new(gpu, step.kernel.len())?;
    let mut dbias = DeviceArray::<f32>::new(gpu, step.bias.len())?;
    let mut parts = DeviceArray::<f32>::new(gpu, conv.part_count(batch))?;
    let none = DeviceEpilogue::default();
    let weights = (kernel.view(), Some(bias.view()));
    conv.forward(x.view(), weights, none, &mut out.view_mut())?;
    conv.input_gradient(dy.view(), kernel.view(), none, &mut dx.view_mut())?;
    let mut parts = parts.view_mut();
    let bias = Some(&mut dbias.view_mut());
    let operands = (x.view(), dy.view());
    conv.weight_gradient(operands, &mut parts, &mut dkernel.view_mut(), bias)?;
    Ok([out.to_vec()?, dx.to_vec()?, dkernel.to_vec()?, dbias.to_vec()?])
}

fn shapes() -> Vec<(BatchConv1dShape, usize)> {
    vec![
        (BatchConv1dShape::same(1, 1, 1, 1, 1), 1),
        (BatchConv1dShape::same(5, 3, 5, 9, 4), 3),
        (BatchConv1dShape::valid(13, 4, 3, 4, 2), 2),
        (BatchConv1dShape::same(40, 8, 196, 3, 32), 1),
    ]
}

#[test]
fn f32_has_the_bits_of_the_cpu_but_for_sums_over_positions() {
    for_each_device(|gpu| {
        for (shape, batch) in shapes() {
            let step = Step::draw(shape, batch);
            let [out, dx, dkernel, dbias] = on_device::<f32>(gpu, &step, ConvClass::F32)?;
            assert_eq!(out, step.out, "{shape:?}");
            assert_eq!(dx, step.dx, "{shape:?}");
            assert_close(&dkernel, &step.dkernel, 2e-6);
            assert_close(&dbias, &step.dbias, 2e-6);
        }
        Ok(())
    });
}

#[test]
fn classes_of_matrix_units_are_near_the_cpu() {
    for_each_device(|gpu| {
        // Each class and form is compiled anew, so odd widths are tried once.
        let near = |found: [Vec<f32>; 4], step: &Step, tolerance: f32| {
            let expected = [&step.out, &step.dx, &step.dkernel, &step.dbias];
            for (found, expected) in found.iter().zip(expected) {
                assert_close(found, expected, tolerance);
            }
        };
        let step = Step::draw(BatchConv1dShape::same(45, 8, 200, 3, 1), 3);
        near(on_device::<f32>(gpu, &step, ConvClass::Tf32x3)?, &step, 4e-6);
        near(on_device::<f32>(gpu, &step, ConvClass::Tf32)?, &step, 2e-3);
        near(on_device::<Bf16>(gpu, &step, ConvClass::Bf16)?, &step, 1e-2);
        let step = Step::draw(BatchConv1dShape::valid(13, 5, 3, 4, 2), 2);
        near(on_device::<Bf16>(gpu, &step, ConvClass::Bf16)?, &step, 1e-2);
        Ok(())
    });
}

#[test]
fn blocks_with_little_shared_memory_have_narrower_tiles_and_the_same_bits() {
    for_small_device(|small| {
        let large = Gpu::emulated()?;
        let step = Step::draw(BatchConv1dShape::same(40, 8, 128, 3, 1), 2);
        for class in [ConvClass::F32, ConvClass::Tf32] {
            let found = on_device::<f32>(small, &step, class)?;
            assert_eq!(found, on_device::<f32>(&large, &step, class)?, "{class:?}");
        }
        let found = on_device::<Bf16>(small, &step, ConvClass::Bf16)?;
        assert_eq!(found, on_device::<Bf16>(&large, &step, ConvClass::Bf16)?);
        Ok(())
    });
}

#[test]
fn weights_at_any_address_give_the_same_bits() {
    for_each_device(|gpu| {
        let shape = BatchConv1dShape::same(6, 4, 8, 3, 1);
        let step = Step::draw(shape, 2);
        let mut flat = vec![0.0; 5];
        flat.extend(&step.kernel);
        let flat = DeviceArray::from_slice(gpu, &flat)?;
        let kernel = flat.view().part(5..flat.len());
        let x = DeviceArray::from_slice(gpu, &step.x)?;
        let dy = DeviceArray::from_slice(gpu, &step.dy)?;
        let bias = DeviceArray::from_slice(gpu, &step.bias)?;
        let conv = BatchConv1d::new(shape, ConvClass::F32)?;
        let mut out = DeviceArray::<f32>::new(gpu, step.out.len())?;
        let mut dx = DeviceArray::<f32>::new(gpu, step.dx.len())?;
        let none = DeviceEpilogue::default();
        conv.forward(x.view(), (kernel, Some(bias.view())), none, &mut out.view_mut())?;
        conv.input_gradient(dy.view(), kernel, none, &mut dx.view_mut())?;
        assert_eq!((out.to_vec()?, dx.to_vec()?), (step.out, step.dx));
        Ok(())
    });
}

#[test]
fn slices_follow_from_the_shape_alone_and_cover_all_positions() {
    for (shape, batch, expected) in [
        (BatchConv1dShape::same(230, 128, 196, 7, 1), 64, (16, 960)),
        (BatchConv1dShape::dense(41, 2560, 512), 64, (3, 896)),
        (BatchConv1dShape::same(1, 1, 1, 1, 1), 1, (1, 64)),
        (BatchConv1dShape::same(9, 1, 1, 1, 1), 0, (1, 64)),
    ] {
        let conv = BatchConv1d::new(shape, ConvClass::Tf32).unwrap();
        let (slices, rows) = conv.slices(batch);
        assert_eq!((slices, rows), expected);
        assert!(slices * rows >= batch * shape.output_length);
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for_each_device(|gpu| {
        let conv = BatchConv1d::new(BatchConv1dShape::same(4, 3, 2, 3, 1), ConvClass::F32)?;
        let x = DeviceArray::<f32>::zeros(gpu, 2 * 12)?;
        let dy = DeviceArray::<f32>::zeros(gpu, 2 * 8)?;
        let kernel = DeviceArray::<f32>::zeros(gpu, 18)?;
        let mut out = DeviceArray::<f32>::zeros(gpu, 2 * 8)?;
        let mut parts = DeviceArray::<f32>::zeros(gpu, conv.part_count(2))?;
        let mut dkernel = DeviceArray::<f32>::zeros(gpu, 18)?;
        let none = DeviceEpilogue::default;
        let short = (kernel.view().part(0..17), None);
        assert!(conv.forward(x.view(), short, none(), &mut out.view_mut()).is_err());
        let weights = (kernel.view(), None);
        let odd = x.view().part(0..13);
        assert!(conv.forward(odd, weights, none(), &mut out.view_mut()).is_err());
        let operands = (x.view(), dy.view().part(0..8));
        let mut dkernel = dkernel.view_mut();
        assert!(conv.weight_gradient(operands, &mut parts.view_mut(), &mut dkernel, None).is_err());
        let operands = (x.view(), dy.view());
        let mut few = parts.view_mut();
        let mut few = few.part(0..1);
        assert!(conv.weight_gradient(operands, &mut few, &mut dkernel, None).is_err());
        assert!(conv.weight_gradient(operands, &mut parts.view_mut(), &mut dkernel, None).is_ok());
        Ok(())
    });
}
