//! Which fits a report needs the predictions of.
//!
//! Leaves out: reading them (publish). Invariant: decided from scores alone, so that a grid of thousands of
//! fits is not read whole: figures and comparisons take the best arms on the largest fraction.

use super::summary::is_same_arm;
use super::view::statistic;
use crate::statistics::compared_statistic;
use glmeval_common::dataset::TaskName;
use glmeval_common::score::FitScores;
use std::collections::BTreeMap;

/// Arms of a data set whose predictions are read; as many as are compared with each other.
pub(super) const ARMS_MAX: usize = 40;

/// For each of `scores`, whether figures or comparisons need its predictions.
pub fn needs_predictions(scores: &[&FitScores]) -> Vec<bool> {
    let mut datasets: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, fit) in scores.iter().enumerate() {
        // Effects of variants are shown by their correlations alone.
        if fit.identity.task != TaskName::VariantEffect.name() {
            datasets.entry(&fit.identity.dataset).or_default().push(i);
        }
    }
    let mut needed = vec![false; scores.len()];
    for fits in datasets.values() {
        for fit in best_arms(scores, fits).into_iter().flatten() {
            if let Some(flag) = needed.get_mut(fit) {
                *flag = true;
            }
        }
    }
    needed
}

/// The arms among `fits` on the largest fraction with the best means, as numbers of fits.
fn best_arms(scores: &[&FitScores], fits: &[usize]) -> Vec<Vec<usize>> {
    let fit = |i: usize| scores.get(i).map(|scores| &scores.identity);
    let fraction = fits.iter().filter_map(|i| Some(fit(*i)?.fraction)).fold(0.0, f64::max);
    let mut arms: Vec<Vec<usize>> = Vec::new();
    for &i in fits {
        let Some(identity) = fit(i).filter(|identity| identity.fraction == fraction) else {
            continue;
        };
        let is_its = |arm: &&mut Vec<usize>| {
            arm.first()
                .and_then(|first| fit(*first))
                .is_some_and(|other| is_same_arm(other, identity))
        };
        match arms.iter_mut().find(is_its) {
            Some(arm) => arm.push(i),
            None => arms.push(vec![i]),
        }
    }
    let mean = |arm: &Vec<usize>| {
        let values = arm.iter().filter_map(|i| value(scores.get(*i)?));
        let (sum, count) = values.fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
        if count > 0.0 { sum / count } else { f64::NEG_INFINITY }
    };
    arms.sort_by(|a, b| mean(b).total_cmp(&mean(a)).then(a.cmp(b)));
    arms.truncate(ARMS_MAX);
    arms
}

fn value(scores: &FitScores) -> Option<f64> {
    let named = |task: &(TaskName, &str)| task.1 == scores.identity.task;
    let task = TaskName::ALL.into_iter().find(named).map(|(task, _)| task)?;
    statistic(scores, compared_statistic(task))?.value
}
