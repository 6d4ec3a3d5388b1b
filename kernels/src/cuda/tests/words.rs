//! The words of the prelude mean on every device what they say.

use super::super::testing::{draw, for_each_device};
use super::super::*;

static WORDS: Source = Source {
    name: "words",
    text: include_str!("words.cu"),
    kernels: &["converse", "load", "multiply_small", "copy_small"],
    instances: &[],
};

fn run(gpu: &Gpu, kernel: &'static str, shape: LaunchShape, arguments: Arguments) -> Result<()> {
    let kernel = gpu.kernel(&WORDS, kernel, &[])?;
    // SAFETY: each test gives arrays of the extents that the kernel's comment names.
    unsafe { kernel.launch(shape, arguments) }
}

fn f16_value(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        _ => (fraction + 1024.0) * 2.0_f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

#[test]
fn lanes_hear_each_other_and_numbers_are_rounded_to_nearest() {
    for_each_device(|gpu| {
        let mut values = draw(3, 32);
        values[..6].copy_from_slice(&[0.0, -1.0, 6.0e-8, 3.0e-6, 1.003_906_2, 1.011_718_8]);
        let x = DeviceArray::from_slice(gpu, &values)?;
        let mut out = DeviceArray::<u32>::new(gpu, 512)?;
        let arguments = Arguments::new().array(&x.view()).output(&out.view_mut());
        run(gpu, "converse", LaunchShape::line(1, 32), arguments)?;
        let out = out.to_vec()?;
        let votes =
            values.iter().enumerate().map(|(lane, x)| u32::from(*x > 0.0) << lane).sum::<u32>();
        let sum: f32 = values.iter().sum();
        for (lane, row) in out.chunks(16).enumerate() {
            let x = values[lane];
            let float = |at: usize| f32::from_bits(row[at]);
            let down = if lane + 4 < 32 { lane + 4 } else { lane };
            let up = if lane >= 4 { lane - 4 } else { lane };
            assert_eq!([float(0), float(1)], [values[5], values[lane ^ 3]]);
            assert_eq!([float(2), float(3)], [values[down], values[up]]);
            assert_eq!(row[4], votes);
            assert_eq!(row[5], u32::from(Bf16::from_f32(x).0));
            let (below, above) = (
                f16_value((row[6] as u16).wrapping_sub(1)),
                f16_value((row[6] as u16).wrapping_add(1)),
            );
            let error = (f16_value(row[6] as u16) - x).abs();
            assert!(
                row[6] as u16 & 0x7fff == 0 || error <= (below - x).abs().min((above - x).abs())
            );
            assert_eq!(float(9), f16_value(row[6] as u16));
            assert!((float(7) - x).abs() <= x.abs() * 2.0_f32.powi(-11));
            assert_eq!(
                row[8],
                u32::from(Bf16::from_f32(x).0) | u32::from(Bf16::from_f32(2.0 * x).0) << 16
            );
            assert_eq!(
                [float(10), float(11)],
                [Bf16::from_f32(x).to_f32(), Bf16::from_f32(2.0 * x).to_f32()]
            );
            assert!((float(12) - (8.0 * x).exp2()).abs() <= 4e-7 * (8.0 * x).exp2());
            assert!((float(13) - sum).abs() < 1e-5);
            assert_eq!(row[13], out[13]);
            assert_eq!(float(14), values.iter().copied().fold(f32::MIN, f32::max));
            let lane = lane as u32;
            let high = (u64::from(lane.wrapping_mul(0x1000_0001)) * 0xdead_beef) >> 32;
            let bits = lane.count_ones() + lane.leading_zeros();
            assert_eq!(row[15], (high as u32).wrapping_add(bits).wrapping_add(lane.reverse_bits()));
        }
        Ok(())
    });
}

#[test]
fn matrices_are_loaded_straight_and_turned() {
    for_each_device(|gpu| {
        let value = |row: usize, column: usize| (row * 8 + column) as u32;
        let pairs: Vec<u32> = (0..128)
            .map(|at| value(at / 4, 2 * (at % 4)) | value(at / 4, 2 * (at % 4) + 1) << 16)
            .collect();
        let pairs = DeviceArray::from_slice(gpu, &pairs)?;
        let (mut straight, mut turned) =
            (DeviceArray::<u32>::new(gpu, 128)?, DeviceArray::<u32>::new(gpu, 128)?);
        let arguments = Arguments::new()
            .array(&pairs.view())
            .output(&straight.view_mut())
            .output(&turned.view_mut());
        run(gpu, "load", LaunchShape::line(1, 32).shared(512), arguments)?;
        let (straight, turned) = (straight.to_vec()?, turned.to_vec()?);
        for at in 0..128 {
            let (lane, matrix) = (at / 4, 8 * (at % 4));
            let (r, c) = (lane / 4, 2 * (lane % 4));
            assert_eq!(straight[at], value(matrix + r, c) | value(matrix + r, c + 1) << 16);
            assert_eq!(turned[at], value(matrix + c, r) | value(matrix + c + 1, r) << 16);
        }
        Ok(())
    });
}

#[test]
fn a_warps_tf32_product_is_a_product() {
    for_each_device(|gpu| {
        let (left, right) = (draw(5, 128), draw(6, 64));
        let (a, b) = (DeviceArray::from_slice(gpu, &left)?, DeviceArray::from_slice(gpu, &right)?);
        let mut out = DeviceArray::<f32>::new(gpu, 128)?;
        let arguments = Arguments::new().array(&a.view()).array(&b.view()).output(&out.view_mut());
        run(gpu, "multiply_small", LaunchShape::line(1, 32), arguments)?;
        for (at, found) in out.to_vec()?.into_iter().enumerate() {
            let (row, column) = (at / 8, at % 8);
            let expected: f32 = (0..8).map(|k| left[8 * row + k] * right[8 * k + column]).sum();
            assert!((found - expected).abs() < 8e-3, "{at}: expected {expected}, found {found}");
        }
        Ok(())
    });
}

#[test]
fn groups_of_copies_are_waited_for_in_order() {
    for_each_device(|gpu| {
        let values: Vec<f32> = (1..=128_u8).map(f32::from).collect();
        let x = DeviceArray::from_slice(gpu, &values)?;
        let mut out = DeviceArray::<f32>::new(gpu, 129)?;
        let arguments = Arguments::new().array(&x.view()).output(&out.view_mut());
        run(gpu, "copy_small", LaunchShape::line(1, 64).shared(4 * 130), arguments)?;
        let found = out.to_vec()?;
        for at in 0..64 {
            let even = if (63 - at) % 2 == 0 { values[63 - at] } else { 0.0 };
            assert_eq!([found[at], found[64 + at]], [even, values[127 - at]]);
        }
        assert_eq!(found[128], values[..64].iter().sum::<f32>());
        Ok(())
    });
}

#[test]
fn every_word_compiles_for_every_target() {
    for target in sources::TARGETS {
        if let Err(error) = compile(&WORDS, &[], target) {
            let required = std::env::var_os("GLMEVAL_REQUIRE_REAL").is_some();
            let absent = matches!(error, crate::error::KernelError::NoDevice { .. });
            assert!(absent && !required, "{target}: {error}");
        }
    }
}
