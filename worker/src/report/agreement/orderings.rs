//! Which input is better than which: the orders that the study found, checked on the job's own scores.
//!
//! Leaves out: whether single values agree (agreement). Invariant: a check needs both its arms on all its
//! data sets; without one of them it is not computable, never held.

use super::super::published::{ALL_DATASETS, Center, Reference};
use super::super::tables::Table;
use super::super::view::{View, task_title};
use super::{Score, Verdict};
use glmeval_common::dataset::TaskName;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Outcome {
    Held,
    Broken,
    NotComputable,
}

impl Outcome {
    pub(in super::super) const ALL: [Self; 3] = [Self::Held, Self::Broken, Self::NotComputable];

    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::NotComputable => "not computable",
        }
    }
}

/// One check of an order between two arms.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Ordering {
    pub(in super::super) task: TaskName,
    /// Data set, cell line, or `mean` over data sets.
    pub(in super::super) place: &'static str,
    /// `GPN · CNN > one-hot · CNN`.
    pub(in super::super) statement: String,
    pub(in super::super) left: Option<f64>,
    pub(in super::super) right: Option<f64>,
    pub(in super::super) outcome: Outcome,
    /// Whether a side was scored on other examples than the published.
    pub(in super::super) is_elsewhere: bool,
}

#[derive(Clone, Copy)]
enum Relation {
    /// left - right > 0.
    Above,
    /// left - right >= 0.
    NotBelow,
    /// left - right >= the margin.
    AboveBy(f64),
    /// |left - right| <= the margin.
    Near(f64),
}

use Relation::{Above, AboveBy, Near, NotBelow};

/// Title, model, layer, representation, probe.
type Side = (&'static str, &'static str, Option<u32>, &'static str, &'static str);

struct Check {
    task: TaskName,
    place: &'static str,
    left: Side,
    relation: Relation,
    right: Side,
}

const NT: &str = "NT-2B5-1000G";
const GPN: &str = "GPN-human";
const HYENA: &str = "HyenaDNA-tiny-1k-d256";
const RANDOM: &str = "DNABERT2-random-init";
const ALMOST: f64 = 0.02;

/// Networks on the full representation, or on one-hot sequences where there is no model.
const fn cnn(title: &'static str, model: &'static str, layer: u32, probe: &'static str) -> Side {
    let layer = if layer == 0 { None } else { Some(layer) };
    (title, model, layer, if model.is_empty() { "one-hot" } else { "full" }, probe)
}

/// Every neighbouring pair of `sides`, best first.
fn chain(
    checks: &mut Vec<Check>,
    task: TaskName,
    place: &'static str,
    sides: &[Side],
    relations: &[Relation],
) {
    for (i, pair) in sides.windows(2).enumerate() {
        if let [left, right] = *pair {
            let relation = relations.get(i).copied().unwrap_or(Above);
            checks.push(Check { task, place, left, relation, right });
        }
    }
}

fn activity(checks: &mut Vec<Check>) {
    let task = TaskName::LentiMpra;
    let of = |title, model, layer| cnn(title, model, layer, "rep-cnn");
    let (nt, dnabert2) = (of("NT", NT, 32), of("DNABERT2", "DNABERT2", 0));
    let (hyena, random) = (of("HyenaDNA", HYENA, 0), of("Random", RANDOM, 0));
    for place in ["HepG2", "K562"] {
        let best = [
            cnn("ResNet", "", 0, "resnet"),
            of("Sei", "Sei", 0),
            cnn("MPRAnn", "", 0, "mprann"),
            of("one-hot", "", 0),
            of("GPN", GPN, 0),
            hyena,
        ];
        // The last but one: one-hot is at least as good as GPN.
        chain(checks, task, place, &best, &[Above, Above, Above, NotBelow, Above]);
        for middle in [nt, dnabert2] {
            chain(checks, task, place, &[hyena, middle, random], &[]);
        }
        for (title, model) in [("GPN", GPN), ("HyenaDNA", HYENA)] {
            let (full, mean) = (of(title, model, 0), (title, model, None, "mean", "rep-mlp"));
            chain(checks, task, place, &[full, mean], &[AboveBy(0.15)]);
        }
    }
    chain(checks, task, "HepG2", &[nt, dnabert2], &[]);
    chain(checks, task, "K562", &[dnabert2, nt], &[]);
    for (title, model) in [("DNABERT2", "DNABERT2"), ("Random", RANDOM)] {
        let (full, mean) = (of(title, model, 0), (title, model, None, "mean", "rep-mlp"));
        chain(checks, task, "HepG2", &[mean, full], &[NotBelow]);
    }
}

