//! The Mann-Whitney tests over repeats that were published, made again on the job's repeats.
//!
//! Leaves out: the test (statistics) and comparisons on the same examples (comparisons). Invariant:
//! sides and alternatives are the published ones, two-sided for splicing, one-sided for elongation.

use super::super::published::{self, PublishedTest, Reference};
use super::super::summary::{Arm, Summaries};
use super::Score;
use crate::statistics::{Alternative, MannWhitney, mann_whitney};
use glmeval_common::dataset::TaskName;

/// One test on the job's repeats.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct RepeatsTest {
    pub(in super::super) task: TaskName,
    pub(in super::super) dataset: String,
    pub(in super::super) labels: (String, String),
    pub(in super::super) obtained: MannWhitney,
    pub(in super::super) repeats: (usize, usize),
    pub(in super::super) published: &'static PublishedTest,
}

/// Every published test both of whose sides the job has, at the whole training split.
pub(in super::super) fn repeats_tests(
    scores: &[Score<'_>],
    summaries: &Summaries<'_>,
) -> Vec<RepeatsTest> {
    let arms = || summaries.datasets.iter().flat_map(|dataset| &dataset.arms);
    let side = |test: &PublishedTest, model: &str, layer: Option<u32>| {
        let is_it = |row: &Reference| {
            (row.task, row.model, row.layer) == (test.task, model, layer)
                && (row.factor, row.fraction) == (1.0, 1.0)
        };
        let score = scores.iter().find(|score| score.reference.is_some_and(is_it))?;
        let arm = arms().find(|arm| std::ptr::eq(arm.identity, score.identity))?;
        Some((score, arm))
    };
    let tested = |test: &'static PublishedTest| {
        let (score, first) = side(test, test.reference, None)?;
        let (_, second) = side(test, test.model, test.layer)?;
        let (a, b) = (values(first, score.statistic), values(second, score.statistic));
        let alternative = match test.alternative {
            "greater" => Alternative::Greater,
            _ => Alternative::TwoSided,
        };
        if a.len().min(b.len()) < 2 {
            return None;
        }
        Some(RepeatsTest {
            task: score.task,
            dataset: score.dataset.to_owned(),
            labels: (first.label.clone(), second.label.clone()),
            obtained: mann_whitney(&a, &b, alternative)?,
            repeats: (a.len(), b.len()),
            published: test,
        })
    };
    published::mann_whitney_tests().iter().filter_map(tested).collect()
}

/// The statistic of every repeat that defines it.
fn values(arm: &Arm<'_>, statistic: &str) -> Vec<f64> {
    arm.headline(statistic).map_or(Vec::new(), |row| row.values.iter().copied().flatten().collect())
}
