//! How a transform of a given number of points is cut into steps, and the factors of these.
//!
//! Leaves out: arithmetic on points. Invariant: a plan depends on the number of points alone;
//! factors are computed in f64 without the platform's library and rounded once.

use super::vector::Factor;
use std::f64::consts::FRAC_PI_2;

/// Fewest points of a transform: the first and the last step of four.
const POINTS_MIN: usize = 16;
/// Steps of four that stay within a row, so that a row stays in the nearest cache.
const ROW_STEPS_MAX: usize = 4;
/// Steps of four below the outermost columns, so that these rows stay in the second cache.
const CACHED_STEPS_MAX: usize = 6;
/// Points that stay in the second cache as a whole.
const CACHED_POINTS_MAX: usize = 1 << 14;
/// Points between rows, so that a column does not fall on one set of a cache.
const PAD: usize = 4;
/// Shortest row that is padded.
const PADDED_ROW_MIN: usize = 16;

/// One step of decimation: its factors for each point of a part.
pub(super) enum Step {
    /// Four parts of real inputs, at frequencies a quarter above whole ones.
    First(Vec<[Factor; 4]>),
    /// Two parts.
    Two(Vec<[Factor; 1]>),
    /// Three parts.
    Three(Vec<[Factor; 2]>),
    /// Four parts.
    Four(Vec<[Factor; 3]>),
    /// Five parts.
    Five(Vec<[Factor; 4]>),
}

impl Step {
    /// Parts that meet.
    pub(super) fn radix(&self) -> usize {
        match self {
            Self::Two(_) => 2,
            Self::Three(_) => 3,
            Self::First(_) | Self::Four(_) => 4,
            Self::Five(_) => 5,
        }
    }
}

/// The steps of a transform and where its points lie.
///
/// Points are rows of rows: `[outer rows][inner rows][row_points]`, with some points unused after
/// each row. Outer steps meet across outer rows, middle steps across the inner rows of one outer
/// row, row steps within a row.
pub(super) struct Plan {
    pub(super) points: usize,
    pub(super) outer: Vec<Step>,
    pub(super) middle: Vec<Step>,
    pub(super) row: Vec<Step>,
    /// Points of an outer row.
    pub(super) columns: usize,
    /// Points of an inner row.
    pub(super) row_points: usize,
    /// Places of an inner row.
    pub(super) row_stride: usize,
    /// Places of an outer row.
    pub(super) stride: usize,
}

/// Fewest points whose transform holds a causal convolution of `length` without wrapping.
///
/// ```text
/// min of {1, 3, 5} 2^k >= length, at least 16 2^k
/// ```
pub(super) fn points_for(length: usize) -> usize {
    [1, 3, 5]
        .map(|odd| odd * length.div_ceil(odd).next_power_of_two().max(POINTS_MIN))
        .into_iter()
        .fold(usize::MAX, usize::min)
}

impl Plan {
    /// The plan of a number of points that [`points_for`] gave.
    pub(super) fn new(points: usize) -> Self {
        let twos = points.trailing_zeros() as usize - 2;
        let fours = twos / 2;
        let row_steps = fours.min(ROW_STEPS_MAX);
        let cached =
            if points > CACHED_POINTS_MAX { fours.min(CACHED_STEPS_MAX) } else { row_steps };
        let mut length = points;
        let mut outer = vec![Step::First(first_factors(points))];
        length /= 4;
        if twos % 2 == 1 {
            outer.push(Step::Two(factors(&mut length, 2)));
        }
        match points >> points.trailing_zeros() {
            3 => outer.push(Step::Three(factors(&mut length, 3))),
            5 => outer.push(Step::Five(factors(&mut length, 5))),
            _ => {}
        }
        let mut fours_of =
            |count| (0..count).map(|_| Step::Four(factors(&mut length, 4))).collect();
        let more: Vec<Step> = fours_of(fours - cached);
        outer.extend(more);
        let middle = fours_of(cached - row_steps);
        let row = fours_of(row_steps - 1);
        let (columns, row_points) = (1 << (2 * cached), 1 << (2 * row_steps));
        let pad = if row_points >= PADDED_ROW_MIN { PAD } else { 0 };
        let row_stride = row_points + pad;
        let stride = match columns / row_points {
            1 => row_stride,
            rows => rows * row_stride + pad,
        };
        Self { points, outer, middle, row, columns, row_points, row_stride, stride }
    }

