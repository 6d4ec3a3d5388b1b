//! What the results were made from, by what, and what they took; notes of fits.
//!
//! Leaves out: prices (publish). Invariant: everything that decides a number is named by its digest.

use super::super::svg::escape;
use super::super::view::{View, fit_label, grouped, headline, statistic_title};
use super::table::{Cell, HtmlTable};
use glmeval_common::job::Protocol;
use glmeval_common::score::FitScores;
use std::collections::{BTreeMap, BTreeSet};

const ROWS_MAX: usize = 200;
/// Notes of fits that are listed one by one.
const NOTES_MAX: usize = 60;

pub(super) fn section(view: &View<'_>) -> String {
    let plan = view.plan;
    let mut classes: Vec<String> = plan
        .sets
        .iter()
        .map(|set| format!("{} stored as {}", set.numeric_class, set.dtype.name()))
        .collect();
    classes.sort();
    classes.dedup();
    let or_none = |items: String| if items.is_empty() { "none".to_owned() } else { items };
    let rows = [
        ("Job", plan.job.to_string()),
        ("Report by", format!("glmeval {}", env!("CARGO_PKG_VERSION"))),
        ("Protocol", protocol(view)),
        ("Root seed", format!("{}; every draw of every fit follows from it", plan.seed)),
        ("Embeddings", or_none(classes.join("; "))),
        ("Probes", probes(view)),
        ("Fits", fits(view)),
    ];
    let cost = view.cost.iter().map(|(name, value)| (name.as_str(), value));
    let rows: String = rows
        .iter()
        .map(|(name, value)| (*name, value))
        .chain(cost)
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)))
        .collect();
    format!(
        "<section id=\"provenance\"><h2>Provenance</h2>\n<dl>\n{rows}</dl>\n{}{}{}</section>\n",
        datasets(view),
        models(view),
        files()
    )
}

/// Tables of a report, each as .csv and as .parquet, with what they hold; not every job has the last three.
pub const TABLES: [(&str, &str); 8] = [
    (
        "agreement",
        "every score with a published value or of the paper's statistic: difference, tolerance, verdict",
    ),
    ("orderings", "orders of inputs that the study found, held or broken here"),
    ("scores", "every statistic of every fit"),
    ("summary", "every statistic over repeats"),
    ("comparisons", "paired comparisons of inputs on the same test examples"),
    ("precisions", "gLMs in two precisions: cosines, scores, where there are any"),
    ("attributions", "correlations of attribution maps, where there are any"),
    ("histories", "epochs of networks, where there are any"),
];

/// The files of a report, for people who look for the numbers.
fn files() -> String {
    let line = |(name, what): &(&str, &str)| format!("<dt>{name}</dt><dd>{what}</dd>");
    let tables: String = TABLES.iter().map(line).collect();
    let figures = line(&("figures/", "every figure as SVG"));
    format!(
        "<h3>Files beside this page</h3>\n<dl>{tables}{figures}</dl>\n\
         <p class=\"muted\">Tables are there as .csv and as .parquet.</p>\n"
    )
}

/// In what numbers probes are fitted; on what where that is a device.
fn probes(view: &View<'_>) -> String {
    let units = view.plan.fit_units().filter_map(|(_, unit)| unit.training_class.as_deref());
    let classes: Vec<&str> = units.collect::<BTreeSet<_>>().into_iter().collect();
    let networks = match classes[..] {
        [] => "f32 or bf16".to_owned(),
        _ => format!("{} where a device trains them, else in f32 or bf16", classes.join(", ")),
    };
    format!("linear ones fitted in f64, networks trained in {networks}")
}

fn protocol(view: &View<'_>) -> String {
    let meaning = match view.plan.protocol {
        Protocol::Published => "the quirks of the published code are kept",
        Protocol::Corrected => "as the paper's text intends",
    };
    format!("{} ({meaning})", view.plan.protocol.name())
}

/// How many fits, their seconds by probe, and on how many workers.
fn fits(view: &View<'_>) -> String {
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut workers, mut all) = (BTreeSet::new(), 0.0);
    for fit in view.fits() {
        let probe = fit.identity.probe.split(',').next().unwrap_or_default();
        *seconds.entry(probe).or_default() += fit.seconds;
        all += fit.seconds;
        workers.insert(fit.worker.as_str());
    }
    let mut seconds: Vec<(&str, f64)> = seconds.into_iter().collect();
    seconds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let by_probe: Vec<String> =
        seconds.iter().map(|(probe, seconds)| format!("{probe} {}", duration(*seconds))).collect();
    let by_probe =
        if by_probe.len() > 1 { format!(" ({})", by_probe.join(", ")) } else { String::new() };
    let (count, workers) = (view.fits().count() as u64, workers.len());
    let end = if workers == 1 { "" } else { "s" };
    format!("{} in {}{by_probe} on {workers} worker{end}", grouped(count), duration(all))
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

