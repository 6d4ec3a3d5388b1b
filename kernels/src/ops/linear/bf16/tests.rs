use super::*;
use crate::isa::Isa;
use crate::ops::linear::{Panels, linear};
use crate::ops::precision::Precision;
use crate::ops::silu::silu;
use crate::tile::Rows;

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed) as f32 * 0.37).sin()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// The nearest bf16, ties to even; for finite values.
fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// Each element by the definition of the class, of values that nowhere get near subnormal numbers.
fn by_definition(x: &[f32], weight: &[f32], bias: &[f32], width: usize) -> Vec<f32> {
    let chain = |x: &[f32], weight: &[f32], bias: f32| {
        x.chunks(STEP_WIDTH).zip(weight.chunks(STEP_WIDTH)).fold(bias, |sum, (x, weight)| {
            let mut halves = [0.0_f32; 2];
            for (k, (x, weight)) in x.iter().zip(weight).enumerate() {
                halves[k % 2] = rounded(*x).mul_add(rounded(*weight), halves[k % 2]);
            }
            sum + (halves[0] + halves[1])
        })
    };
    x.chunks(width)
        .flat_map(|x| weight.chunks(width).zip(bias).map(move |(w, &bias)| chain(x, w, bias)))
        .collect()
}

fn packed_bf16(weight: &[f32], bias: &[f32], input_width: usize) -> PackedLinear {
    let rows = bias.len();
    PackedLinear::pack_as(Precision::Bf16, weight, Some(bias), rows, input_width).unwrap()
}

fn on(unit: Unit, x: &[f32], weights: &PackedLinear, epilogue: Epilogue) -> Vec<u32> {
    let width = weights.input_width;
    let mut out = vec![0.125; x.len() / width * weights.output_width];
    let Panels::Bf16(panels) = &weights.panels else { panic!("weights are bf16") };
    multiply(unit, Rows::new(x, width, width), (weights, panels), epilogue, &mut out);
    bits(&out)
}

#[test]
fn every_unit_gives_the_bits_of_the_definition() {
    for (rows, output_width, input_width) in [
        (1, 1, 1),
        (1, 33, 31),
        (5, 16, 32),
        (16, 17, 33),
        (17, 15, 64),
        (33, 31, 129),
        (70, 65, 95),
        (2, 257, 40),
        (70, 64, 95),
        (70, 64, 4150),
    ] {
        let x = values(rows * input_width, 1);
        let weight = values(output_width * input_width, 5);
        let bias = values(output_width, 11);
        let expected = bits(&by_definition(&x, &weight, &bias, input_width));
        let weights = packed_bf16(&weight, &bias, input_width);
        assert_eq!(weights.precision(), Precision::Bf16);
        for unit in Unit::available() {
            let found = on(unit, &x, &weights, Epilogue::None);
            assert_eq!(found, expected, "{unit:?} {rows}x{output_width}x{input_width}");
        }
    }
}

#[test]
fn sums_stay_within_f32_rounding_of_the_rounded_operands() {
    let (rows, output_width, input_width) = (3, 5, 2000);
    let (x, weight) = (values(rows * input_width, 1), values(output_width * input_width, 5));
    let weights = packed_bf16(&weight, &vec![0.25; output_width], input_width);
    let mut out = vec![0.0; rows * output_width];
    linear(&x, &weights, Epilogue::None, &mut out).unwrap();
    let pairs = x.chunks(input_width).flat_map(|x| weight.chunks(input_width).map(move |w| (x, w)));
    for (found, (x, w)) in out.into_iter().zip(pairs) {
        let products =
            x.iter().zip(w).map(|(&x, &w)| f64::from(rounded(x)) * f64::from(rounded(w)));
        let (sum, size) = products.fold((0.25, 0.25), |(s, a), p| (s + p, a + p.abs()));
        // One rounding a step, and one in each of its chains of sixteen.
        let bound = size * f64::from(f32::EPSILON) * (input_width as f64 / 32.0 + 17.0) / 2.0;
        assert!((f64::from(found) - sum).abs() <= bound, "{found} {sum}");
    }
}