    /// Outer rows.
    pub(super) fn rows(&self) -> usize {
        self.points / self.columns
    }

    /// Where a column lies within its outer row.
    pub(super) fn place(&self, column: usize) -> usize {
        column / self.row_points * self.row_stride + column % self.row_points
    }
}

/// Factors of the first step: `exp(-2 pi i j (b + 1/4) / points)`.
fn first_factors(points: usize) -> Vec<[Factor; 4]> {
    let factor = |j: usize, b: usize| root(j * (4 * b + 1), 4 * points);
    (0..points / 4).map(|j| std::array::from_fn(|b| factor(j, b))).collect()
}

/// Factors of a step over `length` points, which then become as many as a part has.
///
/// `exp(-2 pi i j b / length)` for `b` from one.
fn factors<const F: usize>(length: &mut usize, radix: usize) -> Vec<[Factor; F]> {
    let whole = *length;
    *length /= radix;
    (0..*length).map(|j| std::array::from_fn(|b| root(j * (b + 1), whole))).collect()
}

/// `exp(-2 pi i numerator / denominator)`
pub(super) fn root(numerator: usize, denominator: usize) -> Factor {
    let quarters = numerator % denominator * 4;
    let (quadrant, rest) = (quarters / denominator, quarters % denominator);
    let mirrored = 2 * rest > denominator;
    let rest = if mirrored { denominator - rest } else { rest };
    let (sine, cosine) = sine_and_cosine(FRAC_PI_2 * rest as f64 / denominator as f64);
    let (sine, cosine) = if mirrored { (cosine, sine) } else { (sine, cosine) };
    let (sine, cosine) = match quadrant {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    };
    [cosine as f32, -sine as f32]
}

/// Taylor series for angles of at most an eighth of a circle; within 1e-16.
fn sine_and_cosine(angle: f64) -> (f64, f64) {
    let square = angle * angle;
    let series = |first: f64| {
        let mut sum = 1.0;
        for term in (0..8).rev() {
            let n = first + 2.0 * f64::from(term);
            sum = 1.0 - square * sum / (n * (n + 1.0));
        }
        sum
    };
    (angle * series(2.0), series(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_agree_with_the_library() {
        for denominator in [16, 48, 80, 4096, 655_360] {
            for numerator in (0..3 * denominator).step_by(denominator / 16 + 1) {
                let angle = -std::f64::consts::TAU * numerator as f64 / denominator as f64;
                let [re, im] = root(numerator, denominator);
                assert!((f64::from(re) - angle.cos()).abs() < 4e-8, "{numerator}/{denominator}");
                assert!((f64::from(im) - angle.sin()).abs() < 4e-8, "{numerator}/{denominator}");
            }
        }
    }

    #[test]
    fn points_are_the_next_rung() {
        let rungs = [
            (1, 16),
            (16, 16),
            (17, 32),
            (33, 48),
            (49, 64),
            (65, 80),
            (81, 96),
            (97, 128),
            (129, 160),
            (161, 192),
            (202, 256),
            (1000, 1024),
            (1025, 1280),
            (8192, 8192),
            (160_000, 163_840),
            (1_000_000, 1 << 20),
        ];
        for (length, points) in rungs {
            assert_eq!(points_for(length), points, "{length}");
        }
    }

    #[test]
    fn steps_multiply_to_the_points() {
        for length in [1, 17, 33, 70, 300, 700, 5000, 16_000, 17_000, 40_000, 100_000] {
            let plan = Plan::new(points_for(length));
            let steps = plan.outer.iter().chain(&plan.middle).chain(&plan.row);
            assert_eq!(4 * steps.map(Step::radix).product::<usize>(), plan.points);
            assert_eq!(plan.outer.iter().map(Step::radix).product::<usize>(), plan.rows());
        }
    }
}
