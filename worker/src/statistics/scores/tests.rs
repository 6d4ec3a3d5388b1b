//! Which statistics are reported, on which targets and examples.

use super::*;
use glmeval_common::rng::Rng;

fn context(task: TaskName, protocol: Protocol, probe: &str) -> ScoreContext<'_> {
    ScoreContext { task, protocol, probe, split: Split::Test, seed: 1 }
}

fn scored<'a>(
    names: &'a [String],
    targets: &'a [Vec<f64>],
    predictions: &'a [Vec<f64>],
) -> Scored<'a> {
    Scored { names, targets, predictions }
}

fn names(rows: &[Statistic]) -> Vec<&str> {
    rows.iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn published_logistic_reports_hard_labels_first() {
    let targets = vec![vec![1.0, 0.0, 1.0, 0.0, 1.0]];
    let predictions = vec![vec![0.9, 0.2, 0.3, 0.4, 0.8]];
    let target = ["bound".to_owned()];
    for (protocol, first) in
        [(Protocol::Published, "auroc_hard"), (Protocol::Corrected, "auroc_exact")]
    {
        let context = context(TaskName::ChipSeq, protocol, "logistic");
        let rows = scores(&context, &target, &targets, &predictions);
        assert_eq!(rows[0].name, first);
        assert_eq!(rows[0].name, primary_statistic(TaskName::ChipSeq, protocol, "logistic"));
        assert!(names(&rows).contains(&"auroc_exact"));
    }
}

#[test]
fn several_targets_open_with_their_mean() {
    let target = ["liver".to_owned(), "lung".to_owned()];
    let targets = vec![vec![1.0, 2.0, f64::NAN, 3.0], vec![3.0, 2.0, 1.0, 0.0]];
    let predictions = vec![vec![1.0, 2.0, 9.0, 3.0], vec![0.0, 1.0, 2.0, 3.0]];
    let context = context(TaskName::Splicing, Protocol::Published, "ridge");
    let rows = scores(&context, &target, &targets, &predictions);
    assert_eq!((rows[0].name.as_str(), rows[0].target.as_str()), ("spearman", "mean"));
    assert_eq!(rows[0].value, Some(0.0));
    let lung = rows.iter().find(|row| row.target == "lung" && row.name == "spearman").unwrap();
    assert_eq!((lung.value, lung.examples), (Some(-1.0), 4));
}

#[test]
fn undefined_statistics_are_none() {
    let context = context(TaskName::Eclip, Protocol::Corrected, "logistic");
    let rows = scores(&context, &["y".to_owned()], &[vec![1.0; 4]], &[vec![0.5; 4]]);
    assert_eq!(rows[0].value, None);
    assert_eq!(rows[0].low, None);
}

/// Targets of the paper's splicing layout: 12 tissues, `exons` exons, every third of them constant.
fn splicing(exons: usize) -> (Vec<String>, Vec<Vec<f64>>) {
    let mut rng = Rng::derive(4, "splicing");
    let numbered = |stem: &str| (0..12).map(|i| format!("{stem}_{i}")).collect::<Vec<_>>();
    let names = [numbered("delta"), numbered("mean")].concat();
    let difference = |exon: usize, rng: &mut Rng| match exon % 3 {
        0 => 0.0,
        _ if rng.uniform() < 0.1 => f64::NAN,
        _ => 3.0 * rng.normal(),
    };
    let mut targets: Vec<Vec<f64>> =
        (0..12).map(|_| (0..exons).map(|exon| difference(exon, &mut rng)).collect()).collect();
    targets.extend(vec![vec![0.3; exons]; 12]);
    (names, targets)
}

#[test]
fn splicing_scores_differences_on_filtered_exons() {
    let (names, targets) = splicing(60);
    let kept = splicing_exons(&targets[..12], &targets[12..]);
    assert!(kept.len() > 20 && kept.iter().all(|exon| exon % 3 != 0), "{kept:?}");
    // Right on every exon that is scored, absurd on the others and on the means.
    let mut predictions: Vec<Vec<f64>> = targets.clone();
    for column in &mut predictions {
        for (exon, value) in column.iter_mut().enumerate() {
            if !kept.contains(&exon) {
                *value = -1e6 * exon as f64;
            }
        }
    }
    let context = context(TaskName::Splicing, Protocol::Published, "network");
    let all = scores(&context, &names, &targets, &predictions);
    assert_eq!((all[0].target.as_str(), all[0].name.as_str()), ("mean", "spearman"));
    assert_eq!((all[0].value, all[0].low, all[0].high), (Some(1.0), Some(1.0), Some(1.0)));
    assert_eq!(all[0].examples, kept.len() as u64);
    assert!(all.iter().all(|row| !row.target.starts_with("mean_")));
    let differences_only = scores(&context, &names, &targets, &predictions[..12]);
    assert_eq!(all, differences_only);
}

#[test]
fn mean_over_targets_has_the_interval_of_joint_resamples() {
    let mut rng = Rng::derive(9, "joint");
    let truth: Vec<f64> = (0..80).map(|_| rng.normal()).collect();
    let guess: Vec<f64> = truth.iter().map(|value| value + rng.normal()).collect();
    let context = context(TaskName::Regression, Protocol::Corrected, "ridge");
    let both = ["a".to_owned(), "b".to_owned()];
    let twice = (vec![truth.clone(), truth.clone()], vec![guess.clone(), guess.clone()]);
    let rows = scores(&context, &both, &twice.0, &twice.1);
    let one = scores(&context, &both[..1], &[truth], &[guess]);
    // The same target twice: independent resamples would narrow the interval of the mean.
    assert_eq!((rows[0].target.as_str(), rows[0].low), ("mean", one[0].low));
    assert_eq!((rows[0].value, rows[0].high), (one[0].value, one[0].high));
}

#[test]
fn resampled_statistic_has_the_reported_value_and_interval() {
    let (names, targets) = splicing(90);
    let mut rng = Rng::derive(2, "guess");
    let predictions: Vec<Vec<f64>> = targets
        .iter()
        .map(|column| column.iter().map(|value| value + 2.0 * rng.normal()).collect())
        .collect();
    let predictions: Vec<Vec<f64>> = predictions
        .into_iter()
        .map(|column| column.into_iter().map(|v| if v.is_nan() { 0.0 } else { v }).collect())
        .collect();
    let context = context(TaskName::Splicing, Protocol::Published, "ridge");
    let input = scored(&names, &targets, &predictions);
    let reported = &scores(&context, &names, &targets, &predictions)[0];
    let found = resampled(&context, &input, &["mse", "spearman"], RESAMPLES);
    assert_eq!(found.iter().map(|one| one.name).collect::<Vec<_>>(), ["spearman", "mse"]);
    assert_eq!(found[0].value, reported.value);
    let (low, high) =
        percentiles(found[0].series.iter().copied().flatten().collect(), RESAMPLES).unwrap();
    assert_eq!((Some(low), Some(high)), (reported.low, reported.high));
    assert_eq!(resampled(&context, &input, &["auroc_exact"], 10), []);
}

#[test]
fn a_target_of_one_class_has_no_area_and_counts_in_no_mean() {
    let mut rng = Rng::derive(3, "classes");
    let mixed: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
    let guess: Vec<f64> = mixed.iter().map(|y| 0.5 * y + 0.5 * rng.uniform()).collect();
    let both = ["a".to_owned(), "b".to_owned()];
    for one_class in [0.0, 1.0] {
        let targets = [mixed.clone(), vec![one_class; 40]];
        let predictions = [guess.clone(), guess.clone()];
        for probe in ["network", "logistic"] {
            let context = context(TaskName::ChipSeq, Protocol::Published, probe);
            let rows = scores(&context, &both, &targets, &predictions);
            let alone = scores(&context, &both[..1], &targets[..1], &predictions[..1]);
            for of_mixed in alone.iter().filter(|row| row.name.starts_with("au")) {
                let of = |target: &str| {
                    let mut named = rows.iter().filter(|row| row.name == of_mixed.name);
                    named.find(|row| row.target == target).unwrap()
                };
                let (mean, nothing) = (of("mean"), of("b"));
                assert_eq!((mean.value, mean.low), (of_mixed.value, of_mixed.low), "{mean:?}");
                assert_eq!((nothing.value, nothing.low), (None, None), "{nothing:?}");
            }
        }
    }
}

#[test]
fn areas_that_few_resamples_define_have_no_interval() {
    // A positive is in about seven of eight resamples.
    let targets = [(0..40).map(|i| if i < 2 { 1.0 } else { 0.0 }).collect::<Vec<f64>>()];
    let predictions = [(0..40).map(|i| f64::from(i % 7) / 7.0).collect::<Vec<f64>>()];
    let context = context(TaskName::ChipSeq, Protocol::Corrected, "network");
    let rows = scores(&context, &["bound".to_owned()], &targets, &predictions);
    for row in rows.iter().filter(|row| row.name.starts_with("au")) {
        assert!(row.value.is_some() && row.low.is_none(), "{row:?}");
    }
}

#[test]
fn a_mean_is_resampled_over_the_same_targets_each_time() {
    let mut rng = Rng::derive(8, "few");
    let truth: Vec<f64> = (0..30).map(|_| rng.normal()).collect();
    let guess: Vec<f64> = truth.iter().map(|y| y + rng.normal()).collect();
    // Known on one example, which a third of the resamples lack.
    let sparse = (0..30).map(|i| if i == 0 { 5.0 } else { f64::NAN }).collect();
    let context = context(TaskName::Regression, Protocol::Corrected, "ridge");
    let both = ["a".to_owned(), "b".to_owned()];
    let rows = scores(&context, &both, &[truth, sparse], &[guess.clone(), guess]);
    let mean = rows.iter().find(|row| row.name == "mse" && row.target == "mean").unwrap();
    assert!(mean.value.is_some() && mean.low.is_none(), "{mean:?}");
}

#[test]
fn a_network_named_like_logistic_regression_is_none() {
    let named = |label| primary_statistic(TaskName::ChipSeq, Protocol::Published, label);
    assert_eq!(named("logistic, C 0.1"), "auroc_hard");
    assert_eq!(named("logistic-cnn, 3 epochs"), "auroc_exact");
}
