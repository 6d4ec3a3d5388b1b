//! The steps of a transform on runs of points, forward and back.
//!
//! Leaves out: the order of steps and who works on which points. Invariant: each point's chain of
//! operations is fixed by its step alone; how points are cut into runs never reaches a result.

use super::plan::Step;
use super::vector::{Complex, Factor, Point, Vector, per_vector};

/// `cos(pi/8)` and `sin(pi/8)`: a quarter of a frequency over a quarter of the points.
const EIGHTH: [f32; 2] = [0.923_879_5, 0.382_683_43];
/// `sin(2 pi/3)`
const SIN_THIRD: f32 = 0.866_025_4;
/// `cos(2 pi/5)` and `sin(2 pi/5)`
const FIFTH: [f32; 2] = [0.309_017, 0.951_056_5];
/// `cos(4 pi/5)` and `sin(4 pi/5)`
const TWO_FIFTHS: [f32; 2] = [-0.809_017, 0.587_785_25];

per_vector!(
    /// Runs `steps` forward on columns `first..` of rows of `columns` points.
    pub(super) fn columns_forward(
        rows: &mut [&mut [Point]],
        steps: &[Step],
        columns: usize,
        first: usize,
    ) = columns_forward_of
);

per_vector!(
    /// Runs `steps` back, last first, on columns `first..` of rows of `columns` points.
    pub(super) fn columns_inverse(
        rows: &mut [&mut [Point]],
        steps: &[Step],
        columns: usize,
        first: usize,
    ) = columns_inverse_of
);

per_vector!(
    /// Transforms a whole row forward; the last four points to a step have no factors.
    pub(super) fn row_forward(row: &mut [Point], steps: &[Step]) = row_forward_of
);

per_vector!(
    /// Transforms a whole row, multiplies it by `spectrum` and transforms it back.
    pub(super) fn row_convolve(row: &mut [Point], steps: &[Step], spectrum: &[Point]) =
        row_convolve_of
);

#[inline(always)]
fn columns_forward_of<V: Vector>(
    rows: &mut [&mut [Point]],
    steps: &[Step],
    columns: usize,
    first: usize,
) {
    let mut block = rows.len();
    for step in steps {
        match step {
            Step::First(f) => each_run::<V, FirstForward, 4, 4>(rows, block, (columns, first), f),
            Step::Two(f) => each_run::<V, Forward<Two>, 2, 1>(rows, block, (columns, first), f),
            Step::Three(f) => each_run::<V, Forward<Three>, 3, 2>(rows, block, (columns, first), f),
            Step::Four(f) => each_run::<V, Forward<Four>, 4, 3>(rows, block, (columns, first), f),
            Step::Five(f) => each_run::<V, Forward<Five>, 5, 4>(rows, block, (columns, first), f),
        }
        block /= step.radix();
    }
}

#[inline(always)]
fn columns_inverse_of<V: Vector>(
    rows: &mut [&mut [Point]],
    steps: &[Step],
    columns: usize,
    first: usize,
) {
    let mut block = 1;
    for step in steps.iter().rev() {
        block *= step.radix();
        match step {
            Step::First(f) => each_run::<V, FirstInverse, 4, 4>(rows, block, (columns, first), f),
            Step::Two(f) => each_run::<V, Inverse<Two>, 2, 1>(rows, block, (columns, first), f),
            Step::Three(f) => each_run::<V, Inverse<Three>, 3, 2>(rows, block, (columns, first), f),
            Step::Four(f) => each_run::<V, Inverse<Four>, 4, 3>(rows, block, (columns, first), f),
            Step::Five(f) => each_run::<V, Inverse<Five>, 5, 4>(rows, block, (columns, first), f),
        }
    }
}

/// What a step does to the runs of points that meet in it.
///
/// A trait, as a closure is not compiled for the instruction set of its caller.
trait Butterflies<const R: usize, const F: usize> {
    fn run<V: Vector>(runs: [&mut [Point]; R], factors: &[[Factor; F]]);
}

/// Runs a step on columns `first..` of rows of `columns` points, in every block of rows.
#[inline(always)]
fn each_run<V: Vector, B: Butterflies<R, F>, const R: usize, const F: usize>(
    rows: &mut [&mut [Point]],
    block: usize,
    (columns, first): (usize, usize),
    factors: &[[Factor; F]],
) {
    for block in rows.chunks_exact_mut(block) {
        let mut parts = split::<_, R>(block);
        for row in 0..parts[0].len() {
            let runs = parts.each_mut().map(|part| &mut *part[row]);
            let start = row * columns + first;
            let count = runs[0].len();
            B::run::<V>(runs, &factors[start..start + count]);
        }
    }
}

