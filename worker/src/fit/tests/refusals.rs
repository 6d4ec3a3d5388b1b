//! What cannot be trained or scored is said, never guessed.

use super::world::*;
use glmeval_common::dataset::TaskName;
use glmeval_common::error::ErrorKind;
use glmeval_common::example::Split;
use glmeval_common::network::{Activation, ExampleOrder, Loss, TrainingSpec};
use glmeval_common::representation::Pooling;
use glmeval_common::store::fits::{read_history, read_predictions, read_weights};
use glmeval_common::unit::FitUnit;

fn one_fit(task: TaskName, training: TrainingSpec) -> FitUnit {
    let last = if task.is_binary() { Activation::Sigmoid } else { Activation::Linear };
    let fit = network_fit("fit", small_network(last), training);
    unit(task, embedded(Pooling::Full), vec![fit])
}

fn stored(loss: Loss) -> TrainingSpec {
    training(loss, ExampleOrder::Stored)
}

/// The error of a unit that is to fail.
async fn refusal(world: &World, unit: &FitUnit) -> String {
    let error = world.run_on(unit, (1, None), u64::MAX).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.chain());
    error.chain()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_is_no_number_ends_training_with_null_scores_and_a_reason() {
    let world = World::new(40, false);
    world.write(40).await;
    let training = TrainingSpec { learning_rate: 1e30, ..stored(Loss::MeanSquaredError) };
    let unit = one_fit(TaskName::Regression, training);
    let scores = world.run(&unit).await.remove(0);
    assert!(scores.statistics.len() >= 4);
    assert!(scores.statistics.iter().all(|row| row.value.is_none() && row.low.is_none()));
    assert!(scores.notes[0].contains("training ended in epoch 1"), "{:?}", scores.notes);
    let history = read_history(&world.store, &scores).await.unwrap();
    assert!(!history.last().unwrap().loss.is_finite());
    let predictions = read_predictions(&world.store, &scores).await.unwrap();
    assert!(predictions.iter().all(|row| row.prediction.is_nan()));
    let weights = read_weights(&world.store, &scores).await.unwrap_err();
    assert_eq!(weights.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_that_are_missing_are_named() {
    for split in [Split::Train, Split::Valid, Split::Test] {
        let mut world = World::new(20, false);
        world.examples.retain(|example| example.split != Some(split));
        world.write(20).await;
        let text =
            refusal(&world, &one_fit(TaskName::Regression, stored(Loss::MeanSquaredError))).await;
        assert!(text.contains("data set REST") && text.contains(split.name()), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_examples_to_watch_a_fixed_number_of_epochs_is_trained() {
    use glmeval_common::network::Restore::WhenStopped;
    let mut world = World::new(20, false);
    world.examples.retain(|example| example.split != Some(Split::Valid));
    world.write(20).await;
    let (stop_patience, plateau, restore) = (None, None, WhenStopped);
    let training =
        TrainingSpec { stop_patience, plateau, restore, ..stored(Loss::MeanSquaredError) };
    let scores = world.run(&one_fit(TaskName::Regression, training)).await.remove(0);
    assert_eq!(scores.notes, ["all 6 epochs: weights of the last"]);
    assert!(read_history(&world.store, &scores).await.unwrap()[5].val_loss.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_class_and_constant_targets_have_no_score() {
    for (task, loss) in [
        (TaskName::ChipSeq, Loss::BinaryCrossEntropy),
        (TaskName::Regression, Loss::MeanSquaredError),
    ] {
        let mut world = World::new(40, task.is_binary());
        world.examples.iter_mut().for_each(|example| example.targets = vec![1.0]);
        world.write(40).await;
        let scores = world.run(&one_fit(task, stored(loss))).await.remove(0);
        assert_eq!(scores.statistics[0].value, None);
        assert!(scores.notes.iter().any(|note| note.contains("undefined on test")));
        for row in scores.statistics.iter().filter(|row| row.name.contains("keras")) {
            assert_eq!(row.value, None, "{row:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_example_a_split_is_trained_and_not_scored() {
    let mut world = World::new(5, false);
    world.examples.drain(..1);
    world.examples.remove(2);
    world.write(5).await;
    let scores = world.run(&one_fit(TaskName::Regression, stored(Loss::MeanSquaredError))).await;
    assert_eq!(scores[0].statistics[0].value, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_are_not_measured_leave_their_examples_out() {
    let mut world = World::new(40, false);
    world.examples[0].targets = vec![f32::NAN];
    world.examples[2].targets = vec![f32::NAN];
    world.write(40).await;
    let unit = one_fit(TaskName::Regression, stored(Loss::MeanSquaredError));
    let scores = world.run(&unit).await.remove(0);
    assert!(
        scores.notes[0].starts_with("1 of 24 examples of train left out"),
        "{:?}",
        scores.notes
    );
    assert!(scores.statistics[0].value.is_some());
    let mut world = World::new(40, false);
    world.examples.iter_mut().for_each(|example| example.targets = vec![f32::NAN]);
    world.write(40).await;
    let text = refusal(&world, &unit).await;
    assert!(text.contains("data set REST") && text.contains("measured"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unequal_examples_and_settings_that_train_nothing_are_refused() {
    let world = World::new(40, false);
    world.write(40).await;
    let loss = Loss::MeanSquaredError;
    for (training, word) in [
        (TrainingSpec { batch_rows: 0, ..stored(loss) }, "batch_rows"),
        (TrainingSpec { epochs_max: 0, ..stored(loss) }, "epochs_max"),
        (TrainingSpec { learning_rate: f64::NAN, ..stored(loss) }, "learning_rate"),
        (
            TrainingSpec { monitor: glmeval_common::network::Monitor::Aupr, ..stored(loss) },
            "monitor",
        ),
        (stored(Loss::SplicingDivergence), "delta_0"),
    ] {
        let text = refusal(&world, &one_fit(TaskName::Regression, training)).await;
        assert!(text.contains(word), "{text}");
    }
    let unequal = World::new(40, false);
    unequal.write_examples().await;
    unequal.write_shard(0, 17, TOKENS).await;
    unequal.write_shard(17, 40, TOKENS - 1).await;
    let text = refusal(&unequal, &one_fit(TaskName::Regression, stored(loss))).await;
    assert!(text.contains("example e17") && text.contains("6 tokens"), "{text}");
}
