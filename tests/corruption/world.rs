//! A small job, run by the embedded coordinator over a store in a folder.

#![expect(clippy::unwrap_used, reason = "support of tests: a panic is how they fail")]

use glmeval_common::clock::{Clock, SystemClock};
use glmeval_common::control::{Control, CoordinatorRecord, JobStatus};
use glmeval_common::error::Result;
use glmeval_common::ids::{FitId, WorkerId};
use glmeval_common::job::Job;
use glmeval_common::layout;
use glmeval_common::plan::Plan;
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{find_commit, read_shard};
use glmeval_common::store::examples::{check_dataset, read_manifest};
use glmeval_common::store::fits::{check_fit, find_scores};
use glmeval_common::survey::survey;
use glmeval_coordinator::{Coordinator, Recovery, Settings, StoredJobs};
use glmeval_worker::agent::{Agent, AgentExit, AgentSettings, stop_pair};
use glmeval_worker::runner::Runner;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Folder of the gLM.
const MODEL: &str = "nt-v1-random";

/// What can happen to an object at rest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Damage {
    Flip,
    /// The last byte, which of weights is one of numbers.
    FlipLast,
    Truncate,
    Delete,
}

impl Damage {
    pub(crate) const ALL: [Self; 3] = [Self::Flip, Self::Truncate, Self::Delete];

