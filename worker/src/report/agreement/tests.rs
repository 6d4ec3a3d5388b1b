use super::*;
use crate::report::published::references;
use crate::report::tests::{bare_plan, dataset, fit_of};
use crate::report::{FitResult, ReportInput};
use glmeval_common::plan::{Plan, PlannedDataset};
use glmeval_common::score::Statistic;

fn statistic(name: &str, target: &str, value: Option<f64>, examples: u64) -> Statistic {
    let (name, split, target) = (name.to_owned(), "test".to_owned(), target.to_owned());
    Statistic { name, split, target, value, low: None, high: None, examples }
}

fn planned(name: &str, task: TaskName, test: u64, length: u64) -> PlannedDataset {
    let mut planned = dataset(name, task, test);
    planned.facts.length_max = length;
    planned
}

fn task_named(name: &str) -> Option<TaskName> {
    TaskName::ALL.into_iter().find(|(_, known)| *known == name).map(|(task, _)| task)
}

/// A job whose every fit has exactly the published values.
fn study() -> (Plan, Vec<FitResult>) {
    let mut plan = bare_plan();
    let mut fits: Vec<FitResult> = Vec::new();
    for row in references().iter().filter(|row| row.dataset != ALL_DATASETS) {
        let Some(task) = task_named(row.task) else { continue };
        let name = row.length.map_or(row.dataset.to_owned(), |length| format!("cagi {length}"));
        let size = |target: &str| {
            (1..60_000)
                .find(|n| published::is_same_size(task, row.dataset, target, *n) == Some(true))
        };
        if !plan.datasets.iter().any(|dataset| dataset.name == name) {
            let (test, length) = (size("").unwrap_or(50), row.length.unwrap_or(200));
            plan.datasets.push(planned(&name, task, test, length));
        }
        let model = (!row.model.is_empty()).then_some(row.model);
        let mut fit = fit_of(row.task, &name, (model, row.layer, row.representation), row.probe);
        let identity = &mut fit.scores.identity;
        (identity.factor, identity.fraction) = (row.factor, row.fraction);
        let value =
            statistic(row.statistic, row.target, Some(row.value), size(row.target).unwrap_or(9));
        let is_same = |other: &&mut FitResult| {
            crate::report::summary::is_same_arm(&other.scores.identity, &fit.scores.identity)
        };
        match fits.iter_mut().find(is_same) {
            // The median was published beside the mean of the same runs; a single run has one value.
            Some(known) if row.of == Center::Median => known.scores.statistics = vec![value],
            Some(known) => known.scores.statistics.push(value),
            None => {
                fit.scores.statistics = vec![value];
                fits.push(fit);
            }
        }
    }
    (plan, fits)
}

