//! Learning curves: one small panel per arm with the losses of its repeats.
//!
//! Leaves out: metrics other than the loss (the table of histories holds every epoch). Invariant:
//! the picture's size is bounded by panels, repeats and points, not by the job.

use super::super::FitResult;
use super::super::summary::{Arm, DatasetSummary};
use super::super::svg::{Canvas, PALETTE, Scale, round_range};
use super::super::view::DatasetView;
use super::Figure;
use glmeval_common::store::fits::EpochRecord;

/// Panels of a figure.
const PANELS_MAX: usize = 12;
/// Repeats drawn in a panel.
const REPEATS_MAX: usize = 5;
/// Epochs drawn of a fit.
const POINTS_MAX: usize = 50;
const COLUMNS: usize = 4;
const PANEL_WIDTH: f64 = 180.0;
const PANEL_HEIGHT: f64 = 96.0;
/// Room for tick labels left of a panel, and for its title and axis above and below.
const LEFT: f64 = 54.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 22.0;
/// Characters of a panel's title in one line.
const TITLE_MAX: usize = 34;

/// `None` if no fit was trained by steps.
pub(super) fn histories(dataset: &DatasetView<'_>, summary: &DatasetSummary<'_>) -> Option<Figure> {
    let trained = |arm: &&Arm<'_>| arm.fits.iter().any(|fit| !fit.history.is_empty());
    let arms: Vec<&Arm<'_>> = summary.arms.iter().filter(trained).collect();
    if arms.is_empty() {
        return None;
    }
    let shown = arms.get(..PANELS_MAX).unwrap_or(&arms);
    let title = format!("Learning curves on {}", dataset.name);
    let mut caption = format!(
        "{title}: loss by epoch, of the training split while it is trained on (solid) and of the \
         validation split after each epoch (dashed); one colour per repeat. Triangles mark \
         reductions of the learning rate, the dot the lowest validation loss."
    );
    if arms.len() > shown.len() {
        caption.push_str(&format!(" The first {PANELS_MAX} of {} are shown.", arms.len()));
    }
    if shown.iter().any(|arm| arm.fits.len() > REPEATS_MAX) {
        caption.push_str(&format!(" {REPEATS_MAX} repeats at most are drawn."));
    }
    caption.push_str(" The table histories holds every epoch of every fit.");
    let svg = draw(shown, &title);
    Some(Figure { name: "learning-curves".to_owned(), caption, svg, wide: true })
}

fn draw(arms: &[&Arm<'_>], title: &str) -> String {
    let columns = arms.len().clamp(1, COLUMNS);
    let rows = arms.len().div_ceil(COLUMNS);
    let (wide, high) = (LEFT + PANEL_WIDTH + 12.0, ABOVE + PANEL_HEIGHT + BELOW);
    let mut canvas = Canvas::new(wide * columns as f64, high * rows as f64 + 8.0);
    for (i, arm) in arms.iter().enumerate() {
        let at = (wide * (i % COLUMNS) as f64 + LEFT, high * (i / COLUMNS) as f64 + ABOVE);
        panel(&mut canvas, arm, at);
    }
    canvas.finish(title)
}

fn panel(canvas: &mut Canvas, arm: &Arm<'_>, (left, top): (f64, f64)) {
    let fits: Vec<&FitResult> =
        arm.fits.iter().copied().filter(|f| !f.history.is_empty()).take(REPEATS_MAX).collect();
    let epochs = || fits.iter().flat_map(|fit| &fit.history);
    let last = epochs().map(|epoch| epoch.epoch).max().unwrap_or(0).max(2);
    let x = Scale { low: 1.0, high: f64::from(last), from: left, to: left + PANEL_WIDTH };
    let losses = epochs().flat_map(|epoch| [Some(epoch.loss), epoch.val_loss]).flatten();
    let (low, high) = round_range(losses);
    let y = Scale { low, high, from: top + PANEL_HEIGHT, to: top };
    let (input, probe) = arm.label.split_once(" · ").unwrap_or((&arm.label, ""));
    canvas.text((left, top - 20.0), "start", "small strong", &shortened(input));
    canvas.text((left, top - 7.0), "start", "small", &shortened(probe));
    for (tick, text) in [y.ticks(3).first(), y.ticks(3).last()].into_iter().flatten() {
        canvas.line((x.from, y.at(*tick)), (x.to, y.at(*tick)), "grid");
        canvas.text((x.from - 5.0, y.at(*tick) + 4.0), "end", "small muted", text);
    }
    canvas.line((x.from, y.from), (x.to, y.from), "axis");
    canvas.line((x.from, y.from), (x.from, y.to), "axis");
    canvas.text((x.from, y.from + 14.0), "middle", "small muted", "1");
    canvas.text((x.to, y.from + 14.0), "middle", "small muted", &last.to_string());
    for (i, fit) in fits.iter().enumerate() {
        let colour = PALETTE.get(i % PALETTE.len()).copied().unwrap_or("#0072b2");
        curves(canvas, fit, (x, y), colour);
    }
}

fn curves(canvas: &mut Canvas, fit: &FitResult, (x, y): (Scale, Scale), colour: &str) {
    let history = &fit.history;
    let step = history.len().div_ceil(POINTS_MAX).max(1);
    let is_kept = |i: usize| i.is_multiple_of(step) || i + 1 == history.len();
    let path = |get: &dyn Fn(&EpochRecord) -> Option<f64>| -> String {
        let points = history.iter().enumerate().filter(|(i, _)| is_kept(*i));
        let points = points.filter_map(|(_, epoch)| Some((epoch.epoch, get(epoch)?)));
        let finite = points.filter(|(_, loss)| loss.is_finite());
        let at =
            |(epoch, loss): (u32, f64)| format!("{:.1},{:.1}", x.at(f64::from(epoch)), y.at(loss));
        finite.map(at).collect::<Vec<_>>().join(" ")
    };
    for (points, dash) in
        [(path(&|epoch| Some(epoch.loss)), "none"), (path(&|e| e.val_loss), "4 2")]
    {
        if !points.is_empty() {
            canvas.push(&format!(
                r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2" stroke-dasharray="{dash}"/>"#
            ));
        }
    }
    for pair in history.windows(2) {
        if let [before, after] = pair
            && after.learning_rate < before.learning_rate
        {
            let (at, foot) = (x.at(f64::from(after.epoch)), y.from);
            canvas.push(&format!(
                r#"<path d="M{at:.1} {foot:.1}l-3 -6h6z" fill="{colour}" fill-opacity=".7"/>"#
            ));
        }
    }
    let valid = history.iter().filter_map(|epoch| Some((epoch.epoch, epoch.val_loss?)));
    let lowest = valid.filter(|(_, loss)| loss.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((epoch, loss)) = lowest {
        let (cx, cy) = (x.at(f64::from(epoch)), y.at(loss));
        canvas.push(&format!(r#"<circle cx="{cx:.1}" cy="{cy:.1}" r="2.6" fill="{colour}"/>"#));
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= TITLE_MAX {
        return text.to_owned();
    }
    text.chars().take(TITLE_MAX - 1).chain(['…']).collect()
}
