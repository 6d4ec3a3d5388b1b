//! Several targets, some of them not measured: each is fitted and scored on what is known of it.

use super::world::*;
use glmeval_common::dataset::TaskName;
use glmeval_common::example::Split;
use glmeval_common::network::{
    Activation, Architecture, ExampleOrder, LayerKind, Loss, NetworkSpec, TrainingSpec,
};
use glmeval_common::representation::Pooling;
use glmeval_common::score::FitScores;
use glmeval_common::store::fits::{Prediction, read_history, read_predictions};
use glmeval_common::unit::{FitUnit, ProbeSpec};

/// Two targets, the second another function of the first; of every example one may be missing, of some
/// both are.
pub(super) fn holed(rows: usize, is_binary: bool) -> World {
    let mut world = World::new(rows, is_binary);
    world.target_names = vec!["a".to_owned(), "b".to_owned()];
    for (row, example) in world.examples.iter_mut().enumerate() {
        let first = example.targets[0];
        let second = if is_binary { 1.0 - first } else { 2.0 - 3.0 * first };
        example.targets = match row % 7 {
            1 | 4 => vec![f32::NAN, second],
            2 | 5 => vec![first, f32::NAN],
            6 if row % 2 == 0 => vec![f32::NAN, f32::NAN],
            _ => vec![first, second],
        };
    }
    world
}

/// The world with one of the targets, and only the rows to fit on that have it.
fn alone(world: &World, target: usize) -> World {
    let mut one = World::new(0, false);
    one.target_names = vec![world.target_names[target].clone()];
    one.examples.clone_from(&world.examples);
    for example in &mut one.examples {
        example.targets = vec![example.targets[target]];
        // No probe is fitted on `test`.
        if example.targets[0].is_nan() {
            example.split = Some(Split::Test);
        }
    }
    one
}

async fn predictions(world: &World, scores: &FitScores, target: &str) -> Vec<Prediction> {
    let all = read_predictions(&world.store, scores).await.unwrap();
    all.into_iter().filter(|row| row.target == target).collect()
}

fn linear(is_binary: bool) -> FitUnit {
    let (task, probe) = match is_binary {
        true => (TaskName::Classification, ProbeSpec::Logistic { c: 1.0, iterations_max: 100 }),
        false => (TaskName::Regression, ProbeSpec::Ridge { alpha: 0.1 }),
    };
    unit(task, embedded(Pooling::Full), vec![fit("linear", probe)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linear_probe_of_several_targets_is_that_of_each_alone_on_its_known_rows() {
    for is_binary in [false, true] {
        let world = holed(90, is_binary);
        world.write(40).await;
        let scores = world.run(&linear(is_binary)).await.remove(0);
        let left_out = scores.notes.iter().filter(|note| note.contains("without a target"));
        assert_eq!(left_out.count(), 2, "{:?}", scores.notes);
        for (index, name) in ["a", "b"].into_iter().enumerate() {
            let one = alone(&world, index);
            one.write(40).await;
            let expected = one.run(&linear(is_binary)).await.remove(0);
            let found = predictions(&world, &scores, name).await;
            let expected = predictions(&one, &expected, name).await;
            assert_eq!(found.len(), 18);
            for found in &found {
                let expected = expected.iter().find(|row| row.id == found.id).unwrap();
                assert_eq!(found.prediction, expected.prediction, "{name} {}", found.id);
                assert_eq!(found.measured.is_nan(), expected.measured.is_nan());
            }
        }
        // The mean over targets, then each target on the examples where it is known.
        let first = scores.statistics[0].name.clone();
        let told: Vec<_> = scores
            .statistics
            .iter()
            .filter(|row| row.name == first)
            .map(|row| (row.target.as_str(), row.examples, row.value.is_some()))
            .collect();
        let known = |target: usize| {
            let is_known = |e: &&glmeval_common::example::Example| {
                e.split == Some(Split::Test) && !e.targets[target].is_nan()
            };
            world.examples.iter().filter(is_known).count() as u64
        };
        assert!(known(0) < 18 && known(1) < 18);
        assert_eq!(told, [("mean", 18, true), ("a", known(0), true), ("b", known(1), true)]);
    }
}

pub(super) fn two_outputs(last: Activation) -> Architecture {
    Architecture::Layers(NetworkSpec {
        inputs: vec!["x".to_owned()],
        layers: vec![
            layer("flat", "x", LayerKind::Flatten),
            layer("output", "flat", dense(2, last)),
        ],
    })
}

fn trained(is_binary: bool) -> FitUnit {
    let (task, last, loss) = match is_binary {
        true => (TaskName::Classification, Activation::Sigmoid, Loss::BinaryCrossEntropy),
        false => (TaskName::Regression, Activation::Linear, Loss::MeanSquaredError),
    };
    let training = TrainingSpec {
        epochs_max: 60,
        learning_rate: 0.05,
        stop_patience: None,
        plateau: None,
        ..training(loss, ExampleOrder::Stored)
    };
    unit(task, embedded(Pooling::Full), vec![network_fit("net", two_outputs(last), training)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_learns_every_target_from_the_examples_that_have_it() {
    for (is_binary, least) in [(false, 0.98), (true, 0.85)] {
        let world = holed(300, is_binary);
        world.write(100).await;
        let scores = world.run(&trained(is_binary)).await.remove(0);
        let both_missing = |split: Split| {
            let missing = |e: &&glmeval_common::example::Example| {
                e.split == Some(split) && e.targets.iter().all(|target| target.is_nan())
            };
            world.examples.iter().filter(missing).count()
        };
        let expected = format!("{} of 180 examples of train left out", both_missing(Split::Train));
        assert!(scores.notes[0].starts_with(&expected), "{:?}", scores.notes);
        assert!(scores.notes[0].ends_with("no target is measured"), "{:?}", scores.notes);
        let first = scores.statistics[0].name.clone();
        for row in scores.statistics.iter().filter(|row| row.name == first) {
            assert!(row.value.unwrap() > least, "{row:?}");
        }
        let history = read_history(&world.store, &scores).await.unwrap();
        assert!(history.iter().all(|epoch| epoch.loss.is_finite()));
        assert!(history.iter().all(|epoch| epoch.val_loss.is_some_and(f64::is_finite)));
        assert!(history[59].loss < 0.5 * history[0].loss);
    }
}
