use super::*;
use crate::cuda::Bf16;
use crate::cuda::testing::{assert_close, draw, for_each_device, for_small_device};
use crate::ops::conv1d::{PackedConv1d, conv1d as on_cpu};
use crate::ops::linear::Epilogue;

fn shape(output_width: usize, input_width: usize, kernel: usize, dilation: usize) -> Conv1dShape {
    Conv1dShape { output_width, input_width, kernel, dilation }
}

/// Operands of a convolution: input, weight, bias.
struct Operands {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    shape: Conv1dShape,
    offsets: Vec<usize>,
}

impl Operands {
    fn draw(shape: Conv1dShape, lengths: &[usize]) -> Self {
        let mut offsets = vec![0];
        offsets.extend(lengths.iter().scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        }));
        let tokens = lengths.iter().sum::<usize>();
        let Conv1dShape { output_width, input_width, kernel, .. } = shape;
        Self {
            x: draw(1, tokens * input_width),
            weight: draw(2, output_width * input_width * kernel),
            bias: draw(3, output_width),
            shape,
            offsets,
        }
    }

    fn cpu(&self, epilogue: Epilogue) -> Vec<f32> {
        let weights = PackedConv1d::pack(&self.weight, Some(&self.bias), self.shape).unwrap();
        let mut out = vec![0.0; self.offsets.last().unwrap() * self.shape.output_width];
        on_cpu(&self.x, &self.offsets, &weights, epilogue, &mut out).unwrap();
        out
    }

    fn device<T: ConvValue>(
        &self,
        gpu: &Gpu,
        class: ConvClass,
        activation: DeviceActivation,
    ) -> Result<Vec<f32>> {
        let x: Vec<T> = self.x.iter().map(|&x| T::rounded(x)).collect();
        let x = DeviceArray::from_slice(gpu, &x)?;
        let ranges = TokenRanges::new(gpu, &self.offsets)?;
        let weights =
            DeviceConv1d::<T>::new(gpu, &self.weight, Some(&self.bias), self.shape, class)?;
        let mut out = DeviceArray::<f32>::new(gpu, ranges.token_count() * self.shape.output_width)?;
        conv1d(x.view(), &ranges, &weights, activation.into(), &mut out.view_mut())?;
        out.to_vec()
    }
}

#[test]
fn f32_has_the_bits_of_the_cpu_on_odd_shapes() {
    for_each_device(|gpu| {
        for (shape, lengths) in [
            (shape(1, 1, 1, 1), &[1][..]),
            (shape(5, 4, 9, 32), &[1, 3, 70, 0, 2]),
            (shape(40, 3, 9, 2), &[130, 5]),
            (shape(196, 12, 3, 5), &[9, 40]),
            (shape(6, 130, 5, 1), &[2, 20]),
        ] {
            let operands = Operands::draw(shape, lengths);
            let found = operands.device::<f32>(gpu, ConvClass::F32, DeviceActivation::None)?;
            assert_eq!(found, operands.cpu(Epilogue::None), "{shape:?}");
        }
        Ok(())
    });
}

#[test]
fn blocks_with_little_shared_memory_have_narrower_tiles_and_the_same_bits() {
    for_small_device(|small| {
        let large = Gpu::emulated()?;
        let operands = Operands::draw(shape(128, 8, 3, 2), &[33, 100]);
        let none = DeviceActivation::None;
        let found = operands.device::<f32>(small, ConvClass::F32, none)?;
        assert_eq!(found, operands.cpu(Epilogue::None));
        for class in [ConvClass::Tf32x3, ConvClass::Tf32] {
            let found = operands.device::<f32>(small, class, none)?;
            assert_eq!(found, operands.device::<f32>(&large, class, none)?, "{class:?}");
        }
        let found = operands.device::<Bf16>(small, ConvClass::Bf16, none)?;
        assert_eq!(found, operands.device::<Bf16>(&large, ConvClass::Bf16, none)?);
        Ok(())
    });
}

