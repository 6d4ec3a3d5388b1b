//! Predictions of a global importance analysis as violins with boxes, the wild type as a line.
//!
//! Leaves out: predicting. Invariant: pure; a file of its own that follows light and dark.

use crate::report::svg::{Canvas, PALETTE, Scale, round_range, standalone, text_width};

const TOP: f64 = 24.0;
const PLOT_HEIGHT: f64 = 300.0;
/// Width of a violin with the space beside it.
const SLOT: f64 = 92.0;
const VIOLIN_HALF: f64 = 34.0;
const BOX_HALF: f64 = 6.0;
/// Places at which a density is drawn.
const DENSITY_STEPS: usize = 64;
/// Letters of a label on one line.
const LABEL_LETTERS_MAX: usize = 24;

/// Draws `groups` of predictions, each with its name, and the prediction of the wild type.
pub fn figure(groups: &[(&str, &[f64])], wild_type: Option<f64>) -> String {
    let all = groups.iter().flat_map(|(_, values)| values.iter().copied()).chain(wild_type);
    let (low, high) = round_range(all);
    let (from, to) = (TOP + PLOT_HEIGHT, TOP);
    let y = Scale { low, high, from, to };
    let left = 64.0;
    let right = left + SLOT * groups.len().max(1) as f64;
    let labels: Vec<String> = groups.iter().map(|(name, _)| shortened(name)).collect();
    let longest = labels.iter().map(|label| text_width(label)).fold(0.0, f64::max);
    // Labels stand at 45 degrees, the last one begins below the plot's right end.
    let depth = longest * std::f64::consts::FRAC_1_SQRT_2;
    let mut canvas = Canvas::new(right.max(depth + 20.0) + 84.0, from + depth + 34.0);
    canvas.y_axis(y, left, right, "prediction");
    for (index, ((_, values), label)) in groups.iter().zip(&labels).enumerate() {
        let center = left + SLOT * (index as f64 + 0.5);
        let colour = PALETTE[index % PALETTE.len()];
        violin(&mut canvas, y, center, values, colour);
        let (x, bottom) = (center + 4.0, from + 16.0);
        let label = crate::report::svg::escape(label);
        canvas.push(&format!(
            r#"<text transform="translate({x:.1},{bottom:.1}) rotate(-45)" text-anchor="end" class="small">{label}</text>"#
        ));
    }
    canvas.line((left, from), (right, from), "axis");
    if let Some(value) = wild_type.filter(|value| value.is_finite()) {
        let height = y.at(value);
        canvas.push(&format!(
            r#"<line x1="{left:.1}" y1="{height:.1}" x2="{right:.1}" y2="{height:.1}" class="whisker" stroke-dasharray="6 4"/>"#
        ));
        canvas.text((right + 5.0, height + 4.0), "start", "small", "wild type");
    }
    standalone(&canvas.finish("Global importance analysis: predictions over backgrounds"))
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LABEL_LETTERS_MAX {
        return name.to_owned();
    }
    name.chars().take(LABEL_LETTERS_MAX - 1).chain(['…']).collect()
}

/// The density of `values`, quartiles as a box, the median as a mark, extremes as whiskers.
fn violin(canvas: &mut Canvas, y: Scale, center: f64, values: &[f64], colour: &str) {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return };
    let outline = outline(&sorted);
    let peak = outline.iter().map(|(_, density)| *density).fold(0.0, f64::max);
    if most > least && peak > 0.0 {
        let side = |sign: f64| {
            let point = move |&(value, density): &(f64, f64)| {
                format!("{:.1},{:.1}", center + sign * VIOLIN_HALF * density / peak, y.at(value))
            };
            outline.iter().map(point).collect::<Vec<_>>()
        };
        let mut points = side(-1.0);
        points.extend(side(1.0).into_iter().rev());
        let points = points.join(" ");
        canvas.push(&format!(
            r#"<polygon points="{points}" fill="{colour}" fill-opacity=".35" stroke="{colour}"/>"#
        ));
    }
    canvas.line((center, y.at(least)), (center, y.at(most)), "whisker");
    let [lower, middle, upper] = [0.25, 0.5, 0.75].map(|share| y.at(quantile(&sorted, share)));
    let (x, width, height) = (center - BOX_HALF, 2.0 * BOX_HALF, (lower - upper).max(0.5));
    canvas.push(&format!(
        r#"<rect x="{x:.1}" y="{upper:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
    ));
    canvas.push(&format!(r#"<circle cx="{center:.1}" cy="{middle:.1}" r="4" class="mark"/>"#));
}

/// Values and their density, by Gaussian kernels of Silverman's width (1986, equation 3.31).
fn outline(sorted: &[f64]) -> Vec<(f64, f64)> {
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let count = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / count;
    let variance = sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let quartiles = quantile(sorted, 0.75) - quantile(sorted, 0.25);
    let spread = [variance.sqrt(), quartiles / 1.34].into_iter().filter(|width| *width > 0.0);
    let width = 0.9 * spread.fold(f64::INFINITY, f64::min) * count.powf(-0.2);
    let place = |step: usize| least + (most - least) * step as f64 / DENSITY_STEPS as f64;
    let density = |at: f64| {
        let kernel = |value: &f64| (-0.5 * ((at - value) / width).powi(2)).exp();
        sorted.iter().map(kernel).sum::<f64>()
    };
    (0..=DENSITY_STEPS).map(|step| (place(step), density(place(step)))).collect()
}

/// The value below which `share` of a sorted sample lies, linear between two values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * place.fract(),
        _ => f64::NAN,
    }
}
