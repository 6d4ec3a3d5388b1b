//! A worker's work without numbers: waits as long as computing would take, then commits as the real one does.
//!
//! Leaves out: kernels. Invariant: everything that becomes visible goes through `common::store`.

use crate::job;
use crate::world::{Sabotage, World, lock};
use async_trait::async_trait;
use bytes::Bytes;
use glmeval_common::clock::Clock;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::example::Example;
use glmeval_common::ids::Attempt;
use glmeval_common::layout;
use glmeval_common::representation::FeatureSource;
use glmeval_common::score::FitScores;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{
    SetManifest, ShardAttempt, commit_shard, create_set, find_commit, read_rows, read_shard,
};
use glmeval_common::store::examples::{ExampleWriter, check_dataset, find_manifest, read_manifest};
use glmeval_common::store::fits::{FitObjects, check_fit, commit_fit, find_scores};
use glmeval_common::store::reports::{commit_report, find_report};
use glmeval_common::unit::{ExtractUnit, FitUnit, PrepareUnit, ReportUnit, WorkUnit};
use glmeval_worker::agent::{RunContext, UnitOutcome, UnitRunner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Milliseconds between two looks at the order to stop.
const SLICE_MS: u64 = 250;

/// Runs units on one host.
pub(crate) struct SimRunner {
    pub(crate) world: Arc<World>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) host: String,
}

impl SimRunner {
    /// Lets the time pass that a unit takes; some fail, one in thirty takes far too long.
    async fn compute(&self, attempt: &Attempt, context: &RunContext, label: &str) -> Result<()> {
        let world = &self.world;
        let mut left_ms = world.draw(300, 5_000);
        if world.chance(0.03) {
            left_ms += 20_000;
            world.count("stragglers");
        }
        let fails = world.chance(0.02);
        let slices = left_ms.div_ceil(SLICE_MS);
        let rows = context.progress.rows_total();
        lock(&world.orders).computing.insert(self.host.clone(), attempt.as_str().to_owned());
        for slice in 0..slices {
            tokio::time::sleep(Duration::from_millis(SLICE_MS + world.frozen_ms(&self.host))).await;
            if let Some(order) = context.stop.order() {
                return Err(Error::unavailable(format!("told to stop: {}", order.reason)));
            }
            context.progress.add_rows(rows * (slice + 1) / slices - rows * slice / slices);
        }
        lock(&world.orders).computing.remove(&self.host);
        if fails {
            world.count("failed attempts");
            return Err(Error::unavailable(format!("{label}: the device was lost")));
        }
        Ok(())
    }

    async fn prepare(&self, store: &Store, unit: &PrepareUnit, attempt: &Attempt) -> Result<bool> {
        if let Some(manifest) = find_manifest(store, &unit.dataset).await? {
            check_dataset(store, &manifest).await?;
            return Ok(false);
        }
        let identity = (attempt.clone(), glmeval_common::ids::WorkerId::new(&self.host));
        let schema = job::schema();
        let mut writer = ExampleWriter::new(store, &unit.dataset, &unit.name, schema, identity)
            .with_rows_per_part(32);
        for row in 0..unit.rows {
            let example = Example {
                id: format!("r{row}"),
                sequences: vec![letters()?],
                interval: None,
                split: None,
                targets: vec![0.5],
            };
            if let Err(error) = writer.push(example).await {
                writer.abandon().await;
                return Err(error);
            }
        }
        Ok(writer.commit(BTreeMap::new()).await?.is_won())
    }