fn digest(text: &str) -> Cell {
    Cell::markup(format!("<span class=\"digest\">{}</span>", escape(text)), text)
}

fn datasets(view: &View<'_>) -> String {
    let columns = ["Data set", "Task", "#Examples", "#Train", "#Valid", "#Test", "Digest"];
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    let mut lines = String::new();
    for dataset in &view.plan.datasets {
        let facts = &dataset.facts;
        let rows = |split: &str| match facts.split_rows.get(split) {
            Some(rows) => Cell::written(*rows as f64, &grouped(*rows)),
            None => Cell::optional(None),
        };
        let cells = [
            Cell::text(&dataset.name).class("first"),
            Cell::text(dataset.task.name()),
            Cell::written(facts.rows as f64, &grouped(facts.rows)),
            rows("train"),
            rows("valid"),
            rows("test"),
            digest(facts.id.as_str()),
        ];
        table.row("", &cells);
        for line in facts.leakage_lines().iter().chain(&facts.notes) {
            let text = escape(&format!("{}: {line}", dataset.name));
            lines.push_str(&format!("<p class=\"muted\">{text}</p>\n"));
        }
    }
    format!("<h3>Data sets</h3>\n{}{lines}", table.finish("plan.json"))
}

fn models(view: &View<'_>) -> String {
    let columns = ["gLM", "Architecture", "#Parameters", "#Layers", "#Width", "Digest", "Source"];
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    for planned in &view.plan.models {
        let facts = &planned.facts;
        let count = |count: u64| Cell::written(count as f64, &grouped(count));
        let cells = [
            Cell::text(&planned.model.name).class("first"),
            Cell::text(&facts.architecture),
            count(facts.parameters),
            count(u64::from(facts.layer_count)),
            count(u64::from(facts.width)),
            digest(planned.model.id.as_str()),
            digest(&planned.model.source.display().to_string()),
        ];
        table.row("", &cells);
    }
    if table.is_empty() {
        return String::new();
    }
    format!("<h3>gLMs</h3>\n{}", table.finish("plan.json"))
}

/// What fits said, and how statistics are meant.
pub(super) fn notes(view: &View<'_>) -> String {
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for fit in view.fits() {
        for note in &fit.notes {
            let label = super::super::view::arm_label(&fit.identity);
            let line = format!("{}, {label}: {note}", fit.identity.dataset);
            *said.entry(line).or_insert(0) += 1;
        }
    }
    let all = said.len();
    let mut lines: Vec<String> = said
        .into_iter()
        .take(NOTES_MAX)
        .map(|(line, times)| if times > 1 { format!("{line} ({times} fits)") } else { line })
        .collect();
    if all > NOTES_MAX {
        lines.push(format!("{} more notes of fits stand in their commits.", all - NOTES_MAX));
    }
    lines.extend(view.fits().flat_map(undefined_targets).take(NOTES_MAX));
    lines.push(
        "AUROC is exact (ties count one half) and AUPR is average precision, both from predicted \
         probabilities; “200 thresholds” follows the Keras metric behind the published neural rows; \
         “hard labels” follows the published logistic rows."
            .to_owned(),
    );
    lines.push(
        "Intervals are percentiles of bootstrap resamples of the test examples, 1,000 of a single fit; they do not \
         cover the choice of training examples or the seed. n/a: the statistic is undefined (one class, \
         constant predictions or measurements); such values count in no mean."
            .to_owned(),
    );
    let items: String = lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    format!("<section><h2>Notes</h2>\n<ul>{items}</ul></section>\n")
}

/// For each statistic that a mean over targets stands for: of how many targets it is undefined.
fn undefined_targets(fit: &FitScores) -> Vec<String> {
    let stands = headline(fit);
    let mut lines = Vec::new();
    for mean in stands.iter().filter(|s| s.target == "mean") {
        let of_targets =
            || fit.statistics.iter().filter(|s| s.name == mean.name && s.target != mean.target);
        let (all, without) =
            (of_targets().count(), of_targets().filter(|s| s.value.is_none()).count());
        if without > 0 {
            lines.push(format!(
                "{}, {}: {} is undefined for {without} of {all} targets, which its mean leaves out",
                fit.identity.dataset,
                fit_label(&fit.identity),
                statistic_title(&mean.name)
            ));
        }
    }
    lines
}
