//! Damage in the store, causes that are mended, jobs submitted again: the real coordinator, agents and
//! runner over a folder.

#[path = "corruption/places.rs"]
mod places;
#[path = "corruption/world.rs"]
mod world;

use glmeval_common::control::JobPhase;
use glmeval_common::layout;
use glmeval_common::store::embeddings::find_commit;
use glmeval_common::store::embeddings::models::find_model;
use glmeval_common::store::examples::read_manifest;
use glmeval_common::store::fits::find_scores;
use glmeval_common::store::reports::{find_report, read_report};
use std::path::PathBuf;
use world::{Bench, Damage};

/// Damages `object` of a finished job in every way, takes `forgotten` away, and runs the job again.
async fn is_mended(bench: &Bench, object: &str, forgotten: &[PathBuf]) {
    let wanted = bench.contents().await;
    for damage in Damage::ALL {
        let copy = bench.copy();
        damage.apply(&copy.folder().join(object));
        for path in forgotten {
            Damage::Delete.apply(&copy.folder().join(path));
        }
        let before = copy.commits();
        let status = copy.run().await;
        assert_eq!(status.phase, JobPhase::Finished, "{damage:?} {object}: {status:?}");
        assert_eq!(copy.contents().await, wanted, "{damage:?} {object}");
        let after = copy.commits();
        for (path, bytes) in &before {
            assert_eq!(after.get(path), Some(bytes), "{path} was touched");
        }
        // A report tells how long fits took, so one made after a fit was repeated is another.
        let revised = after.keys().filter(|path| !path.starts_with("jobs/"));
        let is_revised = |path: &str| layout::parse_revision(path).is_some_and(|(_, n)| n > 0);
        let revised = revised.filter(|path| is_revised(path)).count();
        let is_gone = object.ends_with(".json") && matches!(damage, Damage::Delete);
        assert_eq!(revised, usize::from(!is_gone), "{damage:?} {object}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_shard_is_computed_again_when_a_fit_meets_it() {
    let bench = Bench::finished().await;
    let set = &bench.plan.sets[0].id;
    let commit = find_commit(&bench.store, set, 20, 40).await.unwrap().unwrap();
    is_mended(&bench, &commit.object.path, &bench.scores()).await;
    is_mended(&bench, &layout::shard_commit_path(set, 20, 40), &bench.scores()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_description_of_a_set_keeps_nobody_from_its_shards() {
    let bench = Bench::finished().await;
    let set = &bench.plan.sets[0].id;
    let shard = PathBuf::from(layout::shard_commit_path(set, 0, 20));
    is_mended(&bench, &layout::set_manifest_path(set), &[shard]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_part_of_the_examples_is_prepared_again_when_a_unit_meets_it() {
    let bench = Bench::finished().await;
    let dataset = &bench.plan.datasets[0].facts.id;
    let manifest = read_manifest(&bench.store, dataset).await.unwrap();
    let part = &manifest.parts[0].object.path;
    is_mended(&bench, part, &bench.scores()).await;
    let shard = PathBuf::from(layout::shard_commit_path(&bench.plan.sets[0].id, 0, 20));
    is_mended(&bench, part, &[shard]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_predictions_are_computed_again_when_the_job_is_run_again() {
    let bench = Bench::finished().await;
    let fit = bench.fits().remove(0);
    let scores = find_scores(&bench.store, &fit).await.unwrap().unwrap();
    let predictions = scores.objects.iter().find(|object| object.role == "predictions").unwrap();
    is_mended(&bench, &predictions.path, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_job_run_again_writes_nothing() {
    let bench = Bench::finished().await;
    let before = bench.files();
    assert_eq!(bench.run().await.phase, JobPhase::Finished);
    assert_eq!(bench.files(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_was_used_is_described_in_the_store() {
    let bench = Bench::finished().await;
    let model = &bench.plan.models[0];
    let record = find_model(&bench.store, &model.model.id).await.unwrap().unwrap();
    assert_eq!((record.facts, record.name), (model.facts.clone(), "tiny".to_owned()));
    assert!(!record.tokenizer_digest.is_empty() && record.source == "nt-v1-random");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_file_was_away_is_finished_once_it_is_back_and_its_report_is_renewed() {
    let wanted = Bench::finished().await;
    let bench = Bench::new();
    let (source, away) = (bench.source(), bench.source().with_extension("away"));
    std::fs::rename(&source, &away).unwrap();
    let status = bench.run().await;
    assert_eq!((status.phase, status.phase.exit_code()), (JobPhase::FinishedWithFailures, 3));
    std::fs::rename(&away, &source).unwrap();
    let status = bench.run().await;
    assert_eq!((status.phase, status.phase.exit_code()), (JobPhase::Finished, 0));
    assert!(status.failures.is_empty());
    assert_eq!(bench.contents().await, wanted.contents().await);
    let job = &bench.plan.job;
    assert!(bench.folder().join(format!("jobs/{job}/report/commit.r1.json")).exists());
    let report = find_report(&bench.store, job).await.unwrap().unwrap();
    let files = read_report(&bench.store, &report).await.unwrap();
    let page = String::from_utf8(files["report.html"].to_vec()).unwrap();
    assert!(!page.contains("not done"));
    let recovered = bench.recovered().await;
    assert_eq!((recovered.phase, recovered.failures.len()), (JobPhase::Finished, 0));
}
