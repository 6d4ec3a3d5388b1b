//! Workers that lie about data sets and fits.

use super::*;
use crate::stored_jobs::Unfinished;
use glmeval_common::dna::DnaSequence;
use glmeval_common::example::{Example, ExampleSchema};
use glmeval_common::ids::{DatasetId, FitId};
use glmeval_common::score::FitScores;
use glmeval_common::store::examples::{
    DatasetManifest, ExampleWriter, PartRecord, check_dataset, check_rows, read_manifest,
};
use glmeval_common::store::fits::{FitObjects, check_fit, commit_fit, find_scores};
use glmeval_common::unit::{Fit, FitUnit, PrepareUnit};

/// Number of the unit that prepares, and of the fit that reads no shard.
const PREPARE: u32 = 0;
const FIT: u32 = 6;

#[tokio::test]
async fn all_that_a_job_reads_and_writes_is_its_own_until_it_is_finished() {
    let world = unprepared().await;
    let unfinished = Unfinished::of(&world.store).await.unwrap();
    assert_eq!(unfinished.jobs, [world.plan.job.clone()].into());
    let plan = &world.plan;
    let mut folders = vec![
        format!("jobs/{}", plan.job),
        format!("examples/{}", plan.datasets[0].facts.id),
        format!("embeddings/{}", plan.sets[0].id),
    ];
    let fits = plan.fit_units().flat_map(|(_, unit)| &unit.fits);
    folders.extend(fits.map(|fit| format!("probes/{}", fit.id())));
    assert_eq!(unfinished.folders, folders.into_iter().collect());
    world.coordinator.cancel(&plan.job).await.unwrap();
    assert_eq!(Unfinished::of(&world.store).await.unwrap(), unfinished, "workers may not know yet");
    let damaged = format!("jobs/{}/plan.json", "0a".repeat(16));
    world.store.create(&damaged, "{".into()).await.unwrap();
    let error = Unfinished::of(&world.store).await.unwrap_err();
    assert!(error.chain().contains("0a0a"), "{}", error.chain());
}

async fn unprepared() -> World {
    World::over(Store::memory(), plans::planned(&plans::job(), 250)).await
}

fn dataset(grant: &Grant) -> &PrepareUnit {
    let WorkUnit::Prepare(unit) = &grant.work else { panic!("{:?}", grant.work) };
    unit
}

fn fit(grant: &Grant) -> &Fit {
    let WorkUnit::Fit(FitUnit { fits, .. }) = &grant.work else { panic!("{:?}", grant.work) };
    &fits[0]
}

impl World {
    /// Commits a data set of one part whose record `falsify` changes before it is written.
    async fn commit_dataset(
        &self,
        name: &str,
        grant: &Grant,
        falsify: impl FnOnce(&mut DatasetManifest),
    ) {
        let (unit, attempt) = (dataset(grant), Attempt::new(format!("attempt-of-{name}")));
        let path = layout::dataset_part_path(&unit.dataset, 0, &attempt);
        let object = self.store.put_data("part", &path, "letters".into()).await.unwrap();
        let mut manifest = DatasetManifest {
            version: layout::FORMAT_VERSION,
            id: unit.dataset.clone(),
            name: unit.name.clone(),
            schema: ExampleSchema::sequences_only(),
            rows: unit.rows,
            parts: vec![PartRecord { object, first_row: 0, rows: unit.rows }],
            split_rows: BTreeMap::new(),
            attempt,
            worker: WorkerId::new(name),
            provenance: BTreeMap::new(),
        };
        falsify(&mut manifest);
        let path = layout::dataset_manifest_path(&unit.dataset);
        self.store.create_record(&path, manifest).await.unwrap();
    }

    /// Prepares the data set as it should be done.
    async fn prepare(&self, name: &str, grant: &Grant) {
        let (unit, worker) = (dataset(grant), WorkerId::new(name));
        let who = (Attempt::new(format!("attempt-of-{name}")), worker);
        let schema = ExampleSchema::sequences_only();
        let mut writer = ExampleWriter::new(&self.store, &unit.dataset, &unit.name, schema, who);
        for row in 0..unit.rows {
            let sequences = vec![DnaSequence::new("ACGT").unwrap()];
            let id = format!("r{row}");
            let example = Example { id, sequences, interval: None, split: None, targets: vec![] };
            writer.push(example).await.unwrap();
        }
        writer.commit(BTreeMap::new()).await.unwrap();
        self.report(name, &grant.lease).await.unwrap();
    }

