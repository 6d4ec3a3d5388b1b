//! Fits of other data sets applied to variants: what they predict, and a base that is not there.

use super::world::*;
use glmeval_common::dataset::TaskName;
use glmeval_common::error::ErrorKind;
use glmeval_common::example::Split;
use glmeval_common::ids::{DatasetId, FitId};
use glmeval_common::network::{Activation, ExampleOrder, Loss};
use glmeval_common::representation::{FeatureSource, SequenceFeature};
use glmeval_common::store::fits::read_predictions;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};

const ONE_HOT: FeatureSource = FeatureSource::Sequence(SequenceFeature::OneHot);

/// Pairs of sequences that differ in one letter; elements take turns.
fn variants(rows: usize) -> World {
    let mut world = World::new(rows, false);
    world.target_names = ["LDLR", "PKLR"].map(str::to_owned).to_vec();
    for (row, example) in world.examples.iter_mut().enumerate() {
        let reference = sequence(row, 12);
        let mut letters = reference.as_bytes().to_vec();
        letters[5] = if letters[5] == b'A' { b'C' } else { b'A' };
        let alternative = glmeval_common::dna::DnaSequence::new(letters).unwrap();
        example.sequences = vec![reference, alternative];
        example.split = Some(Split::Test);
        let effect = (row * row % 13) as f32;
        example.targets = match row % 2 {
            0 => vec![effect, f32::NAN],
            _ => vec![f32::NAN, effect],
        };
    }
    world
}

fn applied(id: &str, base: &str) -> Fit {
    fit(id, ProbeSpec::Applied { fit: FitId::new(base), targets: vec!["PKLR".to_owned()] })
}

/// A world of single sequences with a fitted ridge, network and a network that diverged.
async fn trained() -> World {
    let world = World::new(60, false);
    world.write_examples().await;
    let spec = training(Loss::MeanSquaredError, ExampleOrder::Stored);
    let mut wild = spec.clone();
    wild.learning_rate = 1e30;
    let network = || small_network(Activation::Linear);
    let fits = vec![
        fit("ridge", ProbeSpec::Ridge { alpha: 1.0 }),
        network_fit("network", network(), spec),
        network_fit("wild", network(), wild),
    ];
    world.run(&unit(TaskName::Regression, ONE_HOT, fits)).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_fit_predicts_the_difference_of_both_windows() {
    let world = trained().await;
    let pairs = World { store: world.store.clone(), ..variants(40) };
    // Another data set in the same store.
    pairs.write_examples_as("variants").await;
    let fits = vec![applied("a", "ridge"), applied("b", "network"), applied("c", "wild")];
    let unit = FitUnit {
        dataset: DatasetId::new("variants"),
        ..unit(TaskName::VariantEffect, ONE_HOT, fits)
    };
    let scores = pairs.run(&unit).await;
    for scores in &scores[..2] {
        let names: Vec<_> =
            scores.statistics.iter().map(|s| (s.name.as_str(), s.target.as_str())).collect();
        assert_eq!(names, [("pearson_mean", "K562"), ("pearson", "PKLR")]);
        assert_eq!(scores.statistics[1].examples, 20);
        assert!(scores.statistics[1].value.is_some(), "{:?}", scores.statistics);
        let predictions = read_predictions(&pairs.store, scores).await.unwrap();
        assert_eq!(predictions.len(), 40);
        assert!(predictions.iter().any(|row| row.prediction != 0.0));
    }
    let diverged = &scores[2];
    assert!(diverged.statistics.iter().all(|row| row.value.is_none()));
    assert!(diverged.notes[0].contains("left no weights: training ended"), "{:?}", diverged.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_not_there_counts_as_damage_of_what_was_made_before() {
    let pairs = variants(10);
    pairs.write_examples().await;
    let unit = unit(TaskName::VariantEffect, ONE_HOT, vec![applied("a", "nothing")]);
    let error = pairs.run_on(&unit, (1, None), u64::MAX).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains("fit nothing in"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_another_length_are_refused() {
    let world = trained().await;
    let mut pairs = World { store: world.store.clone(), ..variants(10) };
    for example in &mut pairs.examples {
        example.sequences = vec![sequence(1, 14), sequence(2, 14)];
    }
    pairs.write_examples_as("variants").await;
    let fits = vec![applied("a", "network")];
    let unit = FitUnit {
        dataset: DatasetId::new("variants"),
        ..unit(TaskName::VariantEffect, ONE_HOT, fits)
    };
    let error = pairs.run_on(&unit, (1, None), u64::MAX).await.0.unwrap_err();
    assert!(error.chain().contains("expected windows that give 48 values"), "{}", error.chain());
}
