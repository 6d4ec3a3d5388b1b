//! ROC and precision-recall curves with few points, for figures.
//!
//! Leaves out: areas (ranking). Invariant: the first and last point of a curve are always kept.

use super::ranking::RankedBinary;

/// A point of a curve: x, y in [0, 1].
pub type CurvePoint = (f64, f64);

/// (false positive rate, true positive rate) from (0, 0) to (1, 1); empty if a class is missing.
///
/// Points that lie on a straight line are left out; of the rest at most `points_max` are kept.
pub fn roc_curve(targets: &[f64], scores: &[f64], points_max: usize) -> Vec<CurvePoint> {
    let steps = steps(targets, scores).unwrap_or_default();
    let Some(&(positives, negatives)) = steps.last() else { return Vec::new() };
    let mut points = vec![(0.0, 0.0)];
    points.extend(steps.iter().map(|(tp, fp)| (fp / negatives, tp / positives)));
    thin(&without_straight(&points), points_max)
}

/// (recall, precision) in order of rising recall; empty if a class is missing.
pub fn precision_recall_curve(
    targets: &[f64],
    scores: &[f64],
    points_max: usize,
) -> Vec<CurvePoint> {
    let steps = steps(targets, scores).unwrap_or_default();
    let Some(&(positives, _)) = steps.last() else { return Vec::new() };
    let points: Vec<_> = steps.iter().map(|(tp, fp)| (tp / positives, tp / (tp + fp))).collect();
    thin(&points, points_max)
}

/// True and false positives at each distinct threshold, descending; the last step holds all
/// examples. `None` if a class is missing or a score is NaN.
fn steps(targets: &[f64], scores: &[f64]) -> Option<Vec<(f64, f64)>> {
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let ranked = RankedBinary::new(targets, scores);
    let counts = vec![1; scores.len()];
    let (mut tp, mut fp) = (0.0, 0.0);
    let mut steps = Vec::new();
    for (positives, negatives) in ranked.runs(&counts).rev() {
        tp += positives;
        fp += negatives;
        steps.push((tp, fp));
    }
    (tp > 0.0 && fp > 0.0).then_some(steps)
}

fn without_straight(points: &[CurvePoint]) -> Vec<CurvePoint> {
    let mut kept: Vec<CurvePoint> = Vec::new();
    for &point in points {
        if let [.., a, b] = kept[..] {
            let turn = (b.0 - a.0) * (point.1 - b.1) - (b.1 - a.1) * (point.0 - b.0);
            if turn.abs() < 1e-12 {
                kept.pop();
            }
        }
        kept.push(point);
    }
    kept
}

fn thin(points: &[CurvePoint], points_max: usize) -> Vec<CurvePoint> {
    let last = points.len().saturating_sub(1);
    let wanted = points_max.max(2);
    if points.len() <= wanted {
        return points.to_vec();
    }
    (0..wanted).filter_map(|i| points.get(i * last / (wanted - 1)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roc_runs_from_corner_to_corner() {
        let curve = roc_curve(&[0.0, 1.0, 0.0, 1.0], &[0.1, 0.4, 0.35, 0.8], 100);
        assert_eq!(curve, [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]);
        assert!(roc_curve(&[1.0, 1.0], &[0.1, 0.4], 100).is_empty());
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let scores: Vec<f64> = (0..500).map(f64::from).collect();
        let targets: Vec<f64> = (0..500).map(|i| f64::from(i * 7 % 2)).collect();
        let curve = precision_recall_curve(&targets, &scores, 50);
        assert_eq!(curve.len(), 50);
        assert_eq!(curve.last(), Some(&(1.0, 0.5)));
    }
}
