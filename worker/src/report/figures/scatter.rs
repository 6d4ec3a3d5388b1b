//! Predicted against measured values of the best fit of a real-valued data set.
//!
//! Leaves out: all other fits. Invariant: many points are shown as counts in hexagons, so that
//! the picture's size does not grow with the data set.

use super::super::FitResult;
use super::super::svg::{Canvas, PALETTE, Scale, round_range};
use super::super::view::{DatasetView, fit_label, headline, number, statistic_title};
use super::Figure;
use std::collections::BTreeMap;

const SIDE: f64 = 360.0;
const LEFT: f64 = 74.0;
const TOP: f64 = 34.0;
/// Points drawn one by one at most.
const POINTS_MAX: usize = 1_500;
/// Distance from the centre of a hexagon to its corners.
const HEXAGON: f64 = 6.0;

type Pairs = Vec<(f64, f64)>;

/// Scatter of the first target; `None` without predictions.
pub(super) fn scatter(dataset: &DatasetView<'_>) -> Option<Figure> {
    let value = |fit: &FitResult| headline(&fit.scores).first().and_then(|s| s.value);
    let best = dataset.fits.iter().filter(|fit| !pairs(fit).is_empty()).max_by(|a, b| {
        value(a).unwrap_or(f64::NEG_INFINITY).total_cmp(&value(b).unwrap_or(f64::NEG_INFINITY))
    })?;
    let pairs = pairs(best);
    let target = best.predictions.target_names.first()?;
    let label = fit_label(&best.scores.identity);
    let title = format!("Predicted against measured {target} on {}", dataset.name);
    let head = headline(&best.scores).first().map_or(String::new(), |s| {
        format!("{} {}, n = {}", statistic_title(&s.name), number(s.value), s.examples)
    });
    let svg = draw(&pairs, &title, &head, target);
    let shown = if pairs.len() > POINTS_MAX {
        "Stronger colour means more examples (logarithmic)."
    } else {
        "One point per example."
    };
    let caption = format!(
        "{title}, test split, for {label}, the best of {} fits. {shown} The line is where \
         prediction and measurement agree.",
        dataset.fits.len()
    );
    Some(Figure { name: "scatter".to_owned(), caption, svg, wide: false })
}

fn pairs(fit: &FitResult) -> Pairs {
    let (Some(targets), Some(predictions)) =
        (fit.predictions.targets.first(), fit.predictions.predictions.first())
    else {
        return Vec::new();
    };
    let pairs = targets.iter().copied().zip(predictions.iter().copied());
    pairs.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

fn draw(pairs: &Pairs, title: &str, head: &str, target: &str) -> String {
    let (low, high) = round_range(pairs.iter().map(|pair| pair.0));
    let x = Scale { low, high, from: LEFT, to: LEFT + SIDE };
    let (low, high) = round_range(pairs.iter().map(|pair| pair.1));
    let y = Scale { low, high, from: TOP + SIDE, to: TOP };
    let mut canvas = Canvas::new(LEFT + SIDE + 24.0, TOP + SIDE + 46.0);
    canvas.text((LEFT, TOP - 14.0), "start", "strong", head);
    canvas.x_axis(x, TOP, TOP + SIDE, &format!("Measured {target}"));
    canvas.y_axis(y, LEFT, LEFT + SIDE, &format!("Predicted {target}"));
    let colour = PALETTE.first().copied().unwrap_or("#0072b2");
    let at: Pairs = pairs.iter().map(|pair| (x.at(pair.0), y.at(pair.1))).collect();
    if at.len() > POINTS_MAX {
        hexagons(&mut canvas, &at, colour);
    } else {
        for (x, y) in at {
            canvas.push(&format!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.4" fill="{colour}" fill-opacity=".45"/>"#
            ));
        }
    }
    let (low, high) = (x.low.max(y.low), x.high.min(y.high));
    if low < high {
        canvas.line((x.at(low), y.at(low)), (x.at(high), y.at(high)), "whisker");
    }
    canvas.finish(title)
}

fn hexagons(canvas: &mut Canvas, points: &Pairs, colour: &str) {
    let (across, down) = (3.0_f64.sqrt() * HEXAGON, 1.5 * HEXAGON);
    let mut counts: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    for &(x, y) in points {
        // Of the two lattice rows around the point, the one whose hexagon centre is nearer.
        let row = (y / down).floor() as i64;
        let near = [row, row + 1].map(|row| {
            let shift = if row.rem_euclid(2) == 1 { across / 2.0 } else { 0.0 };
            let column = ((x - shift) / across).round() as i64;
            let (cx, cy) = (column as f64 * across + shift, row as f64 * down);
            ((x - cx).powi(2) + (y - cy).powi(2), (row, column))
        });
        let nearest = if near[0].0 <= near[1].0 { near[0].1 } else { near[1].1 };
        *counts.entry(nearest).or_insert(0) += 1;
    }
    let most = f64::from(counts.values().copied().max().unwrap_or(1));
    let (half, quarter) = (across / 2.0, HEXAGON / 2.0);
    for ((row, column), count) in counts {
        let shift = if row.rem_euclid(2) == 1 { half } else { 0.0 };
        let (cx, cy) = (column as f64 * across + shift, row as f64 * down);
        let opacity = 0.12 + 0.88 * f64::from(count).ln_1p() / most.ln_1p();
        let top = cy - HEXAGON;
        canvas.push(&format!(
            r#"<path fill="{colour}" fill-opacity="{opacity:.2}" d="M{cx:.1} {top:.1}l{half:.1} {quarter}v{HEXAGON}l-{half:.1} {quarter}l-{half:.1} -{quarter}v-{HEXAGON}z"/>"#
        ));
    }
}
