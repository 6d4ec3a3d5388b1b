//! Gathers the committed fits of a job and publishes its report.
//!
//! Leaves out: what a report looks like (`report`). Invariant: a report names every fit of the plan,
//! committed or given up.

use crate::attempt::UnitContext;
use crate::attribution::StoredMaps;
use crate::report::{
    AttributionResult, FitResult, PairCloseness, Predictions, ReportFile, ReportInput,
    needs_predictions, render,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::attribution::REPRESENTATION;
use glmeval_common::error::Result;
use glmeval_common::plan::Plan;
use glmeval_common::score::FitScores;
use glmeval_common::store::Store;
use glmeval_common::store::fits::{
    Prediction, find_scores, read_history, read_maps, read_predictions,
};
use glmeval_common::store::jobs::{failed_units, read_plan};
use glmeval_common::store::reports::commit_report;
use glmeval_common::unit::{Fit, ReportUnit};
use std::collections::BTreeMap;

mod cost;
mod precisions;

/// Fits read from the store at a time.
const REQUESTS_MAX: usize = 16;

/// The fits of a job as far as they are committed, and what was given up.
pub struct Gathered<'a> {
    fits: Vec<FitResult>,
    attributions: Vec<AttributionResult>,
    precisions: Vec<PairCloseness<'a>>,
    failed: Vec<String>,
    cost: Vec<(String, String)>,
}

impl<'a> Gathered<'a> {
    /// Reads the scores and history of every committed fit of `plan`, and the predictions of those that
    /// figures and comparisons need.
    ///
    /// # Errors
    /// `Corrupt` for objects that are not what their commit says; store errors.
    pub async fn read(store: &Store, plan: &'a Plan) -> Result<Self> {
        let mut reads: Vec<BoxFuture<'_, Result<Option<FitScores>>>> = Vec::new();
        let mut planned = Vec::new();
        for (index, unit) in plan.fit_units() {
            for fit in &unit.fits {
                reads.push(Box::pin(scores(store, plan, fit)));
                planned.push((index, fit));
            }
        }
        let found: Vec<Option<FitScores>> =
            futures::stream::iter(reads).buffered(REQUESTS_MAX).try_collect().await?;
        let reasons = failed_units(store, &plan.job).await?;
        let mut failed = Vec::new();
        for ((index, fit), scores) in planned.into_iter().zip(&found) {
            if scores.is_none() {
                let reason = reasons.get(&index).map_or("not done", |failed| &failed.error);
                failed.push(format!("{}: {reason}", fit.label()));
            }
        }
        let is_of_maps = |scores: &FitScores| scores.identity.representation == REPRESENTATION;
        let found: Vec<FitScores> = found.into_iter().flatten().collect();
        let (maps, found): (Vec<_>, Vec<_>) = found.into_iter().partition(is_of_maps);
        let needed = needs_predictions(&found.iter().collect::<Vec<_>>());
        let mut reads: Vec<BoxFuture<'_, Result<FitResult>>> = Vec::new();
        for (scores, is_needed) in found.into_iter().zip(needed) {
            reads.push(Box::pin(result(store, scores, is_needed)));
        }
        let fits: Vec<FitResult> =
            futures::stream::iter(reads).buffered(REQUESTS_MAX).try_collect().await?;
        // One after the other: maps are read whole, and only the first sequences are kept.
        let mut attributions = Vec::new();
        for scores in maps {
            attributions.push(attribution(store, plan, scores).await?);
        }
        let of_maps = attributions.iter().map(|one| one.scores.seconds).sum();
        let cost = cost::lines(store, plan, (&fits, of_maps)).await?;
        let precisions = precisions::closeness(store, plan).await?;
        Ok(Self { fits, attributions, precisions, failed, cost })
    }

    /// Renders the report's files.
    ///
    /// # Errors
    /// `Bug` if a table cannot be encoded.
    pub fn render(&self, plan: &Plan) -> Result<Vec<ReportFile>> {
        let Self { fits, attributions, precisions, failed, cost } = self;
        render(&ReportInput { plan, fits, attributions, precisions, failed, cost })
    }
}