#[test]
fn activations_are_those_of_the_cpu() {
    for_each_device(|gpu| {
        let operands = Operands::draw(shape(5, 4, 3, 1), &[33, 7]);
        for (activation, epilogue) in
            [(DeviceActivation::Relu, Epilogue::Relu), (DeviceActivation::Gelu, Epilogue::Gelu)]
        {
            let found = operands.device::<f32>(gpu, ConvClass::F32, activation)?;
            assert_close(&found, &operands.cpu(epilogue), 2e-6);
        }
        let found = operands.device::<f32>(gpu, ConvClass::F32, DeviceActivation::Exp)?;
        let expected: Vec<f32> = operands.cpu(Epilogue::None).iter().map(|x| x.exp()).collect();
        assert_close(&found, &expected, 2e-6);
        Ok(())
    });
}

#[test]
fn classes_of_matrix_units_are_near_the_cpu() {
    for_each_device(|gpu| {
        for (shape, lengths, is_odd) in [
            (shape(5, 4, 9, 8), &[1, 50][..], true),
            (shape(200, 16, 3, 2), &[70, 200], false),
            (shape(33, 300, 9, 1), &[20], false),
        ] {
            let operands = Operands::draw(shape, lengths);
            let expected = operands.cpu(Epilogue::None);
            let near = |class, tolerance| {
                let none = DeviceActivation::None;
                assert_close(&operands.device::<f32>(gpu, class, none)?, &expected, tolerance);
                Ok::<_, KernelError>(())
            };
            near(ConvClass::Tf32x3, 4e-6)?;
            if !is_odd {
                near(ConvClass::Tf32, 2e-3)?;
            }
            let found = operands.device::<Bf16>(gpu, ConvClass::Bf16, DeviceActivation::None)?;
            assert_close(&found, &expected, 1e-2);
        }
        Ok(())
    });
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    for_each_device(|gpu| {
        let shape = shape(36, 8, 9, 4);
        let together = Operands::draw(shape, &[100, 41, 60]);
        let alone = Operands {
            x: together.x[100 * 8..141 * 8].to_vec(),
            weight: together.weight.clone(),
            bias: together.bias.clone(),
            shape,
            offsets: vec![0, 41],
        };
        let part = 100 * 36..141 * 36;
        for class in [ConvClass::F32, ConvClass::Tf32x3, ConvClass::Tf32] {
            let gelu = DeviceActivation::Gelu;
            let found = together.device::<f32>(gpu, class, gelu)?[part.clone()].to_vec();
            assert_eq!(found, alone.device::<f32>(gpu, class, gelu)?, "{class:?}");
        }
        let class = ConvClass::Bf16;
        let found = together.device::<Bf16>(gpu, class, DeviceActivation::None)?[part].to_vec();
        assert_eq!(found, alone.device::<Bf16>(gpu, class, DeviceActivation::None)?);
        Ok(())
    });
}

#[test]
fn a_residual_is_added_after_the_activation() {
    for_each_device(|gpu| {
        let (rows, weight) = (3, draw(2, 2 * 5));
        let x = DeviceArray::from_slice(gpu, &draw(1, rows * 5))?;
        let given = draw(4, rows * 2);
        let shape = shape(2, 5, 1, 1);
        let weights = DeviceConv1d::<f32>::new(gpu, &weight, None, shape, ConvClass::F32)?;
        let mut plain = DeviceArray::<f32>::new(gpu, rows * 2)?;
        let relu = DeviceActivation::Relu;
        dense(x.view(), &weights, relu.into(), &mut plain.view_mut())?;
        let expected: Vec<f32> = plain.to_vec()?.iter().zip(&given).map(|(x, y)| x + y).collect();
        let mut own = DeviceArray::from_slice(gpu, &given)?;
        let epilogue = DeviceEpilogue { activation: relu, residual: Residual::Own };
        dense(x.view(), &weights, epilogue, &mut own.view_mut())?;
        assert_eq!(own.to_vec()?, expected);
        let given = DeviceArray::from_slice(gpu, &given)?;
        let epilogue = DeviceEpilogue { activation: relu, residual: Residual::Other(given.view()) };
        let mut out = DeviceArray::<f32>::new(gpu, rows * 2)?;
        conv1d_even(x.view(), 1, &weights, epilogue, &mut out.view_mut())?;
        assert_eq!(out.to_vec()?, expected);
        let mut rounded = DeviceArray::<Bf16>::new(gpu, rows * 2)?;
        let own = DeviceEpilogue { activation: relu, residual: Residual::Own };
        let refused = dense(x.view(), &weights, own, &mut rounded.view_mut());
        assert!(matches!(refused, Err(KernelError::Shape { operand: "residual", .. })));
        Ok(())
    });
}

