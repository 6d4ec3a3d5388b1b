use super::*;
use crate::cuda::testing::{assert_close, draw, for_each_device};
use crate::cuda::{DeviceArray, Gpu};
use crate::ops::batch_norm::{NormGradient, Normalisation};
use crate::ops::dropout::DropoutMask;
use crate::ops::norm_block::{self as on_cpu, NormBlock};

struct Case {
    shape: (usize, usize, usize),
    size: usize,
    function: Function,
    rates: [f32; 2],
    training: bool,
}

const SEED: u64 = 0x0123_4567_89ab_cdef;
const STEP: u64 = 11;

/// Output, picked, then gradients of input, scale and shift.
type Results = (Vec<f32>, Vec<u16>, [Vec<f32>; 3]);

fn drops(rates: [f32; 2]) -> [Option<LayerDropout>; 2] {
    let of = |layer: u32, rate: f32| (rate > 0.0).then_some(LayerDropout { layer, rate });
    [of(2, rates[0]), of(5, rates[1])]
}

fn expect(case: &Case, norm: Normalisation<'_>, x: &[f32], pool: Option<PoolShape>) -> Results {
    let mask = |drop: Option<LayerDropout>| {
        drop.map(|LayerDropout { layer, rate }| DropoutMask { seed: SEED, step: STEP, layer, rate })
    };
    let [before, after] = drops(case.rates).map(mask);
    let block = NormBlock { normalisation: norm, function: case.function, before, pool, after };
    let outputs = pool.map_or(x.len(), |pool| case.shape.0 * pool.output());
    let mut picked = vec![0; if pool.is_some() { outputs } else { 0 }];
    let mut out = vec![0.0; outputs];
    on_cpu::norm_block(&block, x, &mut out, &mut picked).unwrap();
    let dy = draw(9, outputs);
    let width = case.shape.2;
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
    let places = NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta };
    on_cpu::norm_block_gradient(&block, x, &dy, &picked, case.training, places).unwrap();
    (out, picked, [dx, dgamma, dbeta])
}

fn find(
    gpu: &Gpu,
    case: &Case,
    channels: Channels<'_>,
    x: &[f32],
    pool: Option<PoolShape>,
) -> Result<Results> {
    let [before, after] = drops(case.rates);
    let block = DeviceBlock { channels, function: case.function, before, pool, after };
    let outputs = pool.map_or(x.len(), |pool| case.shape.0 * pool.output());
    let width = case.shape.2;
    let x = DeviceArray::from_slice(gpu, x)?;
    let dy = DeviceArray::from_slice(gpu, &draw(9, outputs))?;
    let draws = DeviceArray::from_slice(gpu, &[SEED, STEP])?;
    let mut out = DeviceArray::new(gpu, outputs)?;
    let mut picked = match block.picks() {
        true => Some(DeviceArray::new(gpu, outputs)?),
        false => None,
    };
    let mut written = picked.as_mut().map(DeviceArray::view_mut);
    norm_block(&block, draws.view(), x.view(), &mut out.view_mut(), written.as_mut())?;
    let mut scratch = DeviceArray::new(gpu, gradient_scratch_values(x.len() / width, width))?;
    let (mut dx, mut dgamma) = (DeviceArray::new(gpu, x.len())?, DeviceArray::new(gpu, width)?);
    let mut dbeta = DeviceArray::new(gpu, width)?;
    let given =
        BlockGiven { x: x.view(), dy: dy.view(), picked: picked.as_ref().map(DeviceArray::view) };
    let gradient = BlockGradient {
        dx: Some(&mut dx.view_mut()),
        dgamma: &mut dgamma.view_mut(),
        dbeta: &mut dbeta.view_mut(),
    };
    norm_block_gradient(&block, &given, case.training, gradient, &mut scratch.view_mut())?;
    let picked = match &picked {
        Some(picked) if pool.is_some() => picked.to_vec()?,
        _ => Vec::new(),
    };
    Ok((out.to_vec()?, picked, [dx.to_vec()?, dgamma.to_vec()?, dbeta.to_vec()?]))
}

