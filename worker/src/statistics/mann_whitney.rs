//! The Mann-Whitney U test of two independent samples.
//!
//! Leaves out: paired samples (paired). Invariant: U counts pairs, ties one half, so U of (x, y)
//! and of (y, x) add up to the number of pairs.

use super::correlation::Order;
use super::normal::normal_tail;

/// Of the smaller sample, for the exact distribution.
const EXACT_SIZE_MAX: usize = 8;
/// Pairs at most for the exact distribution; above, it and the normal one agree to the last digit shown.
const EXACT_PAIRS_MAX: usize = 100_000;
/// Bits of the largest counts that one word of arithmetic holds, with a margin.
const COUNT_BITS_MAX: f64 = 126.0;

/// What is held against "both samples come from one distribution".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternative {
    /// The first sample tends to other values.
    TwoSided,
    /// The first sample tends to larger values.
    Greater,
    /// The first sample tends to smaller values.
    Less,
}

/// How the probability is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Exact without ties and with at most eight values in one sample, else normal.
    Auto,
    /// Of all orders of the values; there is none with ties or more than 100,000 pairs.
    Exact,
    /// Normal, with tie and continuity correction.
    Asymptotic,
}

/// Outcome of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the first sample's value is the larger, ties one half.
    pub u: f64,
    /// Probability of a U at least as extreme.
    pub p: f64,
}

/// Tests `x` against `y`; `None` if a sample is empty or holds a NaN.
///
/// Without ties and with at most eight values in one sample the distribution of U is exact,
/// otherwise normal with tie and continuity correction.
///
/// Source: scipy 1.10 `mannwhitneyu(method="auto")`; Mann and Whitney 1947.
pub fn mann_whitney(x: &[f64], y: &[f64], alternative: Alternative) -> Option<MannWhitney> {
    mann_whitney_by(x, y, alternative, Method::Auto)
}

/// As [`mann_whitney`], by a chosen method; `None` also where that method has no answer.
pub fn mann_whitney_by(
    x: &[f64],
    y: &[f64],
    alternative: Alternative,
    method: Method,
) -> Option<MannWhitney> {
    if x.is_empty() || y.is_empty() || x.iter().chain(y).any(|value| value.is_nan()) {
        return None;
    }
    let order = Order::new(&[x, y].concat());
    let (mut u, mut below, mut tie_cubes) = (0.0, 0.0, 0.0);
    for run in order.runs() {
        let all = run.len() as f64;
        let of_x = run.iter().filter(|&&i| (i as usize) < x.len()).count() as f64;
        u += of_x * (below + (all - of_x) / 2.0);
        below += all - of_x;
        tie_cubes += all * all * all - all;
    }
    let pairs = x.len() as f64 * y.len() as f64;
    let (extreme, sides) = match alternative {
        Alternative::TwoSided => (u.max(pairs - u), 2.0),
        Alternative::Greater => (u, 1.0),
        Alternative::Less => (pairs - u, 1.0),
    };
    let is_possible = tie_cubes == 0.0 && x.len().saturating_mul(y.len()) <= EXACT_PAIRS_MAX;
    let is_exact = match method {
        Method::Auto => is_possible && x.len().min(y.len()) <= EXACT_SIZE_MAX,
        Method::Exact if !is_possible => return None,
        Method::Exact => true,
        Method::Asymptotic => false,
    };
    let tail = if is_exact {
        exact_tail(x.len(), y.len(), extreme)
    } else {
        asymptotic_tail(x.len(), y.len(), extreme, tie_cubes)
    };
    Some(MannWhitney { u, p: (sides * tail).min(1.0) })
}

/// P(U >= u) if all orders of m + n different values are equally likely.
///
/// Orders by U are the coefficients of the Gaussian binomial `[m + n, m]`:
///
/// ```text
/// product over i = 1..m of (1 - q^(n + i)) / (1 - q^i)
/// ```
fn exact_tail(m: usize, n: usize, u: f64) -> f64 {
    let (m, n) = (m.min(n), m.max(n));
    if order_bits(m, n) > COUNT_BITS_MAX {
        return wide_tail(m, n, u);
    }
    // Differences may wrap in between; the coefficients after each factor are counts below 2^127.
    let mut orders = vec![0_u128; m * n + 1];
    orders[0] = 1;
    for i in 1..=m {
        for k in (n + i..orders.len()).rev() {
            orders[k] = orders[k].wrapping_sub(orders[k - n - i]);
        }
        for k in i..orders.len() {
            orders[k] = orders[k].wrapping_add(orders[k - i]);
        }
    }
    let (mut extreme, mut all) = (0.0, 0.0);
    for (k, &count) in orders.iter().enumerate() {
        all += count as f64;
        extreme += if k as f64 >= u { count as f64 } else { 0.0 };
    }
    extreme / all
}

