//! Effects of variants: columns of zero-shot scores, or what fits of other data sets predict, against
//! what was measured.
//!
//! Leaves out: computing scores (extract) and training (networks). Invariant: what is compared is what
//! is committed as predictions, so that every statistic can be computed from them again.

use super::commit;
use super::evaluation::{Evaluated, undefined};
use super::measured::Measured;
use super::reading::{self, Examples};
use super::refused::Refused;
use crate::attempt::{UnitContext, lost_input};
use crate::probe::{FittedProbe, Link, Matrix};
use crate::statistics::{ScoredVariants, effect_statistics};
use crate::variants::VariantProbe;
use bytes::Bytes;
use glmeval_common::effect::Score;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::example::Split;
use glmeval_common::ids::FitId;
use glmeval_common::representation::FeatureSource;
use glmeval_common::score::FitScores;
use glmeval_common::store::embeddings::{Rows, read_rows, read_set};
use glmeval_common::store::examples::DatasetManifest;
use glmeval_common::store::fits::{Prediction, find_scores, read_weights};
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};
use safetensors::{Dtype, SafeTensors};

/// Variants that a network looks at at a time.
const VARIANTS_PER_PASS: usize = 32;

/// Compares and commits those of `fits`, none of which is trained, that are not `refused`; whether one of the
/// commits is this attempt's.
///
/// # Errors
/// `Invalid` naming what no fit can read; `Corrupt` where a fit or a set that was committed is gone;
/// `Unavailable` once told to stop; store errors.
pub(super) async fn evaluate_all<'a>(
    context: &UnitContext<'_>,
    unit: &FitUnit,
    fits: &[&'a Fit],
    (manifest, budget_bytes): (&DatasetManifest, u64),
    refused: &mut Refused<'a>,
) -> Result<bool> {
    let names = &manifest.schema.targets;
    let (mut scores, mut windows) = (None, None);
    let mut is_won = false;
    for fit in fits {
        context.check_stop()?;
        let evaluated = match &fit.probe {
            ProbeSpec::ZeroShot { score, absolute } => {
                if scores.is_none() {
                    scores = Some(StoredScores::read(context, unit, manifest).await?);
                }
                let Some(stored) = &scores else { continue };
                let values = stored.compared(*score, *absolute)?;
                let compared = Compared { fit, names, measured: &stored.measured, values };
                let note = notes(*score, *absolute);
                tokio::task::block_in_place(|| compared.evaluate(&[], Form::Absolute, note))
            }
            ProbeSpec::Applied { fit: base, targets } => {
                if windows.is_none() {
                    let source = &unit.features;
                    let read = reading::read(context.store, (source, None), manifest, budget_bytes);
                    windows = Some(read.await?);
                }
                let Some(examples) = &windows else { continue };
                let left = left_by(context, base).await?;
                let made = tokio::task::block_in_place(|| effects(examples, left.open()?));
                let Some((values, note)) = refused.sort_out(fit, made)? else { continue };
                let measured = &examples.measured;
                let compared = Compared { fit, names, measured, values };
                tokio::task::block_in_place(|| compared.evaluate(targets, Form::Signed, note))
            }
            _ => return Err(Error::bug("a probe that is fitted")),
        };
        is_won |= commit(context, fit, evaluated, (None, None)).await?;
    }
    Ok(is_won)
}

/// The columns of a set of scores.
struct StoredScores {
    columns: Vec<String>,
    rows: Rows,
    measured: Measured,
}

impl StoredScores {
    async fn read(
        context: &UnitContext<'_>,
        unit: &FitUnit,
        manifest: &DatasetManifest,
    ) -> Result<Self> {
        let store = context.store;
        let FeatureSource::Embedding { set, layer, pooling } = &unit.features else {
            return Err(Error::bug("scores that no set holds"));
        };
        let measured = reading::measured(store, manifest).await?;
        let columns = read_set(store, set).await.map_err(lost_input)?.columns;
        let range = (0, manifest.rows);
        let rows = read_rows(store, set, (*layer, *pooling), range).await.map_err(lost_input)?;
        if rows.ids != measured.ids || rows.width != columns.len() {
            let expected = format!("{} examples with {}", measured.ids.len(), columns.join(", "));
            return Err(Error::corrupt(format!(
                "embedding set {set}: expected {expected}, found {} others of {} values",
                rows.ids.len(),
                rows.width
            )));
        }
        Ok(Self { columns, rows, measured })
    }

