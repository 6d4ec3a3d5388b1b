//! From `[[probe]]` tables to checked probes.
//!
//! Leaves out: layers of a user's own network (layers); which representations a probe reads (planned).
//! Invariant: a key that a kind does not have is refused, never ignored.

use super::{Place, effects, grid, layers};
use crate::dataset::TaskName;
use crate::error::InputError;
use crate::job::{
    JobDataset, JobModel, JobProbe, NetworkChoice, NetworkKind, OrderName, ProbeChoice,
    ProbeLayers, ProbeTable, TrainingChanges,
};
use crate::network::ChipFront;
use crate::unit::{LOGISTIC_C, LOGISTIC_ITERATIONS_MAX, ProbeSpec, RIDGE_ALPHA};
use std::collections::BTreeSet;

/// Repeats of one probe at most; each is a fit of its own.
const REPEATS_MAX: u32 = 10_000;
/// Largest width factor.
const FACTOR_MAX: f64 = 64.0;
/// Largest batch; its activations are in memory at once.
const BATCH_ROWS_MAX: u32 = 1 << 20;
/// Kinds of probes that [`NetworkChoice::names`] leaves out.
const OTHER_KINDS: [&str; 6] =
    ["ridge", "least-squares", "logistic", "network", "published", "variant-effect"];
/// Names of what probes read.
const REPRESENTATIONS: [&str; 6] = ["one-hot", "kmer", "nucleotides", "cls", "mean", "full"];

/// A table, the place of its file and its key.
struct Written<'a> {
    place: &'a Place<'a>,
    key: String,
    table: &'a ProbeTable,
}

