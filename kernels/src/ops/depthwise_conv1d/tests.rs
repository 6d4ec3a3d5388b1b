use super::*;

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

#[test]
fn worked_values_put_the_odd_zero_on_the_right() {
    let shape = DepthwiseConv1dShape::same(3, 1, 2, 1);
    let mut out = [9.0; 3];
    depthwise_conv1d(&[1.0, 2.0, 3.0], &shape, &[1.0, 10.0], Some(&[0.5]), &mut out).unwrap();
    assert_eq!(out, [21.5, 32.5, 3.5]);
    let shape = DepthwiseConv1dShape::valid(3, 1, 2, 2);
    let mut out = [9.0; 1];
    depthwise_conv1d(&[1.0, 2.0, 3.0], &shape, &[1.0, 10.0], None, &mut out).unwrap();
    assert_eq!(out, [31.0]);
}

/// The map is linear in input and filters, so `<dy, y>` fixes both gradients.
#[test]
fn gradients_are_the_transposes_of_the_map() {
    for (kernel, dilation, is_same) in [(3, 1, true), (4, 2, true), (5, 9, true), (3, 2, false)] {
        let (length, width, sequences) = (11, 3, 4);
        let new = if is_same { DepthwiseConv1dShape::same } else { DepthwiseConv1dShape::valid };
        let shape = new(length, width, kernel, dilation);
        let (x, filters) = (wave(sequences * length * width, 0.7), wave(kernel * width, 1.1));
        let dy = wave(sequences * shape.output_length * width, 0.9);
        let value = |x: &[f32], filters: &[f32]| {
            let mut y = vec![0.0; dy.len()];
            depthwise_conv1d(x, &shape, filters, None, &mut y).unwrap();
            y.iter().zip(&dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum::<f64>()
        };
        let (mut dx, mut df, mut db) =
            (vec![9.0; x.len()], vec![9.0; filters.len()], vec![9.0; width]);
        depthwise_input_gradient(&dy, &shape, &filters, &mut dx).unwrap();
        depthwise_weight_gradient(&x, &dy, &shape, &mut df, Some(&mut db)).unwrap();
        for i in 0..x.len() {
            let mut unit = vec![0.0; x.len()];
            unit[i] = 1.0;
            assert!((value(&unit, &filters) - f64::from(dx[i])).abs() < 1e-5, "dx {i}");
        }
        for i in 0..filters.len() {
            let mut unit = vec![0.0; filters.len()];
            unit[i] = 1.0;
            assert!((value(&x, &unit) - f64::from(df[i])).abs() < 1e-5, "dfilters {i}");
        }
        let sum: f32 = dy.iter().skip(1).step_by(width).sum();
        assert!((db[1] - sum).abs() < 1e-5);
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let shape = DepthwiseConv1dShape::same(9, 33, 4, 2);
    let (x, dy, filters) = (wave(9 * 33, 0.7), wave(9 * 33, 0.9), wave(4 * 33, 1.1));
    let run = |isa| {
        let (mut y, mut dx, mut part) = (dy.clone(), x.clone(), vec![0.0; 5 * 33]);
        forward(isa, shape, &x, &filters, &mut y);
        backward(isa, shape, &dy, &filters, &mut dx);
        weigh(isa, shape, (&x, &dy), &mut part);
        (y, dx, part)
    };
    for isa in Isa::available() {
        assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let shape = DepthwiseConv1dShape::same(3, 2, 2, 1);
    let mut out = [0.0; 6];
    let mut run = |x: usize, filters: usize, shape: &DepthwiseConv1dShape| {
        depthwise_conv1d(&vec![0.0; x], shape, &vec![0.0; filters], None, &mut out)
    };
    assert!(run(6, 4, &shape).is_ok());
    assert!(run(5, 4, &shape).is_err());
    assert!(run(6, 5, &shape).is_err());
    assert!(run(12, 4, &shape).is_err());
    assert!(run(6, 0, &DepthwiseConv1dShape { kernel: 0, ..shape }).is_err());
    assert!(run(6, 4, &DepthwiseConv1dShape { dilation: 0, ..shape }).is_err());
    assert!(run(6, 20, &DepthwiseConv1dShape::valid(3, 2, 10, 1)).is_err());
}
