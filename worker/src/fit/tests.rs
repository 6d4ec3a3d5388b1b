//! Units of fits through a store in memory.

use glmeval_common::dataset::TaskName;
use glmeval_common::error::ErrorKind;
use glmeval_common::layout;
use glmeval_common::network::{Activation, ExampleOrder, Loss, Monitor, Restore};
use glmeval_common::representation::{Pooling, SequenceFeature};
use glmeval_common::score::FitScores;
use glmeval_common::store::fits::{read_history, read_predictions, read_weights};
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};

mod devices;
mod effects;
mod missing;
mod refusals;
mod refused;
mod splicing;
mod world;

use world::*;

/// One fit of every order on every token's values.
fn fits_of_all_orders() -> Vec<Fit> {
    let fit = |id: &str, order| {
        let training = training(Loss::MeanSquaredError, order);
        network_fit(id, small_network(Activation::Linear), training)
    };
    vec![
        fit("stored", ExampleOrder::Stored),
        fit("shuffled", ExampleOrder::Shuffled),
        fit("buffered", ExampleOrder::Buffered { rows: 16 }),
    ]
}

fn regression(fits: Vec<Fit>) -> FitUnit {
    unit(TaskName::Regression, embedded(Pooling::Full), fits)
}

/// What a unit leaves of each fit, without times and names of objects.
async fn remains(world: &World, unit: &FitUnit) -> Vec<String> {
    described(&world.run(unit).await)
}

fn described(scores: &[FitScores]) -> Vec<String> {
    scores.iter().map(|s| format!("{:?} {:?} {:?}", digests(s), s.statistics, s.notes)).collect()
}

/// Runs on a pool of `threads`.
fn on_pool<T: Send>(threads: usize, run: impl Future<Output = T> + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    pool.install(|| runtime.block_on(run))
}

