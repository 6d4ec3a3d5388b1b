//! Pearson, Spearman, mean squared error and R2 of real-valued predictions.
//!
//! Leaves out: which statistic a task reports. Invariant: sums are taken about the means of the
//! whole sample, so a large offset of the values costs no digits.

/// Sums of weighted pairs about a fixed origin; sums about the same origin merge by addition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairSums {
    origin: (f64, f64),
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    squared_error: f64,
}

impl PairSums {
    /// No pairs; `origin` should lie near the means of x and y.
    pub fn new(origin: (f64, f64)) -> Self {
        let zero = 0.0;
        Self {
            origin,
            weight: zero,
            x: zero,
            y: zero,
            xx: zero,
            yy: zero,
            xy: zero,
            squared_error: zero,
        }
    }

    /// Adds the pair (x, y) `weight` times.
    pub fn add(&mut self, weight: f64, x: f64, y: f64) {
        self.squared_error += weight * (x - y) * (x - y);
        let (x, y) = (x - self.origin.0, y - self.origin.1);
        self.weight += weight;
        self.x += weight * x;
        self.y += weight * y;
        self.xx += weight * x * x;
        self.yy += weight * y * y;
        self.xy += weight * x * y;
    }

    /// Adds the pairs of `other`; `None` if its origin differs.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Option<Self> {
        if self.origin != other.origin {
            return None;
        }
        self.weight += other.weight;
        self.x += other.x;
        self.y += other.y;
        self.xx += other.xx;
        self.yy += other.yy;
        self.xy += other.xy;
        self.squared_error += other.squared_error;
        Some(self)
    }

    /// Pearson correlation; `None` if a side is constant or there are fewer than two pairs.
    pub fn pearson(&self) -> Option<f64> {
        let xx = spread(self.xx, self.x, self.weight)?;
        let yy = spread(self.yy, self.y, self.weight)?;
        let xy = self.xy - self.x * self.y / self.weight;
        defined((xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
    }

    /// Mean of (x - y)^2; `None` without pairs.
    pub fn mean_squared_error(&self) -> Option<f64> {
        defined(self.squared_error / self.weight)
    }

    /// 1 - sum (y - x)^2 / sum (y - mean y)^2 with y the targets; `None` for constant targets.
    pub fn r_squared(&self) -> Option<f64> {
        defined(1.0 - self.squared_error / spread(self.yy, self.y, self.weight)?)
    }
}

/// Sum of squares about the mean; `None` where rounding alone could have made it.
fn spread(squares: f64, sum: f64, weight: f64) -> Option<f64> {
    let about_mean = squares - sum * sum / weight;
    (weight >= 2.0 && about_mean > 16.0 * f64::EPSILON * squares).then_some(about_mean)
}

pub(super) fn defined(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Mean; 0 without values. A constant's mean is that constant, to the bit.
pub(super) fn mean(values: &[f64]) -> f64 {
    let Some(&first) = values.first() else { return 0.0 };
    first + values.iter().map(|value| value - first).sum::<f64>() / values.len() as f64
}

fn pair_sums(x: &[f64], y: &[f64]) -> PairSums {
    let mut sums = PairSums::new((mean(x), mean(y)));
    for (&x, &y) in x.iter().zip(y) {
        sums.add(1.0, x, y);
    }
    sums
}

/// Pearson correlation of `x` and `y`; `None` for constant or NaN input or fewer than two pairs.
///
/// Source: scipy 1.10 `pearsonr`.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    pair_sums(x, y).pearson()
}

/// Mean of (prediction - target)^2; `None` without pairs.
pub fn mean_squared_error(predictions: &[f64], targets: &[f64]) -> Option<f64> {
    pair_sums(predictions, targets).mean_squared_error()
}

/// 1 - SSres / SStot; `None` for constant targets.
pub fn r_squared(predictions: &[f64], targets: &[f64]) -> Option<f64> {
    pair_sums(predictions, targets).r_squared()
}

/// What a NaN in either input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanPolicy {
    /// The pair is dropped before ranking.
    Omit,
    /// The statistic is undefined.
    Propagate,
}

/// Spearman correlation: Pearson of average ranks.
///
/// Source: scipy 1.10 `spearmanr`.
pub fn spearman(x: &[f64], y: &[f64], policy: NanPolicy) -> Option<f64> {
    let complete = |(x, y): &(f64, f64)| !x.is_nan() && !y.is_nan();
    let pairs: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    let kept: Vec<(f64, f64)> = pairs.iter().copied().filter(complete).collect();
    if policy == NanPolicy::Propagate && kept.len() < pairs.len() {
        return None;
    }
    let (x, y): (Vec<f64>, Vec<f64>) = kept.into_iter().unzip();
    Ranked::new(&x, &y).spearman(&vec![1; x.len()])
}

