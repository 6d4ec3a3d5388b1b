//! Attribution maps: which fits of the job are explained, beside which gLM, and what that costs.
//!
//! Leaves out: making maps (worker). Invariant: nothing here is trained; a unit of maps waits for every
//! unit that makes a fit it may explain.

use super::known::Known;
use super::sets::PlannedSet;
use super::{Planner, cost, model_ref};
use fits::{Chosen, Reads, choose};
use glmeval_common::attribution::{MapKind, REPRESENTATION};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::FitId;
use glmeval_common::job::published::{published_explained, published_of_states};
use glmeval_common::job::{JobAttribution, JobEmbedding};
use glmeval_common::plan::{EntrySpec, PlanEntry};
use glmeval_common::representation::{FeatureSource, FullRows, Pooling, SequenceFeature, Strands};
use glmeval_common::score::FitIdentity;
use glmeval_common::unit::{AttributionSpec, Fit, FitUnit, MaskedModel, ProbeSpec};
use std::collections::BTreeSet;

mod fits;
#[cfg(test)]
mod tests;

/// Bytes of a nucleotide of a map.
const VALUE_BYTES: u64 = 4;

/// Adds a unit for each data set and gLM that the job's tables ask for; fits are those of the units from
/// `first` on.
///
/// # Errors
/// `Invalid` naming the key where no fit suits, or no gLM, or equal maps are asked for under two names.
pub(super) fn add_attributions(
    planner: &mut Planner<'_>,
    sets: &[PlannedSet],
    first: u32,
) -> Result<()> {
    let mut known = Known::of("maps");
    for table in &planner.job.attributions {
        let mut is_empty = true;
        for dataset in 0..planner.datasets.len() {
            let entries = Table { planner: &*planner, sets, table, dataset, first }.entries()?;
            is_empty &= entries.is_empty();
            for (identity, entry) in entries {
                if known.is_new(planner, &table.key, &identity)? {
                    planner.push(entry)?;
                }
            }
        }
        if is_empty {
            let key = format!("{}.datasets", table.key);
            let expected = "at least one data set with a network on one-hot sequences";
            return Err(planner.wrong(&key, expected, "none").into());
        }
    }
    Ok(())
}

/// A table with one of the job's data sets.
struct Table<'a> {
    planner: &'a Planner<'a>,
    sets: &'a [PlannedSet],
    table: &'a JobAttribution,
    dataset: usize,
    first: u32,
}

/// A gLM beside the network, with the fits of its states.
struct Beside {
    masked: MaskedModel,
    /// Index into [`Planner::models`].
    model: usize,
    of_states: Option<Chosen>,
}

impl<'a> Table<'a> {
    fn wrong(&self, key: &str, expected: String, found: String) -> Error {
        self.planner.wrong(&format!("{}.{key}", self.table.key), expected, found).into()
    }

