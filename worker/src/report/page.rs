//! The report as one self-contained page: how it agrees with the study, scores, figures, provenance.
//!
//! Leaves out: what the sections hold (page/…). Invariant: nothing is fetched, every text from a job is
//! escaped, and the page reads the same without its script.

mod agreement;
mod attribution;
mod dataset;
mod precisions;
mod provenance;
mod results;
mod script;
mod style;
mod table;
mod variants;

use super::agreement::Agreement;
use super::attribution::Attributions;
use super::comparisons::{Comparisons, PrecisionRow};
use super::figures::Figure;
use super::summary::Summaries;
use super::svg::{STYLE, escape};
use super::view::{DatasetView, View, grouped, task_title};
use glmeval_common::dataset::TaskName;
pub use provenance::TABLES;
use script::PAGE_SCRIPT;
use style::PAGE_STYLE;

/// Data sets shown opened; the rest is folded.
const OPEN_MAX: usize = 3;

/// What the page is made of beside the fits themselves.
pub(super) struct Parts<'a> {
    pub(super) summaries: &'a Summaries<'a>,
    pub(super) comparisons: &'a Comparisons<'a>,
    pub(super) agreement: &'a Agreement<'a>,
    /// gLMs in two precisions.
    pub(super) precisions: &'a [PrecisionRow<'a>],
    /// One list per data set of the view.
    pub(super) figures: &'a [Vec<Figure>],
    /// Correlations of maps, and their logos by task.
    pub(super) attributions: (&'a Attributions<'a>, &'a [(TaskName, Figure)]),
    /// Figures over all data sets of a task.
    pub(super) task_figures: &'a [(TaskName, Figure)],
}

/// The whole page.
pub(super) fn page(view: &View<'_>, parts: &Parts<'_>) -> String {
    let title = escape(&view.plan.name);
    let mut body = format!("<h1>{title}</h1>\n{}", lead(view));
    body.push_str(&failed(view));
    let tasks = tasks(view);
    let overview = agreement::overview(view, parts.agreement);
    // The overview of several tasks links to them itself.
    if view.datasets.len() > 1 && (tasks.len() == 1 || overview.is_empty()) {
        body.push_str(&navigation(view, &tasks));
    }
    body.push_str(&overview);
    for task in tasks {
        body.push_str(&task_section(view, task, parts));
    }
    body.push_str(&provenance::section(view));
    body.push_str(&provenance::notes(view));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>{PAGE_STYLE}</style>\n\
         <style id=\"figure-style\">{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <script>{PAGE_SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// The tasks of the view, in the paper's order.
fn tasks(view: &View<'_>) -> Vec<TaskName> {
    let is_there = |task: &TaskName| view.datasets.iter().any(|dataset| dataset.task == *task);
    TaskName::ALL.into_iter().map(|(task, _)| task).filter(is_there).collect()
}

fn lead(view: &View<'_>) -> String {
    let (datasets, models) = (view.datasets.len(), view.plan.models.len());
    let fits = view.fits().count();
    let many = |count: usize, one: &str| {
        let end = if count == 1 { "" } else { "s" };
        format!("{} {one}{end}", grouped(count as u64))
    };
    let (datasets, fits) = (many(datasets, "data set"), many(fits, "fit"));
    let models = if models == 0 { String::new() } else { format!("{} · ", many(models, "gLM")) };
    format!(
        "<p class=\"lead\">{datasets} · {models}{fits} · protocol {} · root seed {}</p>\n",
        view.plan.protocol.name(),
        view.plan.seed
    )
}

fn navigation(view: &View<'_>, tasks: &[TaskName]) -> String {
    let link = |to: &str, text: &str| format!("<a href=\"#{to}\">{}</a>", escape(text));
    let mut links = Vec::new();
    for task in tasks {
        let of_task: Vec<_> =
            view.datasets.iter().enumerate().filter(|(_, d)| d.task == *task).collect();
        if tasks.len() > 1 {
            links.push(link(task.name(), task_title(*task)));
        } else {
            links.extend(of_task.iter().map(|(i, dataset)| link(&format!("d{i}"), dataset.name)));
        }
    }
    links.push(link("provenance", "Provenance"));
    format!("<nav>{}</nav>\n", links.join("\n"))
}

fn failed(view: &View<'_>) -> String {
    const LINES_MAX: usize = 40;
    if view.failed.is_empty() {
        return String::new();
    }
    let shown = view.failed.iter().take(LINES_MAX);
    let lines: String = shown.map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    let count = view.failed.len();
    let units = if count == 1 { "fit is" } else { "fits are" };
    let rest = match count.saturating_sub(LINES_MAX) {
        0 => String::new(),
        rest => format!("<p>… and {rest} more; scores.txt names them all.</p>"),
    };
    format!(
        "<div class=\"failed\"><strong>{count} {units} missing; so are scores that need them.</strong>\n\
         <ul>{lines}</ul>{rest}</div>\n"
    )
}

fn task_section(view: &View<'_>, task: TaskName, parts: &Parts<'_>) -> String {
    let of_task: Vec<(usize, &DatasetView<'_>)> =
        view.datasets.iter().enumerate().filter(|(_, d)| d.task == task).collect();
    let title = escape(task_title(task));
    let mut out = format!("<section id=\"{}\"><h2>{title}</h2>\n", task.name());
    let figures = parts.task_figures.iter().filter(|(of, _)| *of == task);
    out.extend(figures.map(|(_, figure)| figure_element(figure)));
    if task == TaskName::VariantEffect {
        out.push_str(&variants::variants(view, parts.agreement));
    }
    out.push_str(&agreement::section(task, parts.agreement));
    out.push_str(&precisions::section(task, parts.precisions));
    out.push_str(&attribution::section(task, parts.attributions));
    let is_open = view.datasets.len() <= OPEN_MAX;
    if of_task.len() > 1 && !is_open {
        out.push_str(
            "<h3>Data sets <button type=\"button\" class=\"all\" hidden>Open all</button></h3>\n",
        );
    }
    for (i, dataset) in of_task {
        out.push_str(&dataset::section(view, (i, dataset), parts, is_open));
    }
    out.push_str("</section>\n");
    out
}

/// A figure with its caption and a link to it as a file.
fn figure_element(figure: &Figure) -> String {
    let (caption, name) = (escape(&figure.caption), escape(&figure.name));
    format!(
        "<figure>\n<div class=\"canvas\">{}</div>\n<figcaption>{caption} \
         <a class=\"save\" href=\"figures/{name}.svg\" download=\"{name}.svg\">Save as SVG</a></figcaption>\n</figure>\n",
        figure.svg
    )
}