#[test]
fn epilogues_and_gates_work_on_the_sums_of_the_class() {
    let (rows, output_width, input_width) = (35, 19, 45);
    let x = values(rows * input_width, 4);
    let weight = values(2 * output_width * input_width, 6);
    let bias = values(2 * output_width, 12);
    let sums = by_definition(&x, &weight, &bias, input_width);
    let gated = (Precision::Bf16, &weight, Some(bias.as_slice()), output_width, input_width);
    let gated = PackedLinear::pack_gated_as(gated.0, gated.1, gated.2, gated.3, gated.4).unwrap();
    let plain = packed_bf16(&weight, &bias, input_width);
    let all = |f: fn(&mut [f32])| {
        let mut out = sums.clone();
        f(&mut out);
        bits(&out)
    };
    let gates: Vec<f32> = sums
        .chunks(2 * output_width)
        .flat_map(|sums| {
            let (gates, values) = sums.split_at(output_width);
            let mut gates = gates.to_vec();
            silu(&mut gates);
            gates.iter_mut().zip(values).for_each(|(gate, x)| *gate *= x);
            gates
        })
        .collect();
    for unit in Unit::available() {
        let found = |epilogue| on(unit, &x, &plain, epilogue);
        assert_eq!(found(Epilogue::Gelu), all(crate::ops::gelu::gelu), "{unit:?}");
        assert_eq!(found(Epilogue::GeluTanh), all(crate::ops::gelu_tanh::gelu_tanh), "{unit:?}");
        assert_eq!(found(Epilogue::Relu), all(crate::ops::relu::relu), "{unit:?}");
        assert_eq!(
            found(Epilogue::Add),
            all(|x| x.iter_mut().for_each(|x| *x += 0.125)),
            "{unit:?}"
        );
        assert_eq!(on(unit, &x, &gated, Epilogue::SiluGate), bits(&gates), "{unit:?}");
    }
}

#[test]
fn weights_stored_by_input_give_the_same_bits() {
    let (rows, output_width, input_width) = (13, 45, 39);
    let (x, weight) = (values(rows * input_width, 4), values(output_width * input_width, 6));
    let by_input: Vec<f32> = (0..input_width * output_width)
        .map(|i| weight[i % output_width * input_width + i / output_width])
        .collect();
    let bias = vec![0.0; output_width];
    let weights =
        PackedLinear::pack_by_input_as(Precision::Bf16, &by_input, None, output_width, input_width);
    let found = on(Unit::best(), &x, &weights.unwrap(), Epilogue::None);
    let weights = packed_bf16(&weight, &bias, input_width);
    assert_eq!(found, on(Unit::best(), &x, &weights, Epilogue::None));
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch_on_any_threads() {
    let (rows, output_width, input_width) = (270, 257, 1601);
    let weight = values(output_width * input_width, 3);
    let weights = packed_bf16(&weight, &values(output_width, 8), input_width);
    let x = values(rows * input_width, 2);
    for unit in [Unit::Emulated(Isa::best()), Unit::best()] {
        let run = |threads, x: &[f32]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| on(unit, x, &weights, Epilogue::Gelu))
        };
        let all = run(1, &x);
        assert_eq!(all, run(2, &x), "{unit:?}");
        assert_eq!(all, run(5, &x), "{unit:?}");
        for (first, count) in [(0, 1), (31, 1), (32, 1), (269, 1), (5, 16), (7, 33)] {
            let some = run(2, &x[first * input_width..][..count * input_width]);
            let expected = &all[first * output_width..][..count * output_width];
            assert_eq!(some, expected, "{unit:?} {first} {count}");
        }
    }
}

#[test]
fn inputs_of_more_rows_than_are_packed_at_a_time_have_every_row() {
    let (rows, input_width) = (ROWS_PER_BLOCK + 1, PACKED_VALUES_MAX / ROWS_PER_BLOCK);
    let (mut x, weight) = (vec![0.0; rows * input_width], vec![1.0; input_width]);
    let value = |row: usize| (row % 200 + 1) as f32;
    for (row, x) in x.chunks_mut(input_width).enumerate() {
        x[row] = value(row);
    }
    let weights = packed_bf16(&weight, &[0.5], input_width);
    let expected: Vec<f32> = (0..rows).map(|row| 0.5 + value(row)).collect();
    assert_eq!(on(Unit::best(), &x, &weights, Epilogue::None), bits(&expected));
}

#[test]
fn not_a_number_and_infinity_stay_in_their_row() {
    let x = [1.0, 2.0, f32::NAN, 2.0, f32::INFINITY, 2.0];
    let weights = packed_bf16(&[1.0, 0.5], &[0.0], 2);
    for unit in Unit::available() {
        let out: Vec<f32> =
            on(unit, &x, &weights, Epilogue::None).into_iter().map(f32::from_bits).collect();
        assert_eq!((out[0], out[2]), (2.0, f32::INFINITY), "{unit:?}");
        assert!(out[1].is_nan(), "{unit:?}");
    }
}
