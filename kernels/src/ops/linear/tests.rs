use super::*;
use crate::ops::gelu::gelu;
use crate::ops::gelu_tanh::gelu_tanh;
use crate::ops::silu::silu;

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed) as f32 * 0.37).sin()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Each element by its definition: one chain over k that starts from the bias.
fn by_definition(x: &[f32], weight: &[f32], bias: &[f32], width: usize) -> Vec<f32> {
    let chain = |x: &[f32], weight: &[f32], bias: f32| {
        x.iter().zip(weight).fold(bias, |sum, (x, w)| x.mul_add(*w, sum))
    };
    x.chunks(width)
        .flat_map(|x| weight.chunks(width).zip(bias).map(move |(w, &bias)| chain(x, w, bias)))
        .collect()
}

fn in_pool<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

#[test]
fn worked_product_with_each_epilogue() {
    let weights = PackedLinear::pack(&[1.0, 2.0, -1.0, 0.5], Some(&[10.0, 0.25]), 2, 2).unwrap();
    assert_eq!((weights.input_width(), weights.output_width()), (2, 2));
    let x = [3.0, 4.0, 0.0, 1.0];
    let mut out = [100.0; 4];
    linear(&x, &weights, Epilogue::Add, &mut out).unwrap();
    assert_eq!(out, [121.0, 99.25, 112.0, 100.75]);
    linear(&x, &weights, Epilogue::None, &mut out).unwrap();
    assert_eq!(out, [21.0, -0.75, 12.0, 0.75]);
    let mut expected = out;
    gelu(&mut expected);
    linear(&x, &weights, Epilogue::Gelu, &mut out).unwrap();
    assert_eq!(out, expected);
    linear(&x, &weights, Epilogue::Relu, &mut out).unwrap();
    assert_eq!(out, [21.0, 0.0, 12.0, 0.75]);
    let mut expected = [21.0, -0.75, 12.0, 0.75];
    gelu_tanh(&mut expected);
    linear(&x, &weights, Epilogue::GeluTanh, &mut out).unwrap();
    assert_eq!(out, expected);
}

#[test]
fn worked_gates_multiply_activated_first_sums_by_second_sums() {
    let weight = [1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 1.0, 1.0];
    let weights = PackedLinear::pack_gated(&weight, Some(&[0.0, 1.0, 0.5, 0.0]), 2, 2).unwrap();
    assert_eq!((weights.input_width(), weights.output_width()), (2, 2));
    let x = [2.0, -1.0];
    let mut out = [9.0; 2];
    for (epilogue, activate) in
        [(Epilogue::SiluGate, silu as fn(&mut [f32])), (Epilogue::GeluGate, gelu)]
    {
        let mut gates = [2.0, -1.0];
        activate(&mut gates);
        linear(&x, &weights, epilogue, &mut out).unwrap();
        assert_eq!(out, [gates[0] * 6.5, gates[1] * 1.0], "{epilogue:?}");
    }
}

#[test]
fn gates_of_any_width_have_the_bits_of_two_separate_products() {
    let (rows, input_width) = (29, 37);
    for output_width in [1, 15, 16, 17, 50] {
        let x = values(rows * input_width, 4);
        let weight = values(2 * output_width * input_width, 6);
        let bias = values(2 * output_width, 12);
        let sums = by_definition(&x, &weight, &bias, input_width);
        let expected: Vec<f32> = sums
            .chunks(2 * output_width)
            .flat_map(|sums| {
                let mut gates = sums[..output_width].to_vec();
                silu(&mut gates);
                gates.iter_mut().zip(&sums[output_width..]).for_each(|(gate, x)| *gate *= x);
                gates
            })
            .collect();
        let weights =
            PackedLinear::pack_gated(&weight, Some(&bias), output_width, input_width).unwrap();
        for isa in Isa::available() {
            let mut out = vec![0.0; expected.len()];
            let x = Rows::new(&x, input_width, input_width);
            multiply(isa, x, &weights, Epilogue::SiluGate, &mut out);
            assert_eq!(bits(&out), bits(&expected), "{isa:?} {output_width}");
        }
    }
}