fn check(gpu: &Gpu, case: &Case) -> Result<()> {
    let (sequences, length, width) = case.shape;
    let x = draw(1, sequences * length * width);
    let (gamma, beta, mean) = (draw(3, width), draw(4, width), draw(5, width));
    let variance: Vec<f32> = draw(6, width).iter().map(|v| 1.1 + v).collect();
    let norm = Normalisation {
        mean: &mean,
        variance: &variance,
        gamma: &gamma,
        beta: &beta,
        epsilon: 1e-3,
    };
    let pool = (case.size > 0).then_some(PoolShape { length, width, size: case.size });
    let (out, picked, gradients) = expect(case, norm, &x, pool);
    let arrays = [&mean, &norm.inverse_deviations(), &norm.scales(), &beta]
        .map(|values| DeviceArray::from_slice(gpu, values).unwrap());
    let [mean, inverse, scale, beta] = &arrays;
    let channels = Channels {
        mean: mean.view(),
        inverse: inverse.view(),
        scale: scale.view(),
        beta: beta.view(),
    };
    let found = find(gpu, case, channels, &x, pool)?;
    // A product that the device fuses where the CPU rounds twice may turn a near tie of maxima, never a mask.
    assert_close(&found.0, &out, 1e-6);
    assert_eq!(found.1, picked, "{:?}", case.function);
    let zeros = |values: &[f32]| values.iter().map(|x| *x == 0.0).collect::<Vec<_>>();
    assert_eq!(zeros(&found.0), zeros(&out), "the mask");
    for (found, expected) in found.2.iter().zip(&gradients) {
        assert_close(found, expected, 3e-6);
    }
    assert_eq!(find(gpu, case, channels, &x, pool)?, found, "the same bytes again");
    Ok(())
}

#[test]
fn blocks_with_a_pool_are_those_of_the_cpu() {
    use Function::{Exponential, Gelu, Linear, Relu, Silu};
    for_each_device(|gpu| {
        let cases = [
            ((1, 1, 1), 1, Linear, [0.0, 0.0], true),
            ((3, 43, 21), 5, Exponential, [0.2, 0.3], true),
            ((2, 17, 130), 4, Relu, [0.0, 0.5], true),
            ((5, 30, 3), 30, Silu, [0.5, 0.0], false),
            ((2, 150, 9), 2, Gelu, [0.0, 0.0], true),
        ];
        for (shape, size, function, rates, training) in cases {
            check(gpu, &Case { shape, size, function, rates, training })?;
        }
        Ok(())
    });
}

#[test]
fn blocks_without_a_pool_are_those_of_the_cpu() {
    use Function::{Linear, Relu, Sigmoid, Tanh};
    for_each_device(|gpu| {
        let cases = [
            ((1, 1, 3), Linear, 0.0, true),
            ((5, 33, 37), Relu, 0.5, true),
            ((260, 1, 5), Tanh, 0.3, true),
            ((3, 4, 130), Sigmoid, 0.0, false),
        ];
        for (shape, function, rate, training) in cases {
            check(gpu, &Case { shape, size: 0, function, rates: [rate, 0.0], training })?;
        }
        Ok(())
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for_each_device(|gpu| {
        let two = DeviceArray::from_slice(gpu, &[1.0_f32; 2])?;
        let channels =
            Channels { mean: two.view(), inverse: two.view(), scale: two.view(), beta: two.view() };
        let block = DeviceBlock {
            channels,
            function: Function::Relu,
            before: None,
            pool: None,
            after: None,
        };
        let draws = DeviceArray::from_slice(gpu, &[0_u64; 2])?;
        let x = DeviceArray::from_slice(gpu, &[1.0_f32; 4])?;
        let mut out = DeviceArray::new(gpu, 4)?;
        let run = |block: &DeviceBlock<'_>, x: View<'_, f32>, out: &mut ViewMut<'_, f32>| {
            norm_block(block, draws.view(), x, out, None)
        };
        assert!(run(&block, x.view(), &mut out.view_mut()).is_ok());
        assert!(run(&block, x.view().part(0..3), &mut out.view_mut()).is_err());
        assert!(run(&block, x.view().part(0..2), &mut out.view_mut()).is_err());
        let drop = Some(LayerDropout { layer: 0, rate: 0.5 });
        for refused in [
            DeviceBlock { function: Function::Softmax, ..block },
            DeviceBlock { before: drop, ..block },
            DeviceBlock { after: drop, ..block },
        ] {
            assert!(run(&refused, x.view(), &mut out.view_mut()).is_err());
        }
        Ok(())
    });
}