    fn scores(&self, name: &str, fit: &Fit) -> FitScores {
        FitScores {
            version: layout::FORMAT_VERSION,
            identity: fit.identity.clone(),
            statistics: vec![],
            objects: vec![],
            seconds: 1.0,
            worker: name.to_owned(),
            notes: vec![],
        }
    }

    /// Commits scores whose record `falsify` changes before it is written.
    async fn commit_scores(&self, name: &str, grant: &Grant, falsify: impl FnOnce(&mut FitScores)) {
        let (fit, attempt) = (fit(grant), Attempt::new(format!("attempt-of-{name}")));
        let path = layout::fit_data_path(fit.id(), "weights.safetensors", &attempt);
        let object = self.store.put_data("weights", &path, "numbers".into()).await.unwrap();
        let mut scores = self.scores(name, fit);
        scores.objects.push(object);
        falsify(&mut scores);
        self.store.create_record(&layout::scores_path(fit.id()), scores).await.unwrap();
    }

    /// Fits as it should be done.
    async fn fit(&self, name: &str, grant: &Grant) {
        let (fit, attempt) = (fit(grant), Attempt::new(format!("attempt-of-{name}")));
        let scores = self.scores(name, fit);
        commit_fit(&self.store, &attempt, scores, FitObjects::default()).await.unwrap();
        self.report(name, &grant.lease).await.unwrap();
    }

    async fn granted(&self, name: &str, unit: u32) -> Grant {
        by_unit(self, name).await.remove(&unit).expect("granted")
    }

    /// The data set that stands is whole and the honest worker's.
    async fn check_prepared(&self, id: &DatasetId, rows: u64) {
        let manifest = read_manifest(&self.store, id).await.unwrap();
        check_rows(&manifest, rows).unwrap();
        check_dataset(&self.store, &manifest).await.unwrap();
        assert_eq!(manifest.worker, WorkerId::new("honest"));
    }

    /// The scores that stand are whole and the honest worker's.
    async fn check_fitted(&self, id: &FitId) {
        let scores = find_scores(&self.store, id).await.unwrap().expect("committed");
        check_fit(&self.store, &scores).await.unwrap();
        assert_eq!(scores.worker, "honest");
    }

    fn is_committed(&self, unit: u32) -> bool {
        self.committed().iter().any(|(first, past)| (*first..*past).contains(&unit))
    }
}

/// A world whose data set the honest worker has prepared.
async fn prepared() -> World {
    let world = unprepared().await;
    let grant = world.granted("honest", PREPARE).await;
    world.prepare("honest", &grant).await;
    world
}

#[tokio::test]
async fn a_data_set_with_wrong_rows_length_digest_or_parts_is_refused_and_prepared_again() {
    type Lie = fn(&mut DatasetManifest);
    let lies: [(Lie, &str); 5] = [
        (|it| (it.rows, it.parts[0].rows) = (249, 249), "rows: expected 250, found 249"),
        (|it| it.parts[0].object.bytes += 1, "expected 8 bytes, found 7"),
        (|it| it.parts[0].object.sha256 = "0".repeat(64), "sha256"),
        (
            |it| it.parts[0].object.path = "examples/d/data/part-00000.gone.parquet".into(),
            "the data object is not there",
        ),
        (|it| it.parts[0].rows = 249, "without gaps"),
    ];
    for (lie, words) in lies {
        let world = unprepared().await;
        let grant = world.granted("liar", PREPARE).await;
        world.commit_dataset("liar", &grant, lie).await;
        let told = world.report("liar", &grant.lease).await;
        if words == "without gaps" {
            // Nobody can tell whose a manifest is that makes no sense: it is made again, and that is all.
            told.unwrap();
            world.coordinator.drain(&WorkerId::new("liar")).await.unwrap();
        } else {
            world.check_refused(told, words).await;
        }
        assert!(!world.is_committed(PREPARE), "{words}");
        let grant = world.granted("honest", PREPARE).await;
        world.prepare("honest", &grant).await;
        world.check_prepared(&dataset(&grant).dataset, 250).await;
        assert!(world.is_committed(PREPARE), "{words}");
    }
}

