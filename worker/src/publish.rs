//! Gathers the committed fits of a job and publishes its report.
//!
//! Leaves out: what a report looks like (`report`). Invariant: a report names every fit of the plan,
//! committed or given up.

use crate::attempt::UnitContext;
use crate::attribution::StoredMaps;
use crate::report::{
    AttributionResult, FitResult, PairCloseness, Predictions, ReportFile, ReportInput,
    needs_predictions, render, scores_tsv, text_table,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::attribution::REPRESENTATION;
use glmeval_common::error::Result;
use glmeval_common::ids::DatasetId;
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::score::FitScores;
use glmeval_common::store::Store;
use glmeval_common::store::fits::{
    Prediction, find_scores, read_history, read_maps, read_predictions,
};
use glmeval_common::store::jobs::{FailedUnit, failed_units, read_plan};
use glmeval_common::store::reports::commit_report;
use glmeval_common::unit::{Fit, FitUnit, ReportUnit};
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
        for (_, unit) in plan.fit_units() {
            for fit in &unit.fits {
                reads.push(Box::pin(scores(store, plan, fit)));
            }
        }
        let found: Vec<Option<FitScores>> =
            futures::stream::iter(reads).buffered(REQUESTS_MAX).try_collect().await?;
        let given_up = failed_units(store, &plan.job).await?;
        let (mut failed, mut rest) = (Vec::new(), found.as_slice());
        for (index, unit) in plan.fit_units() {
            let (of_unit, others) = rest.split_at(unit.fits.len().min(rest.len()));
            let why = given_up.get(&index);
            let facts = facts(plan, &unit.dataset);
            let named = |line: String| facts.map_or(line.clone(), |facts| titled(facts, &line));
            failed.extend(missing(unit, of_unit, why).into_iter().map(named));
            rest = others;
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
        render(&self.input(plan))
    }

    /// What is committed of every fit, then of every attribution map, in the order of the plan; under the job's own
    /// names, as in its report.
    pub fn scores(&self) -> impl Iterator<Item = &FitScores> {
        let fits = self.fits.iter().map(|fit| &fit.scores);
        fits.chain(self.attributions.iter().map(|maps| &maps.scores))
    }

    /// The table of scores for a terminal, `scores.txt` of the report.
    pub fn scores_text(&self, plan: &Plan) -> String {
        text_table(&self.input(plan))
    }

    /// The table `scores` as tab-separated lines.
    pub fn scores_tsv(&self, plan: &Plan) -> String {
        scores_tsv(&self.input(plan))
    }

    fn input<'b>(&'b self, plan: &'b Plan) -> ReportInput<'b> {
        let Self { fits, attributions, precisions, failed, cost } = self;
        ReportInput { plan, fits, attributions, precisions, failed, cost }
    }
}

async fn scores(store: &Store, plan: &Plan, fit: &Fit) -> Result<Option<FitScores>> {
    let Some(mut scores) = find_scores(store, fit.id()).await? else { return Ok(None) };
    // Equal fits of several jobs share one commit; the names are this job's.
    scores.identity = fit.identity.clone();
    if let Some(facts) = facts(plan, &fit.identity.dataset_id) {
        for statistic in &mut scores.statistics {
            statistic.target = facts.target_title(&statistic.target);
        }
        scores.notes.iter_mut().for_each(|note| *note = titled(facts, note));
    }
    Ok(Some(scores))
}

fn facts<'a>(plan: &'a Plan, dataset: &DatasetId) -> Option<&'a DatasetFacts> {
    let mut all = plan.datasets.iter().map(|dataset| &dataset.facts);
    all.find(|facts| facts.id == *dataset)
}

/// A line with what people call targets instead of their names.
fn titled(facts: &DatasetFacts, line: &str) -> String {
    let mut line = line.to_owned();
    for name in &facts.schema.targets {
        let title = facts.target_title(name);
        let places = [(" of ", ','), (" of ", ':'), ("target ", ':')];
        for (before, after) in places.into_iter().filter(|_| title != *name) {
            let [from, to] = [name, &title].map(|text| format!("{before}{text}{after}"));
            line = line.replace(&from, &to);
        }
    }
    line
}

/// A line on each fit of `unit` without scores: its own reason, or that of the unit where it has none.
pub(crate) fn missing(
    unit: &FitUnit,
    found: &[Option<FitScores>],
    why: Option<&FailedUnit>,
) -> Vec<String> {
    let reason = |fit: &Fit| {
        let Some(FailedUnit { error, fits, .. }) = why else { return "not done" };
        let own = fits.iter().find(|failed| failed.fit == *fit.id());
        match own {
            Some(own) => &own.reason,
            None if fits.is_empty() => error,
            None => "not done",
        }
    };
    let fits = unit.fits.iter().zip(found).filter(|(_, scores)| scores.is_none());
    fits.map(|(fit, _)| format!("{}: {}", fit.label(), reason(fit))).collect()
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