/// Bits of the number of all orders of m + n values.
fn order_bits(m: usize, n: usize) -> f64 {
    (1..=m).map(|i| ((n + i) as f64 / i as f64).log2()).sum()
}

/// As [`exact_tail`] where counts need several words; the same sums, carried from word to word.
fn wide_tail(m: usize, n: usize, u: f64) -> f64 {
    let bits = order_bits(m, n);
    let words = (bits / 64.0) as usize + 1;
    let mut orders = vec![0_u64; (m * n + 1) * words];
    orders[0] = 1;
    for i in 1..=m {
        for k in (n + i..=m * n).rev() {
            let (low, high) = orders.split_at_mut(k * words);
            let mut borrow = false;
            for (to, from) in high.iter_mut().zip(&low[(k - n - i) * words..][..words]) {
                let (once, first) = to.overflowing_sub(*from);
                let (twice, second) = once.overflowing_sub(u64::from(borrow));
                (*to, borrow) = (twice, first || second);
            }
        }
        for k in i..=m * n {
            let (low, high) = orders.split_at_mut(k * words);
            let mut carry = false;
            for (to, from) in high.iter_mut().zip(&low[(k - i) * words..][..words]) {
                let (once, first) = to.overflowing_add(*from);
                let (twice, second) = once.overflowing_add(u64::from(carry));
                (*to, carry) = (twice, first || second);
            }
        }
    }
    // Divided by the number of all orders word by word, so that no count leaves the range of f64.
    let share = |count: &[u64]| -> f64 {
        let words = count.iter().enumerate();
        words.map(|(word, &part)| part as f64 * (64.0 * word as f64 - bits).exp2()).sum()
    };
    let shares = orders.chunks_exact(words).map(share).enumerate();
    shares.filter(|(k, _)| *k as f64 >= u).map(|(_, share)| share).sum()
}

