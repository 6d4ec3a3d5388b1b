//! A unit of maps: the test sequences that a trained network puts highest, mapped beside a gLM.
//!
//! Leaves out: making a map (mapper, mapping). Invariant: the same implementation as the command's, so
//! the same bytes; what is committed depends on the unit and the store alone.

use super::{
    EmbeddingGradients, Entropies, EntropyMaximum, EntropySpool, MapKind, MapTables, Mapper, Named,
    PairCorrelation, Ranking, Sequences, map_all,
};
use crate::attempt::{UnitContext, is_sound, lost_input};
use crate::model::Model;
use crate::row_table::TableFormat;
use crate::training::cache::nameless_file;
use crate::variants::{VariantProbe, published};
use bytes::Bytes;
use glmeval_common::error::{Error, ErrorKind, InputError, Result, io_error};
use glmeval_common::example::{Example, Split};
use glmeval_common::ids::FitId;
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::representation::FullRows;
use glmeval_common::score::{FitScores, Statistic};
use glmeval_common::store::examples::{DatasetManifest, decode_part, parts_of, read_manifest};
use glmeval_common::store::fits::{
    check_fit, commit_maps, find_scores, read_history, read_weights,
};
use glmeval_common::unit::{AttributionSpec, Fit, FitUnit, MaskedModel};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// Sequences that are ranked or mapped at a time.
const SEQUENCES_AT_ONCE: usize = 64;

/// Opens the gLM of a unit on this worker's device, checked against what was planned.
pub(crate) type OpenMasked<'a> = dyn Fn(&MaskedModel) -> Result<Arc<Model>> + Sync + 'a;

/// Makes and commits the maps of a unit that are not committed yet; whether a commit is this attempt's.
///
/// # Errors
/// `Invalid` naming what does not fit; `Corrupt` where a fit that was committed is gone; `Unavailable`
/// once told to stop; store errors.
pub(crate) async fn attribute(
    context: &UnitContext<'_>,
    unit: &FitUnit,
    open: &OpenMasked<'_>,
) -> Result<bool> {
    let mut is_won = false;
    for fit in &unit.fits {
        let spec = fit.probe.attribution().ok_or_else(|| Error::bug("a unit of other fits"))?;
        let standing = find_scores(context.store, fit.id()).await;
        let check = async |scores: FitScores| check_fit(context.store, &scores).await;
        if is_sound(standing, check).await? {
            continue;
        }
        let manifest = read_manifest(context.store, &unit.dataset).await.map_err(lost_input)?;
        is_won |= make(context, fit, spec, (&manifest, open)).await?;
    }
    Ok(is_won)
}

/// A fit that was chosen, and what is to be said of the choice.
struct ChosenFit {
    probe: Option<VariantProbe>,
    /// Its number among those it was chosen from.
    index: usize,
    /// As reports name what it reads.
    representation: String,
    note: String,
}

impl ChosenFit {
    /// What the rows stand for that it reads.
    fn state_rows(&self, spec: &AttributionSpec) -> FullRows {
        let planned = spec.state_rows.get(self.index).copied();
        planned.unwrap_or_else(|| rows_by_label(&self.representation))
    }
}

/// What the rows of a representation stand for, as far as its name says; for plans that do not say it.
fn rows_by_label(representation: &str) -> FullRows {
    if representation.contains("per nucleotide") { FullRows::Nucleotides } else { FullRows::Tokens }
}