#[test]
fn shards_threads_and_where_rows_lie_do_not_change_a_byte() {
    let unit = regression(fits_of_all_orders());
    let mut all = Vec::new();
    for (shard_rows, threads, budget) in [(60, 1, u64::MAX), (7, 24, 0), (13, 2, 1_000)] {
        let found = on_pool(threads, async {
            let world = World::new(60, false);
            world.write(shard_rows).await;
            let (won, progress) = world.run_on(&unit, (1, None), budget).await;
            assert!(won.unwrap());
            assert_eq!(progress.rows_done(), progress.rows_total());
            assert_eq!(progress.fits(), []);
            remains(&world, &unit).await
        });
        all.push(found);
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    let unlike = std::collections::BTreeSet::from_iter(&all[0]);
    assert_eq!(unlike.len(), 3, "three orders, three results");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_becomes_the_same_alone_and_beside_others() {
    let mut fits = fits_of_all_orders();
    let mut other = fits[0].clone();
    other.identity.fit = glmeval_common::ids::FitId::new("repeat");
    other.identity.repeat = 1;
    fits.push(other);
    fits.push(fit("ridge", ProbeSpec::Ridge { alpha: 1.0 }));
    let world = World::new(50, false);
    world.write(20).await;
    let together = remains(&world, &regression(fits.clone())).await;
    for (fit, expected) in fits.into_iter().zip(together) {
        let world = World::new(50, false);
        world.write(20).await;
        assert_eq!(remains(&world, &regression(vec![fit])).await, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_fit_goes_on_to_the_same_bytes() {
    let unit = regression(fits_of_all_orders());
    let world = World::new(40, false);
    world.write(9).await;
    let expected = remains(&world, &unit).await;
    // Written at every epoch, or only because of the order to stop.
    for (step_ms, stops) in [(60_000, 4..9), (1, 4..9)] {
        let world = World::new(40, false);
        world.write(9).await;
        let mut checkpoints_seen = 0;
        for stop_at in stops {
            let (stopped, _) = world.run_on(&unit, (step_ms, Some(stop_at)), u64::MAX).await;
            if let Err(error) = stopped {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
                let kept = world.store.list("probes").await.unwrap();
                let is_state = |path: &str| path.contains("/epochs/data/");
                checkpoints_seen += kept.iter().filter(|entry| is_state(&entry.path)).count();
            }
        }
        assert!(checkpoints_seen >= 3, "{checkpoints_seen}");
        assert_eq!(remains(&world, &unit).await, expected);
        let left = world.store.list("probes").await.unwrap();
        assert!(left.iter().all(|entry| !entry.path.contains("/epochs/")), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_passed_over() {
    let unit = regression(fits_of_all_orders().into_iter().take(1).collect());
    let world = World::new(40, false);
    world.write(9).await;
    let expected = remains(&world, &unit).await;
    let world = World::new(40, false);
    world.write(9).await;
    assert!(world.run_on(&unit, (60_000, Some(6)), u64::MAX).await.0.is_err());
    let kept = world.store.list(&layout::checkpoints_prefix(unit.fits[0].id())).await.unwrap();
    let newest = kept.iter().rfind(|entry| entry.path.contains("/data/")).unwrap();
    let state = world.store.get(&newest.path).await.unwrap();
    world.store.delete(&newest.path).await.unwrap();
    world.store.put_data("checkpoint", &newest.path, state.slice(..50)).await.unwrap();
    assert_eq!(remains(&world, &unit).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_whose_history_is_damaged_is_trained_again() {
    let unit = regression(fits_of_all_orders().into_iter().take(1).collect());
    let world = World::new(40, false);
    world.write(9).await;
    let expected = remains(&world, &unit).await;
    let scores = world.run(&unit).await.remove(0);
    let history = scores.objects.iter().find(|object| object.role == "history").unwrap();
    world.store.delete(&history.path).await.unwrap();
    assert_eq!(remains(&world, &unit).await, expected);
    let again = world.run(&unit).await.remove(0);
    assert!(read_history(&world.store, &again).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_history_and_predictions_say_what_was_trained() {
    let world = World::new(60, true);
    world.write(20).await;
    let mut training = training(Loss::BinaryCrossEntropy, ExampleOrder::Shuffled);
    training.monitor = Monitor::Aupr;
    let fit = network_fit("cnn", small_network(Activation::Sigmoid), training);
    let unit = unit(TaskName::ChipSeq, embedded(Pooling::Full), vec![fit]);
    let scores = world.run(&unit).await.remove(0);
    let history = read_history(&world.store, &scores).await.unwrap();
    assert!(history.len() >= 2 && history[0].epoch == 1);
    assert!(history.last().unwrap().loss < history[0].loss);
    assert!(history.iter().all(|row| row.valid.is_some_and(|measures| measures.aupr > 0.0)));
    let weights = read_weights(&world.store, &scores).await.unwrap();
    let file = crate::training::arrays::ArrayFile::decode(&weights, "weights").unwrap();
    assert_eq!(file.numbers["hidden/kernel"].0, [TOKENS * WIDTH, 7]);
    assert!(file.numbers.contains_key("norm/moving_variance"));
    assert!(file.texts["identity"].contains("REST") && file.texts["network"].contains("hidden"));
    let predictions = read_predictions(&world.store, &scores).await.unwrap();
    assert_eq!(predictions.len(), 12);
    assert!(predictions.iter().all(|p| (0.0..=1.0).contains(&p.prediction)));
    assert!(scores.notes[0].contains("weights of epoch"), "{:?}", scores.notes);
    assert!(scores.statistics.iter().all(|row| row.value.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_learns_what_targets_follow() {
    let world = World::new(400, false);
    world.write(100).await;
    let mut training = training(Loss::MeanSquaredError, ExampleOrder::Shuffled);
    (training.epochs_max, training.restore) = (30, Restore::WhenStopped);
    let fit = network_fit("net", small_network(Activation::Linear), training);
    let scores = world.run(&regression(vec![fit])).await.remove(0);
    let pearson = &scores.statistics[0];
    assert_eq!(pearson.name, "pearson");
    assert!(pearson.value.unwrap() > 0.8, "{pearson:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hot_and_kmers_feed_networks_and_linear_probes_alike() {
    for feature in [SequenceFeature::OneHot, SequenceFeature::kmer(2)] {
        let world = World::new(40, false);
        world.write(40).await;
        let training = training(Loss::MeanSquaredError, ExampleOrder::Shuffled);
        let fits = vec![
            network_fit("net", small_network(Activation::Linear), training),
            fit("ridge", ProbeSpec::Ridge { alpha: 1.0 }),
        ];
        let features = glmeval_common::representation::FeatureSource::Sequence(feature);
        let scores = world.run(&unit(TaskName::Regression, features, fits)).await;
        assert!(scores.iter().all(|s| s.statistics[0].value.is_some()), "{feature:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fraction_is_one_subset_as_published_and_one_per_repeat_corrected() {
    use super::measured::{Measured, choose};
    let world = World::new(100, false);
    let mut measured = Measured::new(1);
    measured.extend(&world.examples);
    let train = |protocol: &str, repeat, fraction| {
        let mut identity = fit("f", ProbeSpec::LeastSquares).identity;
        (identity.fraction, identity.repeat) = (fraction, repeat);
        identity.protocol = protocol.to_owned();
        let chosen = choose(&identity, TaskName::Splicing, &measured).unwrap();
        assert_eq!(chosen.valid.len(), (20.0 * fraction) as usize);
        chosen.train
    };
    let subset = train("published", 0, 0.25);
    assert!(subset.len() == 15 && subset.is_sorted());
    assert_eq!(subset, train("published", 7, 0.25));
    assert_ne!(train("corrected", 0, 0.25), train("corrected", 7, 0.25));
    assert_eq!(train("corrected", 3, 1.0).len(), 60);
}
