//! Bars of one statistic with 95 % intervals, and published values below them in grey.
//!
//! Leaves out: tables. Invariant: bars start at the value of a probe that knows nothing.

use super::super::published::Reference;
use super::super::summary::{Arm, DatasetSummary};
use super::super::svg::{Canvas, PALETTE, Scale, round_range, text_width};
use super::super::view::{DatasetView, View, input_label, rounded, statistic_title};
use super::{BARS_MAX, Figure, counterpart, headline_arms, names, published_name};

const ROW: f64 = 24.0;
const PLOT_WIDTH: f64 = 420.0;
const TOP: f64 = 14.0;
/// Published values without a fit here.
const PUBLISHED_MAX: usize = 10;

pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    /// `None` = published.
    pub(super) colour: Option<&'static str>,
    /// Published value of the same probe on the same input.
    pub(super) counterpart: Option<f64>,
}

/// One figure of statistic `name`; `None` if no fit has it.
pub(super) fn bars(
    view: &View<'_>,
    (dataset, summary): (&DatasetView<'_>, &DatasetSummary<'_>),
    name: &str,
    chance: f64,
) -> Option<Figure> {
    let mut ours = own_bars(view, (dataset, summary), name);
    let all = ours.len();
    if all == 0 {
        return None;
    }
    if all > BARS_MAX {
        ours.sort_by(|a, b| b.value.total_cmp(&a.value));
        ours.truncate(BARS_MAX);
    }
    let published = published_bars(view, dataset, name);
    let title = format!("{} on {}", statistic_title(name), dataset.name);
    let svg = draw_bars(&ours, &published, &title, statistic_title(name), chance);
    let is_repeated = summary.arms.iter().any(|arm| arm.fits.len() > 1);
    let over = if is_repeated { "repeats and test examples" } else { "test examples" };
    let mean = if is_repeated { ", mean over repeats" } else { "" };
    let mut caption = format!(
        "{title}, test split{mean}. Bars start at {chance}, the value of a probe that knows \
         nothing; whiskers are 95 % bootstrap intervals over {over}."
    );
    if ours.iter().any(|bar| Some(bar.colour) != ours.first().map(|first| first.colour)) {
        caption.push_str(" One colour per probe.");
    }
    if !published.is_empty() {
        caption.push_str(" Grey: values published under this name");
        let repeated = published.iter().any(|bar| bar.low.is_some());
        let whiskers = " (whiskers: one standard deviation over repeats)";
        caption.push_str(if repeated { whiskers } else { "" });
        caption.push('.');
    }
    if ours.iter().any(|bar| bar.counterpart.is_some()) {
        caption.push_str(" Diamonds: the published value of the same probe on the same input.");
    }
    caption.push_str(&left_out(headline_arms(summary, name).len(), all));
    Some(Figure { name: format!("{}-bars", name.replace('_', "-")), caption, svg, wide: true })
}

/// Bars of the arms that were fitted at several width factors, one colour per factor; `None` if no arm was.
pub(super) fn factor_bars(
    dataset: &DatasetView<'_>,
    summary: &DatasetSummary<'_>,
    name: &str,
    chance: f64,
) -> Option<Figure> {
    let group = |arm: &Arm<'_>| {
        let identity = arm.identity;
        (input_label(identity), identity.probe.clone(), identity.fraction.to_bits())
    };
    let is_varied = |arm: &&Arm<'_>| {
        summary
            .arms
            .iter()
            .any(|other| group(other) == group(arm) && other.identity.factor != arm.identity.factor)
    };
    let arms: Vec<&Arm<'_>> = summary.arms.iter().filter(is_varied).collect();
    let mut factors: Vec<f64> = arms.iter().map(|arm| arm.identity.factor).collect();
    factors.sort_by(f64::total_cmp);
    factors.dedup();
    let bar = |arm: &&Arm<'_>| {
        let place = factors.iter().position(|factor| *factor == arm.identity.factor)?;
        let mut bar = own_bar(arm, name, place)?;
        if arm.identity.factor == 1.0 {
            bar.label.push_str(" ×1");
        }
        Some(bar)
    };
    let mut ours: Vec<Bar> = arms.iter().filter_map(bar).collect();
    let all = ours.len();
    if all < 2 {
        return None;
    }
    ours.truncate(BARS_MAX);
    let title = format!("{} by width of the probe on {}", statistic_title(name), dataset.name);
    let svg = draw_bars(&ours, &[], &title, statistic_title(name), chance);
    let factors: Vec<String> = factors.iter().map(|factor| rounded(*factor)).collect();
    let mut caption = format!(
        "{title}, test split; one colour per width factor ({}); whiskers are 95 % intervals.",
        factors.join(", ")
    );
    if all > BARS_MAX {
        caption.push_str(&format!(" The first {BARS_MAX} of {all} are shown."));
    }
    Some(Figure { name: "factors".to_owned(), caption, svg, wide: true })
}

/// What the caption says of arms without a bar.
fn left_out(arms: usize, with_value: usize) -> String {
    let mut text = String::new();
    if with_value > BARS_MAX {
        text.push_str(&format!(" The best {BARS_MAX} of {with_value} are shown."));
    }
    let without = arms - with_value;
    if without > 0 {
        text.push_str(&format!(" {without} without a value (n/a) are left out."));
    }
    text
}

