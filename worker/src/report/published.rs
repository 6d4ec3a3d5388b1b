//! Values published for the paper's data sets, and which of them are those of a fit.
//!
//! Leaves out: whether a fit agrees with them (agreement). Invariant: a value is compared only with a
//! statistic that was computed the same way on the same input by the same probe: neural rows have areas
//! over 200 thresholds, logistic rows areas of hard labels.
//!
//! Source: result files, notebooks, figures and Table 1 of Tang, Somia, Yu and Koo, Genome Biology 2025.
//! Repeats are held as their mean and sample standard deviation; values read off a figure carry the
//! error of reading. Superseded results of earlier versions are left out.

use glmeval_common::dataset::TaskName;
use glmeval_common::job::Protocol;
use glmeval_common::plan::PlannedDataset;
use glmeval_common::representation::Pooling;
use glmeval_common::score::FitIdentity;
use std::sync::OnceLock;

/// Stands for all ten data sets of a binding task.
pub(super) const ALL_DATASETS: &str = "mean";

/// What a published value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Center {
    Mean,
    Median,
}

impl Center {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Median => "median",
        }
    }
}

/// One published value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reference {
    pub(super) task: &'static str,
    pub(super) dataset: &'static str,
    /// Element or cell line of a variant effect; empty elsewhere.
    pub(super) target: &'static str,
    /// Nucleotides of a window, where they decide the value.
    pub(super) length: Option<u64>,
    /// Empty for features of the sequence.
    pub(super) model: &'static str,
    pub(super) representation: &'static str,
    /// 1-based; `None` = the last, or none was read.
    pub(super) layer: Option<u32>,
    pub(super) probe: &'static str,
    pub(super) factor: f64,
    pub(super) fraction: f64,
    pub(super) statistic: &'static str,
    pub(super) of: Center,
    pub(super) value: f64,
    /// Sample standard deviation over repeats.
    pub(super) deviation: Option<f64>,
    /// Repeats; for a mean over data sets, the data sets.
    pub(super) repeats: u32,
    pub(super) quartiles: Option<(f64, f64)>,
    /// Error of reading a figure, or of rounding.
    pub(super) error: Option<f64>,
    /// `file`, `figure`, `table` or `derived`.
    pub(super) origin: &'static str,
}

impl Reference {
    /// What the published probe read.
    pub(super) fn input(&self) -> String {
        let what = match self.representation {
            "nucleotides" => "nucleotide frequencies",
            "kmer-2" => "2-mer counts",
            other => other,
        };
        match self.layer {
            Some(layer) => format!("{}, layer {layer}, {what}", self.model),
            None if self.model.is_empty() => what.to_owned(),
            None => format!("{}, {what}", self.model),
        }
    }

    /// `mean of 5 runs`, `1 run`, `read off a figure, ±0.002`, …
    pub(super) fn provenance(&self) -> String {
        let of = match (self.repeats, self.dataset == ALL_DATASETS) {
            (1, _) => "1 run".to_owned(),
            (all, true) => format!("{} of {all} data sets", self.of.name()),
            (runs, false) => format!("{} of {runs} runs", self.of.name()),
        };
        let error = self.error.map_or(String::new(), |error| format!(", ±{error}"));
        match self.origin {
            "figure" => format!("{of}, read off a figure{error}"),
            "table" => format!("{of}, printed{error}"),
            _ => of,
        }
    }

    /// Whether a fit's probe read what this row's did; `last` is the number of layers of the fit's gLM.
    pub(super) fn is_same_input(&self, identity: &FitIdentity, last: Option<u32>) -> bool {
        if self.representation != habitual(identity) {
            return false;
        }
        let is_layer = match (self.layer, identity.layer) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, Some(theirs)) => last.is_none_or(|last| last == theirs),
            (layer, None) => layer.is_none() || self.representation == "zero-shot",
        };
        match &identity.model {
            None => self.model.is_empty(),
            Some(model) => is_layer && plain(model) == plain(self.model),
        }
    }

    /// Whether it is this very probe, as wide and trained on as much, on this very input.
    pub(super) fn is_counterpart(&self, identity: &FitIdentity, last: Option<u32>) -> bool {
        self.probe == identity.probe
            && self.factor == identity.factor
            && (self.fraction - identity.fraction).abs() < 1e-9
            && self.is_same_input(identity, last)
    }
}

/// Every value published under the name of a data set; those of ten data sets together are
/// [`of_all_datasets`].
pub(super) fn of_dataset(task: TaskName, dataset: &PlannedDataset) -> Vec<&'static Reference> {
    let words = words(&dataset.name);
    let length = dataset.facts.length_max;
    let is_ours = |row: &&Reference| {
        row.task == task.name()
            && row.length.is_none_or(|window| window == length)
            && is_named(row.dataset, &words, task)
    };
    references().iter().filter(is_ours).collect()
}

/// The published means over the ten data sets of a binding task.
pub(super) fn of_all_datasets(task: TaskName) -> impl Iterator<Item = &'static Reference> {
    references().iter().filter(move |row| row.task == task.name() && row.dataset == ALL_DATASETS)
}

/// Names of the data sets that have published values, in the paper's order.
pub(super) fn datasets(task: TaskName) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for row in references().iter().filter(|row| row.task == task.name()) {
        if row.dataset != ALL_DATASETS && !names.contains(&row.dataset) {
            names.push(row.dataset);
        }
    }
    names
}

