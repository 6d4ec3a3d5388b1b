use super::*;

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin() * 2.0 + 0.5).collect()
}

fn statistics(x: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut mean, mut variance) = (vec![9.0; width], vec![9.0; width]);
    batch_statistics(x, width, &mut mean, &mut variance).unwrap();
    (mean, variance)
}

/// Largest relative errors of mean and variance against f64, the mean's in deviations.
fn errors(x: &[f32], width: usize, (mean, variance): &(Vec<f32>, Vec<f32>)) -> (f64, f64) {
    let rows = (x.len() / width) as f64;
    let mut worst = (0.0_f64, 0.0_f64);
    for c in 0..width {
        let column = || x.iter().skip(c).step_by(width).map(|&x| f64::from(x));
        let exact = column().sum::<f64>() / rows;
        let square = column().map(|x| (x - exact) * (x - exact)).sum::<f64>() / rows;
        worst.0 = worst.0.max((f64::from(mean[c]) - exact).abs() / exact.abs());
        worst.1 = worst.1.max((f64::from(variance[c]) - square).abs() / square);
    }
    worst
}

#[test]
fn worked_statistics() {
    assert_eq!(statistics(&[1.0, 5.0, 3.0, 5.0], 2), (vec![2.0, 5.0], vec![1.0, 0.0]));
}

#[test]
fn a_mean_far_from_zero_costs_no_digits() {
    let width = 3;
    // One outlier in the first row would spoil a shift taken from it.
    let mut x: Vec<f32> = wave(1000 * width, 0.7).iter().map(|x| x * 0.01 + 1000.0).collect();
    x[0] = 3000.0;
    let found = errors(&x, width, &statistics(&x, width));
    assert!(found.0 < 1e-7 && found.1 < 1e-6, "{found:?}");
}

#[test]
fn sums_by_example_give_statistics_that_do_not_depend_on_when_they_were_taken() {
    let (width, length, examples) = (5, 31, 9);
    let x: Vec<f32> = wave(examples * length * width, 0.7).iter().map(|x| x + 100.0).collect();
    let shift = vec![100.4; width];
    let sums_of = |x: &[f32]| {
        let count = x.len() / length;
        let (mut sums, mut squares) = (vec![9.0; count], vec![9.0; count]);
        example_sums(x, width, &shift, &mut sums, &mut squares).unwrap();
        (sums, squares)
    };
    let (sums, squares) = sums_of(&x);
    for (example, x) in x.chunks(length * width).enumerate() {
        let here = example * width..(example + 1) * width;
        assert_eq!(sums_of(x), (sums[here.clone()].to_vec(), squares[here].to_vec()));
    }
    let (mut mean, mut variance) = (vec![0.0; width], vec![0.0; width]);
    let rows = examples * length;
    statistics_of_sums(&sums, &squares, &shift, rows, &mut mean, &mut variance).unwrap();
    let found = errors(&x, width, &(mean, variance));
    assert!(found.0 < 1e-7 && found.1 < 1e-5, "{found:?}");
}

fn gradients(
    x: &[f32],
    dy: &[f32],
    normalisation: &Normalisation<'_>,
    training: bool,
) -> [Vec<f32>; 3] {
    let (mut dx, mut dgamma) = (vec![9.0; x.len()], vec![9.0; normalisation.width()]);
    let mut dbeta = dgamma.clone();
    let places = NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta };
    batch_norm_gradient(x, dy, normalisation, training, places).unwrap();
    [dx, dgamma, dbeta]
}