fn binding(checks: &mut Vec<Check>) {
    let of = |title, model, layer| cnn(title, model, layer, "chip-cnn");
    let (one_hot, gpn, nt) = (of("one-hot", "", 0), of("GPN", GPN, 0), of("NT layer 32", NT, 32));
    let (hyena, sei) = (of("HyenaDNA", HYENA, 0), of("Sei", "Sei", 0));
    let dnabert2 = of("DNABERT2", "DNABERT2", 0);
    let chip = [sei, gpn, one_hot, hyena, nt, dnabert2];
    chain(checks, TaskName::ChipSeq, ALL_DATASETS, &chip, &[]);
    let eclip = [gpn, one_hot, nt, hyena, dnabert2, sei];
    chain(checks, TaskName::Eclip, ALL_DATASETS, &eclip, &[]);
}

fn variants(checks: &mut Vec<Check>) {
    let task = TaskName::VariantEffect;
    let of = |title, model, layer| cnn(title, model, layer, "rep-cnn");
    let cosine = |title, model| (title, model, None, "zero-shot", "cosine");
    let (gpn, nt) = (of("GPN + CNN", GPN, 0), of("NT + CNN", NT, 32));
    let (mprann, one_hot) = (cnn("MPRAnn", "", 0, "mprann"), of("one-hot CNN", "", 0));
    for place in ["HepG2", "K562"] {
        let best = [
            of("Sei + CNN", "Sei", 0),
            cosine("Sei zero-shot", "Sei"),
            cnn("ResNet", "", 0, "resnet"),
            mprann,
            one_hot,
            nt,
        ];
        chain(checks, task, place, &best, &[]);
        // On PKLR, the K562 element, they are equal.
        let relation = if place == "K562" { Near(0.06) } else { Above };
        chain(checks, task, place, &[mprann, gpn, nt], &[relation, Above]);
        for zero_shot in [
            cosine("NT zero-shot", NT),
            cosine("NT multi-species zero-shot", "NT-2B5-multi-species"),
            cosine("NT 500M human zero-shot", "NT-500M-human-ref"),
            cosine("NT 500M 1000G zero-shot", "NT-500M-1000G"),
            ("GPN zero-shot", GPN, None, "zero-shot", "masked-llr"),
            cosine("HyenaDNA zero-shot", HYENA),
            cosine("DNABERT2 zero-shot", "DNABERT2"),
        ] {
            chain(checks, task, place, &[nt, zero_shot], &[]);
        }
    }
}

fn splicing_and_elongation(checks: &mut Vec<Check>) {
    let of = |title, model, layer| cnn(title, model, layer, "splicing-cnn");
    let (gpn, hyena) = (of("GPN", GPN, 0), of("HyenaDNA", HYENA, 0));
    let (nt_10, nt_32) = (of("NT layer 10", NT, 10), of("NT layer 32", NT, 32));
    let (task, place) = (TaskName::Splicing, "ASCOT");
    let best = [of("one-hot", "", 0), of("RBP", "RBP-supervised", 0), gpn, nt_10, hyena, nt_32];
    chain(checks, task, place, &best, &[Above, Above, Above, Near(ALMOST), Above]);
    chain(checks, task, place, &[gpn, hyena], &[]);
    let worst = [nt_32, of("Sei", "Sei", 0), of("DNABERT2", "DNABERT2", 0)];
    chain(checks, task, place, &worst, &[]);
    let of = |title, model, layer| cnn(title, model, layer, "insert-cnn");
    let (task, place) = (TaskName::InsertSeq, "INSERT-seq");
    let (hyena, dnabert2) = (of("HyenaDNA", HYENA, 0), of("DNABERT2", "DNABERT2", 0));
    let best = [of("RBP", "RBP-supervised", 0), of("GPN", GPN, 0), of("one-hot", "", 0), hyena];
    chain(checks, task, place, &best, &[]);
    for middle in [of("Sei", "Sei", 0), of("NT layer 32", NT, 32)] {
        chain(checks, task, place, &[hyena, middle, dnabert2], &[]);
    }
}