async fn scores(store: &Store, plan: &Plan, fit: &Fit) -> Result<Option<FitScores>> {
    let Some(mut scores) = find_scores(store, fit.id()).await? else { return Ok(None) };
    // Equal fits of several jobs share one commit; the names are this job's.
    scores.identity = fit.identity.clone();
    let mut datasets = plan.datasets.iter();
    if let Some(dataset) = datasets.find(|one| one.facts.id == fit.identity.dataset_id) {
        let facts = &dataset.facts;
        for statistic in &mut scores.statistics {
            statistic.target = facts.target_title(&statistic.target);
        }
        for (name, end) in facts.schema.targets.iter().flat_map(|name| [(name, ','), (name, ':')]) {
            let title = facts.target_title(name);
            for note in scores.notes.iter_mut().filter(|_| title != *name) {
                *note = note.replace(&format!(" of {name}{end}"), &format!(" of {title}{end}"));
            }
        }
    }
    Ok(Some(scores))
}

/// Maps with as many sequences as the plan wants logos of.
async fn attribution(store: &Store, plan: &Plan, scores: FitScores) -> Result<AttributionResult> {
    let fits = plan.fit_units().flat_map(|(_, unit)| &unit.fits);
    let specs = fits.filter(|fit| *fit.id() == scores.identity.fit);
    let logos = specs.filter_map(|fit| Some(fit.probe.attribution()?.logos)).max().unwrap_or(0);
    let has_maps = scores.objects.iter().any(|object| object.role == "maps");
    let logos = if logos > 0 && has_maps {
        let (maps, sequences) = read_maps(store, &scores).await?;
        let place = format!("maps of fit {} in {}", scores.identity.fit, store.url());
        StoredMaps::first(&maps, sequences, logos as usize, &place)?
    } else {
        Vec::new()
    };
    Ok(AttributionResult { scores, logos })
}

async fn result(store: &Store, scores: FitScores, is_needed: bool) -> Result<FitResult> {
    let predictions = match is_needed {
        true => columns(read_predictions(store, &scores).await?),
        false => Predictions::default(),
    };
    let is_trained = scores.objects.iter().any(|object| object.role == "history");
    let history = if is_trained { read_history(store, &scores).await? } else { Vec::new() };
    Ok(FitResult { scores, predictions, history })
}

/// Rows of one table to one vector per target.
fn columns(rows: Vec<Prediction>) -> Predictions {
    let mut columns = Predictions {
        ids: Vec::new(),
        target_names: Vec::new(),
        targets: Vec::new(),
        predictions: Vec::new(),
    };
    for row in rows {
        if columns.target_names.last() != Some(&row.target) {
            columns.target_names.push(row.target);
            columns.targets.push(Vec::new());
            columns.predictions.push(Vec::new());
        }
        if columns.target_names.len() == 1 {
            columns.ids.push(row.id);
        }
        if let (Some(targets), Some(predictions)) =
            (columns.targets.last_mut(), columns.predictions.last_mut())
        {
            targets.push(f64::from(row.measured));
            predictions.push(f64::from(row.prediction));
        }
    }
    columns
}

/// Renders the report of a job and commits it to the store, unless the one there says the same.
pub(crate) async fn publish(context: &UnitContext<'_>, unit: &ReportUnit) -> Result<bool> {
    let plan = read_plan(context.store, &unit.job).await?;
    let gathered = Gathered::read(context.store, &plan).await?;
    let files = tokio::task::block_in_place(|| gathered.render(&plan))?;
    let files: BTreeMap<String, Bytes> =
        files.into_iter().map(|file| (file.name, file.bytes.into())).collect();
    let (attempt, worker) = (context.attempt, context.worker);
    Ok(commit_report(context.store, &unit.job, attempt, worker, files).await?.is_won())
}
