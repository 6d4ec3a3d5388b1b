//! Logos of the maps of one sequence, one above another, on the window that the explained network heeds
//! most.
//!
//! Leaves out: which sequences (attribution), letters (logo). Invariant: tracks share their positions, and
//! each has its own scale.

use super::super::svg::{Canvas, Scale, round_range};
use super::super::view::{kind_title, of_dataset};
use super::super::{AttributionResult, ReportInput};
use super::{Figure, file_stem};
use crate::attribution::{MapKind, StoredMaps};
use crate::logo::{LETTER_STYLE, draw_letters};
use glmeval_common::dataset::TaskName;
use glmeval_common::plan::PlannedDataset;
use std::fmt::Write as _;

/// Positions of a logo at most.
const WINDOW_NT: usize = 80;
const LETTER_WIDTH: f64 = 12.0;
const LEFT: f64 = 66.0;
const TOP: f64 = 30.0;
const OVERVIEW_HEIGHT: f64 = 26.0;
const TRACK_HEIGHT: f64 = 74.0;
/// Room above a track for its name.
const TRACK_GAP: f64 = 30.0;
/// Characters of an id that are shown.
const ID_MAX: usize = 48;

/// A map of a figure.
struct Track<'a> {
    name: &'static str,
    title: String,
    values: &'a [f32],
}

/// Logos of every data set, with their task.
pub(in super::super) fn all_logos(input: &ReportInput<'_>) -> Vec<(TaskName, Figure)> {
    let datasets = input.plan.datasets.iter().enumerate();
    let figures = datasets.flat_map(|(place, planned)| {
        let results = of_dataset(input.attributions, &planned.name);
        let figures = logos(place, planned, &results);
        figures.into_iter().map(|figure| (planned.task, figure))
    });
    figures.collect()
}

/// A figure for each of the first sequences of each network that was explained on a data set.
fn logos(place: usize, planned: &PlannedDataset, results: &[&AttributionResult]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut left: Vec<&AttributionResult> = results.to_vec();
    let mut group = 0;
    while let Some(first) = left.first().copied() {
        // What another gLM was asked of the same sequences stands below.
        let (same, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|one| is_beside(first, one));
        left = others;
        for (rank, maps) in first.logos.iter().enumerate() {
            let beside: Vec<(Option<&str>, &StoredMaps)> = same
                .iter()
                .filter_map(|one| {
                    let model = one.scores.identity.model.as_deref();
                    Some((model, one.logos.get(rank)?))
                })
                .collect();
            let probe = &first.scores.identity.probe;
            let mut figure = figure(maps, &tracks(probe, &beside), (probe, rank));
            let stem = file_stem(&planned.name);
            figure.name = format!("{place:02}-{stem}-logo-{group}-{:02}", rank + 1);
            figures.push(figure);
        }
        group += 1;
    }
    figures
}

/// Whether two results are of the same sequences, ranked by the same network.
fn is_beside(a: &AttributionResult, b: &AttributionResult) -> bool {
    let network = |one: &AttributionResult| {
        let maps = one.logos.iter().map(|maps| (maps.named.row, maps.output.map(f32::to_bits)));
        (one.scores.identity.probe.clone(), maps.collect::<Vec<_>>())
    };
    network(a) == network(b)
}

/// Saliency once, then what each gLM gives.
fn tracks<'a>(probe: &str, beside: &[(Option<&str>, &'a StoredMaps)]) -> Vec<Track<'a>> {
    let mut tracks: Vec<Track<'a>> = Vec::new();
    for (number, (model, maps)) in beside.iter().enumerate() {
        for (kind, values) in &maps.maps {
            if *kind == MapKind::Saliency && number > 0 {
                continue;
            }
            let of = match kind {
                MapKind::Saliency => probe.to_owned(),
                _ => model.unwrap_or_default().to_owned(),
            };
            let unit = if *kind == MapKind::Information { ", nats" } else { "" };
            let name = kind_title(kind.name());
            let title = format!("{name} · {of}{unit}");
            tracks.push(Track { name, title, values });
        }
    }
    tracks
}