    /// What of `score` is compared with |effect|: of the cosine what it lacks of one, turned round,
    /// since a cosine next to one has no digits left.
    fn compared(&self, score: Score, absolute: bool) -> Result<Vec<f64>> {
        let name = score.columns().first().copied().unwrap_or_default();
        let column = self.columns.iter().position(|known| known == name);
        let column = column.ok_or_else(|| {
            Error::corrupt(format!("a set of scores without {name}: {}", self.columns.join(", ")))
        })?;
        let values = self.rows.values.iter().skip(column).step_by(self.rows.width.max(1));
        let form = |&value: &f32| match (score, absolute) {
            (Score::Cosine, _) => -f64::from(value),
            (_, true) => f64::from(value).abs(),
            (_, false) => f64::from(value),
        };
        Ok(values.map(form).collect())
    }
}

fn notes(score: Score, absolute: bool) -> Vec<String> {
    let compared = match (score, absolute) {
        (Score::Cosine, _) => "cos - 1, which differs from the cosine by a constant,",
        (_, true) => "the absolute score",
        (_, false) => "the score",
    };
    vec![format!("{compared} is compared with the absolute effect")]
}

/// How effects are compared.
#[derive(Clone, Copy)]
enum Form {
    Absolute,
    Signed,
}

/// Values of every variant, to be compared with its effect.
struct Compared<'a> {
    fit: &'a Fit,
    names: &'a [String],
    measured: &'a Measured,
    values: Vec<f64>,
}

impl Compared<'_> {
    /// Statistics over the elements `chosen`, all if there are none.
    fn evaluate(&self, chosen: &[String], form: Form, mut notes: Vec<String>) -> Evaluated {
        let rows: Vec<usize> = (0..self.values.len()).collect();
        let columns = self.names.iter().zip(self.measured.targets_of(&rows));
        let columns = columns.filter(|(name, _)| chosen.is_empty() || chosen.contains(name));
        let (elements, mut effects): (Vec<String>, Vec<Vec<f64>>) =
            columns.map(|(name, column)| (name.clone(), column)).unzip();
        if matches!(form, Form::Absolute) {
            effects.iter_mut().flatten().for_each(|effect| *effect = effect.abs());
        }
        let scored =
            ScoredVariants { elements: &elements, effects: &effects, scores: &self.values };
        let seed = self.fit.identity.seed;
        let statistics = effect_statistics(&scored, seed, matches!(form, Form::Absolute));
        notes.extend(undefined(&statistics));
        let mut predictions = Vec::new();
        for (element, effects) in elements.iter().zip(&effects) {
            let rows = self.measured.ids.iter().zip(effects).zip(&self.values);
            predictions.extend(rows.map(|((id, &effect), &value)| Prediction {
                id: id.clone(),
                split: Split::Test,
                target: element.clone(),
                measured: effect as f32,
                prediction: value as f32,
            }));
        }
        Evaluated { statistics, predictions, notes }
    }
}

/// What a fit of another data set left.
enum Base {
    /// A network's weights, and where they lie.
    Network(Box<VariantProbe>),
    /// A closed form.
    Linear(FittedProbe),
    /// Nothing, as the fit itself says.
    Nothing(Vec<String>),
}

/// What a fit of another data set left, as it is stored.
enum Left {
    /// Weights, and where they lie.
    Weights(Bytes, String),
    /// Nothing, as the fit itself says.
    Nothing(Vec<String>),
}

impl Left {
    fn open(self) -> Result<Base> {
        let (bytes, place) = match self {
            Self::Weights(bytes, place) => (bytes, place),
            Self::Nothing(notes) => return Ok(Base::Nothing(notes)),
        };
        match linear(&bytes, &place)? {
            Some(fitted) => Ok(Base::Linear(fitted)),
            None => Ok(Base::Network(Box::new(VariantProbe::of_fit(&bytes, &place)?))),
        }
    }
}

