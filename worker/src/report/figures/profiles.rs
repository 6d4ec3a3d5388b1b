//! A statistic along the fraction of training examples or along the layers of a gLM.
//!
//! Leaves out: width factors (bars). Invariant: a line joins arms that differ in the axis only; a
//! figure is drawn only where the axis has more than one value.

use super::super::published::Center;
use super::super::summary::{Arm, ArmStatistic, DatasetSummary};
use super::super::svg::{Canvas, PALETTE, Scale, round_range, text_width};
use super::super::view::{DatasetView, View, arm_label, statistic_title};
use super::{Figure, published_name};
use glmeval_common::job::Protocol;
use glmeval_common::score::FitIdentity;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 68.0;
const TOP: f64 = 12.0;
const LEGEND_ROW: f64 = 20.0;
/// Lines of a figure.
const CURVES_MAX: usize = 8;
const DASHES: [&str; 2] = ["none", "6 3"];

struct Point {
    x: f64,
    mean: f64,
    band: Option<f64>,
    published: Option<f64>,
}

struct Line {
    label: String,
    points: Vec<Point>,
}

/// The statistic over the fraction of the training split.
pub(super) fn fractions(
    view: &View<'_>,
    (dataset, summary): (&DatasetView<'_>, &DatasetSummary<'_>),
    name: &str,
) -> Option<Figure> {
    let without = |identity: &FitIdentity| FitIdentity { fraction: 1.0, ..identity.clone() };
    let lines = lines((view, dataset, summary), name, (&|i| Some(i.fraction), &without));
    let title =
        format!("{} by fraction of the training split on {}", statistic_title(name), dataset.name);
    figure(lines, "fractions", title, ("Fraction of the training split", name), view.plan.protocol)
}

/// The statistic over the layers of a gLM.
pub(super) fn layers(
    view: &View<'_>,
    (dataset, summary): (&DatasetView<'_>, &DatasetSummary<'_>),
    name: &str,
) -> Option<Figure> {
    let without = |identity: &FitIdentity| FitIdentity { layer: None, ..identity.clone() };
    let lines = lines((view, dataset, summary), name, (&|i| i.layer.map(f64::from), &without));
    let title = format!("{} by layer on {}", statistic_title(name), dataset.name);
    figure(lines, "layers", title, ("Layer", name), view.plan.protocol)
}

type Axis<'a> = (&'a dyn Fn(&FitIdentity) -> Option<f64>, &'a dyn Fn(&FitIdentity) -> FitIdentity);