    pub(crate) fn apply(self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        match self {
            Self::Flip => *bytes.first_mut().unwrap() ^= 0x40,
            Self::FlipLast => *bytes.last_mut().unwrap() ^= 0x40,
            Self::Truncate => bytes.truncate(bytes.len() / 2),
            Self::Delete => return std::fs::remove_file(path).unwrap(),
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// One job and one store.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) store: Store,
    toml: String,
    inputs: Arc<TempDir>,
    store_folder: TempDir,
}

/// Sixty sequences whose target is a matter of their letters.
fn table() -> String {
    let mut text = "id\tseq\tsplit\ty\n".to_owned();
    for row in 0..60_u32 {
        let letter =
            |at: u32| ["A", "C", "G", "T"][(row * 7 + at * at + at * row / 3) as usize % 4];
        let sequence: String = (0..24).map(letter).collect();
        let split = ["train", "valid", "test"][row as usize % 3];
        let target = sequence.matches('G').count() as f32 - 0.5 * (row % 5) as f32;
        text.push_str(&format!("row{row}\t{sequence}\t{split}\t{target}\n"));
    }
    text
}

fn plan(folder: &Path) -> (Plan, String) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
    let model = folder.join(MODEL);
    copy_folder(&example, &model);
    let toml = format!(
        "name = \"corruption\"\nseed = 7\nshard_rows = 20\n\
         [[model]]\nname = \"tiny\"\npath = {model:?}\n\
         [[dataset]]\nname = \"D\"\ntask = \"regression\"\ntable = \"rows.tsv\"\n\
         columns = {{ sequence = \"seq\", id = \"id\", split = \"split\", targets = [\"y\"] }}\n\
         [[representation]]\nmodel = \"tiny\"\nlayers = [2]\npooling = [\"mean\"]\n\
         [[representation]]\none_hot = true\n\
         [[probe]]\nkind = \"ridge\"\nalpha = 0.1\n"
    );
    std::fs::write(folder.join("rows.tsv"), table()).unwrap();
    std::fs::write(folder.join("job.toml"), &toml).unwrap();
    let job = Job::read(&folder.join("job.toml")).unwrap_or_else(|e| panic!("{}", e.chain()));
    let facts = survey(&job.datasets[0].source, job.datasets[0].task).unwrap();
    let model = glmeval_worker::models::describe(&model, &Default::default()).unwrap();
    let class = glmeval_worker::numeric_class;
    (glmeval_coordinator::plan::plan(&job, &[facts], &[model], &class).unwrap(), toml)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn list(folder: &Path, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, root, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

impl Bench {
    /// A job that has not run, and an empty store.
    pub(crate) fn new() -> Self {
        let inputs = Arc::new(tempfile::tempdir().unwrap());
        let (plan, toml) = plan(inputs.path());
        let store_folder = tempfile::tempdir().unwrap();
        let store = Store::open(store_folder.path().to_str().unwrap()).unwrap();
        Self { plan, store, toml, inputs, store_folder }
    }

    /// A job that has run.
    pub(crate) async fn finished() -> Self {
        let bench = Self::new();
        let status = bench.run().await;
        assert!(status.phase.exit_code() == 0, "{status:?}");
        bench
    }

    /// The same job and another store with the same bytes.
    pub(crate) fn copy(&self) -> Self {
        let store_folder = tempfile::tempdir().unwrap();
        copy_folder(self.folder(), store_folder.path());
        let store = Store::open(store_folder.path().to_str().unwrap()).unwrap();
        let (plan, toml) = (self.plan.clone(), self.toml.clone());
        Self { plan, store, toml, inputs: Arc::clone(&self.inputs), store_folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.store_folder.path()
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.inputs.path().join("rows.tsv")
    }

    /// The weights of the gLM.
    pub(crate) fn weights(&self) -> PathBuf {
        self.inputs.path().join(MODEL).join("model.safetensors")
    }

    async fn coordinator(&self, recovery: Recovery) -> Coordinator {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let record = CoordinatorRecord {
            version: layout::FORMAT_VERSION,
            token: random_token(),
            address: None,
            program: "test".into(),
            started_unix_ms: 0,
        };
        let jobs = Arc::new(StoredJobs::embedded(self.store.clone()));
        let settings = Settings { tick_interval_ms: 10, ..Settings::default() };
        Coordinator::start("c", jobs, clock, settings, &record, recovery).await.unwrap()
    }

    /// Submits the job and runs it to its end with two workers, as `glmeval run` does.
    pub(crate) async fn run(&self) -> JobStatus {
        let (status, exits) = self.run_over(&self.store).await;
        for exit in exits {
            exit.unwrap();
        }
        status
    }

    /// As [`Self::run`], with workers that reach the store as `store` does; how each ended.
    pub(crate) async fn run_over(&self, store: &Store) -> (JobStatus, Vec<Result<AgentExit>>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let coordinator = self.coordinator(Recovery::SubmittedOnly).await;
        let job = coordinator.submit(&self.toml, self.plan.clone()).await.unwrap();
        let ticking = tokio::spawn({
            let coordinator = coordinator.clone();
            async move { coordinator.run().await }
        });
        let runner = Arc::new(Runner::new(store.clone(), Arc::clone(&clock)));
        let agents = (0..2).map(|number| {
            let worker = WorkerId::new(format!("w{number}-{}", random_token()));
            let classes = glmeval_worker::numeric_classes();
            let mut settings = AgentSettings::new(worker, "localhost", classes);
            settings.until_idle = true;
            settings.prefetch_units_max = 0;
            let control: Arc<dyn Control> = Arc::new(coordinator.clone());
            let clock = Arc::clone(&clock);
            Agent::new(control, runner.clone(), clock, settings, stop_pair().1).run()
        });
        let all = futures::future::join_all(agents);
        let exits = tokio::time::timeout(Duration::from_secs(60), all).await;
        let exits = exits.expect("the job hangs");
        ticking.abort();
        (coordinator.status(&job).await.unwrap(), exits)
    }

    /// Where the job stands for a coordinator that starts now.
    pub(crate) async fn recovered(&self) -> JobStatus {
        let coordinator = self.coordinator(Recovery::AllJobs).await;
        coordinator.status(&self.plan.job).await.unwrap()
    }

    pub(crate) fn fits(&self) -> Vec<FitId> {
        let fits = self.plan.fit_units().flat_map(|(_, unit)| &unit.fits);
        fits.map(|fit| fit.id().clone()).collect()
    }

    /// Paths of the commits of all fits.
    pub(crate) fn scores(&self) -> Vec<PathBuf> {
        self.fits().iter().map(|fit| PathBuf::from(layout::scores_path(fit))).collect()
    }

    /// Every file of the store with its bytes.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        list(self.folder(), self.folder(), &mut files);
        files
    }

    /// Every record of the store with its bytes.
    pub(crate) fn commits(&self) -> BTreeMap<String, Vec<u8>> {
        let is_record = |path: &str| path.ends_with(".json") && !path.contains("/data/");
        self.files().into_iter().filter(|(path, _)| is_record(path)).collect()
    }

    /// Digests of all the job has computed, each object read and checked.
    pub(crate) async fn contents(&self) -> BTreeMap<String, String> {
        let mut contents = BTreeMap::new();
        let dataset = &self.plan.datasets[0].facts.id;
        let manifest = read_manifest(&self.store, dataset).await.unwrap();
        check_dataset(&self.store, &manifest).await.unwrap();
        for part in manifest.parts {
            contents.insert(format!("part {}", part.first_row), part.object.sha256);
        }
        let set = &self.plan.sets[0].id;
        for start in [0, 20, 40] {
            let commit = find_commit(&self.store, set, start, start + 20).await.unwrap().unwrap();
            read_shard(&self.store, &commit).await.unwrap();
            contents.insert(format!("shard {start}"), commit.object.sha256);
        }
        for fit in self.fits() {
            let scores = find_scores(&self.store, &fit).await.unwrap().unwrap();
            check_fit(&self.store, &scores).await.unwrap();
            contents.insert(format!("statistics {fit}"), format!("{:?}", scores.statistics));
            for object in scores.objects {
                contents.insert(format!("{} {fit}", object.role), object.sha256);
            }
        }
        contents
    }
}