/// Reads the fit `base`, which an earlier unit committed.
async fn left_by(context: &UnitContext<'_>, base: &FitId) -> Result<Left> {
    let store = context.store;
    let found = find_scores(store, base).await?;
    let scores: FitScores = found.ok_or_else(|| {
        lost_input(Error::not_found(format!("fit {base} in {}, which is applied", store.url())))
    })?;
    if !scores.objects.iter().any(|object| object.role == "weights") {
        return Ok(Left::Nothing(scores.notes));
    }
    let bytes = read_weights(store, &scores).await.map_err(lost_input)?;
    Ok(Left::Weights(bytes, format!("weights of fit {base} in {}", store.url())))
}

/// The closed form that `bytes` holds; `None` for a network.
fn linear(bytes: &Bytes, place: &str) -> Result<Option<FittedProbe>> {
    let defect = |found: String| {
        Error::corrupt(InputError::new(place, "", "weights of a probe", found).to_string())
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| defect(e.to_string()))?;
    let (Ok(weights), Ok(intercepts)) = (file.tensor("coefficients"), file.tensor("intercepts"))
    else {
        return Ok(None);
    };
    if weights.dtype() != Dtype::F64 || intercepts.dtype() != Dtype::F64 {
        return Err(defect(format!("{:?}", weights.dtype())));
    }
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    };
    let intercepts = numbers(intercepts.data());
    let values = numbers(weights.data());
    if intercepts.len() != 1 {
        let found = format!("{} targets", intercepts.len());
        return Err(InputError::new(place, "", "one target", found).into());
    }
    Ok(Some(FittedProbe {
        coefficients: vec![values],
        intercepts,
        // An effect is a difference of predictors, not of probabilities.
        link: Link::Identity,
        converged: true,
        iterations: 0,
        notes: Vec::new(),
        unfitted: Vec::new(),
    }))
}

/// f(alternative) - f(reference) of every variant, and what people should know of it.
fn effects(examples: &Examples, base: Base) -> Result<(Vec<f64>, Vec<String>)> {
    let rows = examples.measured.ids.len();
    let [reference, alternative] = examples.sides.as_slice() else {
        let found = format!("{} sequences", examples.sides.len());
        let expected = "two sequences, a reference and an alternative";
        return Err(InputError::new("examples", "", expected, found).into());
    };
    let mut probe = match base {
        Base::Nothing(notes) => {
            let why = format!("the fit that is applied left no weights: {}", notes.join("; "));
            return Ok((vec![f64::NAN; rows], vec![why]));
        }
        Base::Network(probe) => Applicable::Network(probe),
        Base::Linear(fitted) => Applicable::Linear(fitted),
    };
    let expected = match &probe {
        Applicable::Network(probe) => probe.input().values(),
        Applicable::Linear(fitted) => fitted.coefficients.first().map_or(0, Vec::len),
    };
    let values = reference.values();
    let is_other = match &probe {
        Applicable::Network(probe) => probe.input() != *reference,
        Applicable::Linear(_) => false,
    };
    if reference != alternative || values != expected || is_other {
        let expected = format!("windows that give {expected} values, as the fit reads");
        return Err(InputError::new("examples", "", expected, reference).into());
    }
    let mut found = Vec::with_capacity(rows);
    let all: Vec<usize> = (0..rows).collect();
    for part in all.chunks(VARIANTS_PER_PASS) {
        let matrix = examples.matrix(part)?;
        found.extend(probe.differences(&matrix, values)?);
    }
    Ok((found, Vec::new()))
}

/// A fit, ready to predict.
enum Applicable {
    Network(Box<VariantProbe>),
    Linear(FittedProbe),
}

impl Applicable {
    /// Differences for rows that hold both windows' features side by side, `values` each.
    fn differences(&mut self, rows: &Matrix, values: usize) -> Result<Vec<f64>> {
        match self {
            Self::Network(probe) => {
                let predicted = probe.predict(rows.values())?;
                let pairs = predicted.as_chunks::<2>().0.iter();
                Ok(pairs.map(|[from, to]| f64::from(*to) - f64::from(*from)).collect())
            }
            Self::Linear(fitted) => {
                let both = Matrix::new(rows.rows() * 2, values, rows.values().to_vec())?;
                let predicted = fitted.predict(&both)?.pop().unwrap_or_default();
                let pairs = predicted.as_chunks::<2>().0.iter();
                Ok(pairs.map(|[from, to]| to - from).collect())
            }
        }
    }
}