async fn make(
    context: &UnitContext<'_>,
    fit: &Fit,
    spec: &AttributionSpec,
    (manifest, open): (&DatasetManifest, &OpenMasked<'_>),
) -> Result<bool> {
    let explained = chosen(context, &spec.explained, "explained").await?;
    let mut notes = vec![explained.note];
    let of_states = match spec.of_states.is_empty() {
        true => None,
        false => Some(chosen(context, &spec.of_states, "gradients of states").await?),
    };
    notes.extend(of_states.as_ref().map(|chosen| chosen.note.clone()));
    let Some(probe) = explained.probe else {
        return commit(context, fit, (Vec::new(), notes), None).await;
    };
    let model = match &spec.masked {
        Some(masked) => Some(tokio::task::block_in_place(|| open(masked))?),
        None => None,
    };
    let gradients = of_states.and_then(|chosen| {
        let rows = chosen.state_rows(spec);
        Some((chosen.probe?, rows))
    });
    let mut mapper =
        mapper(probe, model.as_deref(), gradients, &mut notes)?.with_kinds(&spec.kinds);
    context.progress().set_rows_total(context.progress().rows_done() + manifest.rows);
    let held = rank(context, &mut mapper, (manifest, spec.top as usize)).await?;
    if held.is_empty() {
        let place = format!("data set {}", manifest.name);
        return Err(InputError::new(place, "", "sequences of the test split", "none").into());
    }
    let ranked = Ranked { held, dataset: &manifest.name };
    let (maps, sequences, maximum, pairs) =
        tokio::task::block_in_place(|| map(context, &mut mapper, &ranked))?;
    notes.extend(maximum.map(|maximum| entropy_note(&maximum, &ranked.held)));
    notes.extend(pairs.iter().filter(|pair| pair.undefined > 0).map(undefined_note));
    let statistics = pairs.iter().flat_map(statistics).collect();
    commit(context, fit, (statistics, notes), Some((maps, sequences))).await
}

/// The repeat with the lowest loss on the validation split; of one, that one.
async fn chosen(context: &UnitContext<'_>, fits: &[FitId], what: &str) -> Result<ChosenFit> {
    let store = context.store;
    let mut best: Option<(f64, usize, FitScores)> = None;
    for (index, id) in fits.iter().enumerate() {
        let scores = find_scores(store, id).await?.ok_or_else(|| {
            lost_input(Error::not_found(format!("fit {id} in {}, which is read", store.url())))
        })?;
        if !scores.objects.iter().any(|object| object.role == "weights") {
            continue;
        }
        let loss = match fits.len() {
            1 => 0.0,
            _ => {
                let history = read_history(store, &scores).await.map_err(lost_input)?;
                let losses = history.iter().filter_map(|epoch| epoch.val_loss);
                losses.filter(|loss| loss.is_finite()).fold(f64::INFINITY, f64::min)
            }
        };
        if best.as_ref().is_none_or(|(lowest, ..)| loss < *lowest) {
            best = Some((loss, index, scores));
        }
    }
    let Some((loss, index, scores)) = best else {
        let note = format!("{what}: none, as the fits that were planned left no weights");
        return Ok(ChosenFit { probe: None, index: 0, representation: String::new(), note });
    };
    let identity = &scores.identity;
    let by = match fits.len() {
        1 => String::new(),
        count => format!(", of {count} repeats the one with the lowest validation loss, {loss:.6}"),
    };
    let (probe, fit, repeat) = (&identity.probe, &identity.fit, identity.repeat);
    let note = format!("{what}: {probe}, repeat {repeat}, fit {fit}{by}");
    let bytes = read_weights(store, &scores).await.map_err(lost_input)?;
    let place = format!("weights of fit {fit} in {}", store.url());
    // A network of states is told apart by what the planner looked for.
    let probe = tokio::task::block_in_place(|| match &identity.model_id {
        Some(_) => VariantProbe::of_fit(&bytes, &place),
        None => VariantProbe::decode(&bytes, &place),
    })?;
    let representation = identity.representation.clone();
    Ok(ChosenFit { probe: Some(probe), index, representation, note })
}

/// What makes the maps that can be made; what cannot is noted.
fn mapper<'m>(
    probe: VariantProbe,
    model: Option<&'m Model>,
    gradients: Option<(VariantProbe, FullRows)>,
    notes: &mut Vec<String>,
) -> Result<Mapper<'m>> {
    let Some(model) = model else { return Mapper::new(Some(probe), None, None) };
    let entropies = match Entropies::new(model) {
        Ok(entropies) => entropies,
        // Weights without their head are sound; only opening them tells.
        Err(error) if error.kind() == ErrorKind::Invalid => {
            notes.push(error.chain());
            return Mapper::new(Some(probe), None, None);
        }
        Err(error) => return Err(error),
    };
    let pads = !published(&model.facts().architecture).padded.is_empty();
    let gradients = gradients.map(|(probe, rows)| {
        let gradients = EmbeddingGradients::new(model, probe, pads)?;
        Ok::<_, Error>(match rows {
            FullRows::Tokens => gradients,
            FullRows::Nucleotides => gradients.per_nucleotide(),
        })
    });
    Mapper::new(Some(probe), Some(entropies), gradients.transpose()?)
}

/// The sequences of the test split with the highest output, a part of the data set at a time.
async fn rank(
    context: &UnitContext<'_>,
    mapper: &mut Mapper<'_>,
    (manifest, top): (&DatasetManifest, usize),
) -> Result<Vec<Named>> {
    let mut ranking = Ranking::new(top);
    for (part, rows) in parts_of(manifest, (0, manifest.rows))? {
        let bytes = context.store.get_verified(&part.object).await.map_err(lost_input)?;
        tokio::task::block_in_place(|| {
            let examples = decode_part(context.store, manifest, part, rows, bytes)?;
            let rows = examples.len() as u64;
            let tested = (part.first_row..).zip(examples).filter_map(tested);
            let mut tested = tested.peekable();
            let mut ranked = 0;
            while tested.peek().is_some() {
                context.check_stop()?;
                let some: Vec<Named> =
                    tested.by_ref().take(SEQUENCES_AT_ONCE).collect::<Result<_>>()?;
                let count = some.len() as u64;
                ranking.take(mapper, some)?;
                context.done(count);
                ranked += count;
            }
            // Those of other splits are through as well.
            context.done(rows - ranked);
            Ok::<(), Error>(())
        })?;
    }
    Ok(ranking.finish())
}

/// The sequence of an example of the test split.
fn tested((row, example): (u64, Example)) -> Option<Result<Named>> {
    if example.split != Some(Split::Test) {
        return None;
    }
    let (id, count) = (example.id, example.sequences.len());
    let mut sequences = example.sequences.into_iter();
    Some(match (sequences.next(), count) {
        (Some(sequence), 1) => Ok(Named { row, id, sequence }),
        _ => Err(Error::corrupt(format!("example {id}: expected one sequence, found {count}"))),
    })
}

