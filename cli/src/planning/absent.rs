//! What a job names that is not here yet: data sets of the study's archive, and published gLMs.
//!
//! Leaves out: the plan. Invariant: what is here is compared with the protocol and refused where it
//! differs; what is not here is planned by the protocol's numbers, and never run.

use glmeval_common::dataset::DatasetSource;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::job::{Job, JobDataset, JobModel};
use glmeval_common::model::ModelFacts;
use glmeval_common::model::published::{self, PublishedModel};
use glmeval_common::plan::DatasetFacts;
use glmeval_common::survey::survey;
use glmeval_worker::hub::HubModel;
use glmeval_worker::task::archive::{Located, locate};
use glmeval_worker::task::{Set, Task};
use glmeval_worker::tasks;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a job lacks, told all at once.
#[derive(Default)]
pub(super) struct Absent {
    sets: Vec<AbsentSet>,
    models: Vec<AbsentModel>,
}

/// A set of the archive, its task, and what it is read from if it is here.
type Looked = (&'static Task, &'static Set, Option<DatasetSource>);

struct AbsentSet {
    name: String,
    task: &'static str,
    /// Files, each by the paths that would do.
    files: Vec<Vec<PathBuf>>,
    rows: u64,
}

struct AbsentModel {
    name: String,
    published: &'static str,
    /// Where it is to be, or is fetched from.
    source: PathBuf,
}

impl Absent {
    /// What a job lacks, found without reading or fetching anything.
    pub(super) fn of(job: &Job, datasets: &[JobDataset]) -> Result<Self> {
        let mut absent = Self::default();
        for dataset in datasets {
            absent.look_up(&job.file, dataset)?;
        }
        for model in &job.models {
            absent.expect(model);
        }
        Ok(absent)
    }

    /// Whether `model` is one that the plan only assumes.
    pub(super) fn lacks(&self, model: &JobModel) -> bool {
        self.models.iter().any(|absent| absent.name == model.name)
    }

    /// One line for each set and gLM that the plan only assumes.
    pub(super) fn notes(&self) -> Vec<String> {
        let sets = self.sets.iter().map(|set| {
            let (name, files, rows) = (&set.name, words(&set.files), set.rows);
            format!("{name} ({}): not here, planned with {rows} examples: {files}", set.task)
        });
        let models = self.models.iter().map(|AbsentModel { name, published, source }| {
            let place = match source.as_os_str().is_empty() {
                true => "give its path to run it".to_owned(),
                false => source.display().to_string(),
            };
            format!("{name}: not here, planned as {published}: {place}")
        });
        sets.chain(models).collect()
    }

    /// Refuses to go on without what a run needs, in one message; what can be fetched is not lacking.
    pub(super) fn refuse(&self, job: &Job) -> Result<()> {
        let lacking = |model: &&AbsentModel| !is_fetched(&model.source);
        let models: Vec<_> = self.models.iter().filter(lacking).collect();
        if self.sets.is_empty() && models.is_empty() {
            return Ok(());
        }
        let mut text = format!("{}: ", job.file);
        if !self.sets.is_empty() {
            let count = self.sets.len();
            let _ =
                write!(text, "expected {count} data sets of the study's archive, found none of");
            for set in &self.sets {
                let _ = write!(text, "\n  {} ({}): {}", set.name, set.task, words(&set.files));
            }
            if !models.is_empty() {
                text.push_str("\nand ");
            }
        }
        if !models.is_empty() {
            text.push_str("expected the folders or files of published gLMs, found none of");
            for model in models {
                let path = match model.source.as_os_str().is_empty() {
                    true => "path = \"…\" in its [[model]] table".to_owned(),
                    false => model.source.display().to_string(),
                };
                let _ = write!(text, "\n  {} ({}): {path}", model.name, model.published);
            }
        }
        Err(Error::invalid(text))
    }