impl Written<'_> {
    fn wrong(
        &self,
        name: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> InputError {
        self.place.wrong(&format!("{}.{name}", self.key), expected, found)
    }

    /// `value` if `is_good`.
    fn checked<T: std::fmt::Display>(
        &self,
        name: &str,
        value: Option<T>,
        expected: &str,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, InputError> {
        match value {
            Some(value) if !is_good(&value) => Err(self.wrong(name, expected, value)),
            value => Ok(value),
        }
    }

    /// A non-empty list without repeats, all of them good.
    fn axis(
        &self,
        name: &str,
        values: &Option<Vec<f64>>,
        expected: &str,
        is_good: impl Fn(f64) -> bool,
    ) -> Result<Option<Vec<f64>>, InputError> {
        let Some(values) = values else { return Ok(None) };
        let good = values.iter().all(|value| is_good(*value));
        let is_twice = |(i, value): (usize, &f64)| values[..i].contains(value);
        if values.is_empty() || !good || values.iter().enumerate().any(is_twice) {
            return Err(self.wrong(name, expected, format!("{values:?}")));
        }
        Ok(Some(values.clone()))
    }

    /// A finite number above zero, if there is one.
    fn positive(&self, name: &str, value: Option<f64>) -> Result<Option<f64>, InputError> {
        let is_good = |value: &f64| value.is_finite() && *value > 0.0;
        self.checked(name, value, "a positive number", is_good)
    }
}

/// Checks all probes of a job.
pub(super) fn check(
    place: &Place<'_>,
    tables: &[ProbeTable],
    models: &[JobModel],
    datasets: &[JobDataset],
) -> Result<Vec<JobProbe>, InputError> {
    let mut own_names = BTreeSet::new();
    let mut probes = Vec::new();
    for (i, table) in tables.iter().enumerate() {
        let written = Written { place, key: format!("probe[{i}]"), table };
        let probe = check_probe(&written, models, datasets)?;
        if let ProbeChoice::Network(choice) = &probe.choice
            && let NetworkKind::Own { name, .. } = &choice.kind
            && !own_names.insert(name.clone())
        {
            let expected = "a name of its own for each network";
            return Err(written.wrong("name", expected, format!("{name:?} twice")));
        }
        probes.push(probe);
    }
    Ok(probes)
}

/// One table; what the protocol decides stays open, since it depends on what is read.
fn check_probe(
    written: &Written<'_>,
    models: &[JobModel],
    datasets: &[JobDataset],
) -> Result<JobProbe, InputError> {
    let table = written.table;
    let choice = choice(written, datasets)?;
    refuse_others(written, &choice)?;
    if let Some(names) = &table.representations {
        let unknown = names.iter().find(|name| !REPRESENTATIONS.contains(&name.as_str()));
        if names.is_empty() || unknown.is_some() {
            let expected = format!("some of {}", REPRESENTATIONS.join(", "));
            let found = unknown.map_or("none".to_owned(), |name| format!("{name:?}"));
            return Err(written.wrong("representations", expected, found));
        }
    }
    let factors = written.axis(
        "factors",
        &table.factors,
        "different numbers above 0, at most 64",
        |factor| factor > 0.0 && factor <= FACTOR_MAX,
    )?;
    let fractions = written.axis(
        "fractions",
        &table.fractions,
        "different numbers above 0, at most 1",
        |fraction| fraction > 0.0 && fraction <= 1.0,
    )?;
    let repeats = written.checked("repeats", table.repeats, "1 to 10000", |repeats| {
        (1..=REPEATS_MAX).contains(repeats)
    })?;
    Ok(JobProbe {
        key: written.key.clone(),
        dataset_indices: probed(written, &choice, datasets)?,
        choice,
        representations: table.representations.clone(),
        factors: factors.unwrap_or_else(|| vec![1.0]),
        fractions,
        repeats,
        training: training(written)?,
        models: grid::models((written.place, &written.key), &table.models, models)?,
        layers: table.layers.as_ref().and_then(ProbeLayers::numbers).map(<[u32]>::to_vec),
    })
}

/// What the table's `kind` names, with the keys that belong to it.
fn choice(written: &Written<'_>, datasets: &[JobDataset]) -> Result<ProbeChoice, InputError> {
    let table = written.table;
    Ok(match table.kind.as_str() {
        "ridge" => ProbeChoice::Linear(ProbeSpec::Ridge {
            alpha: written.positive("alpha", table.alpha)?.unwrap_or(RIDGE_ALPHA),
        }),
        "least-squares" => ProbeChoice::Linear(ProbeSpec::LeastSquares),
        "logistic" => ProbeChoice::Linear(ProbeSpec::Logistic {
            c: written.positive("c", table.c)?.unwrap_or(LOGISTIC_C),
            iterations_max: written
                .checked("iterations_max", table.iterations_max, "at least 1", |count| *count >= 1)?
                .unwrap_or(LOGISTIC_ITERATIONS_MAX),
        }),
        "published" => ProbeChoice::Published,
        "variant-effect" => effects::applied(written.place, &written.key, table, datasets)?,
        "network" => {
            let name = table.name.clone().unwrap_or_else(|| "network".to_owned());
            super::check_name(written.place, &format!("{}.name", written.key), &name)?;
            // Reports would show two different probes under one name.
            let mut kinds = NetworkChoice::names().chain(OTHER_KINDS);
            if table.name.is_some() && kinds.any(|kind| kind.eq_ignore_ascii_case(&name)) {
                let expected = "a name that no kind of probe has";
                return Err(written.wrong("name", expected, format!("{name:?}")));
            }
            let network = layers::network(written.place, &written.key, table)?;
            ProbeChoice::Network(NetworkChoice::of(NetworkKind::Own { name, network }))
        }
        kind => {
            let kind = NetworkChoice::find(kind).ok_or_else(|| {
                let names: Vec<_> = NetworkChoice::names().collect();
                let expected = format!(
                    "ridge, least-squares, logistic, {}, network, published or \
                     variant-effect",
                    names.join(", ")
                );
                written.wrong("kind", expected, format!("{kind:?}"))
            })?;
            let reduce =
                written.checked("reduce", table.reduce, "1 to 65536 channels", |&reduce| {
                    (1..=65_536).contains(&reduce)
                })?;
            if kind == NetworkKind::SplicingCnn && table.front == Some(ChipFront::Reduced) {
                return Err(written.wrong("front", "\"raw\" or \"normalised\"", "\"reduced\""));
            }
            ProbeChoice::Network(NetworkChoice { kind, reduce, front: table.front })
        }
    })
}

/// Refuses keys that only other kinds have.
fn refuse_others(written: &Written<'_>, choice: &ProbeChoice) -> Result<(), InputError> {
    let t = written.table;
    let kind = match choice {
        ProbeChoice::Network(choice) => Some(&choice.kind),
        _ => None,
    };
    let is = |kinds: &[&str]| kinds.contains(&t.kind.as_str());
    let is_linear = matches!(choice, ProbeChoice::Linear(_));
    let is_own = matches!(kind, Some(NetworkKind::Own { .. }));
    let has_width = is(&["rep-cnn", "rep-mlp", "published"]);
    let is_applied = matches!(choice, ProbeChoice::Effects(_));
    let is_trained = !is_linear && !is_applied;
    let keys = [
        ("alpha", t.alpha.is_some(), is(&["ridge"])),
        ("c", t.c.is_some(), is(&["logistic"])),
        ("iterations_max", t.iterations_max.is_some(), is(&["logistic"])),
        ("name", t.name.is_some(), is_own),
        ("inputs", t.inputs.is_some(), is_own),
        ("layers", t.layers.as_ref().is_some_and(|layers| layers.tables().is_some()), is_own),
        ("trained_on", t.trained_on.is_some(), is_applied),
        ("probes", t.probes.is_some(), is_applied),
        ("targets", t.targets.is_some(), is_applied),
        ("factors", t.factors.is_some(), has_width || is_applied),
        ("fractions", t.fractions.is_some(), !is_applied),
        ("reduce", t.reduce.is_some(), is(&["rep-cnn"])),
        ("front", t.front.is_some(), is(&["chip-cnn", "splicing-cnn"])),
        ("repeats", t.repeats.is_some(), is_trained),
        // The study's probes differ in their loss; one for all would suit none.
        ("loss", t.loss.is_some(), kind.is_some()),
        ("learning_rate", t.learning_rate.is_some(), is_trained),
        ("learning_rate_min", t.learning_rate_min.is_some(), is_trained),
        ("batch", t.batch.is_some(), is_trained),
        ("epochs", t.epochs.is_some(), is_trained),
        ("order", t.order.is_some(), is_trained),
        ("buffer", t.buffer.is_some(), t.order == Some(OrderName::Buffered)),
        ("monitor", t.monitor.is_some(), is_trained),
        ("patience", t.patience.is_some(), is_trained && t.early_stopping != Some(false)),
        ("early_stopping", t.early_stopping.is_some(), is_trained),
        ("plateau", t.plateau.is_some(), is_trained),
        ("plateau_patience", t.plateau_patience.is_some(), is_trained && t.plateau != Some(false)),
        ("plateau_factor", t.plateau_factor.is_some(), is_trained && t.plateau != Some(false)),
        ("restore", t.restore.is_some(), is_trained),
        ("draws", t.draws.is_some(), is_trained),
        ("precision", t.precision.is_some(), is_trained),
    ];
    match keys.into_iter().find(|(_, given, known)| *given && !known) {
        None => Ok(()),
        Some((name, ..)) => {
            let setting = match name {
                "buffer" => " whose order is not buffered",
                "patience" if is_trained => " without early stopping",
                "plateau_patience" | "plateau_factor" if is_trained => " without plateau",
                _ => "",
            };
            let found = format!("{name} on a {} probe{setting}", t.kind);
            Err(written.wrong(name, "no such key", found))
        }
    }
}

/// The keys of training; ranges are those in which a step is defined, not those that are wise.
fn training(written: &Written<'_>) -> Result<TrainingChanges, InputError> {
    let t = written.table;
    let at_least_one = |value: &u32| *value >= 1;
    let batch_rows = written.checked("batch", t.batch, "1 to 1048576 examples", |rows| {
        (1..=BATCH_ROWS_MAX).contains(rows)
    })?;
    let plateau_factor =
        written.checked("plateau_factor", t.plateau_factor, "above 0 and below 1", |factor| {
            *factor > 0.0 && *factor < 1.0
        })?;
    let learning_rate_min =
        written.checked("learning_rate_min", t.learning_rate_min, "at least 0", |rate| {
            rate.is_finite() && *rate >= 0.0
        })?;
    let buffer = written.checked("buffer", t.buffer, "at least 1 example", at_least_one)?;
    let stop_patience = match t.early_stopping {
        Some(false) => Some(None),
        _ => t.patience.map(Some),
    };
    Ok(TrainingChanges {
        loss: t.loss,
        learning_rate: written.positive("learning_rate", t.learning_rate)?,
        learning_rate_min,
        batch_rows,
        epochs_max: written.checked("epochs", t.epochs, "at least 1", at_least_one)?,
        order: t.order.map(|order| order.with_buffer(buffer)),
        monitor: t.monitor,
        stop_patience,
        is_rate_kept: t.plateau == Some(false),
        plateau_patience: t.plateau_patience,
        plateau_factor,
        restore: t.restore,
        draws: t.draws,
        precision: t.precision,
    })
}

/// Data sets a probe is fitted on: the named ones, or all whose targets it suits.
fn probed(
    written: &Written<'_>,
    choice: &ProbeChoice,
    datasets: &[JobDataset],
) -> Result<Vec<usize>, InputError> {
    let suits = |dataset: &JobDataset| suits(choice, dataset.task);
    let of_tasks = grid::of_tasks((written.place, &written.key), &written.table.tasks, datasets)?;
    let is_of_tasks = |index: &usize| of_tasks.as_ref().is_none_or(|of| of.contains(index));
    let Some(names) = &written.table.datasets else {
        // A ridge on variants is a choice, never a default.
        let is_effects = matches!(choice, ProbeChoice::Effects(_));
        let is_usual = |dataset: &JobDataset| is_effects || dataset.task != TaskName::VariantEffect;
        let wanted = |i: &usize| suits(&datasets[*i]) && is_usual(&datasets[*i]) && is_of_tasks(i);
        return Ok((0..datasets.len()).filter(wanted).collect());
    };
    let mut indices = Vec::new();
    for name in names {
        let index = datasets.iter().position(|dataset| &dataset.name == name);
        let index = index.ok_or_else(|| {
            let known: Vec<_> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
            let expected = format!("names of [[dataset]] tables: {}", known.join(", "));
            written.wrong("datasets", expected, format!("{name:?}"))
        })?;
        if !suits(&datasets[index]) {
            let kind = &written.table.kind;
            let expected = format!("data sets with targets that a {kind} probe can fit");
            let found = format!("{name:?} of task {}", datasets[index].task.name());
            return Err(written.wrong("datasets", expected, found));
        }
        indices.push(index);
    }
    indices.retain(is_of_tasks);
    Ok(indices)
}

/// Whether a probe can be fitted on the targets and sequences of a task.
fn suits(choice: &ProbeChoice, task: TaskName) -> bool {
    use NetworkKind::{ChipCnn, Linear, Own, RbpCnn, RepMlp, SplicingCnn};
    let is_splicing = task == TaskName::Splicing;
    let has_targets = !matches!(task, TaskName::None | TaskName::VariantEffect);
    match choice {
        ProbeChoice::Linear(ProbeSpec::Logistic { .. }) => task.is_binary(),
        ProbeChoice::Linear(_) => task != TaskName::None,
        ProbeChoice::Published => has_targets,
        ProbeChoice::Effects(_) => task == TaskName::VariantEffect,
        ProbeChoice::Network(NetworkChoice { kind, .. }) => match kind {
            // They end in a sigmoid.
            ChipCnn | RbpCnn => task.is_binary(),
            SplicingCnn => is_splicing,
            RepMlp | Linear => has_targets,
            Own { network, .. } => has_targets && (network.inputs.len() == 2) == is_splicing,
            _ => has_targets && !is_splicing,
        },
    }
}