fn figure(maps: &StoredMaps, tracks: &[Track<'_>], (probe, rank): (&str, usize)) -> Figure {
    let letters = maps.named.sequence.as_bytes();
    let heeded = tracks.first().map_or(&[][..], |track| track.values);
    let (from, past) = window(heeded, letters.len());
    let is_cut = past - from < letters.len();
    let id: String = maps.named.id.chars().take(ID_MAX).collect();
    let right = LEFT + LETTER_WIDTH * (past - from) as f64;
    let overview = if is_cut { OVERVIEW_HEIGHT + TRACK_GAP } else { 0.0 };
    let height = TOP + overview + tracks.len() as f64 * (TRACK_HEIGHT + TRACK_GAP) + 40.0;
    let mut canvas = Canvas::new(right.max(LEFT + 300.0) + 16.0, height);
    canvas.push(LETTER_STYLE);
    let title = format!("{}. {id}", rank + 1);
    canvas.text((LEFT, 18.0), "start", "strong", &title);
    let mut y = TOP;
    if is_cut {
        let name = tracks.first().map_or("", |track| track.name);
        draw_overview(&mut canvas, (name, heeded), (from, past), (y + 8.0, right));
        y += overview;
    }
    for track in tracks {
        y += TRACK_GAP;
        canvas.text((LEFT, y - 8.0), "start", "small", &track.title);
        let values = track.values.get(from..past).unwrap_or_default();
        let shown = values.iter().map(|&value| f64::from(value)).chain([0.0]);
        let (low, high) = round_range(shown);
        let scale = Scale { low, high, from: y + TRACK_HEIGHT, to: y };
        draw_axis(&mut canvas, scale, right);
        for ((position, letter), value) in (0_u32..).zip(&letters[from..past]).zip(values) {
            let x = LEFT + LETTER_WIDTH * f64::from(position);
            draw_letters(&mut canvas, scale, (x, LETTER_WIDTH), &[(*letter, f64::from(*value))]);
        }
        canvas.line((LEFT, scale.at(0.0)), (right, scale.at(0.0)), "axis");
        y += TRACK_HEIGHT;
    }
    for position in (from..past).filter(|at| is_numbered(*at, from)) {
        let x = LEFT + LETTER_WIDTH * (position - from) as f64 + LETTER_WIDTH / 2.0;
        canvas.text((x, y + 18.0), "middle", "small muted", &(position + 1).to_string());
    }
    let output = maps.output.map_or(String::new(), |output| format!(", output {output:.3}"));
    let place = match is_cut {
        true => format!(
            "; positions {} to {past} of {}, where the first map is largest",
            from + 1,
            letters.len()
        ),
        false => String::new(),
    };
    let caption = format!(
        "Rank {} of the test split by {probe}{output}: {id}{place}. Letters as high as the map's value, negative ones upside down; each map has its own scale.",
        rank + 1
    );
    let svg = canvas.finish(&format!("Attribution maps of {id}"));
    Figure { name: String::new(), caption, svg, wide: true }
}

/// Whether a position is a tenth one, or the first without one beside it.
fn is_numbered(position: usize, from: usize) -> bool {
    let number = position + 1;
    number.is_multiple_of(10) || (position == from && (1..=7).contains(&(number % 10)))
}

/// The lowest and highest number beside a track.
fn draw_axis(canvas: &mut Canvas, scale: Scale, right: f64) {
    for (tick, text) in scale.ticks(2) {
        canvas.line((LEFT, scale.at(tick)), (right, scale.at(tick)), "grid");
        canvas.text((LEFT - 7.0, scale.at(tick) + 4.0), "end", "small muted", &text);
    }
}

/// The whole sequence as a line, with the window that is shown below.
fn draw_overview(
    canvas: &mut Canvas,
    (name, values): (&str, &[f32]),
    (from, past): (usize, usize),
    (top, right): (f64, f64),
) {
    let width = right - LEFT;
    let x = |position: usize| LEFT + width * position as f64 / values.len().max(1) as f64;
    let most = values.iter().map(|value| value.abs()).fold(0.0_f32, f32::max);
    let (left, span) = (x(from), x(past) - x(from));
    canvas.push(&format!(
        r#"<rect x="{left:.1}" y="{top:.1}" width="{span:.1}" height="{OVERVIEW_HEIGHT}" class="reference"/>"#
    ));
    let mut path = String::new();
    for (position, value) in values.iter().enumerate() {
        let share = if most > 0.0 { f64::from(value.abs() / most) } else { 0.0 };
        let share = if share.is_finite() { share } else { 0.0 };
        let (x, y) = (x(position), top + OVERVIEW_HEIGHT * (1.0 - share));
        // Writing to a String cannot fail.
        let _ = write!(path, "{}{x:.1},{y:.1}", if position == 0 { "M" } else { "L" });
    }
    canvas.push(&format!(r##"<path d="{path}" fill="none" stroke="#0072b2" stroke-width="1"/>"##));
    let below = top + OVERVIEW_HEIGHT + 13.0;
    canvas.text((LEFT, below), "start", "small muted", "1");
    canvas.text((right, below), "end", "small muted", &values.len().to_string());
    let middle = (LEFT + right) / 2.0;
    canvas.text((middle, below), "middle", "small muted", &format!("|{name}|, whole sequence"));
}

/// The window whose absolute values add up to most, the first of equal ones.
fn window(values: &[f32], length: usize) -> (usize, usize) {
    if length <= WINDOW_NT || values.len() != length {
        return (0, length.min(WINDOW_NT));
    }
    let size = |value: f32| if value.is_finite() { f64::from(value.abs()) } else { 0.0 };
    let mut sum: f64 = values.iter().take(WINDOW_NT).map(|&value| size(value)).sum();
    let (mut best, mut from) = (sum, 0);
    for (start, (&out, &next)) in values.iter().zip(values.iter().skip(WINDOW_NT)).enumerate() {
        sum += size(next) - size(out);
        if sum > best {
            (best, from) = (sum, start + 1);
        }
    }
    (from, from + WINDOW_NT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_where_most_is_heeded() {
        let mut values = vec![0.0_f32; 200];
        (values[120], values[140], values[3]) = (-2.0, 1.0, 2.5);
        assert_eq!(window(&values, 200), (61, 141));
        assert_eq!(window(&values[..60], 60), (0, 60));
        assert_eq!(window(&[f32::NAN; 100], 100), (0, 80));
    }
}