    fn name(&self) -> &'a str {
        &self.planner.job.datasets[self.dataset].name
    }

    /// The units of the data set, each with what its maps are.
    fn entries(&self) -> Result<Vec<(FitIdentity, PlanEntry)>> {
        let is_named = self.table.dataset_indices.is_some();
        if self.table.dataset_indices.as_ref().is_some_and(|all| !all.contains(&self.dataset)) {
            return Ok(Vec::new());
        }
        let schema = &self.planner.datasets[self.dataset].schema;
        if schema.sequences.len() != 1 || schema.targets.len() != 1 {
            let expected = "data sets of one sequence and one target".to_owned();
            let found = format!("{:?}", self.name());
            return if is_named {
                Err(self.wrong("datasets", expected, found))
            } else {
                Ok(Vec::new())
            };
        }
        let task = self.planner.job.datasets[self.dataset].task;
        let reads = Reads::OneHot;
        let explained = self.chosen("probe", (&self.table.probe, published_explained(task)), reads);
        let Some(explained) = explained? else {
            let wanted = self.table.probe.as_deref().or(published_explained(task));
            let expected = format!(
                "fits of {} on one-hot sequences of {}",
                wanted.unwrap_or("one network"),
                self.name()
            );
            return if is_named {
                Err(self.wrong("probe", expected, "none".to_owned()))
            } else {
                Ok(Vec::new())
            };
        };
        let beside = self.beside()?;
        if beside.is_empty() {
            return Ok(vec![self.entry(&explained, None)?]);
        }
        beside.iter().map(|one| self.entry(&explained, Some(one))).collect()
    }

    /// The gLMs of the table that suit the data set.
    fn beside(&self) -> Result<Vec<Beside>> {
        if !self.table.wants_model() {
            return Ok(Vec::new());
        }
        let (planner, table) = (self.planner, self.table);
        let mut names: Vec<&str> = Vec::new();
        for model in &planner.job.models {
            let is_asked = match &table.models {
                Some(asked) => asked.contains(&model.name),
                None => self.embeds(&model.name),
            };
            if is_asked && !names.contains(&model.name.as_str()) {
                names.push(&model.name);
            }
        }
        let mut found = Vec::new();
        for name in names {
            let (model, masked) = self.model(name)?;
            let facts = &planner.models[model];
            if !facts.is_masked() {
                if table.models.is_some() {
                    let expected = "gLMs that predict masked tokens".to_owned();
                    return Err(self.wrong("models", expected, format!("{name:?}")));
                }
                continue;
            }
            let (length, most) =
                (planner.datasets[self.dataset].length_max, planner.models[model].tokens_max);
            if facts.tokens(length) > most {
                let expected = format!("gLMs that read {length} nucleotides of {}", self.name());
                return Err(self.wrong("models", expected, format!("{name:?}, at most {most}")));
            }
            let of_states = self.of_states(name)?;
            found.push(Beside { masked, model, of_states });
        }
        Ok(found)
    }

    /// The representations of the gLM `name` on the data set that are states of the forward strand.
    fn embeddings(&self, name: &str) -> impl Iterator<Item = &'a JobEmbedding> {
        let (job, dataset, name) = (self.planner.job, self.dataset, name.to_owned());
        job.embeddings.iter().filter(move |one| {
            let is_it = job.models.get(one.model_index).is_some_and(|model| model.name == name);
            is_it && one.zero_shot.is_none() && one.reads(dataset)
        })
    }

    fn embeds(&self, name: &str) -> bool {
        self.embeddings(name).next().is_some()
    }

    /// The gLM `name` as it embeds the data set, where it does.
    fn model(&self, name: &str) -> Result<(usize, MaskedModel)> {
        let planner = self.planner;
        let by_name = || planner.job.models.iter().position(|model| model.name == name);
        let index = self.embeddings(name).next().map(|one| one.model_index).or_else(by_name);
        let index = index.ok_or_else(|| Error::bug("a gLM that was checked is there"))?;
        let (model, facts) = (&planner.job.models[index], &planner.models[index]);
        let dataset = &planner.datasets[self.dataset].id;
        let is_its = |set: &&PlannedSet| {
            set.model == index && set.spec.dataset == *dataset && !is_score(set)
        };
        let embedded = self.sets.iter().find(is_its).map(|set| set.spec.model.clone());
        let numeric_class = (planner.numeric_class)(model.options.precision);
        let model = embedded.unwrap_or_else(|| model_ref(&facts.id, model));
        Ok((index, MaskedModel { model, numeric_class }))
    }

    /// Fits on all states of the deepest layer of the gLM that there are fits of.
    fn of_states(&self, name: &str) -> Result<Option<Chosen>> {
        if !self.table.wants(MapKind::InformationGradient) {
            return Ok(None);
        }
        let dataset = &self.planner.datasets[self.dataset].id;
        let is_its = |set: &&PlannedSet| {
            let options = set.spec.options;
            set.spec.dataset == *dataset
                && set.spec.model.name == name
                && !is_score(set)
                && options.strands == Strands::Forward
        };
        let sets = self.sets.iter().filter(is_its).map(|set| &set.spec.id).collect();
        let task = self.planner.job.datasets[self.dataset].task;
        let wanted = (&self.table.embedding_probe, published_of_states(task));
        let found = self.chosen("embedding_probe", wanted, Reads::States(sets))?;
        let is_asked = self.table.embedding_probe.is_some() || self.table.kinds.is_some();
        if found.is_none() && is_asked {
            let probe = wanted.0.as_deref().or(wanted.1).unwrap_or("one network");
            let on = format!("pooling full of {name} on {}", self.name());
            let expected = format!("fits of {probe} on {on}");
            return Err(self.wrong("embedding_probe", expected, "none".to_owned()));
        }
        Ok(found)
    }

    /// The fits that a name, or the study's for the task, or the lack of others stands for.
    fn chosen(
        &self,
        key: &str,
        (named, published): (&Option<String>, Option<&str>),
        reads: Reads<'_>,
    ) -> Result<Option<Chosen>> {
        let dataset = &self.planner.datasets[self.dataset].id;
        let protocol = self.planner.job.protocol;
        let planned = self.planner.entries.iter().filter(|(unit, _)| *unit >= self.first);
        let units = planned.filter_map(|(unit, entry)| match &entry.spec {
            EntrySpec::Fit(made) if made.dataset == *dataset && reads.is_of(&made.features) => {
                Some((unit, &**made))
            }
            _ => None,
        });
        choose(units, (named.as_deref(), published), protocol)
            .map_err(|labels| self.wrong(key, labels.join(" or "), "all of these".to_owned()))
    }

    /// What the rows stand for that each of the chosen fits reads.
    fn state_rows(&self, chosen: &Chosen) -> Vec<FullRows> {
        let of_fit = |features: &FeatureSource| {
            let FeatureSource::Embedding { set, .. } = features else { return FullRows::Tokens };
            let planned = self.sets.iter().find(|planned| planned.spec.id == *set);
            planned.map_or(FullRows::Tokens, |planned| planned.spec.options.full_rows)
        };
        chosen.features.iter().map(of_fit).collect()
    }

    /// The unit that maps the data set with `explained` and `beside`.
    fn entry(
        &self,
        explained: &Chosen,
        beside: Option<&Beside>,
    ) -> Result<(FitIdentity, PlanEntry)> {
        let (planner, facts) = (self.planner, &self.planner.datasets[self.dataset]);
        let of_states = beside.and_then(|beside| beside.of_states.as_ref());
        let spec = AttributionSpec {
            explained: explained.fits.clone(),
            of_states: of_states.map_or_else(Vec::new, |chosen| chosen.fits.clone()),
            masked: beside.map(|beside| beside.masked.clone()),
            top: self.table.top,
            kinds: MapKind::ALL.into_iter().filter(|kind| self.table.wants(*kind)).collect(),
            logos: self.table.logos,
            state_rows: of_states.map_or_else(Vec::new, |chosen| self.state_rows(chosen)),
        };
        let task = planner.job.datasets[self.dataset].task;
        let mut identity = FitIdentity {
            fit: FitId::new(""),
            task: task.name().to_owned(),
            dataset: self.name().to_owned(),
            dataset_id: facts.id.clone(),
            model: beside.map(|beside| beside.masked.model.name.clone()),
            model_id: beside.map(|beside| beside.masked.model.id.clone()),
            layer: of_states.and_then(|chosen| chosen.layer),
            representation: REPRESENTATION.to_owned(),
            probe: explained.label.clone(),
            factor: explained.factor,
            fraction: explained.fraction,
            repeat: 0,
            seed: planner.job.seed,
            protocol: planner.job.protocol.name().to_owned(),
            trained_on: None,
        };
        identity.fit = maps_id(&identity, &spec)?;
        let candidates = facts.split_rows.get("test").copied().unwrap_or(facts.rows);
        let sequences = candidates.min(u64::from(self.table.top));
        let extents = super::reads::extents(&Reads::one_hot(), facts, None);
        let network = explained.architecture.network(&extents, 1);
        let network = network.and_then(|network| network.resolve(&extents)).ok();
        let mut flops =
            network.map_or(0.0, |network| cost::saliency_cost(&network, candidates, sequences));
        if let Some(beside) = beside {
            let model = &planner.models[beside.model];
            flops += cost::masking_cost(facts, model, (sequences, of_states.is_some()));
        }
        let values = sequences.saturating_mul(facts.length_max);
        let bytes = values.saturating_mul(VALUE_BYTES * spec.kinds.len() as u64 + 1);
        let units = explained.units.iter().chain(of_states.into_iter().flat_map(|of| &of.units));
        let units: BTreeSet<u32> = units.copied().collect();
        let prepared = planner.prepared_range(self.dataset);
        let made = units.into_iter().map(|unit| (unit, unit + 1));
        let unit = FitUnit {
            dataset: facts.id.clone(),
            task,
            features: Reads::one_hot(),
            fits: vec![Fit {
                identity: identity.clone(),
                probe: ProbeSpec::Attribution(Box::new(spec)),
            }],
            validated_on: None,
            training_class: None,
        };
        let spec = EntrySpec::Fit(Box::new(unit));
        let prerequisites = prepared.into_iter().chain(made).collect();
        Ok((identity, PlanEntry { spec, prerequisites, flops, bytes }))
    }
}

