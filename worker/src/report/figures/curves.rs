//! ROC and precision-recall curves of the best fits of a binary data set.
//!
//! Leaves out: areas, which the tables hold. Invariant: a curve's colour and dash name its fit.

use super::super::svg::{Canvas, PALETTE, Scale, text_width};
use super::super::view::{DatasetView, fit_label, number, statistic};
use super::super::{FitResult, Predictions};
use super::{CURVES_MAX, Figure};
use crate::statistics::{CurvePoint, precision_recall_curve, roc_curve};

const SIDE: f64 = 360.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 12.0;
const POINTS_MAX: usize = 300;
const DASHES: [&str; 2] = ["none", "6 3"];

struct Curve {
    label: String,
    points: Vec<CurvePoint>,
}

/// ROC curves; `None` if no fit has predictions of both classes.
pub(super) fn roc(dataset: &DatasetView<'_>) -> Option<Figure> {
    let curves = best(dataset, "auroc_exact", roc_curve);
    let title = format!("ROC curves on {}", dataset.name);
    let svg = draw(&curves, &title, ("False positive rate", "True positive rate"), true)?;
    let caption = format!(
        "{title}, test split, from predicted probabilities; AUROC in the legend. The grey \
         diagonal is a probe that knows nothing.{}",
        left_out(dataset, &curves)
    );
    Some(Figure { name: "roc".to_owned(), caption, svg, wide: false })
}

/// Precision-recall curves; `None` if no fit has predictions of both classes.
pub(super) fn precision_recall(dataset: &DatasetView<'_>) -> Option<Figure> {
    let curves = best(dataset, "aupr", precision_recall_curve);
    let title = format!("Precision-recall curves on {}", dataset.name);
    let svg = draw(&curves, &title, ("Recall", "Precision"), false)?;
    let caption = format!(
        "{title}, test split; average precision in the legend.{}",
        left_out(dataset, &curves)
    );
    Some(Figure { name: "precision-recall".to_owned(), caption, svg, wide: false })
}

fn left_out(dataset: &DatasetView<'_>, curves: &[Curve]) -> String {
    if dataset.fits.len() > curves.len() {
        format!(" The best {} of {} fits are shown.", curves.len(), dataset.fits.len())
    } else {
        String::new()
    }
}

fn best(
    dataset: &DatasetView<'_>,
    name: &str,
    curve: impl Fn(&[f64], &[f64], usize) -> Vec<CurvePoint>,
) -> Vec<Curve> {
    let area = |fit: &FitResult| statistic(&fit.scores, name).and_then(|s| s.value);
    let mut fits: Vec<&FitResult> = dataset.fits.clone();
    fits.sort_by(|a, b| area(b).unwrap_or(-1.0).total_cmp(&area(a).unwrap_or(-1.0)));
    let drawn = fits.into_iter().filter_map(|fit| {
        let (targets, scores) = complete_pairs(&fit.predictions)?;
        let points = curve(&targets, &scores, POINTS_MAX);
        let label = format!("{}  {}", number(area(fit)), fit_label(&fit.scores.identity));
        (!points.is_empty()).then_some(Curve { label, points })
    });
    drawn.take(CURVES_MAX).collect()
}

/// Measured and predicted values of the first target where both are numbers.
fn complete_pairs(predictions: &Predictions) -> Option<(Vec<f64>, Vec<f64>)> {
    let targets = predictions.targets.first()?.iter().copied();
    let pairs = targets.zip(predictions.predictions.first()?.iter().copied());
    Some(pairs.filter(|(target, score)| target.is_finite() && score.is_finite()).unzip())
}

fn draw(curves: &[Curve], title: &str, axes: (&str, &str), diagonal: bool) -> Option<String> {
    if curves.is_empty() {
        return None;
    }
    let x = Scale { low: 0.0, high: 1.0, from: LEFT, to: LEFT + SIDE };
    let y = Scale { low: 0.0, high: 1.0, from: TOP + SIDE, to: TOP };
    let legend = TOP + SIDE + 62.0;
    let widest = curves.iter().map(|curve| text_width(&curve.label)).fold(0.0, f64::max);
    let width = (LEFT + SIDE + 20.0).max(LEFT + 40.0 + widest);
    let mut canvas = Canvas::new(width, legend + 20.0 * curves.len() as f64);
    canvas.x_axis(x, TOP, TOP + SIDE, axes.0);
    canvas.y_axis(y, LEFT, LEFT + SIDE, axes.1);
    if diagonal {
        canvas.line((x.from, y.from), (x.to, y.to), "axis");
    }
    for (i, curve) in curves.iter().enumerate() {
        let colour = PALETTE.get(i % PALETTE.len()).copied().unwrap_or("#0072b2");
        let dash = DASHES.get(i % 2).copied().unwrap_or("none");
        let stroke = format!(
            r#"fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}""#
        );
        let points: Vec<String> =
            curve.points.iter().map(|p| format!("{:.1},{:.1}", x.at(p.0), y.at(p.1))).collect();
        canvas.push(&format!(r#"<polyline points="{}" {stroke}/>"#, points.join(" ")));
        let line = legend + 20.0 * i as f64;
        canvas.push(&format!(r#"<path d="M{LEFT} {line:.1}h26" {stroke}/>"#));
        canvas.text((LEFT + 34.0, line + 4.0), "start", "", &curve.label);
    }
    Some(canvas.finish(title))
}
