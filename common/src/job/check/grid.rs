//! Tables that stand for several data sets, published gLMs, and filters, checked.
//!
//! Leaves out: what an archive holds (worker). Invariant: an error on a filter names what there is.

use super::Place;
use crate::dataset::{DatasetSource, TaskName};
use crate::error::InputError;
use crate::job::{
    DatasetSpec, JobDataset, JobEmbedding, JobModel, JobSpec, ModelSpec, Protocol,
    RepresentationSpec, SetNames, SetsOfTask,
};
use crate::model::published::{self, PublishedModel};
use crate::model::{ModelOptions, Padding};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where a key is: its file, and the key of its table.
type At<'a> = (&'a Place<'a>, &'a str);

/// Every `[[dataset]]` table with its key, those with `names` once for each name.
pub(super) fn expanded(
    place: &Place<'_>,
    tables: &[DatasetSpec],
    sets: &SetsOfTask<'_>,
) -> Result<Vec<(String, DatasetSpec)>, InputError> {
    let mut all = Vec::new();
    for (i, table) in tables.iter().enumerate() {
        let key = format!("dataset[{i}]");
        let Some(names) = &table.names else {
            all.push((key, table.clone()));
            continue;
        };
        if !table.name.is_empty() {
            let expected = "either name or names";
            return Err(place.wrong(&key, expected, "both"));
        }
        let names = match names {
            SetNames::List(names) => names.clone(),
            SetNames::Word(word) if word == "all" && table.archive.is_some() => sets(table.task),
            SetNames::Word(word) => {
                let expected = "a list of names, or \"all\" with archive";
                return Err(place.wrong(&format!("{key}.names"), expected, format!("{word:?}")));
            }
        };
        if names.is_empty() {
            let expected = format!("names, or a task with sets, not {:?}", table.task.name());
            return Err(place.wrong(&format!("{key}.names"), expected, "none"));
        }
        all.extend(names.iter().map(|name| (key.clone(), named(table, name))));
    }
    Ok(all)
}

/// A table with a name for `names`, and in its paths for `{name}`.
fn named(table: &DatasetSpec, name: &str) -> DatasetSpec {
    let mut table = DatasetSpec { name: name.to_owned(), names: None, ..table.clone() };
    let paths = [
        &mut table.fasta,
        &mut table.bed,
        &mut table.narrowpeak,
        &mut table.table,
        &mut table.parquet,
        &mut table.hdf5,
    ];
    for path in paths.into_iter().flatten() {
        if let Some(text) = path.to_str() {
            *path = PathBuf::from(text.replace("{name}", name));
        }
    }
    table
}

/// A data set of the study's archive; neither folder nor file need be there yet.
pub(super) fn archived(
    at: At<'_>,
    spec: &DatasetSpec,
    root: &Path,
) -> Result<JobDataset, InputError> {
    let (place, key) = at;
    if spec.task == TaskName::None {
        let expected = "the task whose data set of the archive is meant";
        return Err(place.wrong(&format!("{key}.task"), expected, "none"));
    }
    let others = [
        ("fasta", spec.fasta.is_some()),
        ("bed", spec.bed.is_some()),
        ("narrowpeak", spec.narrowpeak.is_some()),
        ("windows", spec.windows.is_some()),
        ("table", spec.table.is_some()),
        ("parquet", spec.parquet.is_some()),
        ("variants", spec.variants.is_some()),
        ("psi", spec.psi.is_some()),
        ("peaks", spec.peaks.is_some()),
        ("tfrecord", spec.tfrecord.is_some()),
    ];
    if let Some((other, _)) = others.iter().find(|(_, given)| *given) {
        let expected = "no source but archive, and hdf5 for where below it the file lies";
        return Err(place.wrong(&format!("{key}.{other}"), expected, format!("{other} as well")));
    }
    let source = DatasetSource::Archive {
        root: place.folder.join(root),
        set: spec.set.clone().unwrap_or_else(|| spec.name.clone()),
        file: spec.hdf5.clone(),
        genome: spec.genome.as_ref().map(|genome| place.folder.join(genome)),
    };
    Ok(JobDataset { name: spec.name.clone(), task: spec.task, source })
}

/// The published gLM that a table names, if it names one.
pub(super) fn published(
    at: At<'_>,
    spec: &ModelSpec,
) -> Result<Option<&'static PublishedModel>, InputError> {
    let Some(name) = &spec.published else { return Ok(None) };
    let found = published::find(name);
    found.map(Some).ok_or_else(|| {
        let known: Vec<_> = published::ALL.iter().map(|model| model.name).collect();
        let expected = format!("one of {}", known.join(", "));
        at.0.wrong(&format!("{}.published", at.1), expected, format!("{name:?}"))
    })
}

/// Name of a `[[model]]`: as written, or the published one's.
pub(super) fn model_name(at: At<'_>, spec: &ModelSpec) -> Result<String, InputError> {
    match published(at, spec)? {
        Some(published) if spec.name.is_empty() => Ok(published.title.to_owned()),
        _ => Ok(spec.name.clone()),
    }
}