    /// Facts about a data set; that of an archive gets what it is read from in place of its name.
    pub(super) fn dataset(
        &mut self,
        job_file: &str,
        dataset: &mut JobDataset,
    ) -> Result<DatasetFacts> {
        let context = format!("read data set {}", dataset.name);
        let found = match self.look_up(job_file, dataset)? {
            None => None,
            Some((_, set, None)) => return Ok(set.facts()),
            Some((task, set, Some(source))) => {
                dataset.source = source;
                Some((task, set))
            }
        };
        let checked = || -> Result<DatasetFacts> {
            let facts = survey(&dataset.source, dataset.task)?;
            if let Some((task, set)) = found {
                let file = dataset.source.paths().first().map_or(Path::new(""), |path| *path);
                set.check(file, &facts)?;
                if let Some(assert) = task.assert {
                    assert(&dataset.source, dataset.task)?;
                }
            }
            Ok(facts)
        };
        checked().map_err(|e| e.context(context))
    }

    /// The set of the archive that a data set is, and what it is read from if it is here.
    fn look_up(&mut self, job_file: &str, dataset: &JobDataset) -> Result<Option<Looked>> {
        let DatasetSource::Archive { set, .. } = &dataset.source else { return Ok(None) };
        let (task, set) = known(job_file, dataset, set)?;
        Ok(Some(match locate(set, &dataset.source)? {
            Located::At(source) => (task, set, Some(source)),
            Located::Absent(files) => {
                let (name, rows) = (dataset.name.clone(), set.facts().rows);
                let of = dataset.task.name();
                self.sets.push(AbsentSet { name, task: of, files, rows });
                (task, set, None)
            }
        }))
    }

    /// The published gLM that stands in for `model`, if that is not here.
    fn expect(&mut self, model: &JobModel) -> Option<&'static PublishedModel> {
        let published = model.published.as_deref().and_then(published::find)?;
        if !is_fetched(&model.source) && model.source.exists() {
            return None;
        }
        let (name, source) = (model.name.clone(), model.source.clone());
        // Tasks with habits of their own open one gLM in several ways.
        let is_told = |known: &AbsentModel| known.name == name && known.source == source;
        if !self.models.iter().any(is_told) {
            self.models.push(AbsentModel { name, published: published.name, source });
        }
        Some(published)
    }

    /// Facts about a gLM for devices of `kind`; a published one need not be here, and is not fetched
    /// where `is_fetching` is not set.
    pub(super) fn model(
        &mut self,
        model: &JobModel,
        (kind, is_fetching): (&str, bool),
    ) -> Result<ModelFacts> {
        let published = model.published.as_deref().and_then(published::find);
        if !(is_fetching && is_fetched(&model.source))
            && let Some(assumed) = self.expect(model)
        {
            return Ok(assumed.facts(&model.options));
        }
        let opened = || -> Result<ModelFacts> {
            let folder = super::fetching::fetch(&model.source)?;
            let facts = glmeval_worker::models::describe_on(&folder, &model.options, kind)?;
            if let Some(published) = published {
                published.check(&model.source.display().to_string(), &facts)?;
            }
            Ok(facts)
        };
        opened().map_err(|e| e.context(format!("open model {}", model.name)))
    }
}

fn is_fetched(source: &Path) -> bool {
    source.to_str().is_some_and(HubModel::is_named_by)
}

/// The set of the archive that a data set names.
fn known(job_file: &str, dataset: &JobDataset, set: &str) -> Result<(&'static Task, &'static Set)> {
    tasks::find(dataset.task, set).ok_or_else(|| {
        let place = format!("dataset {}", dataset.name);
        let task = dataset.task.name();
        let expected = match tasks::names(dataset.task) {
            names if names.is_empty() => format!("a task that the archive has sets of, not {task}"),
            names => format!("a set of {task}: {}", names.join(", ")),
        };
        InputError::new(job_file, place, expected, format!("{set:?}")).into()
    })
}

/// `a or b` for alternatives, files with commas between.
fn words(files: &[Vec<PathBuf>]) -> String {
    let one = |paths: &Vec<PathBuf>| {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        paths.join(" or ")
    };
    files.iter().map(one).collect::<Vec<_>>().join(", ")
}
