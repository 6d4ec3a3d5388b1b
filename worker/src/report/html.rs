//! The report as one self-contained page: what was run, scores beside published values, figures.
//!
//! Leaves out: scripts and anything fetched. Invariant: every text from a job is escaped.

use super::figures::Figure;
use super::html_results::Results;
use super::page_style::PAGE_STYLE;
use super::svg::{STYLE, escape};
use super::view::{
    DatasetView, View, fit_probe_label, headline, input_label, number, statistic, statistic_names,
    statistic_title,
};
use crate::statistics::primary_statistic;
use glmeval_common::score::FitScores;

/// The whole page; `figures` has one list per data set of the view.
pub(super) fn page(view: &View<'_>, results: &Results<'_>, figures: &[Vec<Figure>]) -> String {
    let title = escape(&view.plan.name);
    let mut body = format!("<h1>{title}</h1>\n{}", facts(view));
    body.push_str(&failed(view));
    if view.datasets.len() > 1 {
        let link = |(i, dataset): (usize, &DatasetView<'_>)| {
            format!("<a href=\"#d{i}\">{}</a>", escape(dataset.name))
        };
        let links: Vec<String> = view.datasets.iter().enumerate().map(link).collect();
        body.push_str(&format!("<nav>{}</nav>\n", links.join("\n")));
    }
    for (i, (dataset, figures)) in view.datasets.iter().zip(figures).enumerate() {
        body.push_str(&section(view, (i, dataset), results, figures));
    }
    body.push_str(&notes(view));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{PAGE_STYLE}{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn facts(view: &View<'_>) -> String {
    let plan = view.plan;
    let models: Vec<String> = plan
        .models
        .iter()
        .map(|model| {
            let facts = &model.facts;
            format!(
                "{} ({}, {} parameters, {} layers of width {})",
                model.model.name,
                facts.architecture,
                grouped(facts.parameters),
                facts.layer_count,
                facts.width
            )
        })
        .collect();
    let mut classes: Vec<String> = plan
        .sets
        .iter()
        .map(|set| format!("{} stored as {}", set.numeric_class, set.dtype.name()))
        .collect();
    classes.sort();
    classes.dedup();
    let datasets: Vec<&str> = plan.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    let or_none = |items: String| if items.is_empty() { "none".to_owned() } else { items };
    let rows = [
        ("Data sets", datasets.join(", ")),
        ("gLMs", or_none(models.join("; "))),
        ("Embeddings", or_none(classes.join("; "))),
        ("Probes", "linear ones fitted in f64, networks trained in f32 or bf16".to_owned()),
        ("Protocol", protocol(view)),
        ("Root seed", plan.seed.to_string()),
        ("Job", plan.job.to_string()),
    ];
    let cost = view.cost.iter().map(|(name, value)| (name.as_str(), value));
    let rows: String = rows
        .iter()
        .map(|(name, value)| (*name, value))
        .chain(cost)
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value)))
        .collect();
    format!("<dl>\n{rows}</dl>\n")
}