/// The normal approximation, with one half taken off for continuity.
///
/// ```text
/// z = (u - mn/2 - 1/2) / sqrt(mn/12 ((N + 1) - sum (t^3 - t) / (N (N - 1)))),  N = m + n
/// ```
fn asymptotic_tail(m: usize, n: usize, u: f64, tie_cubes: f64) -> f64 {
    let (m, n) = (m as f64, n as f64);
    let all = m + n;
    let variance = m * n / 12.0 * ((all + 1.0) - tie_cubes / (all * (all - 1.0)));
    // All values tied: no spread, and nothing speaks against one distribution.
    if variance <= 0.0 {
        return 1.0;
    }
    normal_tail((u - m * n / 2.0 - 0.5) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(x: &[f64], y: &[f64], alternative: Alternative) -> (f64, f64) {
        let outcome = mann_whitney(x, y, alternative).unwrap();
        (outcome.u, outcome.p)
    }

    #[test]
    fn separate_samples_of_five_have_one_order_in_252() {
        let (x, y) = ([6.0, 7.0, 8.0, 9.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(p(&x, &y, Alternative::TwoSided), (25.0, 2.0 / 252.0));
        assert_eq!(p(&x, &y, Alternative::Greater), (25.0, 1.0 / 252.0));
        assert_eq!(p(&x, &y, Alternative::Less), (25.0, 1.0));
        assert_eq!(p(&y, &x, Alternative::TwoSided), (0.0, 2.0 / 252.0));
    }

    #[test]
    fn published_repeats_of_splicing_give_the_published_test() {
        let one_hot = [0.3124, 0.2951, 0.2980, 0.3106, 0.3053];
        let transformer = [0.2727, 0.2645, 0.2692, 0.2692, 0.2969];
        let (u, p_value) = p(&one_hot, &transformer, Alternative::TwoSided);
        // The printed values tie once (0.2692), so the normal approximation is taken.
        assert_eq!(u, 24.0);
        assert!((p_value - 0.021_176_657_854_316_622).abs() < 1e-12, "{p_value}");
        let other = [0.2957, 0.2880, 0.2829, 0.2876, 0.2885];
        let (u, p_value) = p(&one_hot, &other, Alternative::TwoSided);
        assert_eq!(u, 24.0);
        assert!((p_value - 4.0 / 252.0).abs() < 1e-15, "{p_value}");
    }

    #[test]
    fn samples_with_and_without_ties_agree_with_scipy() {
        let stepped = |count: usize, step: usize, first: usize, modulus: usize| -> Vec<f64> {
            (0..count).map(|i| ((i * step + first) % modulus) as f64).collect()
        };
        let hundredths: Vec<f64> = stepped(30, 37, 11, 101).iter().map(|v| v / 100.0).collect();
        let eightieths: Vec<f64> = stepped(25, 53, 29, 97).iter().map(|v| v / 80.0).collect();
        let (tied, other) = (stepped(12, 37, 11, 7), stepped(9, 5, 2, 9));
        let few = vec![3.1, 4.7, 9.2];
        let more = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 11.5, 12.25];
        let cases = [
            (&eightieths, &hundredths, 444.0, [0.246_920_630_886_318_44, 0.879_955_509_586_748_6]),
            (&tied, &other, 46.0, [0.591_371_072_512_36, 0.295_685_536_256_18]),
            (&few, &more, 15.0, [0.884_615_384_615_384_6, 0.442_307_692_307_692_3]),
        ];
        for (x, y, u, expected) in cases {
            for (alternative, expected) in
                [Alternative::TwoSided, Alternative::Less].into_iter().zip(expected)
            {
                let found = p(x, y, alternative);
                assert_eq!(found.0, u);
                assert!((found.1 - expected).abs() < 1e-14, "{alternative:?} {found:?}");
            }
        }
    }

    #[test]
    fn fifty_above_fifty_is_the_published_figure() {
        let low: Vec<f64> = (0..50).map(f64::from).collect();
        let high: Vec<f64> = low.iter().map(|value| value + 1000.0).collect();
        let (u, found) = p(&high, &low, Alternative::Greater);
        assert_eq!(u, 2500.0);
        assert!((found / 3.533_035_965_194_466e-18 - 1.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn equal_samples_and_empty_samples_are_no_evidence() {
        assert_eq!(p(&[1.0; 4], &[1.0; 9], Alternative::TwoSided), (18.0, 1.0));
        assert_eq!(mann_whitney(&[], &[1.0], Alternative::Less), None);
        assert_eq!(mann_whitney(&[f64::NAN], &[1.0], Alternative::Less), None);
    }

    #[test]
    fn exact_values_of_larger_samples_agree_with_scipy() {
        // scipy 1.17: mannwhitneyu(method="exact") of 40 and 40 values with U = 817.
        let expected = 0.874_551_353_277_710_3;
        assert!((2.0 * exact_tail(40, 40, 817.0) - expected).abs() < 1e-12);
        let tied = [1.0, 1.0, 2.0];
        assert_eq!(mann_whitney_by(&tied, &[3.0], Alternative::TwoSided, Method::Exact), None);
        let separate = mann_whitney_by(&[1.0], &[3.0], Alternative::Less, Method::Exact);
        assert_eq!(separate, Some(MannWhitney { u: 0.0, p: 0.5 }));
    }

    #[test]
    fn counts_of_one_word_and_of_several_give_one_tail() {
        for (m, n, u) in [(1, 1, 1.0), (5, 7, 20.0), (20, 30, 400.0), (40, 40, 817.0)] {
            let (one, several) = (exact_tail(m, n, u), wide_tail(m, n, u));
            assert!((several / one - 1.0).abs() < 1e-9, "{m} {n}: {one} {several}");
        }
    }

    #[test]
    fn exact_distribution_is_symmetric_and_sums_to_one() {
        for (m, n) in [(1, 1), (3, 4), (8, 8), (8, 300), (2, 50_000)] {
            assert_eq!(exact_tail(m, n, 0.0), 1.0);
            let pairs = (m * n) as f64;
            let above = exact_tail(m, n, pairs / 2.0 + 0.5);
            let at_least = exact_tail(m, n, pairs / 2.0 - 0.5 + 1.0);
            assert!((above - at_least).abs() < 1e-12, "{m} {n}");
            assert!(exact_tail(m, n, pairs) > 0.0, "{m} {n}");
        }
    }
}
