//! Scores published for the paper's data sets, and which of them lie closest to a fit.
//!
//! Leaves out: tasks 3 to 5. Invariant: a row is compared only with a statistic that was computed
//! the same way: neural rows with AUROC from scores, logistic rows with AUROC from hard labels.
//!
//! Source: result files of Tang, Somia, Yu and Koo, Genome Biology 2025; means over repeats with
//! the sample standard deviation; rows marked `figure` were read off a figure (+-0.001).

use glmeval_common::dataset::TaskName;
use glmeval_common::score::FitIdentity;
use std::sync::OnceLock;

/// Published rows shown beside one data set.
const ROWS_MAX: usize = 12;

/// One published probe on one data set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PublishedRow {
    pub(super) task: String,
    pub(super) dataset: String,
    pub(super) model: String,
    pub(super) representation: String,
    /// 1-based; `None` where the last layer or none was read.
    pub(super) layer: Option<u32>,
    pub(super) probe: String,
    /// Repeats averaged; `None` = read off a figure.
    pub(super) repeats: Option<u32>,
    /// Statistic by name: mean and standard deviation.
    values: Vec<(&'static str, f64, Option<f64>)>,
}

impl PublishedRow {
    /// Mean and standard deviation of the statistic that ours named `name` can be compared with.
    pub(super) fn value(&self, name: &str) -> Option<(f64, Option<f64>)> {
        let hard = self.probe == "logistic";
        let published = match name {
            "pearson" => "pearson",
            "accuracy" => "accuracy",
            "auroc_exact" | "auroc_keras" if !hard => "auroc",
            "aupr" | "aupr_keras" if !hard => "aupr",
            "auroc_hard" if hard => "auroc",
            "aupr_hard" if hard => "aupr",
            _ => return None,
        };
        let found = self.values.iter().find(|(name, _, _)| *name == published)?;
        Some((found.1, found.2))
    }

    /// What the published probe read.
    pub(super) fn input(&self) -> String {
        let what = match self.representation.as_str() {
            "kmer-1" => "nucleotide frequencies",
            "kmer-2" => "dinucleotide counts",
            "full" => "all tokens",
            other => other,
        };
        match self.layer {
            Some(layer) => format!("{}, layer {layer}, {what}", self.model),
            None if self.model == "one-hot" => what.to_owned(),
            None => format!("{}, {what}", self.model),
        }
    }

    /// `mean of 5`, `1 run` or `read off a figure`.
    pub(super) fn origin(&self) -> String {
        match self.repeats {
            Some(1) => "1 run".to_owned(),
            Some(repeats) => format!("mean of {repeats}"),
            None => "read off a figure".to_owned(),
        }
    }

    /// Whether a fit read what this row's probe read: same gLM, layer and pooling, or same feature.
    fn same_input(&self, identity: &FitIdentity) -> bool {
        if self.representation != identity.representation {
            return false;
        }
        match &identity.model {
            None => self.model == "one-hot",
            Some(model) => {
                plain(model) == plain(&self.model)
                    && (self.layer.is_none() || self.layer == identity.layer)
            }
        }
    }

    /// Whether it is this very probe on this very input.
    pub(super) fn is_counterpart(&self, identity: &FitIdentity) -> bool {
        self.probe == identity.probe && self.same_input(identity)
    }

    /// Smaller = closer to one of the fits.
    fn distance(&self, identities: &[&FitIdentity]) -> u32 {
        let any = |test: &dyn Fn(&FitIdentity) -> bool| identities.iter().any(|i| test(i));
        if any(&|i| self.is_counterpart(i)) {
            0
        } else if any(&|i| self.same_input(i)) {
            1
        } else if self.model == "one-hot" {
            2
        } else if any(&|i| i.model.as_deref().is_some_and(|m| same_family(m, &self.model))) {
            if self.probe == "CNN" || any(&|i| i.probe == self.probe) { 3 } else { 5 }
        } else if self.probe == "CNN" {
            4
        } else {
            6
        }
    }
}