    async fn extract(
        &self,
        store: &Store,
        unit: &ExtractUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<bool> {
        let set = &unit.set;
        if let Some(commit) = find_commit(store, &set.id, unit.start, unit.end).await? {
            read_shard(store, &commit).await?;
            return Ok(false);
        }
        let manifest = find_manifest(store, &set.dataset).await?;
        if manifest.is_none() {
            return Err(Error::corrupt("the data set of a granted shard is not there"));
        }
        let started_ms = self.clock.now_ms();
        self.compute(attempt, context, "extract").await?;
        if self.world.sabotage == Sabotage::BlindRunner && self.world.chance(0.05) {
            return Ok(true);
        }
        create_set(store, &SetManifest::of(set)).await?;
        let bytes = job::shard_bytes(unit)?;
        let shard = ShardAttempt {
            set: set.id.clone(),
            start: unit.start,
            end: unit.end,
            rows: unit.end - unit.start,
            attempt: attempt.clone(),
            worker: context.worker.clone(),
            generation: context.generation,
            seconds: self.clock.now_ms().saturating_sub(started_ms) as f64 / 1_000.0,
        };
        Ok(commit_shard(store, &shard, bytes).await?.is_won())
    }

    /// Commits every fit of a unit that is not committed yet.
    async fn fit(
        &self,
        store: &Store,
        unit: &FitUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<bool> {
        let mut is_won = false;
        for fit in &unit.fits {
            if let Some(scores) = find_scores(store, fit.id()).await? {
                check_fit(store, &scores).await?;
                continue;
            }
            self.check_inputs(store, unit).await?;
            let started_ms = self.clock.now_ms();
            self.compute(attempt, context, "fit").await?;
            if self.world.sabotage == Sabotage::BlindRunner && self.world.chance(0.05) {
                return Ok(true);
            }
            let scores = FitScores {
                version: layout::FORMAT_VERSION,
                identity: fit.identity.clone(),
                statistics: vec![],
                objects: vec![],
                seconds: self.clock.now_ms().saturating_sub(started_ms) as f64 / 1_000.0,
                worker: context.worker.to_string(),
                notes: vec![],
            };
            let objects = FitObjects { weights: Some(job::weights(fit)), ..FitObjects::default() };
            if commit_fit(store, attempt, scores, objects).await?.is_won() {
                is_won = true;
                self.won(layout::scores_path(fit.id()), attempt);
            }
        }
        Ok(is_won)
    }

    /// What a granted fit reads is there and whole.
    async fn check_inputs(&self, store: &Store, unit: &FitUnit) -> Result<()> {
        let gone = |error: Error| match error.kind() {
            ErrorKind::NotFound => Error::corrupt("an input of a granted fit is not there"),
            _ => error,
        };
        let manifest = read_manifest(store, &unit.dataset).await.map_err(gone)?;
        if let FeatureSource::Embedding { set, layer, pooling } = &unit.features {
            let rows = (0, manifest.rows);
            read_rows(store, set, (*layer, *pooling), rows).await.map_err(gone)?;
        }
        Ok(())
    }

    /// The attempt was told that its commit stands.
    fn won(&self, path: String, attempt: &Attempt) {
        lock(&self.world.ledger).winners.entry(path).or_default().push(attempt.to_string());
    }

    async fn report(
        &self,
        store: &Store,
        unit: &ReportUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<bool> {
        if find_report(store, &unit.job).await?.is_some() {
            return Ok(false);
        }
        self.compute(attempt, context, "report").await?;
        let files = BTreeMap::from([("scores.csv".to_owned(), Bytes::from_static(b"task\n"))]);
        let outcome = commit_report(store, &unit.job, attempt, &context.worker, files).await?;
        Ok(outcome.is_won())
    }
}

/// The record whose creation commits a unit; fits have one each.
pub(crate) fn commit_path(unit: &WorkUnit) -> Option<String> {
    Some(match unit {
        WorkUnit::Prepare(unit) => layout::dataset_manifest_path(&unit.dataset),
        WorkUnit::Extract(unit) => layout::shard_commit_path(&unit.set.id, unit.start, unit.end),
        WorkUnit::Report(unit) => layout::report_commit_path(&unit.job),
        WorkUnit::Fit(_) => return None,
    })
}

#[async_trait]
impl UnitRunner for SimRunner {
    async fn run(
        &self,
        unit: &WorkUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<UnitOutcome> {
        let world = &self.world;
        let (who, label) = (context.worker.as_str(), unit.label());
        let shares_name = world.sabotage == Sabotage::SharedData;
        let attempt = &if shares_name { Attempt::new("shared") } else { attempt.clone() };
        world.count("attempts");
        world.note(who, format!("begins {label} {} {attempt}", context.generation));
        let store = self.store.for_attempt(Arc::clone(&self.clock));
        let won = match unit {
            WorkUnit::Prepare(unit) => self.prepare(&store, unit, attempt).await,
            WorkUnit::Extract(unit) => self.extract(&store, unit, attempt, context).await,
            WorkUnit::Report(unit) => self.report(&store, unit, attempt, context).await,
            WorkUnit::Fit(unit) => self.fit(&store, unit, attempt, context).await,
        };
        lock(&world.orders).computing.remove(&self.host);
        match &won {
            Ok(true) => {
                world.note(who, format!("commits {label} {attempt}"));
                if let Some(path) = commit_path(unit) {
                    self.won(path, attempt);
                }
            }
            Ok(false) => {
                world.count("lost attempts");
                world.note(who, format!("lost {label} {attempt}"));
            }
            Err(error) => {
                if error.kind() == ErrorKind::Corrupt {
                    world.violation(format!("{who} found damage: {}", error.chain()));
                }
                world.note(who, format!("fails {label} {attempt}: {}", error.chain()));
            }
        }
        won.map(|won| if won { UnitOutcome::Committed } else { UnitOutcome::Lost })
    }
}

fn letters() -> Result<DnaSequence> {
    DnaSequence::new("ACGTACGTACGT").map_err(|_| Error::bug("four letters of DNA"))
}