fn own_bar(arm: &Arm<'_>, name: &str, place: usize) -> Option<Bar> {
    let row = arm.headline(name)?;
    Some(Bar {
        label: arm.label.clone(),
        value: row.summary.mean?,
        low: row.interval.map(|(low, _)| low),
        high: row.interval.map(|(_, high)| high),
        colour: PALETTE.get(place % PALETTE.len()).copied(),
        counterpart: None,
    })
}

fn own_bars(
    view: &View<'_>,
    (dataset, summary): (&DatasetView<'_>, &DatasetSummary<'_>),
    name: &str,
) -> Vec<Bar> {
    let arms = headline_arms(summary, name);
    let probes = names(arms.iter().map(|arm| arm.identity.probe.as_str()));
    let bar = |arm: &&Arm<'_>| {
        let place = probes.iter().position(|probe| *probe == arm.identity.probe).unwrap_or(0);
        let counterpart = counterpart(view, dataset, arm.identity, name).map(|row| row.value);
        Some(Bar { counterpart, ..own_bar(arm, name, place)? })
    };
    arms.iter().filter_map(bar).collect()
}

/// Published values of the paper's own networks that no fit here is the counterpart of.
fn published_bars(view: &View<'_>, dataset: &DatasetView<'_>, name: &str) -> Vec<Bar> {
    let is_ours = |row: &Reference| {
        let identities = dataset.fits.iter().map(|fit| &fit.scores.identity);
        identities.into_iter().any(|i| row.is_counterpart(i, view.last_layer(i)))
    };
    let is_shown = |row: &&&'static Reference| {
        row.statistic == published_name(name)
            && row.factor == 1.0
            && row.fraction == 1.0
            && row.layer.is_none_or(|layer| layer == 32)
            && !is_ours(row)
    };
    let mut rows: Vec<&'static Reference> =
        dataset.published.iter().filter(is_shown).copied().collect();
    // Baselines and networks on all tokens are what the study's figures show.
    rows.sort_by_key(|row| !["one-hot", "full"].contains(&row.representation));
    rows.truncate(PUBLISHED_MAX);
    let bar = |row: &&'static Reference| Bar {
        label: format!("{} · {}", row.input(), row.probe),
        value: row.value,
        low: row.deviation.map(|sd| row.value - sd),
        high: row.deviation.map(|sd| row.value + sd),
        colour: None,
        counterpart: None,
    };
    rows.iter().map(bar).collect()
}

pub(super) fn draw_bars(
    ours: &[Bar],
    published: &[Bar],
    title: &str,
    axis: &str,
    chance: f64,
) -> String {
    let bars = || ours.iter().chain(published);
    let left =
        bars().map(|bar| text_width(&bar.label)).fold(text_width("published values"), f64::max)
            + 22.0;
    let gap = if published.is_empty() { 0.0 } else { ROW };
    let bottom = TOP + ROW * (ours.len() + published.len()) as f64 + gap;
    let extent = bars().flat_map(|bar| {
        [Some(bar.value), bar.low, bar.high, bar.counterpart].into_iter().flatten()
    });
    let (low, high) = round_range(extent.chain([chance]));
    let x = Scale { low, high, from: left, to: left + PLOT_WIDTH };
    let mut canvas = Canvas::new(left + PLOT_WIDTH + 64.0, bottom + 46.0);
    canvas.x_axis(x, TOP, bottom, axis);
    for (i, bar) in ours.iter().enumerate() {
        draw_bar(&mut canvas, bar, x, chance, TOP + ROW * (i as f64 + 0.5));
    }
    let start = TOP + ROW * ours.len() as f64;
    if !published.is_empty() {
        canvas.text((left - 10.0, start + 17.0), "end", "small strong", "published values");
    }
    for (i, bar) in published.iter().enumerate() {
        draw_bar(&mut canvas, bar, x, chance, start + gap + ROW * (i as f64 + 0.5));
    }
    canvas.line((x.at(chance), TOP), (x.at(chance), bottom), "axis");
    canvas.finish(title)
}

fn draw_bar(canvas: &mut Canvas, bar: &Bar, x: Scale, chance: f64, middle: f64) {
    let (start, end) = (x.at(chance.min(bar.value)), x.at(chance.max(bar.value)));
    let (width, top, height) = ((end - start).max(0.5), middle - 7.0, 14.0);
    let paint = match bar.colour {
        Some(colour) => format!(r#"fill="{colour}" fill-opacity=".8""#),
        None => r#"class="reference""#.to_owned(),
    };
    canvas.push(&format!(
        r#"<rect x="{start:.1}" y="{top:.1}" width="{width:.1}" height="{height}" {paint}/>"#
    ));
    if let (Some(low), Some(high)) = (bar.low, bar.high) {
        canvas.line((x.at(low), middle), (x.at(high), middle), "whisker");
        for end in [low, high] {
            canvas.line((x.at(end), middle - 4.0), (x.at(end), middle + 4.0), "whisker");
        }
    }
    if let Some(value) = bar.counterpart {
        let at = x.at(value);
        canvas.push(&format!(
            r#"<path class="mark" d="M{at:.1} {:.1}l6 6l-6 6l-6 -6z"/>"#,
            middle - 6.0
        ));
    }
    let class = if bar.colour.is_some() { "" } else { "muted" };
    canvas.text((x.from - 10.0, middle + 4.0), "end", class, &bar.label);
    let value = format!("{:.3}", bar.value);
    canvas.text((x.to + 56.0, middle + 4.0), "end", class, &value);
}