/// Letters and digits only, lower case.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// Whether two names start with the same family: `NT-500M` and `NT-2B5-1000G`.
fn same_family(ours: &str, published: &str) -> bool {
    let family = |name: &str| {
        let name = plain(name);
        ["nucleotidetransformer", "nt", "gpn", "hyenadna", "dnabert2", "sei"]
            .iter()
            .position(|family| name.starts_with(family))
            .map(|place| place.max(1))
    };
    family(ours).is_some() && family(ours) == family(published)
}

/// The rows published for a data set that is named in `dataset` (`REST`, `chip REST 200 nt`),
/// closest to `identities` first.
pub(super) fn closest(
    task: TaskName,
    dataset: &str,
    identities: &[&FitIdentity],
) -> Vec<&'static PublishedRow> {
    let words: Vec<String> =
        dataset.split(|c: char| !c.is_ascii_alphanumeric()).map(plain).collect();
    let mut rows: Vec<&PublishedRow> = all()
        .iter()
        .filter(|row| row.task == task.name() && words.contains(&plain(&row.dataset)))
        .collect();
    // The layer scan of the published gLM would bury every other row.
    rows.retain(|row| {
        let distance = row.distance(identities);
        distance < 6 && (distance <= 1 || row.layer.is_none_or(|layer| layer == 32))
    });
    rows.retain(|row| row.distance(identities) == 0 || !row.probe.contains(" x"));
    rows.sort_by_key(|row| row.distance(identities));
    rows.truncate(ROWS_MAX);
    rows
}

fn all() -> &'static [PublishedRow] {
    static ROWS: OnceLock<Vec<PublishedRow>> = OnceLock::new();
    ROWS.get_or_init(|| {
        include_str!("published.csv").lines().skip(1).filter_map(parse_row).collect()
    })
}

fn parse_row(line: &str) -> Option<PublishedRow> {
    let fields: Vec<&str> = line.split(',').collect();
    let [task, dataset, model, representation, layer, probe, repeats, numbers @ ..] = &fields[..]
    else {
        return None;
    };
    let [pearson, auroc, auroc_sd, aupr, aupr_sd, accuracy, accuracy_sd] = numbers else {
        return None;
    };
    let columns = [
        ("pearson", pearson, &""),
        ("auroc", auroc, auroc_sd),
        ("aupr", aupr, aupr_sd),
        ("accuracy", accuracy, accuracy_sd),
    ];
    let values = columns
        .into_iter()
        .filter_map(|(name, mean, sd)| Some((name, mean.parse().ok()?, sd.parse().ok())))
        .collect();
    Some(PublishedRow {
        task: (*task).to_owned(),
        dataset: (*dataset).to_owned(),
        model: (*model).to_owned(),
        representation: (*representation).to_owned(),
        layer: layer.parse().ok(),
        probe: (*probe).to_owned(),
        repeats: repeats.parse().ok(),
        values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_file_is_a_row_with_a_value() {
        let lines = include_str!("published.csv").lines().count() - 1;
        assert_eq!(all().len(), lines);
        assert!(all().iter().all(|row| !row.values.is_empty()));
    }

    #[test]
    fn one_hot_rows_of_rest_are_found_by_a_word_of_the_name() {
        let rows = closest(TaskName::ChipSeq, "chip REST 200", &[]);
        assert_eq!(rows[0].model, "one-hot");
        assert_eq!(rows[0].value("auroc_exact"), Some((0.8412, Some(0.0067))));
        assert_eq!(rows[0].value("auroc_hard"), None);
        assert!(closest(TaskName::ChipSeq, "FOREST", &[]).is_empty());
        assert!(closest(TaskName::Eclip, "REST", &[]).is_empty());
    }

    #[test]
    fn families_are_told_apart() {
        assert!(same_family("NT-500M", "NT-2B5-1000G"));
        assert!(same_family("nucleotide-transformer-v1", "NT-2B5-1000G"));
        assert!(!same_family("DNABERT2", "NT-2B5-1000G"));
        assert!(!same_family("mine", "yours"));
    }
}
