//! Embeddings or sequence features to one fitted probe and its scores.
//!
//! Leaves out: the probes and statistics themselves. Invariant: rows of features and examples meet by
//! number and are checked by id.

use crate::attempt::{UnitContext, is_sound, lost_input};
use crate::features::sequence_features;
use crate::probe::{FittedProbe, Matrix};
use crate::probes::linear_probe;
use crate::statistics::{ScoreContext, scores};
use bytes::Bytes;
use glmeval_common::error::{Error, Result};
use glmeval_common::example::{Example, Split};
use glmeval_common::ids::SetId;
use glmeval_common::job::Protocol;
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::representation::{FeatureSource, Pooling};
use glmeval_common::score::FitScores;
use glmeval_common::store::embeddings::read_rows;
use glmeval_common::store::examples::{DatasetManifest, read_examples, read_manifest};
use glmeval_common::store::fits::{Prediction, check_fit, commit_fit, find_scores};
use glmeval_common::unit::{Fit, FitUnit};
use safetensors::tensor::{Dtype, TensorView, serialize};

/// Examples whose sequences are in memory at a time where only targets are kept.
const ROWS_PER_READ: u64 = 8_192;

/// What a fit keeps of the examples.
struct Measured {
    ids: Vec<String>,
    splits: Vec<Option<Split>>,
    /// One vector per target.
    targets: Vec<Vec<f64>>,
}

/// Fits, scores and commits each probe of a unit that is not committed yet.
///
/// # Errors
/// `Invalid` when examples lack splits or targets or do not suit the probe; `Corrupt`; store errors.
pub(crate) async fn fit(context: &UnitContext<'_>, unit: &FitUnit) -> Result<bool> {
    let store = context.store;
    let mut open = Vec::new();
    for fit in &unit.fits {
        let standing = find_scores(store, fit.id()).await;
        if !is_sound(standing, async |scores| check_fit(store, &scores).await).await? {
            open.push(fit);
        }
    }
    if open.is_empty() {
        return Ok(false);
    }
    let manifest = read_manifest(store, &unit.dataset).await.map_err(lost_input)?;
    let (features, measured) = read(context, unit, &manifest).await?;
    let mut is_won = false;
    for fit in open {
        let result = tokio::task::block_in_place(|| {
            evaluate(unit, fit, &manifest.schema.targets, &features, &measured)
        })?;
        is_won |= commit(context, fit, &result).await?;
    }
    Ok(is_won)
}

/// What all probes of a unit read.
async fn read(
    context: &UnitContext<'_>,
    unit: &FitUnit,
    manifest: &DatasetManifest,
) -> Result<(Matrix, Measured)> {
    match &unit.features {
        FeatureSource::Embedding { set, layer, pooling } => {
            let measured = measured(context, manifest).await?;
            let features =
                embeddings(context, set, (*layer, *pooling), manifest, &measured.ids).await?;
            Ok((features, measured))
        }
        FeatureSource::Sequence(feature) => {
            let examples = read_examples(context.store, manifest, 0, manifest.rows).await?;
            let named: Vec<_> = examples
                .iter()
                .map(|example| (example.id.as_str(), example.sequences.as_slice()))
                .collect();
            let features = tokio::task::block_in_place(|| {
                sequence_features(*feature, &manifest.name, &named)
            })?;
            drop(named);
            let mut measured = Measured::new(manifest.schema.targets.len());
            measured.extend(&examples);
            Ok((features, measured))
        }
    }
}

/// Commits one fit; whether this attempt's is the one that stands.
async fn commit(context: &UnitContext<'_>, fit: &Fit, result: &Evaluated) -> Result<bool> {
    let scores = FitScores {
        version: FORMAT_VERSION,
        identity: fit.identity.clone(),
        statistics: result.statistics.clone(),
        objects: Vec::new(),
        seconds: context.seconds(),
        worker: context.worker.to_string(),
        notes: result.fitted.notes.clone(),
    };
    let weights = encode_weights(&result.fitted)?;
    let outcome =
        commit_fit(context.store, context.attempt, scores, Some(weights), &result.predictions)
            .await?;
    Ok(outcome.is_won())
}

impl Measured {
    fn new(target_count: usize) -> Self {
        Self { ids: Vec::new(), splits: Vec::new(), targets: vec![Vec::new(); target_count] }
    }

    fn extend(&mut self, examples: &[Example]) {
        for example in examples {
            self.ids.push(example.id.clone());
            self.splits.push(example.split);
            for (column, &target) in self.targets.iter_mut().zip(&example.targets) {
                column.push(f64::from(target));
            }
        }
    }

    /// Numbers of the examples of any of `splits`.
    fn rows(&self, splits: &[Split]) -> Vec<usize> {
        let wanted = |row: &usize| self.splits[*row].is_some_and(|split| splits.contains(&split));
        (0..self.splits.len()).filter(wanted).collect()
    }

