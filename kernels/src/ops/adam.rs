//! One step of Adam, in the forms of Keras and of PyTorch.
//!
//! Leaves out: penalties, which are in the gradient, and rates that change. Invariant: each weight
//! is a chain over its own gradient and moments alone.

pub mod cuda;

use crate::error::{Result, check_length};
use crate::isa::{Isa, per_isa};
use rayon::prelude::*;

/// Where training stands, and how far a step goes.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Which step this is, from 1.
    pub step: u64,
    /// Learning rate.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Guard of the divisor.
    pub epsilon: f64,
    /// PyTorch's form, whose guard is not corrected for the start; else Keras's.
    pub torch_form: bool,
}

/// Factors that all weights share, rounded once.
#[derive(Clone, Copy)]
struct Factors {
    first: f32,
    second: f32,
    rate: f32,
    root: f32,
    guard: f32,
}

impl AdamStep {
    fn factors(&self) -> Factors {
        let rate = f64::from(self.learning_rate);
        let (first, second) = ((1.0 - self.beta_1) as f32, (1.0 - self.beta_2) as f32);
        let guard = self.epsilon as f32;
        if self.torch_form {
            let correction = (1.0 - power(self.beta_2, self.step)).sqrt();
            let rate = (rate / (1.0 - power(self.beta_1, self.step))) as f32;
            return Factors { first, second, rate, root: (1.0 / correction) as f32, guard };
        }
        // Keras rounds the decays to f32 before it takes their powers.
        let [beta_1, beta_2] = [self.beta_1, self.beta_2].map(|beta| f64::from(beta as f32));
        let correction = (1.0 - power(beta_2, self.step)).sqrt();
        let rate = (rate * correction / (1.0 - power(beta_1, self.step))) as f32;
        Factors { first, second, rate, root: 1.0, guard }
    }
}

/// `base` to a whole power, by squaring, so that it is the same on every machine.
fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, base, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result *= square;
        }
        square *= square;
        rest /= 2;
    }
    result
}

/// Moves `weights` one step against the gradient, and the moments `m` and `v` towards it.
///
/// ```text
/// m += (g - m) (1 - b1),  v += (g² - v) (1 - b2)
/// w -= m lr sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + epsilon)             Keras
/// w -= m lr / (1 - b1^t) / (sqrt(v) / sqrt(1 - b2^t) + epsilon)           PyTorch
/// ```
///
/// - `gradient`, `m`, `v`, `weights`: of one length
///
/// # Errors
/// `Shape` if lengths differ.
///
/// Source: Kingma and Ba 2015, algorithm 1, and the end of its section 2 for the form of Keras.
pub fn adam(
    step: &AdamStep,
    gradient: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    weights: &mut [f32],
) -> Result<()> {
    const OP: &str = "adam";
    const BLOCK: usize = 1 << 14;
    check_length(OP, "m", m.len(), gradient.len())?;
    check_length(OP, "v", v.len(), gradient.len())?;
    check_length(OP, "weights", weights.len(), gradient.len())?;
    let (isa, factors) = (Isa::best(), step.factors());
    let moments = m.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK));
    let places = gradient.par_chunks(BLOCK).zip(moments).zip(weights.par_chunks_mut(BLOCK));
    places.for_each(|((gradient, (m, v)), weights)| {
        step_part(isa, factors, gradient, (m, v), weights);
    });
    Ok(())
}

per_isa!(fn step_part(factors: Factors, gradient: &[f32], moments: (&mut [f32], &mut [f32]), weights: &mut [f32]) = step_all);

#[inline(always)]
fn step_all(
    factors: Factors,
    gradient: &[f32],
    (m, v): (&mut [f32], &mut [f32]),
    weights: &mut [f32],
) {
    let Factors { first, second, rate, root, guard } = factors;
    for (((w, &g), m), v) in weights.iter_mut().zip(gradient).zip(m).zip(v) {
        *m = (g - *m).mul_add(first, *m);
        *v = g.mul_add(g, -*v).mul_add(second, *v);
        *w -= *m * rate / v.sqrt().mul_add(root, guard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERAS: AdamStep = AdamStep {
        step: 1,
        learning_rate: 0.01,
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-7,
        torch_form: false,
    };

    #[test]
    fn the_first_step_is_the_rate_against_the_sign() {
        for torch_form in [false, true] {
            let (mut m, mut v, mut w) = ([0.0; 3], [0.0; 3], [1.0, 2.0, 3.0]);
            let step = AdamStep { torch_form, ..KERAS };
            adam(&step, &[0.5, -4.0, 0.0], &mut m, &mut v, &mut w).unwrap();
            let expected: [f32; 3] = [0.99, 2.01, 3.0];
            assert!(w.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-6), "{w:?}");
            assert!((m[0] - 0.05).abs() < 1e-7 && (v[0] - 2.5e-4).abs() < 1e-9);
        }
    }

    #[test]
    fn only_pytorch_corrects_the_root_before_the_guard() {
        let step_of = |torch_form| {
            let mut w = [0.0];
            let step = AdamStep { torch_form, epsilon: 1e-3, ..KERAS };
            adam(&step, &[1e-3], &mut [0.0], &mut [0.0], &mut w).unwrap();
            w[0]
        };
        // sqrt(v) is 1e-3 after the correction and 3.16e-5 before it.
        assert!((step_of(true) + 0.005).abs() < 1e-5, "{}", step_of(true));
        assert!((step_of(false) + 0.01 * 0.03065).abs() < 1e-5, "{}", step_of(false));
    }

    #[test]
    fn powers_of_whole_numbers() {
        assert_eq!((power(0.5, 0), power(0.5, 3), power(2.0, 10)), (1.0, 0.125, 1024.0));
        assert!((power(0.999, 1000) - 0.999_f64.powf(1000.0)).abs() < 1e-14);
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let gradient: Vec<f32> = (0..1025).map(|i| (i as f32 * 0.7).sin()).collect();
        let run = |isa| {
            let (mut m, mut v, mut w) = (gradient.clone(), vec![0.3; 1025], vec![0.7; 1025]);
            step_part(isa, KERAS.factors(), &gradient, (&mut m, &mut v), &mut w);
            (m, v, w)
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (mut a, mut b, mut c) = ([0.0; 2], [0.0; 2], [0.0; 3]);
        assert!(adam(&KERAS, &[0.0; 2], &mut a, &mut b, &mut c).is_err());
        assert!(adam(&KERAS, &[0.0; 3], &mut a, &mut b, &mut c).is_err());
    }
}