#[test]
fn weights_stored_by_input_give_the_same_bits() {
    let (rows, output_width, input_width) = (13, 45, 19);
    let (x, weight) = (values(rows * input_width, 4), values(output_width * input_width, 6));
    let by_input: Vec<f32> = (0..input_width * output_width)
        .map(|i| weight[i % output_width * input_width + i / output_width])
        .collect();
    let run = |weights: PackedLinear| {
        let mut out = vec![0.0; rows * output_width];
        linear(&x, &weights, Epilogue::None, &mut out).unwrap();
        bits(&out)
    };
    let expected = run(PackedLinear::pack(&weight, None, output_width, input_width).unwrap());
    let weights = PackedLinear::pack_by_input(&by_input, None, output_width, input_width);
    assert_eq!(run(weights.unwrap()), expected);
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_definition() {
    for (rows, output_width, input_width) in
        [(1, 1, 1), (1, 33, 31), (31, 1, 33), (33, 31, 1025), (13, 65, 257), (2, 1025, 33)]
    {
        let x = values(rows * input_width, 1);
        let weight = values(output_width * input_width, 5);
        let bias = values(output_width, 11);
        let expected = by_definition(&x, &weight, &bias, input_width);
        let weights = PackedLinear::pack(&weight, Some(&bias), output_width, input_width).unwrap();
        for isa in Isa::available() {
            let mut out = vec![0.0; expected.len()];
            multiply(
                isa,
                Rows::new(&x, input_width, input_width),
                &weights,
                Epilogue::None,
                &mut out,
            );
            assert_eq!(bits(&out), bits(&expected), "{isa:?} {rows}x{output_width}x{input_width}");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_a_thousand_on_any_threads() {
    let (rows, output_width, input_width) = (1000, 97, 321);
    let weight = values(2 * output_width * input_width, 3);
    let plain = &weight[..output_width * input_width];
    let plain = PackedLinear::pack(plain, None, output_width, input_width).unwrap();
    let gated = PackedLinear::pack_gated(&weight, None, output_width, input_width).unwrap();
    let x = values(rows * input_width, 2);
    for (epilogue, weights) in [
        (Epilogue::None, &plain),
        (Epilogue::Gelu, &plain),
        (Epilogue::Add, &plain),
        (Epilogue::GeluGate, &gated),
    ] {
        let run = |x: &[f32]| {
            let mut out = vec![0.125; x.len() / input_width * output_width];
            linear(x, weights, epilogue, &mut out).unwrap();
            bits(&out)
        };
        let all = in_pool(1, || run(&x));
        assert_eq!(all, in_pool(2, || run(&x)), "{epilogue:?}");
        assert_eq!(all, in_pool(5, || run(&x)), "{epilogue:?}");
        for row in [0, 11, 12, 499, 999] {
            let alone = run(&x[row * input_width..][..input_width]);
            assert_eq!(alone, all[row * output_width..][..output_width], "{epilogue:?} {row}");
        }
        let some = run(&x[5 * input_width..39 * input_width]);
        assert_eq!(some, all[5 * output_width..39 * output_width], "{epilogue:?}");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    assert!(PackedLinear::pack(&[0.0; 6], None, 2, 2).is_err());
    assert!(PackedLinear::pack(&[0.0; 6], Some(&[0.0; 3]), 2, 3).is_err());
    assert!(PackedLinear::pack(&[], None, 2, 0).is_err());
    assert!(PackedLinear::pack(&[], None, 0, 2).is_err());
    let weights = PackedLinear::pack(&[0.0; 6], None, 2, 3).unwrap();
    let mut out = [0.0; 4];
    let error = linear(&[0.0; 5], &weights, Epilogue::None, &mut out).unwrap_err();
    assert!(error.to_string().starts_with("linear: x has 5 values"), "{error}");
    assert!(linear(&[0.0; 3], &weights, Epilogue::None, &mut out).is_err());
    linear(&[], &weights, Epilogue::None, &mut []).unwrap();
    let error = linear(&[0.0; 6], &weights, Epilogue::SiluGate, &mut out).unwrap_err();
    assert!(error.to_string().starts_with("linear: epilogue has a gate"), "{error}");
    assert!(PackedLinear::pack_gated(&[0.0; 6], None, 2, 3).is_err());
    let weights = PackedLinear::pack_gated(&[0.0; 12], None, 2, 3).unwrap();
    let error = linear(&[0.0; 6], &weights, Epilogue::Add, &mut out).unwrap_err();
    assert!(error.to_string().starts_with("linear: epilogue has no gate"), "{error}");
}