/// Whether as many test examples were scored as published; `None` where that is not known.
pub(super) fn is_same_size(
    task: TaskName,
    published: &str,
    target: &str,
    examples: u64,
) -> Option<bool> {
    let row = sizes().iter().find(|size| {
        size.task == task.name() && size.dataset == published && size.target == target
    })?;
    Some((row.low..=row.high).contains(&examples))
}

/// A Mann-Whitney test that was published.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PublishedTest {
    pub(super) task: &'static str,
    /// The gLM that the others are held against; empty = one-hot.
    pub(super) reference: &'static str,
    /// The other; empty = one-hot.
    pub(super) model: &'static str,
    pub(super) layer: Option<u32>,
    /// `two-sided`, or `greater`: that the reference is.
    pub(super) alternative: &'static str,
    pub(super) u: f64,
    pub(super) p: f64,
}

/// Every published Mann-Whitney test.
pub(super) fn mann_whitney_tests() -> &'static [PublishedTest] {
    static ROWS: OnceLock<Vec<PublishedTest>> = OnceLock::new();
    ROWS.get_or_init(|| {
        lines(include_str!("published/mann_whitney.csv")).filter_map(parse_test).collect()
    })
}

/// Letters and digits only, lower case: `NT-2B5-1000G` and `nt 2b5 1000g` are one name.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// The representation without what the study itself did: padding to the longest sequence of a task, and
/// the rows of GPN's sequences where it was padded. Means of the corrected protocol stand beside those
/// that they correct.
fn habitual(identity: &FitIdentity) -> &str {
    let name = identity.representation.as_str();
    let Some((plain, options)) = name.strip_suffix(')').and_then(|name| name.split_once(" ("))
    else {
        return if name == Pooling::AfterCls.name() { Pooling::Cls.name() } else { name };
    };
    let is_cut = identity.task == TaskName::InsertSeq.name();
    let is_corrected = identity.protocol == Protocol::Corrected.name();
    let is_habit = |option: &str| {
        option.starts_with("padded")
            || (is_cut && option == "per nucleotide")
            || (is_corrected && option == "mean over nucleotides")
    };
    if options.split(", ").all(is_habit) { plain } else { name }
}

/// Whether a row is of the gLM of that name.
pub(super) fn is_of_model(row: &Reference, model: Option<&str>) -> bool {
    model.is_some_and(|model| plain(model) == plain(row.model))
}

/// Whether a row's data set is the one of that name.
pub(super) fn is_called(row: &Reference, dataset: &str, task: TaskName) -> bool {
    is_named(row.dataset, &words(dataset), task)
}

fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).map(plain).collect()
}

fn is_named(published: &str, words: &[String], task: TaskName) -> bool {
    let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    match task {
        // One data set each, and elements tell the variants of the third.
        TaskName::Splicing => has(&["ascot", "gtex", "splicing", "mtsplice", "splice"]),
        TaskName::InsertSeq => has(&["insert", "insertseq", "elongation", "rnaenlong"]),
        TaskName::VariantEffect => true,
        _ => has(&[plain(published).as_str()]),
    }
}

struct Size {
    task: &'static str,
    dataset: &'static str,
    target: &'static str,
    low: u64,
    high: u64,
}

fn sizes() -> &'static [Size] {
    static ROWS: OnceLock<Vec<Size>> = OnceLock::new();
    ROWS.get_or_init(|| {
        lines(include_str!("published/sizes.csv"))
            .filter_map(|fields| match fields[..] {
                [task, dataset, target, low, high] => {
                    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
                    Some(Size { task, dataset, target, low, high })
                }
                _ => None,
            })
            .collect()
    })
}

/// Every published value.
pub(super) fn references() -> &'static [Reference] {
    static ROWS: OnceLock<Vec<Reference>> = OnceLock::new();
    ROWS.get_or_init(|| {
        lines(include_str!("published/values.csv")).filter_map(parse_reference).collect()
    })
}

fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().skip(1).map(|line| line.split(',').collect())
}

fn parse_reference(fields: Vec<&'static str>) -> Option<Reference> {
    let (input, numbers) = fields.split_at_checked(8)?;
    let &[task, dataset, target, length, model, representation, layer, probe] = input else {
        return None;
    };
    let &[factor, fraction, statistic, of, value, deviation, repeats, q1, q3, error, origin] =
        numbers
    else {
        return None;
    };
    let of = match of {
        "mean" => Center::Mean,
        "median" => Center::Median,
        _ => return None,
    };
    Some(Reference {
        task,
        dataset,
        target,
        length: length.parse().ok(),
        model,
        representation,
        layer: layer.parse().ok(),
        probe,
        factor: factor.parse().ok()?,
        fraction: fraction.parse().ok()?,
        statistic,
        of,
        value: value.parse().ok()?,
        deviation: deviation.parse().ok(),
        repeats: repeats.parse().ok()?,
        quartiles: q1.parse().ok().zip(q3.parse().ok()),
        error: error.parse().ok(),
        origin,
    })
}

fn parse_test(fields: Vec<&'static str>) -> Option<PublishedTest> {
    match fields[..] {
        [task, reference, model, layer, alternative, u, p] => Some(PublishedTest {
            task,
            reference,
            model,
            layer: layer.parse().ok(),
            alternative,
            u: u.parse().ok()?,
            p: p.parse().ok()?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
