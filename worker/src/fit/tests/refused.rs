//! A fit that cannot be made keeps no other of its unit from being made, and is told by its own reason.

use super::splicing::{exons, two_headed};
use super::world::*;
use crate::fit::refused::Refused;
use crate::publish::missing;
use glmeval_common::control::{Failure, FitFailure};
use glmeval_common::dataset::TaskName;
use glmeval_common::error::{Error, ErrorKind};
use glmeval_common::example::{Example, Split};
use glmeval_common::ids::FitId;
use glmeval_common::network::{
    Activation, Architecture, ExampleOrder, Loss, NetworkSpec, TrainingSpec,
};
use glmeval_common::representation::{FeatureSource, Pooling, SequenceFeature};
use glmeval_common::score::FitScores;
use glmeval_common::store::fits::find_scores;
use glmeval_common::store::jobs::FailedUnit;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec, WorkUnit};
use std::collections::BTreeMap;

const ONE_HOT: FeatureSource = FeatureSource::Sequence(SequenceFeature::OneHot);

fn short(loss: Loss) -> TrainingSpec {
    TrainingSpec { epochs_max: 2, ..training(loss, ExampleOrder::Stored) }
}

fn network(id: &str) -> Fit {
    network_fit(id, small_network(Activation::Linear), short(Loss::MeanSquaredError))
}

fn ridge(id: &str, alpha: f64) -> Fit {
    fit(id, ProbeSpec::Ridge { alpha })
}

/// Why fits are missing, as the coordinator is told.
fn reasons(error: &Error) -> BTreeMap<FitId, String> {
    let fits = Failure::of(error).fits.into_iter();
    fits.map(|FitFailure { fit, reason, .. }| (fit, reason)).collect()
}

/// What stands of each fit, by digests and the attempt's objects.
async fn standing(world: &World, unit: &FitUnit) -> Vec<Option<FitScores>> {
    let mut all = Vec::new();
    for fit in &unit.fits {
        all.push(find_scores(&world.store, fit.id()).await.unwrap());
    }
    all
}

