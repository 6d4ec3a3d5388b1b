use super::*;
use crate::ops::gelu::gelu;

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed) as f32 * 0.37).sin()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn shape(output_width: usize, input_width: usize, kernel: usize, dilation: usize) -> Conv1dShape {
    Conv1dShape { output_width, input_width, kernel, dilation }
}

/// Each element by its definition: one chain over taps, then channels, that starts from the bias.
fn by_definition(
    x: &[f32],
    offsets: &[usize],
    weight: &[f32],
    bias: &[f32],
    shape: Conv1dShape,
) -> Vec<f32> {
    let Conv1dShape { output_width, input_width, kernel, dilation } = shape;
    let mut out = Vec::new();
    for pair in offsets.windows(2) {
        for t in pair[0]..pair[1] {
            for n in 0..output_width {
                let mut sum = bias[n];
                for j in 0..kernel {
                    let at =
                        t as isize + (j as isize - (kernel as isize - 1) / 2) * dilation as isize;
                    let inside = at >= pair[0] as isize && at < pair[1] as isize;
                    for c in 0..input_width {
                        let x = if inside { x[at as usize * input_width + c] } else { 0.0 };
                        sum = x.mul_add(weight[(n * input_width + c) * kernel + j], sum);
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

fn on(isa: Isa, x: &[f32], offsets: &[usize], weights: &PackedConv1d) -> Vec<u32> {
    let shape = weights.shape;
    let sequences = Sequences::check(OP, offsets).unwrap();
    let mut out = vec![0.0; sequences.token_count() * shape.output_width];
    let x = Rows::new(x, shape.input_width, shape.input_width);
    let taps = Taps { x, sequences, shape };
    multiply(isa, taps, &weights.weights, Epilogue::None, &mut out);
    bits(&out)
}

#[test]
fn worked_convolution_stops_at_the_ends_of_a_sequence() {
    let weights = PackedConv1d::pack(&[100.0, 10.0, 1.0], Some(&[0.5]), shape(1, 1, 3, 1)).unwrap();
    let x = [1.0, 2.0, 3.0, 4.0, 5.0];
    let mut out = [0.0; 5];
    conv1d(&x, &[0, 3, 3, 5], &weights, Epilogue::None, &mut out).unwrap();
    assert_eq!(out, [12.5, 123.5, 230.5, 45.5, 450.5]);
    let weights = PackedConv1d::pack(&[100.0, 10.0, 1.0], None, shape(1, 1, 3, 2)).unwrap();
    conv1d(&x, &[0, 5], &weights, Epilogue::None, &mut out).unwrap();
    assert_eq!(out, [13.0, 24.0, 135.0, 240.0, 350.0]);
    conv1d(&x, &[0, 5], &weights, Epilogue::Add, &mut out).unwrap();
    assert_eq!(out, [26.0, 48.0, 270.0, 480.0, 700.0]);
    let far = PackedConv1d::pack(&[1.0; 5], None, shape(1, 1, 5, usize::MAX / 2)).unwrap();
    conv1d(&x, &[0, 5], &far, Epilogue::None, &mut out).unwrap();
    assert_eq!(out, x);
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_definition_in_either_layout() {
    let offsets = [0, 5, 5, 6, 45];
    for shape in [
        shape(1, 1, 1, 1),
        shape(33, 3, 3, 1),
        shape(5, 17, 9, 4),
        shape(40, 2, 5, 25),
        shape(2, 70, 7, 2),
    ] {
        let x = values(45 * shape.input_width, 1);
        let weight = values(shape.steps() * shape.output_width, 5);
        let bias = values(shape.output_width, 11);
        let expected = bits(&by_definition(&x, &offsets, &weight, &bias, shape));
        let mut last = Vec::new();
        for j in 0..shape.kernel {
            for c in 0..shape.input_width {
                let of = |n| weight[(n * shape.input_width + c) * shape.kernel + j];
                last.extend((0..shape.output_width).map(of));
            }
        }
        let weights = PackedConv1d::pack(&weight, Some(&bias), shape).unwrap();
        let from_last = PackedConv1d::pack_channels_last(&last, Some(&bias), shape).unwrap();
        for isa in Isa::available() {
            assert_eq!(on(isa, &x, &offsets, &weights), expected, "{isa:?} {shape:?}");
            assert_eq!(on(isa, &x, &offsets, &from_last), expected, "{isa:?} {shape:?}");
        }
    }
}

#[test]
fn bf16_gives_the_bits_of_a_linear_layer_over_gathered_taps() {
    let (shape, offsets) = (shape(40, 17, 5, 3), [0, 5, 5, 6, 45]);
    let x = values(45 * shape.input_width, 1);
    let weight = values(shape.steps() * shape.output_width, 5);
    let bias = values(shape.output_width, 11);
    let mut gathered = Vec::new();
    for pair in offsets.windows(2) {
        for (t, tap) in (pair[0]..pair[1]).flat_map(|t| (0..shape.kernel).map(move |tap| (t, tap)))
        {
            let source = shape.source(t, tap, &(pair[0]..pair[1]));
            let row = |source| &x[source * shape.input_width..][..shape.input_width];
            gathered.extend(source.map_or(vec![0.0; shape.input_width], |s| row(s).to_vec()));
        }
    }
    let by_tap: Vec<f32> = weight
        .chunks(shape.steps())
        .flat_map(|row| {
            let at = |i| row[i % shape.input_width * shape.kernel + i / shape.input_width];
            (0..shape.steps()).map(at).collect::<Vec<_>>()
        })
        .collect();
    let precision = Precision::Bf16;
    let (steps, width) = (shape.steps(), shape.output_width);
    let linear = PackedLinear::pack_as(precision, &by_tap, Some(&bias), width, steps).unwrap();
    let mut expected = vec![0.0; 45 * width];
    crate::ops::linear::linear(&gathered, &linear, Epilogue::None, &mut expected).unwrap();
    let weights = PackedConv1d::pack_as(precision, &weight, Some(&bias), shape).unwrap();
    for isa in Isa::available() {
        assert_eq!(on(isa, &x, &offsets, &weights), bits(&expected), "{isa:?}");
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_among_others_on_any_threads() {
    let shape = shape(50, 30, 5, 3);
    let offsets = [0, 1, 200, 217, 600];
    let x = values(600 * shape.input_width, 3);
    let weight = values(shape.steps() * shape.output_width, 6);
    let weights = PackedConv1d::pack(&weight, None, shape).unwrap();
    let run = |threads, x: &[f32], offsets: &[usize]| {
        let mut out = vec![0.0; x.len() / shape.input_width * shape.output_width];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| conv1d(x, offsets, &weights, Epilogue::Gelu, &mut out)).unwrap();
        bits(&out)
    };
    let all = run(1, &x, &offsets);
    assert_eq!(all, run(3, &x, &offsets));
    for pair in offsets.windows(2) {
        let alone = &x[pair[0] * shape.input_width..pair[1] * shape.input_width];
        let alone = run(2, alone, &[0, pair[1] - pair[0]]);
        assert_eq!(alone, all[pair[0] * shape.output_width..pair[1] * shape.output_width]);
    }
}

#[test]
fn tokens_give_the_bits_of_their_one_hot() {
    let offsets = [0, 4, 4, 5, 60];
    for (shape, token_count) in
        [(shape(1, 4, 1, 1), 4), (shape(70, 12, 9, 3), 7), (shape(32, 6, 5, 64), 6)]
    {
        let ids: Vec<u32> = (0..60_u32).map(|i| i * i % 11 % token_count).collect();
        let mut one_hot = vec![0.0; 60 * shape.input_width];
        for (row, &id) in one_hot.chunks_mut(shape.input_width).zip(&ids) {
            row[id as usize] = 1.0;
        }
        let weight = values(shape.steps() * shape.output_width, 5);
        let mut bias = values(shape.output_width, 11);
        bias[0] = -0.0;
        let dense = PackedConv1d::pack(&weight, Some(&bias), shape).unwrap();
        let count = token_count as usize;
        let table = PackedTokenConv1d::pack(&weight, Some(&bias), shape, count).unwrap();
        for isa in Isa::available() {
            let found = tokens::on(isa, &ids, &offsets, &table);
            assert_eq!(bits(&found), on(isa, &one_hot, &offsets, &dense), "{isa:?} {shape:?}");
        }
    }
}

#[test]
fn tokens_pass_the_epilogue_and_thread_count_does_not_change_a_bit() {
    let shape = shape(40, 5, 9, 2);
    let weight = values(shape.steps() * shape.output_width, 5);
    let table = PackedTokenConv1d::pack(&weight, None, shape, 5).unwrap();
    let ids: Vec<u32> = (0..5000_u32).map(|i| i * i % 7 % 5).collect();
    let run = |threads| {
        let mut out = vec![0.0; 5000 * 40];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let offsets = [0, 4000, 5000];
        pool.install(|| conv1d_tokens(&ids, &offsets, &table, Epilogue::Gelu, &mut out)).unwrap();
        bits(&out)
    };
    let mut expected = tokens::on(Isa::best(), &ids, &[0, 4000, 5000], &table);
    gelu(&mut expected);
    assert_eq!(run(1), bits(&expected));
    assert_eq!(run(3), bits(&expected));
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let refused = |count: usize, bias, shape| {
        PackedConv1d::pack(&vec![0.0; count], bias, shape).err().unwrap().to_string()
    };
    assert!(refused(8, None, shape(2, 2, 2, 1)).contains("odd number of taps"));
    assert!(refused(0, None, shape(2, 2, 0, 1)).contains("odd number of taps"));
    assert!(refused(12, None, shape(2, 2, 3, 0)).contains("dilation has 0"));
    assert!(refused(11, None, shape(2, 2, 3, 1)).contains("weight has 11"));
    assert!(refused(0, None, shape(0, 2, 3, 1)).contains("weight has 0"));
    assert!(refused(0, None, shape(2, 0, 3, 1)).contains("weight has 0"));
    assert!(refused(12, Some(&[0.0; 3]), shape(2, 2, 3, 1)).contains("bias has 3"));
    let weights = PackedConv1d::pack(&[0.0; 12], None, shape(2, 2, 3, 1)).unwrap();
    let mut out = [0.0; 4];
    let mut refused = |x: &[f32], offsets: &[usize], epilogue| {
        conv1d(x, offsets, &weights, epilogue, &mut out).unwrap_err().to_string()
    };
    assert!(refused(&[0.0; 3], &[0, 2], Epilogue::None).contains("x has 3"));
    assert!(refused(&[0.0; 4], &[0, 3], Epilogue::None).contains("x has 4"));
    assert!(refused(&[0.0; 6], &[0, 3], Epilogue::None).contains("out has 4"));
    assert!(refused(&[0.0; 4], &[1, 2], Epilogue::None).contains("rise from 0"));
    assert!(refused(&[0.0; 4], &[0, 2], Epilogue::GeluGate).contains("a gate"));
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    assert!(PackedTokenConv1d::pack(&[0.0; 12], None, shape(2, 2, 3, 1), 3).is_err());
    assert!(PackedTokenConv1d::pack(&[0.0; 12], None, shape(2, 2, 3, 1), 0).is_err());
    let weights = PackedTokenConv1d::pack(&[0.0; 12], None, shape(2, 2, 3, 1), 2).unwrap();
    let mut out = [7.0; 4];
    let mut refused = |ids: &[u32], offsets: &[usize]| {
        let error = conv1d_tokens(ids, offsets, &weights, Epilogue::None, &mut out);
        error.unwrap_err().to_string()
    };
    assert!(refused(&[0, 2], &[0, 2]).contains("ids has 2, expected ids below 2"));
    assert!(refused(&[0], &[0, 2]).contains("ids has 1 values"));
    assert!(refused(&[0; 3], &[0, 3]).contains("out has 4"));
    assert!(refused(&[0; 2], &[2, 2]).contains("rise from 0"));
    assert_eq!(out, [7.0; 4]);
}
