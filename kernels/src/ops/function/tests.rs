use super::*;
use crate::ops::gelu::gelu;

const ALL: [Function; 8] = [
    Function::Linear,
    Function::Relu,
    Function::Silu,
    Function::Exponential,
    Function::Softmax,
    Function::Sigmoid,
    Function::Tanh,
    Function::Gelu,
];

fn values(function: Function, width: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![9.0; x.len()];
    apply(function, width, x, &mut y).unwrap();
    y
}

fn slopes(function: Function, width: usize, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![9.0; x.len()];
    gradient(function, width, x, &values(function, width, x), dy, &mut dx).unwrap();
    dx
}

#[test]
fn gradients_are_the_slopes_of_the_functions() {
    let width = 5;
    let x: Vec<f32> = (0..40).map(|i| (i as f32 * 0.77).sin() * 3.0 + 0.01).collect();
    let dy: Vec<f32> = (0..40).map(|i| (i as f32 * 1.3).cos()).collect();
    for function in ALL {
        let dx = slopes(function, width, &x, &dy);
        let sum = |x: &[f32]| {
            let y = values(function, width, x);
            y.iter().zip(&dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum::<f64>()
        };
        for i in 0..x.len() {
            let (mut above, mut below) = (x.clone(), x.clone());
            above[i] += 4e-3;
            below[i] -= 4e-3;
            let slope = (sum(&above) - sum(&below)) / (f64::from(above[i]) - f64::from(below[i]));
            let apart = (slope - f64::from(dx[i])).abs();
            assert!(apart < 2e-3 + 1e-3 * slope.abs(), "{function:?} {i}: {slope} {}", dx[i]);
        }
    }
}

#[test]
fn values_are_those_of_the_operations_in_place() {
    let x: Vec<f32> = (0..100).map(|i| (i as f32 * 0.77).sin() * 9.0).collect();
    let mut expected = x.clone();
    gelu(&mut expected);
    assert_eq!(values(Function::Gelu, 1, &x), expected);
    crate::ops::softmax::softmax(&mut expected, 10).unwrap();
    let found = values(Function::Softmax, 10, &values(Function::Gelu, 10, &x));
    assert_eq!(found, expected);
}

#[test]
fn slopes_at_zero_and_far_ends() {
    let x = [0.0, -0.0, 60.0, -60.0];
    assert_eq!(slopes(Function::Relu, 1, &x, &[1.0; 4]), [0.0, 0.0, 1.0, 0.0]);
    for function in [Function::Gelu, Function::Silu] {
        let found = slopes(function, 1, &x, &[1.0; 4]);
        assert_eq!(found[..3], [0.5, 0.5, 1.0], "{function:?}");
        assert!(found[3].abs() < 1e-20);
    }
}

#[test]
fn every_instruction_set_and_thread_count_give_the_same_bits() {
    let x: Vec<f32> = (0..33 * 4000).map(|i| (i as f32 * 0.71).sin() * 7.0).collect();
    for function in ALL {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (values(function, 33, &x), slopes(function, 33, &x, &x)))
        };
        assert_eq!(run(1), run(3), "{function:?}");
        let x = &x[..33 * 3];
        let on = |isa| {
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            if function == Function::Softmax {
                softmax_part(isa, 33, x, &mut y);
                softmax_back(isa, 33, &y, x, &mut dx);
            } else {
                apply_part(isa, function, x, &mut y);
                gradient_part(isa, function, (x, &y), x, &mut dx);
            }
            (y, dx)
        };
        for isa in Isa::available() {
            assert_eq!(on(isa), on(Isa::Baseline), "{isa:?} {function:?}");
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let mut out = [0.0; 4];
    assert!(apply(Function::Relu, 3, &[0.0; 4], &mut out).is_err());
    assert!(apply(Function::Relu, 2, &[0.0; 2], &mut out).is_err());
    assert!(gradient(Function::Relu, 2, &[0.0; 4], &[0.0; 4], &[0.0; 3], &mut out).is_err());
    assert!(gradient(Function::Relu, 0, &[0.0; 4], &[0.0; 4], &[0.0; 4], &mut out).is_err());
}