#[test]
fn results_and_residuals_may_begin_at_any_value() {
    for_each_device(|gpu| {
        let (rows, width) = (3, 8);
        let weight = draw(2, width * 5);
        let x = DeviceArray::from_slice(gpu, &draw(1, rows * 5))?;
        let weights =
            DeviceConv1d::<f32>::new(gpu, &weight, None, shape(width, 5, 1, 1), ConvClass::F32)?;
        let values = rows * width;
        let given = DeviceArray::from_slice(gpu, &draw(4, values + 1))?;
        let mut expected = DeviceArray::from_slice(gpu, &given.to_vec()?[1..])?;
        let own = DeviceEpilogue { residual: Residual::Own, ..DeviceEpilogue::default() };
        dense(x.view(), &weights, own, &mut expected.view_mut())?;
        let residual = Residual::Other(given.view().part(1..values + 1));
        let epilogue = DeviceEpilogue { residual, ..DeviceEpilogue::default() };
        for first in [0, 1, 3] {
            let mut out = DeviceArray::<f32>::zeros(gpu, values + first)?;
            let mut whole = out.view_mut();
            dense(x.view(), &weights, epilogue, &mut whole.part(first..first + values))?;
            assert_eq!(out.to_vec()?[first..], expected.to_vec()?);
        }
        Ok(())
    });
}

#[test]
fn results_in_bf16_are_the_rounded_ones_in_f32() {
    for_each_device(|gpu| {
        for width in [6, 8] {
            let shape = shape(width, 8, 3, 1);
            let weight = draw(2, width * 8 * 3);
            let weights = DeviceConv1d::<Bf16>::new(gpu, &weight, None, shape, ConvClass::Bf16)?;
            let x: Vec<Bf16> = draw(1, 7 * 8).into_iter().map(Bf16::from_f32).collect();
            let x = DeviceArray::from_slice(gpu, &x)?;
            let mut exact = DeviceArray::<f32>::new(gpu, 7 * width)?;
            let mut rounded = DeviceArray::<Bf16>::new(gpu, 7 * width)?;
            let none = DeviceEpilogue::default();
            conv1d_even(x.view(), 7, &weights, none, &mut exact.view_mut())?;
            conv1d_even(x.view(), 7, &weights, none, &mut rounded.view_mut())?;
            let exact: Vec<Bf16> = exact.to_vec()?.into_iter().map(Bf16::from_f32).collect();
            assert_eq!(rounded.to_vec()?, exact);
        }
        Ok(())
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for_each_device(|gpu| {
        let odd = shape(2, 3, 3, 1);
        let class = ConvClass::F32;
        assert!(DeviceConv1d::<f32>::new(gpu, &[0.0; 17], None, odd, class).is_err());
        assert!(DeviceConv1d::<f32>::new(gpu, &[0.0; 18], Some(&[0.0]), odd, class).is_err());
        assert!(DeviceConv1d::<Bf16>::new(gpu, &[0.0; 18], None, odd, class).is_err());
        assert!(DeviceConv1d::<f32>::new(gpu, &[], None, shape(0, 3, 3, 1), class).is_err());
        assert!(TokenRanges::new(gpu, &[1, 2]).is_err());
        let weights = DeviceConv1d::<f32>::new(gpu, &[0.0; 18], None, odd, class)?;
        let ranges = TokenRanges::new(gpu, &[0, 4])?;
        let x = DeviceArray::<f32>::zeros(gpu, 12)?;
        let mut out = DeviceArray::<f32>::zeros(gpu, 8)?;
        let none = DeviceEpilogue::default;
        let short = x.view().part(0..9);
        assert!(conv1d(short, &ranges, &weights, none(), &mut out.view_mut()).is_err());
        let mut part = out.view_mut();
        assert!(conv1d(x.view(), &ranges, &weights, none(), &mut part.part(0..6)).is_err());
        assert!(dense(x.view(), &weights, none(), &mut out.view_mut()).is_err());
        assert!(conv1d(x.view(), &ranges, &weights, none(), &mut out.view_mut()).is_ok());
        Ok(())
    });
}
