//! The bits of operations against stored ones: the same on every CPU, of any architecture.
//!
//! Leaves out: how near the values are to the true ones (beside each operation). Invariant: inputs are
//! made of integers, since functions of the standard library differ between systems.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_kernels::ops::attention::{PositionBias, alibi_slopes, attention};
use glmeval_kernels::ops::layer_norm::layer_norm;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::{exp, gelu, gelu_tanh, pool, sigmoid, silu, sin, softmax, tanh};

/// An operation on each value.
type InPlace = fn(&mut [f32]);

/// Numbers from -2 to 2, another run of them for each seed.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(seed.wrapping_mul(2_654_435_761)), next);
    states.skip(1).take(count).map(|state| (state >> 8) as f32 / 4_194_304.0 - 2.0).collect()
}

/// One number for all bits, in order (FNV-1a).
fn digest(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|value| value.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Digests of each operation by name.
fn digests() -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    for (rows, input, output) in [(1, 40, 70), (7, 129, 33), (50, 300, 96)] {
        let (weight, bias) = (numbers(1, output * input), numbers(2, output));
        let packed = PackedLinear::pack(&weight, Some(&bias), output, input).unwrap();
        let mut out = vec![0.0; rows * output];
        linear(&numbers(3, rows * input), &packed, Epilogue::None, &mut out).unwrap();
        found.push(("linear", digest(&out)));
    }
    let (heads, width, offsets) = (3, 24, [0, 5, 70]);
    let mut out = vec![0.0; 70 * width];
    let slopes = alibi_slopes(heads);
    for bias in [PositionBias::None, PositionBias::Alibi { slopes: &slopes }] {
        attention(&numbers(4, 3 * 70 * width), &offsets, heads, 0.35, bias, &mut out).unwrap();
        found.push(("attention", digest(&out)));
    }
    let (x, weight) = (numbers(5, 9 * 77), numbers(6, 77));
    let mut out = vec![0.0; x.len()];
    layer_norm(&x, &weight, None, 1e-5, &mut out).unwrap();
    found.push(("layer norm", digest(&out)));
    let mut mean = vec![0.0; 77];
    pool::mean_rows(&x, &mut mean).unwrap();
    found.push(("mean", digest(&mean)));
    let mut shares = x.clone();
    softmax::softmax(&mut shares, 77).unwrap();
    found.push(("softmax", digest(&shares)));
    let functions: [(&str, InPlace); 7] = [
        ("exp", exp::exp),
        ("gelu", gelu::gelu),
        ("gelu tanh", gelu_tanh::gelu_tanh),
        ("sigmoid", sigmoid::sigmoid),
        ("silu", silu::silu),
        ("sin", sin::sin),
        ("tanh", tanh::tanh),
    ];
    for (name, function) in functions {
        let mut values: Vec<f32> = numbers(7, 1_003).iter().map(|value| value * 5.0).collect();
        function(&mut values);
        found.push((name, digest(&values)));
    }
    found
}

#[test]
fn operations_have_the_stored_bits_on_this_cpu() {
    // Written down on aarch64, where products are made by NEON.
    let stored = [
        ("linear", 0x86bf_1aef_b7fc_d179),
        ("linear", 0x4d05_c4c7_3e9f_400f),
        ("linear", 0x05fe_d134_df20_2e3b),
        ("attention", 0x8e72_3547_2b90_c031),
        ("attention", 0xea66_41c5_fcce_7a00),
        ("layer norm", 0xe823_84b6_21e0_d1af),
        ("mean", 0xbc92_b7b8_fc8a_426c),
        ("softmax", 0xae4f_5cec_034a_9107),
        ("exp", 0x538d_ee76_733c_7918),
        ("gelu", 0xc7b7_f51e_85e7_8314),
        ("gelu tanh", 0xd6d9_8d54_b0f8_07eb),
        ("sigmoid", 0xa6d7_91bf_99bd_9455),
        ("silu", 0x11b6_0bb0_dfd9_7ee1),
        ("sin", 0x9e59_3458_52c8_24a9),
        ("tanh", 0xf970_20ef_f255_df83),
    ];
    assert_eq!(digests(), stored);
}
