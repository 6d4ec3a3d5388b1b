//! How far the states of two sequences are apart: cosine, dot product, L1 and squared L2.
//!
//! Leaves out: which states are compared. Invariant: sums are f64 in an order that depends on the number of values alone.

pub mod cuda;

/// Comparisons of two matrices R and S of states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distances {
    /// 1/2 |R/|R| - S/|S||^2: one less the cosine, without cancellation.
    pub one_minus_cos: f64,
    /// sum R S / (|R| |S|).
    pub cos: f64,
    /// sum R S.
    pub dot: f64,
    /// sum |R - S|.
    pub l1: f64,
    /// sum (R - S)^2.
    pub l2_squared: f64,
}

/// Compares `pairs` of values of R and S.
///
/// Cosines of long windows lie within 1e-3 of one, so their distance from it is summed as such:
///
/// ```text
/// 1 - R.S / (|R| |S|) = 1/2 sum (R/|R| - S/|S|)^2
/// ```
pub fn distances(pairs: impl Iterator<Item = (f32, f32)> + Clone) -> Distances {
    let wide = pairs.map(|(r, s)| (f64::from(r), f64::from(s)));
    let (mut rr, mut ss, mut dot, mut l1, mut l2_squared) = (0.0, 0.0, 0.0, 0.0, 0.0_f64);
    for (r, s) in wide.clone() {
        rr += r * r;
        ss += s * s;
        dot += r * s;
        l1 += (r - s).abs();
        l2_squared += (r - s) * (r - s);
    }
    let (r_norm, s_norm) = (f64::sqrt(rr), f64::sqrt(ss));
    let squares = wide.map(|(r, s)| {
        let difference = r / r_norm - s / s_norm;
        difference * difference
    });
    let one_minus_cos = 0.5 * squares.sum::<f64>();
    Distances { one_minus_cos, cos: dot / (r_norm * s_norm), dot, l1, l2_squared }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_their_formulas() {
        let (r, s) = ([1.0_f32, 2.0, 2.0], [2.0_f32, 0.0, 0.0]);
        let found = distances(r.into_iter().zip(s));
        assert_eq!((found.dot, found.l1, found.l2_squared), (2.0, 5.0, 9.0));
        assert!((found.cos - 1.0 / 3.0).abs() < 1e-15);
        assert!((found.one_minus_cos - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn a_cosine_next_to_one_keeps_its_digits() {
        let r = vec![1.0_f32; 10_000];
        let mut s = r.clone();
        s[0] = 1.0 + f32::EPSILON;
        let found = distances(r.iter().copied().zip(s.iter().copied())).one_minus_cos;
        // 1 - cos = e^2 (n - 1) / (2 n^2) in first order of e^2.
        let expected = f64::from(f32::EPSILON).powi(2) * 9_999.0 / 2e8;
        assert!((found / expected - 1.0).abs() < 1e-4, "{found:e} {expected:e}");
        let same = distances(r.iter().copied().zip(r.iter().copied()));
        assert_eq!((same.one_minus_cos, same.l1), (0.0, 0.0));
    }
}