/// The ranked sequences of a data set.
struct Ranked<'a> {
    held: Vec<Named>,
    dataset: &'a str,
}

impl Sequences for Ranked<'_> {
    fn each(&self, take: &mut dyn FnMut(&[Named]) -> Result<()>) -> Result<()> {
        self.held.chunks(SEQUENCES_AT_ONCE).try_for_each(take)
    }

    fn told(&self, one: &Named, error: Error) -> Error {
        error.context(format!("{}: sequence {} (row {})", self.dataset, one.id, one.row))
    }
}

type MadeMaps = (Bytes, Bytes, Option<EntropyMaximum>, Vec<PairCorrelation>);

/// Both files and what is said of them.
fn map(
    context: &UnitContext<'_>,
    mapper: &mut Mapper<'_>,
    ranked: &Ranked<'_>,
) -> Result<MadeMaps> {
    let place = std::env::temp_dir();
    let kinds: Vec<MapKind> = mapper.kinds();
    let longest = ranked.held.iter().map(|one| one.sequence.len() as u64).max().unwrap_or(0);
    let size = (ranked.held.len() as u64, longest);
    // Beside a gLM every sequence is masked first.
    let stages = if mapper.entropies().is_some() { 2 } else { 1 };
    context.progress().set_rows_total(context.progress().rows_total() + stages * size.0);
    let rows = (Vec::new(), TableFormat::Parquet);
    let ids: Vec<&str> = ranked.held.iter().map(|one| one.id.as_str()).collect();
    let file = (nameless_file()?, place.as_path());
    let mut tables = MapTables::new(file, rows, &kinds, size, Some(&ids))?;
    let maximum = map_all(
        mapper,
        ranked,
        || Ok(EntropySpool::on(nameless_file()?, &place)),
        &mut |_, count| {
            context.done(count);
            context.check_stop()
        },
        &mut |sequences, mapped| tables.push(sequences, mapped).map(drop),
    )?;
    let (file, sequences, pairs) = tables.finish()?;
    Ok((whole(file, &place)?, sequences.into(), maximum, pairs))
}

fn whole(mut file: std::fs::File, place: &Path) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    read.map_err(|e| io_error(place, e))?;
    Ok(bytes.into())
}

fn entropy_note(maximum: &EntropyMaximum, held: &[Named]) -> String {
    let (value, token) = (maximum.value.unwrap_or(f64::NAN), maximum.token);
    let place = usize::try_from(maximum.sequence).ok().and_then(|place| held.get(place));
    let id = place.map_or("", |one| one.id.as_str());
    format!("largest entropy {value:.6} nats, of token {token} of {id}")
}

fn undefined_note(pair: &PairCorrelation) -> String {
    let PairCorrelation { map, other, undefined, .. } = pair;
    format!("{map} and {other}: undefined for {undefined} sequences, which are left out")
}

/// Mean correlations of absolute values, named as the published ones.
fn statistics(pair: &PairCorrelation) -> [Statistic; 2] {
    let one = |name: &str, value: Option<f64>| Statistic {
        name: name.to_owned(),
        split: Split::Test.name().to_owned(),
        target: format!("{} vs {}", pair.map, pair.other),
        value,
        low: None,
        high: None,
        examples: pair.sequences,
    };
    [one("map_pearson", pair.pearson), one("map_spearman", pair.spearman)]
}

async fn commit(
    context: &UnitContext<'_>,
    fit: &Fit,
    (statistics, notes): (Vec<Statistic>, Vec<String>),
    files: Option<(Bytes, Bytes)>,
) -> Result<bool> {
    let scores = FitScores {
        version: FORMAT_VERSION,
        identity: fit.identity.clone(),
        statistics,
        objects: Vec::new(),
        seconds: context.seconds(),
        worker: context.worker.to_string(),
        notes,
    };
    Ok(commit_maps(context.store, context.attempt, scores, files).await?.is_won())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(state_rows: &[FullRows], index: usize, representation: &str) -> FullRows {
        let spec = AttributionSpec {
            explained: Vec::new(),
            of_states: Vec::new(),
            masked: None,
            top: 1,
            kinds: Vec::new(),
            logos: 0,
            state_rows: state_rows.to_vec(),
        };
        let (representation, note) = (representation.to_owned(), String::new());
        ChosenFit { probe: None, index, representation, note }.state_rows(&spec)
    }

    #[test]
    fn rows_are_those_of_the_plan_and_in_older_plans_those_of_the_name() {
        let (tokens, nucleotides) = (FullRows::Tokens, FullRows::Nucleotides);
        assert_eq!(rows(&[tokens, nucleotides], 1, "full"), nucleotides);
        assert_eq!(rows(&[tokens, nucleotides], 0, "full (per nucleotide)"), tokens);
        assert_eq!(rows(&[], 1, "full (both strands, per nucleotide)"), nucleotides);
        assert_eq!(rows(&[], 0, "full"), tokens);
    }
}