    /// Targets of `rows`, one vector per target.
    fn targets_of(&self, rows: &[usize]) -> Vec<Vec<f64>> {
        self.targets.iter().map(|column| rows.iter().map(|&row| column[row]).collect()).collect()
    }
}

async fn measured(context: &UnitContext<'_>, manifest: &DatasetManifest) -> Result<Measured> {
    let mut measured = Measured::new(manifest.schema.targets.len());
    let mut start = 0;
    while start < manifest.rows {
        let end = manifest.rows.min(start + ROWS_PER_READ);
        measured.extend(&read_examples(context.store, manifest, start, end).await?);
        start = end;
    }
    Ok(measured)
}

async fn embeddings(
    context: &UnitContext<'_>,
    set: &SetId,
    tensor: (u32, Pooling),
    manifest: &DatasetManifest,
    ids: &[String],
) -> Result<Matrix> {
    let rows = read_rows(context.store, set, tensor, (0, manifest.rows)).await;
    let rows = rows.map_err(lost_input)?;
    if let Some(row) = (0..ids.len().max(rows.ids.len())).find(|&i| ids.get(i) != rows.ids.get(i)) {
        let (expected, found) = (ids.get(row), rows.ids.get(row));
        return Err(Error::corrupt(format!(
            "embedding set {set}: row {row}: expected example {expected:?}, found {found:?}"
        )));
    }
    if tensor.1 != Pooling::Full {
        return Matrix::new(rows.ids.len(), rows.width, rows.values);
    }
    let tokens = rows.token_counts.first().copied().unwrap_or(0);
    if let Some(row) = rows.token_counts.iter().position(|&count| count != tokens) {
        return Err(Error::invalid(format!(
            "example {}: expected {tokens} tokens as in the first example, found {}: a linear probe \
             needs one length",
            ids[row], rows.token_counts[row]
        )));
    }
    let columns = usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(rows.width);
    Matrix::new(rows.ids.len(), columns, rows.values)
}

struct Evaluated {
    fitted: FittedProbe,
    statistics: Vec<glmeval_common::score::Statistic>,
    predictions: Vec<Prediction>,
}

/// Fits on the probe's splits and scores on the test split.
fn evaluate(
    unit: &FitUnit,
    fit: &Fit,
    target_names: &[String],
    features: &Matrix,
    measured: &Measured,
) -> Result<Evaluated> {
    let probe =
        linear_probe(&fit.probe).ok_or_else(|| Error::bug("a network is trained by steps"))?;
    let fit_rows = measured.rows(probe.splits());
    let test_rows = measured.rows(&[Split::Test]);
    for (rows, name) in [(&fit_rows, "train"), (&test_rows, "test")] {
        if rows.is_empty() {
            let dataset = &fit.identity.dataset;
            return Err(Error::invalid(format!(
                "data set {dataset}: expected examples of split {name}, found none"
            )));
        }
    }
    let fitted = probe.fit(&features.select(&fit_rows), &measured.targets_of(&fit_rows))?;
    let predicted = fitted.predict(&features.select(&test_rows))?;
    let targets = measured.targets_of(&test_rows);
    let protocol = if fit.identity.protocol == Protocol::Corrected.name() {
        Protocol::Corrected
    } else {
        Protocol::Published
    };
    let score_context = ScoreContext {
        task: unit.task,
        protocol,
        probe: fit.probe.name(),
        split: Split::Test,
        seed: fit.identity.seed,
    };
    let statistics = scores(&score_context, target_names, &targets, &predicted);
    let mut predictions = Vec::with_capacity(test_rows.len() * target_names.len());
    for ((name, targets), predicted) in target_names.iter().zip(&targets).zip(&predicted) {
        for ((&row, &measured_value), &prediction) in test_rows.iter().zip(targets).zip(predicted) {
            predictions.push(Prediction {
                id: measured.ids[row].clone(),
                split: Split::Test,
                target: name.clone(),
                measured: measured_value as f32,
                prediction: prediction as f32,
            });
        }
    }
    Ok(Evaluated { fitted, statistics, predictions })
}

/// The fitted probe as safetensors of f64.
fn encode_weights(fitted: &FittedProbe) -> Result<Bytes> {
    let failed = |e| Error::bug("encode probe weights").with_source(e);
    let arrays = fitted.arrays();
    let buffers: Vec<Vec<u8>> = arrays
        .iter()
        .map(|array| array.values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let mut views = Vec::with_capacity(arrays.len());
    for (array, buffer) in arrays.iter().zip(&buffers) {
        let view = TensorView::new(Dtype::F64, array.shape.clone(), buffer).map_err(failed)?;
        views.push((array.name, view));
    }
    Ok(Bytes::from(serialize(views, None).map_err(failed)?))
}
