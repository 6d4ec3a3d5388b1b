//! Boxes and violins of one statistic over repeats or over data sets, the published spread below each.
//!
//! Leaves out: which values (figures, tasks). Invariant: a violin is drawn from ten values on; fewer are
//! points, so that no shape is shown that the values do not have.

use super::super::summary::quartiles;
use super::super::svg::{Canvas, PALETTE, Scale, round_range, text_width};

const ROW: f64 = 34.0;
const PLOT_WIDTH: f64 = 420.0;
const TOP: f64 = 12.0;
/// Values from which on a density is drawn; up to this many are points.
const VIOLIN_MIN: usize = 10;
/// Half the height of a violin and of a box.
const HALF: f64 = 11.0;
const BOX_HALF: f64 = 4.5;
/// Steps of a density's outline.
const STEPS: usize = 48;

/// One row of a figure.
pub(super) struct Spread {
    pub(super) label: String,
    pub(super) values: Vec<f64>,
    /// What is written beside the row: median or mean.
    pub(super) number: f64,
    /// Place in the palette.
    pub(super) colour: usize,
    /// Mean or median, and the quartiles or one standard deviation around it.
    pub(super) published: Option<(f64, Option<(f64, f64)>)>,
}

/// The figure, rows from top to bottom.
pub(super) fn draw(rows: &[Spread], title: &str, axis: &str) -> String {
    let left = rows.iter().map(|row| text_width(&row.label)).fold(40.0, f64::max) + 22.0;
    let bottom = TOP + ROW * rows.len() as f64;
    let extent = rows.iter().flat_map(|row| {
        let published = row.published.into_iter().flat_map(|(center, ends)| {
            let (low, high) = ends.unwrap_or((center, center));
            [center, low, high]
        });
        row.values.iter().copied().chain(published)
    });
    let (low, high) = round_range(extent);
    let x = Scale { low, high, from: left, to: left + PLOT_WIDTH };
    let mut canvas = Canvas::new(left + PLOT_WIDTH + 64.0, bottom + 46.0);
    canvas.x_axis(x, TOP, bottom, axis);
    for (i, row) in rows.iter().enumerate() {
        draw_row(&mut canvas, row, x, TOP + ROW * (i as f64 + 0.5) - 2.0);
    }
    canvas.finish(title)
}

fn draw_row(canvas: &mut Canvas, row: &Spread, x: Scale, middle: f64) {
    let colour = PALETTE.get(row.colour % PALETTE.len()).copied().unwrap_or("#0072b2");
    if row.values.len() >= VIOLIN_MIN {
        violin(canvas, &row.values, (x, middle), colour);
    }
    if let Some([q1, median, q3]) = quartiles(&row.values) {
        let (start, width) = (x.at(q1), (x.at(q3) - x.at(q1)).max(1.0));
        let fence = 1.5 * (q3 - q1);
        let inside = |value: &&f64| (q1 - fence..=q3 + fence).contains(*value);
        let ends = row.values.iter().filter(inside);
        let (low, high) = ends
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
        if row.values.len() > 2 {
            canvas.line((x.at(low), middle), (x.at(high), middle), "whisker");
            canvas.push(&format!(
                r#"<rect x="{start:.1}" y="{:.1}" width="{width:.1}" height="{}" fill="{colour}" fill-opacity=".55" stroke="{colour}"/>"#,
                middle - BOX_HALF,
                2.0 * BOX_HALF
            ));
        }
        let half = BOX_HALF + 3.0;
        let at = x.at(median);
        canvas.line((at, middle - half), (at, middle + half), "median");
        canvas.text((x.to + 56.0, middle + 4.0), "end", "", &format!("{:.3}", row.number));
    }
    if row.values.len() <= VIOLIN_MIN {
        for value in &row.values {
            canvas.push(&format!(
                r#"<circle cx="{:.1}" cy="{middle:.1}" r="3" fill="{colour}" class="point"/>"#,
                x.at(*value)
            ));
        }
    }
    if let Some((center, ends)) = row.published {
        let foot = middle + HALF + 3.0;
        if let Some((low, high)) = ends {
            canvas.push(&format!(
                r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="3" class="reference"/>"#,
                x.at(low),
                foot - 1.5,
                (x.at(high) - x.at(low)).max(1.0)
            ));
        }
        canvas.push(&format!(
            r#"<path class="mark" d="M{:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>"#,
            x.at(center),
            foot - 4.5
        ));
    }
    canvas.text((x.from - 10.0, middle + 4.0), "end", "", &row.label);
}

/// A Gaussian density with Silverman's bandwidth, 0.9 min(sd, iqr / 1.34) n^(-1/5), cut at the extremes.
fn violin(canvas: &mut Canvas, values: &[f64], (x, middle): (Scale, f64), colour: &str) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let Some([q1, _, q3]) = quartiles(values) else { return };
    let robust = if q3 > q1 { variance.sqrt().min((q3 - q1) / 1.34) } else { variance.sqrt() };
    let bandwidth = 0.9 * robust * count.powf(-0.2);
    if bandwidth <= 0.0 || !bandwidth.is_finite() {
        return;
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let density = |at: f64| -> f64 {
        values.iter().map(|v| (-0.5 * ((at - v) / bandwidth).powi(2)).exp()).sum()
    };
    let places = (0..=STEPS).map(|i| low + (high - low) * i as f64 / STEPS as f64);
    let shape: Vec<(f64, f64)> = places.map(|at| (x.at(at), density(at))).collect();
    let most = shape.iter().map(|(_, density)| *density).fold(f64::MIN_POSITIVE, f64::max);
    let edge = |sign: f64| {
        move |(at, density): &(f64, f64)| {
            format!("{at:.1},{:.1}", middle + sign * HALF * density / most)
        }
    };
    let outline: Vec<String> =
        shape.iter().map(edge(-1.0)).chain(shape.iter().rev().map(edge(1.0))).collect();
    canvas.push(&format!(
        r#"<polygon points="{}" fill="{colour}" fill-opacity=".28"/>"#,
        outline.join(" ")
    ));
}