/// `R` equal parts of `whole`.
#[inline(always)]
fn split<T, const R: usize>(whole: &mut [T]) -> [&mut [T]; R] {
    let length = (whole.len() / R).max(1);
    let mut parts = whole.chunks_exact_mut(length);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

#[inline(always)]
fn row_forward_of<V: Vector>(row: &mut [Point], steps: &[Step]) {
    row_steps_forward::<V>(row, steps);
    for points in row.as_chunks_mut::<4>().0 {
        for part in 0..V::PARTS {
            let values = Four::dft(load::<V>(points, part));
            for i in 0..4 {
                values[i].store(&mut points[i], part);
            }
        }
    }
}

#[inline(always)]
fn row_convolve_of<V: Vector>(row: &mut [Point], steps: &[Step], spectrum: &[Point]) {
    row_steps_forward::<V>(row, steps);
    let quads = row.as_chunks_mut::<4>().0.iter_mut().zip(spectrum.as_chunks::<4>().0);
    for (points, spectrum) in quads {
        for part in 0..V::PARTS {
            let mut values = Four::dft(load::<V>(points, part));
            for i in 0..4 {
                values[i] = values[i].times(Complex::load(&spectrum[i], part));
            }
            let values = Four::dft(values);
            for i in 0..4 {
                values[(4 - i) % 4].store(&mut points[i], part);
            }
        }
    }
    for step in steps.iter().rev() {
        let Step::Four(factors) = step else { continue };
        for block in row.chunks_exact_mut(4 * factors.len()) {
            Inverse::<Four>::run::<V>(split(block), factors);
        }
    }
}

/// Rows hold steps of four only; see the plan.
#[inline(always)]
fn row_steps_forward<V: Vector>(row: &mut [Point], steps: &[Step]) {
    for step in steps {
        let Step::Four(factors) = step else { continue };
        for block in row.chunks_exact_mut(4 * factors.len()) {
            Forward::<Four>::run::<V>(split(block), factors);
        }
    }
}

#[inline(always)]
fn load<V: Vector>(points: &[Point; 4], part: usize) -> [Complex<V>; 4] {
    let [a, b, c, d] = points;
    [Complex::load(a, part), Complex::load(b, part), Complex::load(c, part), Complex::load(d, part)]
}

/// Butterflies, then factors on all outputs but the first.
struct Forward<D>(D);

impl<D: Dft<R>, const R: usize, const F: usize> Butterflies<R, F> for Forward<D> {
    #[inline(always)]
    fn run<V: Vector>(runs: [&mut [Point]; R], factors: &[[Factor; F]]) {
        let runs = runs.map(|run| &mut run[..factors.len()]);
        for (j, factors) in factors.iter().enumerate() {
            for part in 0..V::PARTS {
                let mut values = [Complex::<V>::splat([0.0; 2]); R];
                for i in 0..R {
                    values[i] = Complex::load(&runs[i][j], part);
                }
                let values = D::dft(values);
                values[0].store(&mut runs[0][j], part);
                for i in 1..R {
                    values[i].times(Complex::splat(factors[i - 1])).store(&mut runs[i][j], part);
                }
            }
        }
    }
}

/// Conjugate factors on all inputs but the first, then butterflies with outputs in reverse.
struct Inverse<D>(D);

impl<D: Dft<R>, const R: usize, const F: usize> Butterflies<R, F> for Inverse<D> {
    #[inline(always)]
    fn run<V: Vector>(runs: [&mut [Point]; R], factors: &[[Factor; F]]) {
        let runs = runs.map(|run| &mut run[..factors.len()]);
        for (j, factors) in factors.iter().enumerate() {
            for part in 0..V::PARTS {
                let mut values = [Complex::<V>::load(&runs[0][j], part); R];
                for i in 1..R {
                    let value = Complex::load(&runs[i][j], part);
                    values[i] = value.times_conjugate(Complex::splat(factors[i - 1]));
                }
                let values = D::dft(values);
                for i in 0..R {
                    values[(R - i) % R].store(&mut runs[i][j], part);
                }
            }
        }
    }
}

/// The first step: real inputs, frequencies a quarter above whole ones.
///
/// ```text
/// X[b] = f[b] sum_a exp(-2 pi i a (b + 1/4) / 4) x[a]
/// ```
struct FirstForward;

impl Butterflies<4, 4> for FirstForward {
    #[inline(always)]
    fn run<V: Vector>(runs: [&mut [Point]; 4], factors: &[[Factor; 4]]) {
        let runs = runs.map(|run| &mut run[..factors.len()]);
        let (cosine, sine) = (V::splat(EIGHTH[0]), V::splat(EIGHTH[1]));
        let (zero, half) = (V::splat(0.0), V::splat(std::f32::consts::FRAC_1_SQRT_2));
        for (j, factors) in factors.iter().enumerate() {
            for part in 0..V::PARTS {
                let mut x = [zero; 4];
                for i in 0..4 {
                    x[i] = V::load(&runs[i][j].re, part);
                }
                let two = x[2].times(half);
                let even_plus = Complex { re: x[0].plus(two), im: zero.minus(two) };
                let even_minus = Complex { re: x[0].minus(two), im: two };
                let odd_plus = Complex {
                    re: x[1].times_plus(cosine, x[3].times(sine)),
                    im: zero.minus(x[1].times_plus(sine, x[3].times(cosine))),
                };
                let odd_minus = Complex {
                    re: x[1].times_minus(cosine, x[3].times(sine)),
                    im: x[3].times_minus(cosine, x[1].times(sine)),
                };
                let values = meet(even_plus, even_minus, odd_plus, odd_minus);
                for i in 0..4 {
                    values[i].times(Complex::splat(factors[i])).store(&mut runs[i][j], part);
                }
            }
        }
    }
}

/// The last step back; only real parts are wanted, so only these are computed.
struct FirstInverse;

impl Butterflies<4, 4> for FirstInverse {
    #[inline(always)]
    fn run<V: Vector>(runs: [&mut [Point]; 4], factors: &[[Factor; 4]]) {
        let runs = runs.map(|run| &mut run[..factors.len()]);
        let (cosine, sine) = (V::splat(EIGHTH[0]), V::splat(EIGHTH[1]));
        let half = V::splat(std::f32::consts::FRAC_1_SQRT_2);
        for (j, factors) in factors.iter().enumerate() {
            for part in 0..V::PARTS {
                let mut x = [Complex::<V>::splat([0.0; 2]); 4];
                for i in 0..4 {
                    let value = Complex::load(&runs[i][j], part);
                    x[i] = value.times_conjugate(Complex::splat(factors[i]));
                }
                let [zero, three, two, one] = Four::dft(x);
                zero.re.store(&mut runs[0][j].re, part);
                one.re.times_minus(cosine, one.im.times(sine)).store(&mut runs[1][j].re, part);
                two.re.minus(two.im).times(half).store(&mut runs[2][j].re, part);
                three.re.times_minus(sine, three.im.times(cosine)).store(&mut runs[3][j].re, part);
            }
        }
    }
}

/// A transform of `R` values, forward; its outputs in reverse are the transform back.
trait Dft<const R: usize> {
    fn dft<V: Vector>(x: [Complex<V>; R]) -> [Complex<V>; R];
}

struct Two;

impl Dft<2> for Two {
    #[inline(always)]
    fn dft<V: Vector>([a, b]: [Complex<V>; 2]) -> [Complex<V>; 2] {
        [a + b, a - b]
    }
}

struct Three;

impl Dft<3> for Three {
    #[inline(always)]
    fn dft<V: Vector>([a, b, c]: [Complex<V>; 3]) -> [Complex<V>; 3] {
        let (sum, difference) = (b + c, b - c);
        let middle = sum.scaled_plus(V::splat(-0.5), a);
        let turned = difference.scaled(V::splat(SIN_THIRD));
        [a + sum, middle.minus_i(turned), middle.plus_i(turned)]
    }
}

struct Four;

impl Dft<4> for Four {
    #[inline(always)]
    fn dft<V: Vector>([a, b, c, d]: [Complex<V>; 4]) -> [Complex<V>; 4] {
        meet(a + c, a - c, b + d, b - d)
    }
}

/// The second half of a transform of four.
#[inline(always)]
fn meet<V: Vector>(
    even_plus: Complex<V>,
    even_minus: Complex<V>,
    odd_plus: Complex<V>,
    odd_minus: Complex<V>,
) -> [Complex<V>; 4] {
    [
        even_plus + odd_plus,
        even_minus.minus_i(odd_minus),
        even_plus - odd_plus,
        even_minus.plus_i(odd_minus),
    ]
}

struct Five;

impl Dft<5> for Five {
    #[inline(always)]
    fn dft<V: Vector>([a, b, c, d, e]: [Complex<V>; 5]) -> [Complex<V>; 5] {
        let (cosine_1, sine_1) = (V::splat(FIFTH[0]), V::splat(FIFTH[1]));
        let (cosine_2, sine_2) = (V::splat(TWO_FIFTHS[0]), V::splat(TWO_FIFTHS[1]));
        let (outer, outer_difference) = (b + e, b - e);
        let (inner, inner_difference) = (c + d, c - d);
        let middle_1 = inner.scaled_plus(cosine_2, outer.scaled_plus(cosine_1, a));
        let middle_2 = inner.scaled_plus(cosine_1, outer.scaled_plus(cosine_2, a));
        let turned_1 = inner_difference.scaled_plus(sine_2, outer_difference.scaled(sine_1));
        let turned_2 =
            inner_difference.scaled_plus(V::splat(-FIFTH[1]), outer_difference.scaled(sine_2));
        [
            a + outer + inner,
            middle_1.minus_i(turned_1),
            middle_2.minus_i(turned_2),
            middle_2.plus_i(turned_2),
            middle_1.plus_i(turned_1),
        ]
    }
}