#[tokio::test]
async fn a_fit_with_wrong_length_or_digest_is_refused_and_fitted_again() {
    type Lie = fn(&mut FitScores);
    let lies: [(Lie, &str); 3] = [
        (|it| it.objects[0].bytes += 1, "expected 8 bytes, found 7"),
        (|it| it.objects[0].sha256 = "0".repeat(64), "sha256"),
        (
            |it| it.objects[0].path = it.objects[0].path.replace("weights", "nothing"),
            "the data object is not there",
        ),
    ];
    for (lie, words) in lies {
        let world = prepared().await;
        let grant = world.granted("liar", FIT).await;
        world.commit_scores("liar", &grant, lie).await;
        let told = world.report("liar", &grant.lease).await;
        world.check_refused(told, words).await;
        assert!(!world.is_committed(FIT), "{words}");
        let grant = world.granted("honest", FIT).await;
        world.fit("honest", &grant).await;
        world.check_fitted(fit(&grant).id()).await;
        assert!(world.is_committed(FIT), "{words}");
    }
}

#[tokio::test]
async fn scores_of_another_fit_or_over_anothers_objects_are_believed_by_nobody() {
    type Lie = fn(&mut FitScores);
    let lies: [Lie; 2] = [
        |it| it.identity.fit = FitId::new("another"),
        |it| it.objects[0].path = "probes/another/data/weights.a.safetensors".into(),
    ];
    for lie in lies {
        let world = prepared().await;
        let grant = world.granted("liar", FIT).await;
        world.commit_scores("liar", &grant, lie).await;
        let found = find_scores(&world.store, fit(&grant).id()).await;
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
        world.report("liar", &grant.lease).await.unwrap();
        assert!(!world.is_committed(FIT));
        let grant = world.granted("honest", FIT).await;
        world.fit("honest", &grant).await;
        world.check_fitted(fit(&grant).id()).await;
        assert!(world.is_committed(FIT));
    }
}

#[tokio::test]
async fn a_fit_or_a_data_set_that_nobody_committed_or_that_is_anothers_is_refused() {
    let world = unprepared().await;
    let grant = world.granted("liar", PREPARE).await;
    let told = world.report("liar", &grant.lease).await;
    world.check_refused(told, "no commit of it stands").await;
    let world = prepared().await;
    let grant = world.granted("liar", FIT).await;
    let told = world.report("liar", &grant.lease).await;
    world.check_refused(told, "no commit of it stands").await;
    let world = prepared().await;
    let foreign = world.granted("honest", FIT).await;
    let told = world.report("liar", &foreign.lease).await;
    world.check_refused(told, "which was not its own").await;
    let world = prepared().await;
    let grant = world.granted("liar", FIT).await;
    world.commit_scores("liar", &grant, |_| {}).await;
    let generation = Generation { epoch: 1, counter: 0 };
    let told = world.report("liar", &LeaseKey { generation, ..grant.lease }).await;
    world.check_refused(told, "which was not its own").await;
}

#[tokio::test]
async fn what_a_refused_worker_fitted_and_prepared_is_looked_at_and_made_again() {
    let mut world = unprepared().await;
    let prepare = world.granted("liar", PREPARE).await;
    world.commit_dataset("liar", &prepare, |it| it.parts[0].object.sha256 = "0".repeat(64)).await;
    // The coordinator that comes now believes what is listed.
    world.coordinator = World::coordinator(&world.store).await;
    for name in ["liar", "honest"] {
        world.register(name).await.unwrap();
    }
    let grant = world.granted("liar", FIT).await;
    world.commit_scores("liar", &grant, |it| it.objects[0].bytes += 1).await;
    world.coordinator = World::coordinator(&world.store).await;
    for name in ["liar", "honest"] {
        world.register(name).await.unwrap();
    }
    assert!(world.is_committed(PREPARE) && world.is_committed(FIT));
    let lie = world.granted("liar", 1).await;
    let told = world.report("liar", &lie.lease).await;
    world.check_refused(told, "no commit of it stands").await;
    world.coordinator.look_at_suspects().await;
    assert!(!world.is_committed(PREPARE) && !world.is_committed(FIT));
    let again = world.granted("honest", PREPARE).await;
    world.prepare("honest", &again).await;
    world.check_prepared(&dataset(&again).dataset, 250).await;
    let again = world.granted("honest", FIT).await;
    world.fit("honest", &again).await;
    world.check_fitted(fit(&again).id()).await;
    assert!(lock(&world.coordinator.inner.state).suspects().is_empty());
}