#[test]
fn input_gradient_is_the_slope_of_the_map() {
    let width = 2;
    let (x, dy) = (wave(5 * width, 0.7), wave(5 * width, 1.3));
    let (gamma, beta) = (wave(width, 0.4), wave(width, 0.2));
    for training in [true, false] {
        let of = |x: &[f32]| {
            if training { statistics(x, width) } else { (vec![0.3; width], vec![1.1; width]) }
        };
        let value = |x: &[f32]| {
            let (mean, variance) = &of(x);
            let norm = Normalisation { mean, variance, gamma: &gamma, beta: &beta, epsilon: 1e-3 };
            let mut y = vec![0.0; x.len()];
            batch_norm(x, &norm, &mut y).unwrap();
            y.iter().zip(&dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum::<f64>()
        };
        let (mean, variance) = &of(&x);
        let norm = Normalisation { mean, variance, gamma: &gamma, beta: &beta, epsilon: 1e-3 };
        let [dx, _, _] = gradients(&x, &dy, &norm, training);
        for i in 0..x.len() {
            let (mut above, mut below) = (x.clone(), x.clone());
            above[i] += 1e-2;
            below[i] -= 1e-2;
            let slope = (value(&above) - value(&below)) / 2e-2;
            assert!((slope - f64::from(dx[i])).abs() < 3e-3, "{i}: {slope} {}", dx[i]);
        }
    }
}

#[test]
fn results_do_not_depend_on_threads_or_instruction_set() {
    let width = 37;
    let (x, dy) = (wave(2000 * width, 0.77), wave(2000 * width, 1.3));
    let (gamma, beta) = (wave(width, 0.4), wave(width, 0.2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mean, variance) = statistics(&x, width);
            let norm = Normalisation {
                mean: &mean,
                variance: &variance,
                gamma: &gamma,
                beta: &beta,
                epsilon: 1e-3,
            };
            let mut y = vec![0.0; x.len()];
            batch_norm(&x, &norm, &mut y).unwrap();
            (y, gradients(&x, &dy, &norm, true), mean, variance)
        })
    };
    assert_eq!(run(1), run(3));
    let on = |isa| {
        let (mut part, mut y) = (vec![0.0; 3 * width], vec![0.0; 10 * width]);
        let (x, dy) = (&x[..10 * width], &dy[..10 * width]);
        slice_statistics(isa, x, &mut part);
        let norm = Normalisation {
            mean: &beta,
            variance: &gamma,
            gamma: &gamma,
            beta: &beta,
            epsilon: 9.0,
        };
        normalise(isa, norm, &gamma, x, &mut y);
        let mut sums = vec![0.0; 2 * width];
        sum_slice(isa, &beta, x, dy, &mut sums);
        let sums64: Vec<f64> = sums.iter().map(|&sum| f64::from(sum)).collect();
        let mut dx = vec![0.0; x.len()];
        map_back(isa, &Backward::new(&norm, &sums64, 10), &beta, (x, dy), &mut dx);
        let (mut a, mut b) = (vec![0.0; width], vec![0.0; width]);
        sum_example(isa, x, &beta, &mut a, &mut b);
        (part, y, sums, dx, a, b)
    };
    for isa in Isa::available() {
        assert_eq!(on(isa), on(Isa::Baseline), "{isa:?}");
    }
}

#[test]
fn moving_statistics_follow_the_batch() {
    let mut moving = [1.0, 0.0];
    update_moving(&mut moving, &[3.0, -1.0], 0.75).unwrap();
    assert_eq!(moving, [1.5, -0.25]);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let (mut a, mut b) = ([0.0; 2], [0.0; 2]);
    assert!(batch_statistics(&[0.0; 3], 2, &mut a, &mut b).is_err());
    assert!(batch_statistics(&[], 2, &mut a, &mut b).is_err());
    assert!(batch_statistics(&[0.0; 4], 4, &mut a, &mut b).is_err());
    assert!(example_sums(&[0.0; 3], 2, &[0.0; 2], &mut a, &mut b).is_err());
    assert!(example_sums(&[0.0; 4], 2, &[0.0; 3], &mut a, &mut b).is_err());
    assert!(statistics_of_sums(&[0.0; 2], &[0.0; 2], &[0.0; 2], 0, &mut a, &mut b).is_err());
    assert!(update_moving(&mut a, &[0.0; 3], 0.5).is_err());
    let norm = Normalisation {
        mean: &[0.0; 2],
        variance: &[1.0; 2],
        gamma: &[1.0; 2],
        beta: &[0.0; 1],
        epsilon: 0.0,
    };
    let mut out = [0.0; 4];
    assert!(batch_norm(&[0.0; 4], &norm, &mut out).is_err());
    let norm = Normalisation { beta: &[0.0; 2], ..norm };
    assert!(batch_norm(&[0.0; 4], &norm, &mut out).is_ok());
    assert!(batch_norm(&[0.0; 2], &norm, &mut out).is_err());
    let places = NormGradient { dx: Some(&mut out), dgamma: &mut a, dbeta: &mut b };
    assert!(batch_norm_gradient(&[0.0; 2], &[0.0; 2], &norm, true, places).is_err());
}
