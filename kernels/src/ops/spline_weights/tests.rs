use super::*;

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

#[test]
fn splines_add_up_to_one_at_every_position() {
    for (length, bases, degree) in [(50, 10, 3), (7, 5, 2), (20, 4, 3), (9, 3, 1)] {
        let basis = basis(length, bases, degree);
        assert_eq!(basis.len(), length * bases);
        for row in basis.chunks(bases) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{length} {bases}: {row:?}");
        }
    }
}

#[test]
fn zero_weights_change_nothing() {
    let x = wave(2 * 9 * 3, 0.7);
    let mut out = vec![9.0; x.len()];
    spline_weights(&x, &basis(9, 6, 3), &[0.0; 18], 3, &mut out).unwrap();
    assert_eq!(out, x);
}

/// The map is linear in its input, and affine in its weights.
#[test]
fn gradients_are_the_slopes_of_the_map() {
    let (length, bases, width) = (9, 6, 3);
    let splines = basis(length, bases, 3);
    let (x, dy) = (wave(2 * length * width, 0.7), wave(2 * length * width, 0.9));
    let weights = wave(bases * width, 1.1);
    let value = |x: &[f32], weights: &[f32]| {
        let mut y = vec![0.0; x.len()];
        spline_weights(x, &splines, weights, width, &mut y).unwrap();
        y.iter().zip(&dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum::<f64>()
    };
    let (mut dx, mut dw) = (vec![9.0; x.len()], vec![9.0; weights.len()]);
    let given = (x.as_slice(), dy.as_slice());
    spline_weights_gradient(given, &splines, &weights, width, Some(&mut dx), &mut dw).unwrap();
    for i in 0..x.len() {
        let mut unit = vec![0.0; x.len()];
        unit[i] = 1.0;
        assert!((value(&unit, &weights) - f64::from(dx[i])).abs() < 1e-5, "dx {i}");
    }
    for i in 0..weights.len() {
        let mut unit = vec![0.0; weights.len()];
        unit[i] = 1.0;
        let slope = value(&x, &unit) - value(&x, &vec![0.0; weights.len()]);
        assert!((slope - f64::from(dw[i])).abs() < 1e-5, "dweights {i}");
    }
}

#[test]
fn penalty_is_that_of_its_definition() {
    // Second differences of 1, 4, 9 are 2; of 0, 1, 0 they are -2.
    let weights = [1.0, 0.0, 4.0, 1.0, 9.0, 0.0];
    let mut gradient = [0.0; 6];
    let value = spline_penalty(&weights, 2, 3, (3.0, 0.5), Some(&mut gradient)).unwrap();
    assert_eq!(value, 3.0 * (4.0 + 4.0) / 2.0 + 0.5 * 99.0 / 2.0);
    // 2 (3 * [1, -2, 1] * 2 + 0.5 w) / 2 in the first channel.
    assert_eq!([gradient[0], gradient[2], gradient[4]], [6.5, -10.0, 10.5]);
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let (splines, weights) = (wave(5, 0.3), wave(5 * 33, 0.7));
    let run = |isa| {
        let mut row = vec![1.0; 33];
        combine(isa, &splines, &weights, &mut row);
        row
    };
    for isa in Isa::available() {
        assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let splines = basis(3, 4, 2);
    let mut out = [0.0; 6];
    let mut run = |x: usize, weights: usize, width| {
        spline_weights(&vec![0.0; x], &splines, &vec![0.0; weights], width, &mut out)
    };
    assert!(run(6, 8, 2).is_ok());
    assert!(run(5, 8, 2).is_err());
    assert!(run(6, 7, 2).is_err());
    assert!(run(6, 8, 0).is_err());
    assert!(run(12, 8, 2).is_err());
    assert!(spline_penalty(&[0.0; 3], 2, 3, (1.0, 1.0), None).is_err());
}