fn with_agreement<T>(plan: &Plan, fits: &[FitResult], look: impl Fn(&Agreement<'_>) -> T) -> T {
    let view = View::new(&ReportInput {
        plan,
        fits,
        attributions: &[],
        precisions: &[],
        failed: &[],
        cost: &[],
    });
    let summaries = Summaries::new(&view);
    look(&Agreement::new(&view, &summaries))
}

#[test]
fn the_study_agrees_with_itself_and_keeps_its_own_orders() {
    let (plan, fits) = study();
    with_agreement(&plan, &fits, |agreement| {
        for score in &agreement.scores {
            let verdict = (score.verdict, score.obtained, score.reference.map(|row| row.value));
            assert_eq!(score.verdict, Verdict::Agrees, "{:?} {verdict:?}", score.identity);
        }
        for task in ["lenti-mpra", "chip-seq", "variant-effect", "splicing", "insert-seq", "eclip"]
        {
            let task = task_named(task).unwrap();
            assert!(agreement.counts(task)[0] > 6, "{task:?}");
            assert_eq!(agreement.without_fit(task), 0, "{task:?}");
        }
        for order in &agreement.orderings {
            assert_eq!(order.outcome, Outcome::Held, "{order:?}");
        }
        assert_eq!(agreement.orderings.len(), 26 + 10 + 28 + 8 + 7);
    });
}

/// One-hot CNN on REST was published with a mean AUROC of 0.8412 and a deviation of 0.00675.
fn rest(test: u64, value: Option<f64>) -> (Verdict, Option<f64>) {
    let mut plan = bare_plan();
    plan.datasets.push(planned("REST", TaskName::ChipSeq, test, 200));
    let mut fit = fit_of("chip-seq", "REST", (None, None, "one-hot"), "chip-cnn");
    fit.scores.statistics = vec![statistic("auroc_keras", "bound", value, test)];
    with_agreement(&plan, &[fit], |agreement| {
        let [score] = &agreement.scores[..] else { panic!("{:?}", agreement.scores) };
        (score.verdict, score.tolerance())
    })
}

#[test]
fn a_verdict_worked_by_hand() {
    // Three deviations are 0.02025.
    assert_eq!(rest(2_588, Some(0.861)).0, Verdict::Agrees);
    assert_eq!(rest(2_588, Some(0.8615)).0, Verdict::Differs);
    assert!((rest(2_588, Some(0.8)).1.unwrap() - 0.02025).abs() < 1e-12);
    assert_eq!(rest(600, Some(0.8412)).0, Verdict::OtherExamples);
    assert_eq!(rest(2_588, None).0, Verdict::Undefined);
}

#[test]
fn what_was_not_published_has_no_reference() {
    let mut plan = bare_plan();
    plan.datasets.push(planned("REST", TaskName::ChipSeq, 2_588, 200));
    plan.datasets.push(planned("mine", TaskName::Regression, 10, 200));
    let mut fits = vec![
        fit_of("chip-seq", "REST", (None, None, "kmer-5"), "logistic"),
        fit_of("regression", "mine", (None, None, "one-hot"), "ridge"),
    ];
    fits[0].scores.statistics = vec![statistic("auroc_hard", "bound", Some(0.7), 2_588)];
    fits[1].scores.statistics = vec![statistic("pearson", "y", Some(0.7), 10)];
    with_agreement(&plan, &fits, |agreement| {
        assert!(agreement.scores.iter().all(|score| score.verdict == Verdict::NoReference));
        assert_eq!(agreement.counts(TaskName::ChipSeq), [0, 0, 0, 0, 1]);
        // The tasks of the job, none of whose arms is there.
        assert_eq!(agreement.orderings.len(), 5);
        assert!(agreement.orderings.iter().all(|o| o.outcome == Outcome::NotComputable));
    });
}

#[test]
fn tolerances_are_those_of_the_protocol() {
    let of = |task: &str, model: &str, representation: &str, probe: &str| {
        let is_it = |row: &&Reference| {
            (row.task, row.model, row.representation) == (task, model, representation)
                && row.probe == probe
                && row.dataset != ALL_DATASETS
        };
        tolerance(references().iter().find(is_it).unwrap())
    };
    assert_eq!(of("lenti-mpra", "GPN-human", "full", "rep-cnn"), 0.02);
    assert_eq!(of("lenti-mpra", "NT-2B5-1000G", "full", "rep-cnn"), 0.03);
    assert_eq!(of("lenti-mpra", "NT-2B5-1000G", "mean", "ridge"), 0.003);
    assert_eq!(of("chip-seq", "Sei", "full", "chip-cnn"), 0.01);
    assert_eq!(of("variant-effect", "Sei", "zero-shot", "cosine"), 0.005);
    assert_eq!(of("variant-effect", "NT-2B5-1000G", "zero-shot", "cosine"), 0.01);
    assert_eq!(of("variant-effect", "GPN-human", "full", "rep-cnn"), 0.06);
    assert_eq!(of("splicing", "GPN-human", "full", "splicing-cnn"), 0.02);
    assert_eq!(of("insert-seq", "GPN-human", "full", "insert-cnn"), 0.01);
    assert_eq!(of("attribution", "GPN-human", "information", "saliency"), 0.05);
    let mean = references().iter().find(|row| row.dataset == ALL_DATASETS).unwrap();
    assert_eq!(tolerance(mean), 0.006);
}

#[test]
fn published_tests_are_made_again_with_their_sides() {
    let mut plan = bare_plan();
    plan.datasets.push(planned("INSERT-seq", TaskName::InsertSeq, 1_137, 173));
    let mut fits = Vec::new();
    for (model, mean) in [("RBP-supervised", 0.66), ("GPN-human", 0.64)] {
        for repeat in 0..10 {
            let mut fit =
                fit_of("insert-seq", "INSERT-seq", (Some(model), None, "full"), "insert-cnn");
            fit.scores.identity.repeat = repeat;
            let value = Some(mean + 0.0001 * f64::from(repeat));
            fit.scores.statistics = vec![statistic("pearson", "potential", value, 1_137)];
            fits.push(fit);
        }
    }
    with_agreement(&plan, &fits, |agreement| {
        let [test] = &agreement.tests[..] else { panic!("{:?}", agreement.tests) };
        // All of ten above all of ten.
        assert_eq!((test.obtained.u, test.repeats), (100.0, (10, 10)));
        assert_eq!((test.published.u, test.published.alternative), (2_335.0, "greater"));
        assert!(test.obtained.p < 1e-3);
        let gpn =
            agreement.scores.iter().find(|s| s.identity.model.as_deref() == Some("GPN-human"));
        let gpn = gpn.unwrap();
        assert_eq!((gpn.of, gpn.verdict), (Center::Median, Verdict::Agrees));
        assert!((gpn.obtained.unwrap() - 0.64045).abs() < 1e-12);
    });
}