/// Every check whose task has a score, on `scores`.
pub(in super::super) fn orderings(scores: &[Score<'_>]) -> Vec<Ordering> {
    let mut checks = Vec::new();
    activity(&mut checks);
    binding(&mut checks);
    variants(&mut checks);
    splicing_and_elongation(&mut checks);
    let is_there = |task: TaskName| scores.iter().any(|score| score.task == task);
    checks
        .iter()
        .filter(|check| is_there(check.task))
        .map(|check| evaluated(check, scores))
        .collect()
}

fn evaluated(check: &Check, scores: &[Score<'_>]) -> Ordering {
    let side = |side: Side| scores.iter().find(|score| is_side(score, check, side));
    let (left, right) = (side(check.left), side(check.right));
    // A zero-shot correlation is printed without its sign, and so are the probes beside it.
    let value = |score: Option<&Score<'_>>| {
        let value = score?.obtained?;
        Some(if check.task == TaskName::VariantEffect { value.abs() } else { value })
    };
    let both = value(left).zip(value(right));
    let outcome = match both.map(|(left, right)| is_held(left - right, check.relation)) {
        Some(true) => Outcome::Held,
        Some(false) => Outcome::Broken,
        None => Outcome::NotComputable,
    };
    let elsewhere = |score: Option<&Score<'_>>| {
        score.is_some_and(|score| score.verdict == Verdict::OtherExamples)
    };
    Ordering {
        task: check.task,
        place: check.place,
        statement: statement(check),
        left: value(left),
        right: value(right),
        outcome,
        is_elsewhere: elsewhere(left) || elsewhere(right),
    }
}

fn statement(check: &Check) -> String {
    let (left, right) = (named(check.left), named(check.right));
    match check.relation {
        Above => format!("{left} > {right}"),
        NotBelow => format!("{left} ≥ {right}"),
        AboveBy(margin) => format!("{left} > {right} by {margin} or more"),
        Near(margin) => format!("{left} ≈ {right} (within {margin})"),
    }
}

/// The title, with the probe where two sides differ in it only.
fn named(side: Side) -> String {
    let (title, _, _, representation, probe) = side;
    match (representation, probe) {
        ("mean", _) => format!("{title} mean MLP"),
        _ => title.to_owned(),
    }
}

fn is_held(difference: f64, relation: Relation) -> bool {
    match relation {
        Above => difference > 0.0,
        NotBelow => difference >= 0.0,
        AboveBy(margin) => difference >= margin,
        Near(margin) => difference.abs() <= margin,
    }
}

fn is_side(score: &Score<'_>, check: &Check, side: Side) -> bool {
    let (_, model, layer, representation, probe) = side;
    let is_it = |row: &Reference| {
        let is_place = match check.task {
            TaskName::VariantEffect => row.target == check.place,
            _ => row.dataset == check.place,
        };
        is_place
            && row.task == check.task.name()
            && (row.model, row.layer) == (model, layer)
            && (row.representation, row.probe) == (representation, probe)
            && (row.factor, row.fraction) == (1.0, 1.0)
    };
    // A layer whose median was not published is no side of a check of medians.
    let is_center = check.task != TaskName::InsertSeq || score.of == Center::Median;
    score.is_primary && is_center && score.reference.is_some_and(is_it)
}

/// One row per check.
pub(in super::super) fn orderings_table(view: &View<'_>, rows: &[Ordering]) -> Table {
    let job = view.plan.job.to_string();
    Table::new("orderings")
        .text("job", rows, |_| Some(job.clone()))
        .text("task", rows, |row| Some(row.task.name().to_owned()))
        .text("task_title", rows, |row| Some(task_title(row.task).to_owned()))
        .text("place", rows, |row| Some(row.place.to_owned()))
        .text("check", rows, |row| Some(row.statement.clone()))
        .real("left", rows, |row| row.left)
        .real("right", rows, |row| row.right)
        .text("outcome", rows, |row| Some(row.outcome.name().to_owned()))
        .text("other_examples", rows, |row| Some(row.is_elsewhere.to_string()))
}