/// Runs `unit`, of which the fits of `expected` are refused for what is said there, all others stand as if they were
/// alone, and a second attempt repeats none.
async fn check(world: &World, unit: &FitUnit, expected: &[(&str, &str)]) {
    let error = world.run_on(unit, (1, None), u64::MAX).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.chain());
    let chain = error.chain();
    let told = reasons(&error);
    assert_eq!(told.len(), expected.len(), "{chain}");
    let found = standing(world, unit).await;
    for (fit, scores) in unit.fits.iter().zip(&found) {
        match expected.iter().find(|(id, _)| *id == fit.id().as_str()) {
            Some((_, words)) => {
                assert!(scores.is_none());
                assert!(told[fit.id()].contains(words), "{}: {chain}", fit.id());
                assert!(chain.contains(&told[fit.id()]), "{}: {chain}", fit.id());
            }
            None => {
                let scores = scores.as_ref().unwrap_or_else(|| panic!("{}: {chain}", fit.id()));
                assert!(scores.statistics.iter().any(|row| row.value.is_some()), "{}", fit.id());
            }
        }
    }
    let again = world.run_on(unit, (1, None), u64::MAX).await.0.unwrap_err();
    // The memory that is left, which a reason may tell, changes.
    let refused_again = reasons(&again);
    let is_same = again.kind() == error.kind() && refused_again.keys().eq(told.keys());
    assert!(is_same, "{}", again.chain());
    assert_eq!(standing(world, unit).await, found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fraction_without_examples_is_refused_beside_all_of_train() {
    let world = World::new(100, false);
    world.write(100).await;
    let mut small = ridge("small", 1.0);
    small.identity.fraction = 0.001;
    let mut few = network("few");
    few.identity.fraction = 0.01;
    let fits = vec![small, ridge("all", 1.0), few, network("network")];
    let unit = unit(TaskName::Regression, embedded(Pooling::Full), fits);
    check(&world, &unit, &[("small", "fraction of 0.001"), ("few", "fraction of 0.01")]).await;
    let expected = World::new(100, false);
    expected.write(100).await;
    for (fit, found) in unit.fits.iter().zip(standing(&world, &unit).await) {
        let Some(found) = found else { continue };
        let alone = FitUnit { fits: vec![fit.clone()], ..unit.clone() };
        assert_eq!(digests(&found), digests(&expected.run(&alone).await[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_class_to_fit_on_refuses_logistic_regression_alone() {
    let mut world = World::new(60, true);
    for example in &mut world.examples {
        if example.split != Some(Split::Test) {
            example.targets = vec![1.0];
        }
    }
    world.write(60).await;
    let spec = short(Loss::BinaryCrossEntropy);
    let fits = vec![
        fit("logistic", ProbeSpec::Logistic { c: 1.0, iterations_max: 100 }),
        fit("least", ProbeSpec::LeastSquares),
        network_fit("network", small_network(Activation::Sigmoid), spec),
    ];
    let unit = unit(TaskName::Classification, embedded(Pooling::Full), fits);
    let reason = "target target: expected 0 and 1 for logistic, found no 0 in the examples of train \
                  and valid";
    check(&world, &unit, &[("logistic", reason)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_values_is_named_and_takes_no_other_along() {
    let mut world = exons();
    // Known where it is scored and nowhere else.
    let of_test = |example: &&mut Example| example.split == Some(Split::Test);
    world.examples.iter_mut().filter(of_test).for_each(|it| it.targets[3] = it.targets[2]);
    world.write_examples().await;
    let network = network_fit("network", two_headed(), short(Loss::SplicingDivergence));
    let unit_of = |fits| unit(TaskName::Splicing, ONE_HOT, fits);
    let reason = "target delta_3: expected a value, found none in the examples of train";
    for scores in world.run(&unit_of(vec![ridge("ridge", 1.0), network])).await {
        let line = format!("{reason}: it is not fitted");
        assert!(scores.notes.contains(&line), "{:?}", scores.notes);
        for row in scores.statistics.iter().filter(|row| row.name == "spearman") {
            assert_eq!(row.value.is_none(), row.target == "delta_3", "{row:?}");
        }
    }
    let mut unknown = exons();
    unknown.examples.iter_mut().for_each(|example| example.targets.fill(f32::NAN));
    unknown.write_examples().await;
    let fits = unit_of(vec![ridge("ridge", 1.0), ridge("other", 2.0)]);
    let reason = reason.replace("delta_3", "delta_0");
    let all = format!("{reason}; none of 24 targets can be fitted");
    check(&unknown, &fits, &[("ridge", &all), ("other", &all)]).await;
    let mut known = exons();
    known.examples.iter_mut().for_each(|example| example.targets[3] = 0.5);
    known.examples[0].targets[3] = f32::NAN;
    known.write_examples().await;
    let notes = known.run(&unit_of(vec![ridge("ridge", 1.0)])).await.remove(0).notes;
    let expected = "target delta_3: 1 rows without a target were left out";
    assert!(notes.iter().any(|note| note == expected), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_no_memory_holds_is_refused_with_both_numbers() {
    const VALUES: usize = 1 << 28;
    let world = World::new(40, false);
    world.write(40).await;
    // Thirteen terabytes of weights and moments.
    let mut layers = vec![layer("flat", "x", glmeval_common::network::LayerKind::Flatten)];
    layers.push(layer("narrow0", "flat", dense(1, Activation::Linear)));
    for i in 0..1_000 {
        let [from, wide, to] =
            [format!("narrow{i}"), format!("wide{i}"), format!("narrow{}", i + 1)];
        layers.push(layer(&wide, &from, dense(VALUES, Activation::Linear)));
        layers.push(layer(&to, &wide, dense(1, Activation::Linear)));
    }
    let spec = NetworkSpec { inputs: vec!["x".to_owned()], layers };
    let wide = Architecture::Layers(spec);
    let wide = network_fit("wide", wide, short(Loss::MeanSquaredError));
    let unit = unit(TaskName::Regression, embedded(Pooling::Full), vec![wide, network("network")]);
    check(&world, &unit, &[("wide", "bytes of memory that are left, found 12")]).await;
}

fn of_alphas(alphas: &[f64]) -> FitUnit {
    let fit = |(i, &alpha)| ridge(&format!("f{i}"), alpha);
    let fits = alphas.iter().enumerate().map(fit).collect();
    unit(TaskName::Regression, embedded(Pooling::Mean), fits)
}

/// Refuses the fits at `places`, and looks for the reasons as the coordinator is told.
fn check_reasons(alphas: &[f64], places: &[usize]) {
    let unit = of_alphas(alphas);
    let mut refused = Refused::new(&unit);
    for &place in places {
        let error = Error::invalid("expected a; found b").context(format!("data set {place}"));
        assert!(refused.sort_out(&unit.fits[place], Err::<(), _>(error)).unwrap().is_none());
    }
    let error = refused.end(true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = error.context(WorkUnit::Fit(unit.clone()).label());
    let (found, chain) = (reasons(&error), error.chain());
    assert_eq!(found.len(), places.len(), "{chain}");
    for &place in places {
        let expected = format!("data set {place}: expected a; found b");
        assert_eq!(found[unit.fits[place].id()], expected, "{chain}");
        assert_eq!(chain.matches(&expected).count(), 1, "{chain}");
    }
}

#[test]
fn every_refused_fit_keeps_its_own_reason() {
    let three = [1.0, 10.0, 100.0];
    for places in [&[1, 0][..], &[2], &[0, 1, 2], &[2, 0]] {
        check_reasons(&three, places);
    }
    check_reasons(&[1.0], &[0]);
    // Two of one label are told apart by their ids.
    check_reasons(&[3.0, 3.0], &[1]);
    check_reasons(&[3.0, 3.0], &[0, 1]);
}

#[test]
fn what_concerns_the_unit_is_no_reason_of_a_single_fit() {
    let two = of_alphas(&[1.0, 2.0]);
    let mut refused = Refused::new(&two);
    assert_eq!(refused.sort_out(&two.fits[0], Ok(7)).unwrap(), Some(7));
    for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt, ErrorKind::Bug, ErrorKind::Fenced] {
        let ended = refused.sort_out(&two.fits[0], Err::<(), _>(Error::new(kind, "x")));
        assert_eq!(ended.unwrap_err().kind(), kind);
    }
    let of_place = refused.sort_out(&two.fits[0], Err::<(), _>(Error::invalid("x").of_place()));
    assert!(of_place.unwrap_err().is_of_place());
    assert!(refused.end(true).unwrap());
}

#[test]
fn a_report_tells_each_fit_its_own_reason_and_where_none_is_recorded_that_of_the_unit() {
    let two = of_alphas(&[1.0, 2.0]);
    let labels: Vec<String> = two.fits.iter().map(Fit::label).collect();
    let record = |fits| FailedUnit {
        version: 1,
        unit: 0,
        label: String::new(),
        kind: ErrorKind::Invalid,
        error: "2 of 2 fits cannot be made: gone".into(),
        failures: 1,
        workers: Vec::new(),
        token: "t".into(),
        fits,
        rows: None,
    };
    let check = |why: Option<&FailedUnit>, expected: [&str; 2]| {
        let expected = labels.iter().zip(expected).map(|(label, why)| format!("{label}: {why}"));
        assert_eq!(missing(&two, &[None, None], why), expected.collect::<Vec<_>>());
    };
    check(None, ["not done"; 2]);
    let (fit, label, reason) = (two.fits[1].id().clone(), labels[1].clone(), "own; a: b".into());
    let own = record(vec![FitFailure { fit, label, reason }]);
    check(Some(&own), ["not done", "own; a: b"]);
    let older = serde_json::to_string(&record(Vec::new())).unwrap();
    assert!(!older.contains("fits\""), "{older}");
    let older: FailedUnit = serde_json::from_str(&older).unwrap();
    check(Some(&older), ["2 of 2 fits cannot be made: gone"; 2]);
}
