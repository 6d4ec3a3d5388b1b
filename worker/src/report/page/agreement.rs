//! Sections of the page on published values: how many agree, each beside ours, orders, tests.
//!
//! Leaves out: what agrees (agreement). Invariant: every count on the page is of rows in agreement.csv
//! that are marked as the paper's statistic.

use super::super::agreement::{Agreement, Outcome, Score, Verdict};
use super::super::published::{ALL_DATASETS, datasets};
use super::super::svg::escape;
use super::super::view::{View, input_label, probe_label, statistic_title, task_title};
use super::table::{Cell, HtmlTable};
use glmeval_common::dataset::TaskName;
use glmeval_common::job::Protocol;

/// Rows of each table.
const ROWS_MAX: usize = 300;

/// The tasks of the paper that the job has scores of, in the paper's order.
fn paper_tasks(view: &View<'_>) -> Vec<TaskName> {
    let is_there = |task: &TaskName| view.datasets.iter().any(|dataset| dataset.task == *task);
    let all = TaskName::ALL.into_iter().map(|(task, _)| task);
    all.filter(|task| !datasets(*task).is_empty()).filter(is_there).collect()
}

/// Counts of every task at the top of the page; empty for a job on own data only.
pub(super) fn overview(view: &View<'_>, agreement: &Agreement<'_>) -> String {
    let tasks = paper_tasks(view);
    if tasks.is_empty() {
        return String::new();
    }
    let cards: String = tasks.iter().map(|task| card(*task, agreement)).collect();
    let corrected = match view.plan.protocol {
        Protocol::Published => "",
        Protocol::Corrected => {
            "<p class=\"said\">This job used the corrected protocol; the published values come from the \
             published one. A difference may be a correction.</p>\n"
        }
    };
    format!(
        "<section id=\"agreement\"><h2>Against the published study</h2>\n\
         <p>Each score of the paper's statistic beside the value of Tang, Somia, Yu and Koo (Genome Biology 2025) \
         for the same probe on the same input. A score agrees if it lies within a tolerance that is taken from the spread \
         of the published repeats. All values: <code>agreement.csv</code>, <code>orderings.csv</code>.</p>\n\
         {corrected}<div class=\"cards\">\n{cards}</div></section>\n"
    )
}

fn card(task: TaskName, agreement: &Agreement<'_>) -> String {
    let counts = agreement.counts(task);
    let all: usize = counts.iter().sum();
    let mut bar = String::new();
    let mut words = Vec::new();
    for (verdict, count) in Verdict::ALL.into_iter().zip(counts) {
        if count > 0 {
            let (class, share) = (class_of(verdict), 100.0 * count as f64 / all.max(1) as f64);
            bar.push_str(&format!("<i class=\"{class}\" style=\"width:{share:.2}%\"></i>"));
            words.push(format!("{count} {}", words_of(verdict)));
        }
    }
    let words = if words.is_empty() { "no scores".to_owned() } else { words.join(" · ") };
    let without = agreement.without_fit(task);
    let without = match without {
        0 => String::new(),
        count => format!("<p class=\"muted\">{count} published values have no fit in this job</p>"),
    };
    format!(
        "<div class=\"card\"><h3><a href=\"#{}\">{}</a></h3><div class=\"bar\" role=\"img\" aria-label=\"{words}\">{bar}</div>\
         <p>{words}</p><p>{}</p>{without}</div>\n",
        task.name(),
        escape(task_title(task)),
        orders_in_words(task, agreement)
    )
}

fn orders_in_words(task: TaskName, agreement: &Agreement<'_>) -> String {
    let of_task = || agreement.orderings.iter().filter(|order| order.task == task);
    let counts = Outcome::ALL.map(|outcome| of_task().filter(|o| o.outcome == outcome).count());
    let names = Outcome::ALL.map(Outcome::name);
    let parts: Vec<String> = (counts.iter().zip(names))
        .filter(|(count, _)| **count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    if parts.is_empty() { String::new() } else { format!("Orders of inputs: {}", parts.join(", ")) }
}

fn words_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agrees => "agree",
        Verdict::Differs => "differ",
        Verdict::OtherExamples => "of other examples",
        Verdict::Undefined => "undefined",
        Verdict::NoReference => "without reference",
    }
}

pub(super) fn class_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agrees => "agrees",
        Verdict::Differs => "differs",
        Verdict::OtherExamples => "other-examples",
        Verdict::Undefined => "undefined",
        Verdict::NoReference => "no-reference",
    }
}

/// A word and a sign in a pill.
pub(super) fn pill(class: &str, word: &str) -> Cell {
    let sign = match class {
        "agrees" | "held" => "✓ ",
        "differs" | "broken" => "✗ ",
        "other-examples" => "◇ ",
        _ => "",
    };
    Cell::markup(format!("<span class=\"verdict {class}\">{sign}{word}</span>"), word)
}

/// Everything published about a task beside what the job found.
pub(super) fn section(task: TaskName, agreement: &Agreement<'_>) -> String {
    if datasets(task).is_empty() {
        return String::new();
    }
    [scores(task, agreement), orders(task, agreement), tests(task, agreement)].concat()
}

