use super::*;
use crate::cuda::testing::{assert_close, draw, for_each_device};
use crate::cuda::{DeviceArray, Gpu};
use crate::ops::batch_norm as on_cpu;
use crate::ops::gather::cuda::Order;

const EPSILON: f32 = 1e-3;

fn array(gpu: &Gpu, values: &[f32]) -> DeviceArray<f32> {
    DeviceArray::from_slice(gpu, values).unwrap()
}

/// Mean, inverse deviation, scale, moving mean, moving variance.
fn run(
    gpu: &Gpu,
    gamma: &[f32],
    find: impl FnOnce(&mut Finish<'_>) -> Result<()>,
) -> Result<Vec<Vec<f32>>> {
    let width = gamma.len();
    let gamma = array(gpu, gamma);
    let mut kept: Vec<_> = (0..5).map(|_| DeviceArray::<f32>::new(gpu, width).unwrap()).collect();
    for (moving, value) in kept[3..].iter_mut().zip([0.5, 2.0]) {
        moving.view_mut().write(&vec![value; width])?;
    }
    let [mean, inverse, scale, moving_mean, moving_variance] = &mut kept[..] else {
        panic!("five arrays")
    };
    let moving = Moving {
        mean: moving_mean.view_mut(),
        variance: moving_variance.view_mut(),
        momentum: 0.9,
    };
    let into =
        ChannelsMut { mean: mean.view_mut(), inverse: inverse.view_mut(), scale: scale.view_mut() };
    let gamma = Some(gamma.view());
    find(&mut Finish { gamma, epsilon: EPSILON, moving: Some(moving), into })?;
    kept.iter().map(DeviceArray::to_vec).collect()
}

fn expect(mean: &[f32], variance: &[f32], gamma: &[f32]) -> Vec<Vec<f32>> {
    let inverse: Vec<f32> = variance
        .iter()
        .map(|v| (1.0 / (f64::from(*v) + f64::from(EPSILON)).sqrt()) as f32)
        .collect();
    let scale = inverse.iter().zip(gamma).map(|(r, gamma)| r * gamma).collect();
    let (mut moving_mean, mut moving_variance) = (vec![0.5; mean.len()], vec![2.0; mean.len()]);
    on_cpu::update_moving(&mut moving_mean, mean, 0.9).unwrap();
    on_cpu::update_moving(&mut moving_variance, variance, 0.9).unwrap();
    vec![mean.to_vec(), inverse, scale, moving_mean, moving_variance]
}

#[test]
fn statistics_of_every_shape_are_those_of_the_cpu() {
    for_each_device(|gpu| {
        for (rows, width) in [(1, 1), (2, 3), (127, 3), (129, 130), (700, 33)] {
            // Means far from zero, where a careless sum loses its digits.
            let mut x = draw(1, rows * width);
            let offsets = draw(2, width);
            for row in x.chunks_exact_mut(width) {
                row.iter_mut().zip(&offsets).for_each(|(x, offset)| *x += 300.0 * offset);
            }
            let gamma = draw(3, width);
            let (mut mean, mut variance) = (vec![0.0; width], vec![0.0; width]);
            on_cpu::batch_statistics(&x, width, &mut mean, &mut variance).unwrap();
            let device = array(gpu, &x);
            let mut scratch = DeviceArray::new(gpu, scratch_values(rows, width))?;
            let mut find = || {
                run(gpu, &gamma, |finish| {
                    batch_statistics(device.view(), finish, &mut scratch.view_mut())
                })
            };
            let found = find()?;
            for (found, expected) in found.iter().zip(expect(&mean, &variance, &gamma)) {
                assert_close(found, &expected, 2e-6);
            }
            assert_eq!(find()?, found, "the same bytes again");
        }
        Ok(())
    });
}

#[test]
fn statistics_of_sums_are_those_of_the_chosen_examples() {
    for_each_device(|gpu| {
        let (examples, positions, width) = (9, 5, 35);
        let x = draw(1, examples * positions * width);
        let (shift, gamma) = (draw(2, width), draw(3, width));
        let (mut sums, mut squares) = (vec![0.0; examples * width], vec![0.0; examples * width]);
        on_cpu::example_sums(&x, width, &shift, &mut sums, &mut squares).unwrap();
        let numbers = [8, 0, 3, 3, 7, 1];
        let mut order = Order::new(gpu, numbers.len(), examples)?;
        order.write(&numbers)?;
        let (sums, squares, shift) = (array(gpu, &sums), array(gpu, &squares), array(gpu, &shift));
        let all = ExampleSums { shift: shift.view(), sums: sums.view(), squares: squares.view() };
        let batch = DeviceArray::from_slice(gpu, &[1_u64])?;
        let chosen = Chosen { order: &order, batch: Some(batch.view()), batch_size: 3 };
        let found =
            run(gpu, &gamma, |finish| statistics_of_sums(&all, &chosen, 3, positions, finish))?;
        let example = positions * width;
        let chosen: Vec<f32> = numbers[3..]
            .iter()
            .flat_map(|&n| x[n as usize * example..][..example].to_vec())
            .collect();
        let (mut mean, mut variance) = (vec![0.0; width], vec![0.0; width]);
        on_cpu::batch_statistics(&chosen, width, &mut mean, &mut variance).unwrap();
        for (found, expected) in found.iter().zip(expect(&mean, &variance, &gamma)) {
            assert_close(found, &expected, 3e-6);
        }
        Ok(())
    });
}

#[test]
fn folded_weights_give_the_map_and_unfolded_gradients_its_slopes() {
    for_each_device(|gpu| {
        for (channels, width) in [(1, 1), (9, 35), (130, 3)] {
            let (gamma, beta) = (draw(1, channels), draw(2, channels));
            let (weights, bias) = (draw(3, channels * width), draw(4, width));
            let dfolded = draw(5, channels * width);
            let (mut folded, mut shifts) = (weights.clone(), vec![0.0_f64; width]);
            let (mut dweights, mut dgamma) = (dfolded.clone(), vec![0.0_f32; channels]);
            let mut dbeta = dgamma.clone();
            for c in 0..channels {
                let (mut scale, mut shift) = (0.0_f64, 0.0_f64);
                for k in 0..width {
                    let at = c * width + k;
                    folded[at] = gamma[c] * weights[at];
                    shifts[k] += f64::from(beta[c]) * f64::from(weights[at]);
                    scale += f64::from(weights[at]) * f64::from(dfolded[at]);
                    shift += f64::from(weights[at]) * f64::from(bias[k]);
                    dweights[at] = gamma[c] * dfolded[at] + beta[c] * bias[k];
                }
                (dgamma[c], dbeta[c]) = (scale as f32, shift as f32);
            }
            let shifted: Vec<f32> =
                shifts.iter().zip(&bias).map(|(s, b)| (s + f64::from(*b)) as f32).collect();
            let inputs = [&gamma, &beta, &weights].map(|values| array(gpu, values));
            let [gamma, beta, weights] = &inputs;
            let product =
                FoldedProduct { gamma: gamma.view(), beta: beta.view(), weights: weights.view() };
            let bias = array(gpu, &bias);
            let mut into = DeviceArray::new(gpu, folded.len())?;
            let mut into_bias = DeviceArray::new(gpu, width)?;
            let (mut a, mut b) = (into.view_mut(), into_bias.view_mut());
            fold(&product, Some(bias.view()), &mut a, &mut b)?;
            assert_close(&into.to_vec()?, &folded, 1e-6);
            assert_close(&into_bias.to_vec()?, &shifted, 1e-6);
            let mut into = array(gpu, &dfolded);
            let (mut a, mut b) =
                (DeviceArray::new(gpu, channels)?, DeviceArray::new(gpu, channels)?);
            let places = (&mut a.view_mut(), &mut b.view_mut());
            unfold(&product, bias.view(), &mut into.view_mut(), places.0, places.1)?;
            for (found, expected) in [(into, dweights), (a, dgamma), (b, dbeta)] {
                assert_close(&found.to_vec()?, &expected, 1e-6);
            }
        }
        Ok(())
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for_each_device(|gpu| {
        let x = array(gpu, &[1.0; 6]);
        let mut scratch = DeviceArray::new(gpu, 8)?;
        let short = run(gpu, &[1.0; 3], |finish| {
            batch_statistics(x.view(), finish, &mut scratch.view_mut())
        });
        assert!(short.is_err());
        let mut scratch = DeviceArray::new(gpu, 100)?;
        for values in [0..0, 0..5] {
            let x = x.view().part(values);
            let refused =
                run(gpu, &[1.0; 3], |finish| batch_statistics(x, finish, &mut scratch.view_mut()));
            assert!(refused.is_err());
        }
        Ok(())
    });
}