/// Lines of at least two points, in the order of their first arm.
fn lines(
    (view, dataset, summary): (&View<'_>, &DatasetView<'_>, &DatasetSummary<'_>),
    name: &str,
    (place, without): Axis<'_>,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for arm in &summary.arms {
        let point = place(arm.identity).and_then(|x| point(arm, name, x, view.plan.protocol));
        let Some(mut point) = point else { continue };
        // Curves were published as means.
        let rows = dataset.published.iter().filter(|row| row.of == Center::Mean);
        let mut rows = rows.filter(|row| row.statistic == published_name(name));
        let last = view.last_layer(arm.identity);
        point.published =
            rows.find(|row| row.is_counterpart(arm.identity, last)).map(|row| row.value);
        let label = arm_label(&without(arm.identity));
        match lines.iter_mut().find(|line| line.label == label) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { label, points: vec![point] }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    lines.retain(|line| line.points.len() > 1);
    lines
}

fn point(arm: &Arm<'_>, name: &str, x: f64, protocol: Protocol) -> Option<Point> {
    let ArmStatistic { summary, .. } = arm.headline(name)?;
    let band = match protocol {
        Protocol::Published => summary.published_band(),
        Protocol::Corrected => summary.band(),
    };
    Some(Point { x, mean: summary.mean?, band, published: None })
}

fn figure(
    mut lines: Vec<Line>,
    file: &str,
    title: String,
    (axis, name): (&str, &str),
    protocol: Protocol,
) -> Option<Figure> {
    let all = lines.len();
    let best = |line: &Line| line.points.iter().map(|p| p.mean).fold(f64::MIN, f64::max);
    lines.sort_by(|a, b| best(b).total_cmp(&best(a)));
    lines.truncate(CURVES_MAX);
    if lines.is_empty() {
        return None;
    }
    let mut caption = format!("{title}, test split; points are means over repeats.");
    if lines.iter().flat_map(|line| &line.points).any(|point| point.band.is_some()) {
        caption.push_str(match protocol {
            Protocol::Published => {
                " Bands: population standard deviation over repeats / √5, as published."
            }
            Protocol::Corrected => " Bands: sample standard deviation over repeats / √n.",
        });
    }
    if all > CURVES_MAX {
        caption.push_str(&format!(
            " The {CURVES_MAX} of {all} lines with the highest point are shown."
        ));
    }
    if lines.iter().flat_map(|line| &line.points).any(|point| point.published.is_some()) {
        caption.push_str(" Open circles on dotted lines: the published means.");
    }
    let svg = draw(&lines, &title, axis, statistic_title(name));
    Some(Figure { name: file.to_owned(), caption, svg, wide: false })
}

fn draw(lines: &[Line], title: &str, x_title: &str, y_title: &str) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (low, high) = round_range(points().map(|point| point.x));
    let x = Scale { low, high, from: LEFT, to: LEFT + WIDTH };
    let extent = points().flat_map(|point| {
        let band = point.band.unwrap_or(0.0);
        [point.mean - band, point.mean + band, point.published.unwrap_or(point.mean)]
    });
    let (low, high) = round_range(extent);
    let y = Scale { low, high, from: TOP + HEIGHT, to: TOP };
    let widest = lines.iter().map(|line| text_width(&line.label)).fold(0.0, f64::max);
    let width = (LEFT + WIDTH + 20.0).max(LEFT + 40.0 + widest);
    let legend = TOP + HEIGHT + 62.0;
    let mut canvas = Canvas::new(width, legend + LEGEND_ROW * lines.len() as f64);
    canvas.x_axis(x, TOP, TOP + HEIGHT, x_title);
    canvas.y_axis(y, LEFT, LEFT + WIDTH, y_title);
    for (i, line) in lines.iter().enumerate() {
        let colour = PALETTE.get(i % PALETTE.len()).copied().unwrap_or("#0072b2");
        let dash = DASHES.get(i % 2).copied().unwrap_or("none");
        draw_line(&mut canvas, line, (x, y), (colour, dash));
        let row = legend + LEGEND_ROW * i as f64;
        canvas.push(&format!(
            r#"<path d="M{LEFT} {row:.1}h26" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>"#
        ));
        canvas.text((LEFT + 34.0, row + 4.0), "start", "", &line.label);
    }
    canvas.finish(title)
}

fn draw_line(
    canvas: &mut Canvas,
    line: &Line,
    (x, y): (Scale, Scale),
    (colour, dash): (&str, &str),
) {
    let at = |point: &Point, shift: f64| {
        format!("{:.1},{:.1}", x.at(point.x), y.at(point.mean + shift * point.band.unwrap_or(0.0)))
    };
    if line.points.iter().any(|point| point.band.is_some()) {
        let upper = line.points.iter().map(|point| at(point, 1.0));
        let lower = line.points.iter().rev().map(|point| at(point, -1.0));
        let outline: Vec<String> = upper.chain(lower).collect();
        let outline = outline.join(" ");
        canvas
            .push(&format!(r#"<polygon points="{outline}" fill="{colour}" fill-opacity=".15"/>"#));
    }
    let published = || line.points.iter().filter_map(|p| Some((x.at(p.x), y.at(p.published?))));
    let path: Vec<String> = published().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if !path.is_empty() {
        canvas.push(&format!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.2" stroke-dasharray="1 3"/>"#,
            path.join(" ")
        ));
    }
    for (cx, cy) in published() {
        canvas.push(&format!(
            r#"<circle cx="{cx:.1}" cy="{cy:.1}" r="3" fill="none" stroke="{colour}"/>"#
        ));
    }
    let path: Vec<String> = line.points.iter().map(|point| at(point, 0.0)).collect();
    let path = path.join(" ");
    canvas.push(&format!(
        r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>"#
    ));
    for point in &line.points {
        let (cx, cy) = (x.at(point.x), y.at(point.mean));
        canvas.push(&format!(r#"<circle cx="{cx:.1}" cy="{cy:.1}" r="2.6" fill="{colour}"/>"#));
    }
}
