//! Two sequences an example and masked targets of many tissues.

use super::world::*;
use glmeval_common::dataset::TaskName;
use glmeval_common::example::{Example, Split};
use glmeval_common::network::{
    Activation, Architecture, ExampleOrder, JoinAxis, LayerKind, LayerSpec, Loss, NetworkSpec,
    TrainingSpec,
};
use glmeval_common::representation::{FeatureSource, SequenceFeature};
use glmeval_common::store::fits::read_predictions;

const TISSUES: usize = 12;

/// Exons with two sides; tissue 3 is measured nowhere, and exon 1 in no tissue.
pub(super) fn exons() -> World {
    let mut world = World::new(60, false);
    let names = |stem: &str| (0..TISSUES).map(|t| format!("{stem}_{t}")).collect::<Vec<_>>();
    world.target_names = [names("delta"), names("mean")].concat();
    for (row, example) in world.examples.iter_mut().enumerate() {
        let left = sequence(row, 10);
        let side = if left.as_bytes()[0] == b'A' { 2.0 } else { -2.0 };
        let delta =
            |t: usize| if t == 3 || row == 1 { f32::NAN } else { side * (1.0 + t as f32 / 20.0) };
        let mean = if row == 1 { f32::NAN } else { 0.1 };
        let targets = (0..TISSUES).map(delta).chain([mean; TISSUES]).collect();
        let split = [Split::Train, Split::Train, Split::Valid, Split::Train, Split::Test][row % 5];
        *example = Example {
            sequences: vec![left, sequence(row + 1000, 10)],
            targets,
            split: Some(split),
            ..example.clone()
        };
    }
    world
}

/// Both sides joined, then one dense layer.
pub(super) fn two_headed() -> Architecture {
    let join = LayerSpec {
        name: "both".to_owned(),
        inputs: vec!["left".to_owned(), "right".to_owned()],
        kind: LayerKind::Concatenate { axis: JoinAxis::Length },
    };
    Architecture::Layers(NetworkSpec {
        inputs: vec!["left".to_owned(), "right".to_owned()],
        layers: vec![
            join,
            layer("flat", "both", LayerKind::Flatten),
            layer("output", "flat", dense(TISSUES, Activation::Linear)),
        ],
    })
}

/// The same of one input.
fn one_headed() -> Architecture {
    Architecture::Layers(NetworkSpec {
        inputs: vec!["x".to_owned()],
        layers: vec![
            layer("flat", "x", LayerKind::Flatten),
            layer("output", "flat", dense(TISSUES, Activation::Linear)),
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sides_are_read_apart_or_one_after_the_other_and_missing_tissues_masked() {
    let world = exons();
    world.write(60).await;
    let training = || TrainingSpec {
        epochs_max: 60,
        stop_patience: None,
        plateau: None,
        ..training(Loss::SplicingDivergence, ExampleOrder::Buffered { rows: 16 })
    };
    let fits = vec![
        network_fit("two", two_headed(), training()),
        network_fit("one", one_headed(), training()),
    ];
    let features = FeatureSource::Sequence(SequenceFeature::OneHot);
    let scores = world.run(&unit(TaskName::Splicing, features, fits)).await;
    let predictions = |index: usize| read_predictions(&world.store, &scores[index]);
    let (two, one) = (predictions(0).await.unwrap(), predictions(1).await.unwrap());
    // Both start from the same draws and see the same numbers.
    let values = |table: &[glmeval_common::store::fits::Prediction]| {
        table.iter().map(|row| row.prediction.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(values(&two), values(&one));
    // Means are not predicted; they stand in the table because they decide what is scored.
    let (differences, means) = two.split_at(12 * TISSUES);
    let is_seen = |target: &str| target != "delta_3";
    let told = differences.iter().all(|row| row.prediction.is_finite() == is_seen(&row.target));
    assert!(told, "what no example teaches is not predicted");
    let note = "target delta_3: expected a value, found none in the examples of train: it is not";
    assert!(scores[0].notes.iter().any(|line| line.starts_with(note)), "{:?}", scores[0].notes);
    assert!(means.len() == 12 * TISSUES && means.iter().all(|row| row.prediction.is_nan()));
    assert!(scores[0].notes[0].starts_with("1 of 36 examples of train left out: the mean"));
    let first = &scores[0].statistics[0];
    assert_eq!((first.name.as_str(), first.target.as_str()), ("spearman", "mean"));
    assert!(first.value.unwrap() > 0.5, "{first:?}");
    let masked = scores[0].statistics.iter().find(|row| row.target == "delta_3").unwrap();
    assert_eq!(masked.value, None);
}
