//! L-BFGS for smooth convex functions.
//!
//! Leaves out: what is minimised. Invariant: deterministic; the value never rises by more than
//! rounding.
//!
//! Source: Nocedal and Wright 2006, algorithm 7.5; line search of Lewis and Overton 2013.

use super::design::dot;
use std::collections::VecDeque;

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 20;
const EVALUATIONS_PER_STEP_MAX: usize = 40;
const DECREASE_SHARE: f64 = 1e-4;
const CURVATURE_SHARE: f64 = 0.9;

/// Where a minimisation ended.
pub(super) struct Minimum {
    pub(super) point: Vec<f64>,
    pub(super) converged: bool,
    pub(super) iterations: u32,
}

struct Place {
    point: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// Minimises `function`, which gives value and gradient, until the largest gradient entry is
/// `tolerance` times the one at `start`.
pub(super) fn minimise(
    function: impl Fn(&[f64]) -> (f64, Vec<f64>),
    start: Vec<f64>,
    iterations_max: u32,
    tolerance: f64,
) -> Minimum {
    let evaluate = |point: Vec<f64>| {
        let (value, gradient) = function(&point);
        Place { point, value, gradient }
    };
    let mut here = evaluate(start);
    let goal = tolerance * largest(&here.gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    for iteration in 0..iterations_max {
        if largest(&here.gradient) <= goal {
            return Minimum { point: here.point, converged: true, iterations: iteration };
        }
        let direction = direction(&here.gradient, &memory);
        let Some(next) = search(&evaluate, &here, &direction) else {
            return Minimum { point: here.point, converged: false, iterations: iteration };
        };
        let step = difference(&next.point, &here.point);
        let change = difference(&next.gradient, &here.gradient);
        if dot(&step, &change) > 0.0 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((step, change));
        }
        here = next;
    }
    let converged = largest(&here.gradient) <= goal;
    Minimum { point: here.point, converged, iterations: iterations_max }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, b| a.max(b.abs()))
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn add_scaled(a: &mut [f64], scale: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += scale * b);
}

/// Minus the approximate inverse Hessian times the gradient (two-loop recursion).
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (step, change) in memory.iter().rev() {
        let share = dot(step, &q) / dot(step, change);
        add_scaled(&mut q, -share, change);
        shares.push(share);
    }
    let scale = match memory.back() {
        Some((step, change)) => dot(step, change) / dot(change, change),
        None => 1.0 / dot(gradient, gradient).sqrt().max(1.0),
    };
    q.iter_mut().for_each(|value| *value *= scale);
    for ((step, change), share) in memory.iter().zip(shares.into_iter().rev()) {
        let correction = dot(change, &q) / dot(step, change);
        add_scaled(&mut q, share - correction, step);
    }
    q
}

/// A point along `direction` that satisfies the weak Wolfe conditions; `None` at the rounding floor.
fn search(evaluate: &impl Fn(Vec<f64>) -> Place, here: &Place, direction: &[f64]) -> Option<Place> {
    let slope = dot(&here.gradient, direction);
    if slope >= 0.0 {
        return None;
    }
    let rounding = 4.0 * f64::EPSILON * here.value.abs();
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..EVALUATIONS_PER_STEP_MAX {
        let mut point = here.point.clone();
        add_scaled(&mut point, length, direction);
        let there = evaluate(point);
        let bound = here.value + DECREASE_SHARE * length * slope + rounding;
        if there.value.is_nan() || there.value > bound {
            high = length;
        } else if dot(&there.gradient, direction) < CURVATURE_SHARE * slope {
            low = length;
        } else {
            return Some(there);
        }
        length = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * low };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_minimum_of_a_badly_scaled_quadratic() {
        let function = |x: &[f64]| {
            let gradient: Vec<f64> =
                (0_i32..).zip(x).map(|(i, x)| 3_f64.powi(i) * (x - f64::from(i))).collect();
            let value =
                (0_i32..).zip(x).map(|(i, x)| 3_f64.powi(i) * (x - f64::from(i)).powi(2) / 2.0);
            (value.sum(), gradient)
        };
        let minimum = minimise(function, vec![0.0; 8], 500, 1e-12);
        assert!(minimum.converged, "{}", minimum.iterations);
        for (i, x) in (0_i32..).zip(&minimum.point) {
            assert!((x - f64::from(i)).abs() < 1e-8, "{i} {x}");
        }
    }

    #[test]
    fn a_spent_budget_is_not_convergence() {
        let function = |x: &[f64]| (x[0].powi(4), vec![4.0 * x[0].powi(3)]);
        assert!(!minimise(function, vec![3.0], 2, 1e-12).converged);
    }
}