fn protocol(view: &View<'_>) -> String {
    let meaning = match view.plan.protocol {
        glmeval_common::job::Protocol::Published => "the quirks of the published code are kept",
        glmeval_common::job::Protocol::Corrected => "as the paper's text intends",
    };
    format!("{} ({meaning})", view.plan.protocol.name())
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn failed(view: &View<'_>) -> String {
    if view.failed.is_empty() {
        return String::new();
    }
    let lines: String =
        view.failed.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    let count = view.failed.len();
    let units = if count == 1 { "unit" } else { "units" };
    format!(
        "<div class=\"failed\"><strong>{count} {units} failed; scores that need them are missing.</strong>\n<ul>{lines}</ul></div>\n"
    )
}

fn section(
    view: &View<'_>,
    (i, dataset): (usize, &DatasetView<'_>),
    results: &Results<'_>,
    figures: &[Figure],
) -> String {
    let facts = &dataset.planned.facts;
    let splits: Vec<String> = ["train", "valid", "test"]
        .iter()
        .filter_map(|split| {
            facts.split_rows.get(*split).map(|rows| format!("{} {split}", grouped(*rows)))
        })
        .collect();
    let lengths = if facts.length_min == facts.length_max {
        facts.length_min.to_string()
    } else {
        format!("{} to {}", facts.length_min, facts.length_max)
    };
    let mut out = format!(
        "<h2 id=\"d{i}\">{}</h2>\n<p class=\"muted\">Task {}; {} examples ({}); sequences of {lengths} nucleotides.</p>\n",
        escape(dataset.name),
        dataset.task.name(),
        grouped(facts.rows),
        splits.join(", "),
    );
    out.push_str(&score_table(view, dataset));
    out.push_str(&results.section(i, dataset.task));
    out.push_str(&published_table(dataset));
    let (wide, square): (Vec<_>, Vec<_>) = figures.iter().partition(|figure| figure.wide);
    out.extend(wide.into_iter().map(figure_element));
    out.push_str("<div class=\"pair\">\n");
    out.extend(square.into_iter().map(figure_element));
    out.push_str("</div>\n");
    out
}

fn figure_element(figure: &Figure) -> String {
    let caption = escape(&figure.caption);
    format!("<figure>\n{}\n<figcaption>{caption}</figcaption>\n</figure>\n", figure.svg)
}

fn score_table(view: &View<'_>, dataset: &DatasetView<'_>) -> String {
    let mut names = statistic_names(dataset);
    // Areas over 200 thresholds differ in the third decimal; the tables on disk hold them.
    names.retain(|name| !name.ends_with("_keras"));
    let probe = dataset.fits.first().map_or("", |fit| fit.scores.identity.probe.as_str());
    let first = primary_statistic(dataset.task, view.plan.protocol, probe);
    let first = names.iter().find(|name| *name == first).or(names.first()).cloned();
    let first = first.unwrap_or_default();
    let best = dataset
        .fits
        .iter()
        .filter_map(|fit| statistic(&fit.scores, &first)?.value)
        .fold(f64::NEG_INFINITY, f64::max);
    let compared =
        dataset.fits.iter().any(|fit| counterpart(dataset, &fit.scores, &first).is_some());
    let mut head = "<th>Input</th><th>Probe</th>".to_owned();
    for name in &names {
        head.push_str(&format!("<th class=\"number\">{}</th>", escape(statistic_title(name))));
    }
    if compared {
        let title = format!("Published {}", statistic_title(&first));
        head.push_str(&format!("<th class=\"number\">{}</th>", escape(&title)));
    }
    let mut rows = String::new();
    for fit in &dataset.fits {
        let value = statistic(&fit.scores, &first).and_then(|s| s.value);
        let class = if value == Some(best) { " class=\"best\"" } else { "" };
        let identity = &fit.scores.identity;
        let (input, probe) = (escape(&input_label(identity)), escape(&fit_probe_label(identity)));
        rows.push_str(&format!("<tr{class}><td class=\"first\">{input}</td><td>{probe}</td>"));
        for name in &names {
            rows.push_str(&cell(&fit.scores, name));
        }
        if compared {
            let text = counterpart(dataset, &fit.scores, &first).unwrap_or_else(|| "–".to_owned());
            rows.push_str(&format!("<td class=\"number\">{}</td>", escape(&text)));
        }
        rows.push_str("</tr>\n");
    }
    let difference = if compared { "; in brackets, ours minus published" } else { "" };
    let target = dataset.fits.first().and_then(|fit| {
        headline(&fit.scores).first().map(|s| format!("Target {}, {} split", s.target, s.split))
    });
    format!(
        "<h3>Scores</h3>\n<div class=\"scroll\"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n\
         <p class=\"muted\">{}; small numbers are 95 % bootstrap intervals over examples; bold marks the highest {}{difference}.</p>\n",
        escape(&target.unwrap_or_default()),
        escape(statistic_title(&first))
    )
}

fn counterpart(dataset: &DatasetView<'_>, scores: &FitScores, name: &str) -> Option<String> {
    let row = dataset.published.iter().find(|row| row.is_counterpart(&scores.identity))?;
    let (mean, _) = row.value(name)?;
    let ours = statistic(scores, name)?.value?;
    Some(format!("{mean:.3} ({:+.3})", ours - mean))
}

fn cell(scores: &FitScores, name: &str) -> String {
    let Some(statistic) = statistic(scores, name) else {
        return "<td class=\"number\">–</td>".to_owned();
    };
    if statistic.value.is_none() {
        // The notes at the end of the page repeat what the fit said.
        let said = escape(&scores.notes.join("; "));
        return format!("<td class=\"number\" title=\"{said}\">n/a</td>");
    }
    let interval = match (statistic.low, statistic.high) {
        (Some(low), Some(high)) => format!("<small>{low:.3} to {high:.3}</small>"),
        _ => String::new(),
    };
    format!("<td class=\"number\">{}{interval}</td>", number(statistic.value))
}

fn published_table(dataset: &DatasetView<'_>) -> String {
    if dataset.published.is_empty() {
        return String::new();
    }
    let columns: [(&str, [&str; 2]); 4] = [
        ("Pearson r", ["pearson", "pearson"]),
        ("AUROC", ["auroc_exact", "auroc_hard"]),
        ("AUPR", ["aupr", "aupr_hard"]),
        ("Accuracy", ["accuracy", "accuracy"]),
    ];
    let value = |row: &super::published::PublishedRow, names: [&str; 2]| {
        names.iter().find_map(|name| row.value(name))
    };
    let shown: Vec<_> = columns
        .into_iter()
        .filter(|(_, names)| dataset.published.iter().any(|row| value(row, *names).is_some()))
        .collect();
    let mut head = "<th>Input</th><th>Probe</th>".to_owned();
    for (title, _) in &shown {
        head.push_str(&format!("<th class=\"number\">{title}</th>"));
    }
    head.push_str("<th>What it is</th>");
    let mut rows = String::new();
    for row in &dataset.published {
        rows.push_str(&format!(
            "<tr><td class=\"first\">{}</td><td>{}</td>",
            escape(&row.input()),
            escape(&row.probe)
        ));
        for (_, names) in &shown {
            let text = match value(row, *names) {
                Some((mean, Some(sd))) => format!("{mean:.3} ± {sd:.3}"),
                Some((mean, None)) => format!("{mean:.3}"),
                None => "–".to_owned(),
            };
            rows.push_str(&format!("<td class=\"number\">{text}</td>"));
        }
        let how = if row.value("auroc_hard").is_some() { ", areas from hard labels" } else { "" };
        let same = dataset.fits.iter().any(|fit| row.is_counterpart(&fit.scores.identity));
        let same = if same { ", same probe on the same input as here" } else { "" };
        rows.push_str(&format!("<td>{}{how}{same}</td></tr>\n", escape(&row.origin())));
    }
    format!(
        "<h3>Published under this name</h3>\n<div class=\"scroll\"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n\
         <p class=\"muted\">Tang, Somia, Yu and Koo, Genome Biology 2025: the rows closest to this job, on the \
         authors' examples and split. They are found by task and by the data set's name: compare them only if \
         the examples are the same. ± is one standard deviation over repeats.</p>\n"
    )
}

fn notes(view: &View<'_>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for fit in view.fits() {
        for note in &fit.notes {
            let label = super::view::fit_label(&fit.identity);
            lines.push(format!("{}, {label}: {note}", fit.identity.dataset));
        }
    }
    lines.extend(view.fits().flat_map(undefined_targets));
    lines.push(
        "AUROC is exact (ties count one half) and AUPR is average precision, both from predicted \
         probabilities; “200 thresholds” follows the Keras metric behind the published neural rows; \
         “hard labels” follows the published logistic rows."
            .to_owned(),
    );
    lines.push(
        "Intervals are percentiles of 1,000 bootstrap resamples of the test examples; they do not \
         cover the choice of training examples or the seed. n/a: the statistic is undefined (one class, \
         constant predictions or measurements); such values count in no mean."
            .to_owned(),
    );
    let items: String = lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    format!("<h2>Notes</h2>\n<ul>{items}</ul>\n")
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
                super::view::fit_label(&fit.identity),
                statistic_title(&mean.name)
            ));
        }
    }
    lines
}
