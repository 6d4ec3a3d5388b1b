use super::*;
use crate::report::tests::{dataset, identity};

fn find(task: &str, dataset: &str, input: (&str, &str, Option<u32>), probe: &str) -> Reference {
    let (model, representation, layer) = input;
    let is_it = |row: &&Reference| {
        (row.task, row.dataset, row.probe) == (task, dataset, probe)
            && (row.model, row.representation, row.layer) == (model, representation, layer)
            && row.factor == 1.0
            && row.fraction == 1.0
    };
    references().iter().find(is_it).unwrap().clone()
}

#[test]
fn every_line_of_the_files_is_a_row() {
    let lines = |text: &str| text.lines().count() - 1;
    assert_eq!(references().len(), lines(include_str!("values.csv")));
    assert_eq!(mann_whitney_tests().len(), lines(include_str!("mann_whitney.csv")));
    assert_eq!(sizes().len(), lines(include_str!("sizes.csv")));
    assert!(references().iter().all(|row| row.value.is_finite()));
}

#[test]
fn values_of_all_six_tasks_and_of_the_maps_are_there() {
    let count = |task: &str| references().iter().filter(|row| row.task == task).count();
    // 540 fits of task 1; 72 correlations by element beside means and reported values of task 3.
    assert_eq!(count("lenti-mpra"), 540);
    let tasks =
        ["chip-seq", "variant-effect", "splicing", "insert-seq", "eclip", "attribution"].map(count);
    assert!(tasks.iter().all(|count| *count > 0), "{tasks:?}");
    assert_eq!(find("lenti-mpra", "K562", ("", "one-hot", None), "resnet").value, 0.7896);
    let scan = find("lenti-mpra", "HepG2", ("NT-2B5-1000G", "full", Some(11)), "rep-cnn");
    assert_eq!(scan.value, 0.477);
    let rest = find("chip-seq", "REST", ("", "one-hot", None), "chip-cnn");
    assert_eq!((rest.value, rest.deviation, rest.repeats), (0.8412, Some(0.00675), 5));
    assert_eq!(find("eclip", "mean", ("GPN-human", "full", None), "chip-cnn").value, 0.9739);
    let gpn = find("splicing", "ASCOT", ("GPN-human", "full", None), "splicing-cnn");
    assert_eq!((gpn.value, gpn.repeats), (0.2858, 5));
}

#[test]
fn a_median_has_its_quartiles_and_a_curve_its_error() {
    let rows = references().iter().filter(|row| row.task == "insert-seq");
    let of = |model: &str, of: Center, fraction: f64| {
        rows.clone()
            .find(|row| row.model == model && row.of == of && row.fraction == fraction)
            .unwrap()
    };
    let median = of("RBP-supervised", Center::Median, 1.0);
    assert_eq!((median.value, median.quartiles), (0.664, Some((0.6582, 0.6682))));
    let early = of("GPN-human", Center::Mean, 0.1);
    assert_eq!((early.value, early.error), (0.5769, Some(0.002)));
    assert_eq!(early.provenance(), "mean of 50 runs, read off a figure, ±0.002");
}

#[test]
fn a_row_is_that_of_a_fit_only_with_the_same_layer_probe_and_width() {
    let cnn = find("lenti-mpra", "HepG2", ("GPN-human", "full", None), "rep-cnn");
    let mut fit = identity("lenti-mpra", "HepG2", (Some("GPN human"), Some(25), "full"), "rep-cnn");
    assert!(cnn.is_counterpart(&fit, Some(25)) && cnn.is_counterpart(&fit, None));
    assert!(!cnn.is_counterpart(&fit, Some(26)), "not its last layer");
    fit.factor = 2.0;
    assert!(!cnn.is_counterpart(&fit, None) && cnn.is_same_input(&fit, None));
    fit.representation = "full (padded to 59)".to_owned();
    assert!(cnn.is_same_input(&fit, None), "the study padded");
    fit.representation = "full (padded to 59, both strands)".to_owned();
    assert!(!cnn.is_same_input(&fit, None));
    (fit.model, fit.representation) = (None, "full".to_owned());
    assert!(!cnn.is_same_input(&fit, None));
}

#[test]
fn data_sets_are_found_by_a_word_of_their_name_and_variants_by_their_window() {
    let rows = |name: &str, task, length| {
        let mut planned = dataset(name, task, 10);
        planned.facts.length_max = length;
        of_dataset(task, &planned)
    };
    assert!(rows("chip REST 200", TaskName::ChipSeq, 200).iter().all(|row| row.dataset == "REST"));
    assert!(rows("FOREST", TaskName::ChipSeq, 200).is_empty());
    assert!(rows("REST", TaskName::Eclip, 200).is_empty());
    let windows = |length| rows("cagi", TaskName::VariantEffect, length);
    assert!(windows(512).iter().all(|row| row.model == "GPN-human"));
    assert!(!windows(512).is_empty() && windows(600).is_empty());
    assert_eq!(is_same_size(TaskName::ChipSeq, "REST", "", 2_588), Some(true));
    assert_eq!(is_same_size(TaskName::VariantEffect, "CAGI5", "PKLR", 1_300), Some(false));
    assert_eq!(is_same_size(TaskName::VariantEffect, "CAGI5", "F9", 7), None);
}