/// A checked `[[model]]`; a published one need not be there yet.
pub(super) fn model(at: At<'_>, spec: &ModelSpec, job: &JobSpec) -> Result<JobModel, InputError> {
    let (place, key) = at;
    let published = published(at, spec)?;
    let path = format!("{key}.path");
    let source = if spec.path.starts_with("hf:") {
        spec.path.clone()
    } else if let Some(published) = published {
        match spec.path.as_os_str().is_empty() {
            true => PathBuf::from(published.source.unwrap_or_default()),
            false => place.folder.join(&spec.path),
        }
    } else if spec.path.as_os_str().is_empty() {
        let expected = "a folder, a file or hf://org/name@revision; or published = \"…\"";
        return Err(place.wrong(&path, expected, "nothing"));
    } else {
        place.existing(&path, &spec.path)?
    };
    let mut habits = published.map_or_else(ModelOptions::default, |published| published.habits);
    habits.precision = job.precision.unwrap_or(habits.precision);
    if job.protocol == Protocol::Corrected {
        habits.padding = Padding::Masked;
    }
    Ok(JobModel {
        name: model_name(at, spec)?,
        source,
        options: spec.options_over(habits),
        published: spec.published.clone(),
    })
}

/// Index of the gLM `model` as a representation wants it opened; added if it is not there yet.
pub(super) fn variant(
    models: &mut Vec<JobModel>,
    model: usize,
    spec: &RepresentationSpec,
) -> usize {
    let base = models[model].clone();
    let mut options = base.options;
    options.pad_to = spec.pad_to.or(options.pad_to);
    options.padding = spec.padding.unwrap_or(options.padding);
    options.undefined_bases = spec.undefined_bases.unwrap_or(options.undefined_bases);
    let wanted = JobModel { options, ..base };
    let known = models.iter().position(|known| *known == wanted);
    known.unwrap_or_else(|| {
        models.push(wanted);
        models.len() - 1
    })
}

/// Takes out gLMs among the first `written` that only stand behind variants of themselves.
pub(super) fn drop_unread(
    models: &mut Vec<JobModel>,
    written: usize,
    embeddings: &mut [JobEmbedding],
) {
    let is_read = |index: usize| embeddings.iter().any(|one| one.model_index == index);
    let has_variant = |name: &str| models[written..].iter().any(|model| model.name == name);
    let unread: Vec<_> =
        (0..written).filter(|&index| !is_read(index) && has_variant(&models[index].name)).collect();
    for embedding in embeddings {
        let before = unread.iter().filter(|&&index| index < embedding.model_index).count();
        embedding.model_index -= before;
    }
    let mut index = 0;
    models.retain(|_| {
        index += 1;
        !unread.contains(&(index - 1))
    });
}

/// Data sets that `datasets` and `tasks` of a table leave; `None` = all.
pub(super) fn chosen(
    at: At<'_>,
    (names, tasks): (&Option<Vec<String>>, &Option<Vec<TaskName>>),
    datasets: &[JobDataset],
) -> Result<Option<BTreeSet<usize>>, InputError> {
    let of_tasks = of_tasks(at, tasks, datasets)?;
    let Some(names) = names else { return Ok(of_tasks) };
    let mut indices = BTreeSet::new();
    for name in names {
        let index = datasets.iter().position(|dataset| dataset.name == *name);
        indices.insert(index.ok_or_else(|| {
            let known: Vec<_> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
            let expected = format!("names of [[dataset]] tables: {}", known.join(", "));
            at.0.wrong(&format!("{}.datasets", at.1), expected, format!("{name:?}"))
        })?);
    }
    if let Some(of_tasks) = of_tasks {
        indices.retain(|index| of_tasks.contains(index));
    }
    if indices.is_empty() {
        let expected = "at least one data set, of the tasks if those are given";
        return Err(at.0.wrong(&format!("{}.datasets", at.1), expected, "none"));
    }
    Ok(Some(indices))
}

/// Data sets of `tasks`; `None` = all.
pub(super) fn of_tasks(
    at: At<'_>,
    tasks: &Option<Vec<TaskName>>,
    datasets: &[JobDataset],
) -> Result<Option<BTreeSet<usize>>, InputError> {
    let Some(tasks) = tasks else { return Ok(None) };
    let known: BTreeSet<_> = datasets.iter().map(|dataset| dataset.task).collect();
    let unknown = tasks.iter().find(|task| !known.contains(task));
    if tasks.is_empty() || unknown.is_some() {
        let names: Vec<_> = known.iter().map(|task| task.name()).collect();
        let expected = format!("tasks of [[dataset]] tables: {}", names.join(", "));
        let found = unknown.map_or("none", |task| task.name());
        return Err(at.0.wrong(&format!("{}.tasks", at.1), expected, found));
    }
    let of =
        |(index, dataset): (usize, &JobDataset)| tasks.contains(&dataset.task).then_some(index);
    Ok(Some(datasets.iter().enumerate().filter_map(of).collect()))
}

/// Names of gLMs, each of them known.
pub(super) fn models(
    at: At<'_>,
    names: &Option<Vec<String>>,
    models: &[JobModel],
) -> Result<Option<Vec<String>>, InputError> {
    let Some(names) = names else { return Ok(None) };
    let is_known = |name: &&String| models.iter().any(|model| model.name == **name);
    let unknown = names.iter().find(|name| !is_known(name));
    if names.is_empty() || unknown.is_some() {
        let known: BTreeSet<_> = models.iter().map(|model| model.name.as_str()).collect();
        let known: Vec<_> = known.into_iter().collect();
        let expected = format!("names of [[model]] tables: {}", known.join(", "));
        let found = unknown.map_or("none".to_owned(), |name| format!("{name:?}"));
        return Err(at.0.wrong(&format!("{}.models", at.1), expected, found));
    }
    Ok(Some(names.clone()))
}