fn scores(task: TaskName, agreement: &Agreement<'_>) -> String {
    let mut shown: Vec<&Score<'_>> = agreement
        .scores
        .iter()
        .filter(|score| score.task == task && score.is_primary && score.reference.is_some())
        .collect();
    if shown.is_empty() {
        return "<p class=\"muted\">No score of this task has a published counterpart.</p>\n"
            .to_owned();
    }
    // Means over data sets sum a task up, so they come first; scans come last.
    let is_scan = |score: &Score<'_>| {
        score.reference.is_some_and(|row| {
            let is_headline_layer = row.layer.is_none_or(|layer| layer == 10 || layer == 32);
            !is_headline_layer || row.factor != 1.0 || row.fraction != 1.0
        })
    };
    shown.sort_by_key(|score| (score.dataset != ALL_DATASETS, is_scan(score)));
    let columns = [
        "Verdict",
        "Data set",
        "Input",
        "Probe",
        "#Obtained",
        "#Published",
        "#Difference",
        "#Tolerance",
        "Published value is",
    ];
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    for score in shown {
        table.row("", &row(score));
    }
    let elsewhere = agreement.scores.iter().any(|score| {
        score.task == task && score.is_primary && score.verdict == Verdict::OtherExamples
    });
    let elsewhere = if elsewhere {
        " “Other examples”: the test split is not as large as the published one, so nothing is decided."
    } else {
        ""
    };
    format!(
        "<h3>Published and obtained</h3>\n{}<p class=\"muted\">{}. Difference: obtained less published.{elsewhere}</p>\n",
        table.finish("agreement.csv"),
        escape(&statistic_of(task))
    )
}

fn row(score: &Score<'_>) -> Vec<Cell> {
    let place = match (score.dataset, score.task) {
        (ALL_DATASETS, _) => format!("mean of {} data sets", score.repeats),
        (_, TaskName::VariantEffect) => score.target.to_owned(),
        (name, _) => name.to_owned(),
    };
    let obtained = match (score.of.name(), score.repeats, score.dataset) {
        (_, _, ALL_DATASETS) | (_, 0 | 1, _) => String::new(),
        (of, repeats, _) => format!("{of} of {repeats}"),
    };
    let spread =
        score.reference.map_or(String::new(), |row| match (row.quartiles, row.deviation) {
            (_, Some(deviation)) => format!("± {deviation:.3}"),
            (Some((low, high)), None) => format!("{low:.3} to {high:.3}"),
            _ => String::new(),
        });
    vec![
        pill(class_of(score.verdict), score.verdict.name()),
        Cell::text(&place).class("word"),
        Cell::text(&input_label(score.identity)).class("first"),
        Cell::text(&probe_label(score.identity)).class("word"),
        Cell::number(score.obtained).small(&obtained),
        Cell::number(score.reference.map(|row| row.value)).small(&spread),
        Cell::signed(score.difference()),
        Cell::number(score.tolerance()),
        Cell::text(&score.reference.map_or(String::new(), |row| row.provenance())),
    ]
}

fn statistic_of(task: TaskName) -> String {
    match task {
        TaskName::ChipSeq | TaskName::Eclip => {
            "AUROC over 200 thresholds as published; of logistic rows AUROC of hard labels"
                .to_owned()
        }
        TaskName::VariantEffect => {
            "Pearson r; zero-shot as the paper prints it: |mean of r over the cell's elements|"
                .to_owned()
        }
        TaskName::Splicing => "Mean over tissues of Spearman ρ".to_owned(),
        TaskName::InsertSeq => {
            "Pearson r: medians at the whole training split, means below it".to_owned()
        }
        _ => statistic_title("pearson").to_owned(),
    }
}

fn orders(task: TaskName, agreement: &Agreement<'_>) -> String {
    let mut table =
        HtmlTable::new(&["On", "Order found by the study", "#Left", "#Right", "Here"], ROWS_MAX);
    for order in agreement.orderings.iter().filter(|order| order.task == task) {
        let place = match order.place {
            ALL_DATASETS => "mean of 10 data sets",
            place => place,
        };
        let class = match order.outcome {
            Outcome::Held => "held",
            Outcome::Broken => "broken",
            Outcome::NotComputable => "none",
        };
        let place = Cell::text(place).small(if order.is_elsewhere { "other examples" } else { "" });
        let cells = [
            place,
            Cell::text(&order.statement),
            Cell::optional(order.left),
            Cell::optional(order.right),
            pill(class, order.outcome.name()),
        ];
        table.row("", &cells);
    }
    if table.is_empty() {
        return String::new();
    }
    let title = orders_in_words(task, agreement);
    format!(
        "<details class=\"more\"><summary>{title}</summary>\n{}</details>\n",
        table.finish("orderings.csv")
    )
}

fn tests(task: TaskName, agreement: &Agreement<'_>) -> String {
    let columns = ["A", "B", "Alternative", "#U", "#p", "#Published U", "#Published p"];
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    for test in agreement.tests.iter().filter(|test| test.task == task) {
        let small = |p: f64| if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.4}") };
        let (u, p) = (test.obtained.u, test.obtained.p);
        let repeats = format!("{} and {} repeats", test.repeats.0, test.repeats.1);
        let alternative = match test.published.alternative {
            "greater" => "A greater",
            other => other,
        };
        let cells = [
            Cell::text(&test.labels.0),
            Cell::text(&test.labels.1),
            Cell::text(alternative),
            Cell::written(u, &u.to_string()).small(&repeats),
            Cell::written(p, &small(p)),
            Cell::written(test.published.u, &test.published.u.to_string()),
            Cell::written(test.published.p, &small(test.published.p)),
        ];
        table.row("", &cells);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "<h3>Mann-Whitney tests over repeats, as published</h3>\n{}",
        table.finish("agreement.csv")
    )
}