/// One Spearman correlation per column of row-major `[rows, columns]` inputs, NaN pairs dropped.
pub fn spearman_columns(x: &[f64], y: &[f64], columns: usize) -> Vec<Option<f64>> {
    let column = |values: &[f64], c: usize| -> Vec<f64> {
        values.iter().skip(c).step_by(columns.max(1)).copied().collect()
    };
    (0..columns).map(|c| spearman(&column(x, c), &column(y, c), NanPolicy::Omit)).collect()
}

/// Two samples with their sort orders, ready for rank statistics under any counts.
pub(super) struct Ranked {
    x: Order,
    y: Order,
}

impl Ranked {
    /// Sorts both sides once; no value may be NaN.
    pub(super) fn new(x: &[f64], y: &[f64]) -> Self {
        Self { x: Order::new(x), y: Order::new(y) }
    }

    /// Spearman where example i occurs `counts[i]` times.
    pub(super) fn spearman(&self, counts: &[u32]) -> Option<f64> {
        let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
        let middle = (total + 1.0) / 2.0;
        let (x, y) = (self.x.ranks(counts), self.y.ranks(counts));
        let mut sums = PairSums::new((middle, middle));
        for ((&count, &x), &y) in counts.iter().zip(&x).zip(&y) {
            sums.add(f64::from(count), x, y);
        }
        sums.pearson()
    }
}

/// Positions of values in ascending order, and where each run of equal values ends.
pub(super) struct Order {
    /// Runs of equal values, ascending; each lists the positions that hold the value.
    pub(super) positions: Vec<u32>,
    /// One past the last entry of each run.
    pub(super) ends: Vec<usize>,
}

impl Order {
    pub(super) fn new(values: &[f64]) -> Self {
        let mut sorted: Vec<(f64, u32)> =
            values.iter().zip(0_u32..).map(|(&value, i)| (value, i)).collect();
        // -0 and +0 are one value; total_cmp alone would part them.
        sorted.sort_unstable_by(|a, b| (a.0 + 0.0).total_cmp(&(b.0 + 0.0)).then(a.1.cmp(&b.1)));
        let mut ends = Vec::new();
        for (i, pair) in sorted.windows(2).enumerate() {
            if let [left, right] = pair
                && left.0 != right.0
            {
                ends.push(i + 1);
            }
        }
        if !sorted.is_empty() {
            ends.push(sorted.len());
        }
        Self { positions: sorted.into_iter().map(|(_, i)| i).collect(), ends }
    }

    /// Runs of tied positions, ascending.
    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = &[u32]> {
        (0..self.ends.len()).map(|run| {
            let start = if run == 0 { 0 } else { self.ends[run - 1] };
            &self.positions[start..self.ends[run]]
        })
    }

    /// Average ranks from 1 where example i occurs `counts[i]` times.
    fn ranks(&self, counts: &[u32]) -> Vec<f64> {
        let mut ranks = vec![0.0; counts.len()];
        let mut before = 0.0;
        for run in self.runs() {
            let weight: f64 = run.iter().map(|&i| f64::from(counts[i as usize])).sum();
            let rank = before + (weight + 1.0) / 2.0;
            for &i in run {
                ranks[i as usize] = rank;
            }
            before += weight;
        }
        ranks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_sums_equal_sums_of_the_whole() {
        let (x, y) = ([1.0, 2.0, 4.0, 8.0, 9.0], [2.0, 1.0, 5.0, 6.0, 11.0]);
        let sums = |range: std::ops::Range<usize>| {
            let mut sums = PairSums::new((4.0, 5.0));
            for i in range {
                sums.add(1.0, x[i], y[i]);
            }
            sums
        };
        let merged = sums(0..2).merge(&sums(2..5)).unwrap();
        assert!((merged.pearson().unwrap() - pearson(&x, &y).unwrap()).abs() < 1e-14);
        assert_eq!(merged.merge(&PairSums::new((0.0, 0.0))), None);
    }

    #[test]
    fn counts_act_as_repeated_examples() {
        let (x, y) = ([3.0, 1.0, 2.0, 2.0], [1.0, 4.0, 2.0, 9.0]);
        let weighted = Ranked::new(&x, &y).spearman(&[2, 1, 0, 3]).unwrap();
        let (x, y) = ([3.0, 3.0, 1.0, 2.0, 2.0, 2.0], [1.0, 1.0, 4.0, 9.0, 9.0, 9.0]);
        let repeated = spearman(&x, &y, NanPolicy::Propagate).unwrap();
        assert!((weighted - repeated).abs() < 1e-14);
    }

    #[test]
    fn constant_input_has_no_correlation() {
        assert_eq!(pearson(&[0.1; 7], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), None);
        assert_eq!(spearman(&[0.1; 2], &[1.0, 2.0], NanPolicy::Omit), None);
        assert_eq!(pearson(&[], &[]), None);
    }
}