/// Whether a set holds scores of variants.
fn is_score(set: &PlannedSet) -> bool {
    set.spec.effects.is_some()
}

impl Reads<'_> {
    fn one_hot() -> FeatureSource {
        FeatureSource::Sequence(SequenceFeature::OneHot)
    }

    fn is_of(&self, features: &FeatureSource) -> bool {
        match (self, features) {
            (Self::OneHot, features) => *features == Self::one_hot(),
            (Self::States(sets), FeatureSource::Embedding { set, pooling, .. }) => {
                *pooling == Pooling::Full && sets.contains(&set)
            }
            (Self::States(_), FeatureSource::Sequence(_)) => false,
        }
    }
}

/// Digest of all that decides a map: names, places and logos are no part of it.
fn maps_id(identity: &FitIdentity, spec: &AttributionSpec) -> Result<FitId> {
    let joined = |fits: &[FitId]| fits.iter().map(FitId::as_str).collect::<Vec<_>>().join(",");
    let kinds: Vec<_> = spec.kinds.iter().map(|kind| kind.name()).collect();
    let mut digest = ContentDigest::new("attribution/1")
        .field("dataset", identity.dataset_id.as_str())
        .field("task", &identity.task)
        .field("explained", joined(&spec.explained))
        .field("of_states", joined(&spec.of_states))
        .field("top", spec.top.to_string())
        .field("kinds", kinds.join(","));
    if let Some(MaskedModel { model, numeric_class }) = &spec.masked {
        let options = serde_json::to_vec(&model.options)
            .map_err(|e| Error::bug("options of a gLM cannot be serialised").with_source(e))?;
        digest = digest
            .field("model", model.id.as_str())
            .field("options", options)
            .field("numeric_class", numeric_class);
    }
    Ok(FitId::new(digest.finish()))
}
