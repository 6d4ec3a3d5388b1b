//! The whole study as results of a job, made up from the published values and a little noise.
//!
//! Leaves out: rendering it. Invariant: every arm, fraction and repeat of the study is there, so that the
//! page made of it is as large as that of the whole grid.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod maps;

use glmeval_common::dataset::{DatasetSource, TaskName};
use glmeval_common::example::ExampleSchema;
use glmeval_common::ids::{DatasetId, FitId, JobId, ModelId};
use glmeval_common::job::Protocol;
use glmeval_common::model::{MemoryFacts, ModelFacts, TokenRule};
use glmeval_common::plan::{DatasetFacts, Plan, PlannedDataset, PlannedModel};
use glmeval_common::rng::Rng;
use glmeval_common::score::{FitIdentity, FitScores, Statistic};
use glmeval_common::store::fits::EpochRecord;
use glmeval_common::unit::ModelRef;
use glmeval_worker::report::{AttributionResult, FitResult, Predictions, needs_predictions};
use std::path::Path;

/// Test examples with predictions.
const EXAMPLES: usize = 60;
const SEED: u64 = 11;

/// Plan and fits of the study.
pub(crate) struct Study {
    pub(crate) plan: Plan,
    pub(crate) fits: Vec<FitResult>,
    pub(crate) attributions: Vec<AttributionResult>,
}

fn lines(name: &str) -> Vec<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/src/report/published");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let fields = |line: &str| line.split(',').map(str::to_owned).collect();
    text.lines().skip(1).map(fields).collect()
}

fn task_named(name: &str) -> Option<TaskName> {
    TaskName::ALL.into_iter().find(|(_, known)| *known == name).map(|(task, _)| task)
}

/// Length of a task's sequences.
fn length(task: TaskName) -> u64 {
    match task {
        TaskName::LentiMpra => 230,
        TaskName::Splicing => 400,
        TaskName::InsertSeq => 173,
        _ => 200,
    }
}

impl Study {
    /// The study named `name`.
    pub(crate) fn new(name: &str) -> Self {
        let mut study = Self {
            plan: Plan {
                version: 2,
                job: JobId::new("3f2a77c05b0d41e6a1d09f6a58f2c7be"),
                name: name.to_owned(),
                seed: SEED,
                protocol: Protocol::Published,
                datasets: Vec::new(),
                models: Vec::new(),
                sets: Vec::new(),
                entries: Default::default(),
            },
            fits: Vec::new(),
            attributions: maps::attributions(SEED),
        };
        let sizes = lines("sizes.csv");
        for row in lines("values.csv") {
            study.add(&row, &sizes);
        }
        study.add_predictions();
        study
    }

    /// The fits of one published value, or the value as one more statistic of fits that are there.
    fn add(&mut self, row: &[String], sizes: &[Vec<String>]) {
        let (task, dataset, target, window) = (&row[0], &row[1], &row[2], &row[3]);
        let (model, layer, probe) = (&row[4], &row[6], &row[7]);
        let (statistic, of, value, deviation, n) =
            (&row[10], &row[11], &row[12], &row[13], &row[14]);
        let Some(task) = task_named(task).filter(|_| dataset != "mean") else { return };
        if task == TaskName::InsertSeq && of == "median" && layer.is_empty() {
            return;
        }
        let name = match window.is_empty() {
            true => dataset.clone(),
            false => format!("{dataset} {window}"),
        };
        let size = |target: &str| -> Option<u64> {
            let is_it =
                |s: &&Vec<String>| s[0] == task.name() && s[1] == *dataset && s[2] == target;
            sizes.iter().find(is_it)?[3].parse().ok()
        };
        self.add_dataset(
            &name,
            task,
            (size("").unwrap_or(600), window.parse().unwrap_or(length(task))),
        );
        let layer: Option<u32> = layer.parse().ok();
        let last = if model.starts_with("NT") { 32 } else { 12 };
        self.add_model(model, last);
        let value: f64 = value.parse().unwrap();
        let spread =
            deviation.parse().unwrap_or(if task == TaskName::InsertSeq { 0.011 } else { 0.004 });
        let repeats = match (task, n.parse().unwrap()) {
            (TaskName::ChipSeq | TaskName::Eclip, 1) if probe != "logistic" => 5,
            (_, n) => n,
        };
        let last_layer = (!model.is_empty()).then_some(last);
        let identity = |repeat: u32| identity(row, (task, &name), layer.or(last_layer), repeat);
        let mut arm = Rng::derive(SEED, identity(0).fit.as_str());
        // Most arms come out as published; some by a hair or by far do not.
        let shift = arm.normal() * if arm.below(9) == 0 { 0.03 } else { 0.002 };
        for repeat in 0..repeats {
            let identity = identity(repeat);
            let mut rng = Rng::derive(SEED, &format!("{}/{statistic}/{target}", identity.fit));
            let drawn = value + shift + if repeats > 1 { rng.normal() * spread } else { 0.0 };
            let examples = size(target).or(size("")).unwrap_or(900);
            let statistics = statistics(task, (statistic, target), drawn, examples);
            match self.fits.iter_mut().find(|fit| fit.scores.identity.fit == identity.fit) {
                Some(fit) => fit.scores.statistics.extend(statistics),
                None => self.fits.push(result(identity, statistics)),
            }
        }
    }

    fn add_dataset(&mut self, name: &str, task: TaskName, (test, length): (u64, u64)) {
        if self.plan.datasets.iter().any(|dataset| dataset.name == name) {
            return;
        }
        let is_whole = name != "ZNF24";
        let test = if is_whole { test } else { test / 4 };
        let splits = [("train", test * 7 / 2), ("valid", test / 2), ("test", test)];
        let facts = DatasetFacts {
            id: DatasetId::new(format!("d-{name}")),
            schema: ExampleSchema::sequences_only(),
            rows: test * 5,
            nucleotides: test * 5 * length,
            length_min: length,
            length_max: length,
            split_rows: splits.map(|(split, rows)| (split.to_owned(), rows)).into(),
            notes: Vec::new(),
            leakage: Vec::new(),
            target_titles: Vec::new(),
        };
        let source = DatasetSource::Fasta { path: "study.fa".into() };
        self.plan.datasets.push(PlannedDataset { name: name.to_owned(), task, source, facts });
    }

    fn add_model(&mut self, name: &str, layer_count: u32) {
        let id = ModelId::new(format!("m-{name}"));
        if name.is_empty() || self.plan.models.iter().any(|model| model.model.id == id) {
            return;
        }
        let facts = ModelFacts {
            id: id.clone(),
            architecture: "made-up".to_owned(),
            parameters: 117_000_000,
            layer_count,
            width: 768,
            tokens_max: 1_000,
            token_rule: TokenRule::Blocks { length: 6, special: 1 },
            states_fixed: None,
            flops_per_token: 1e9,
            flops_per_token_pair: 1e5,
            memory: MemoryFacts::default(),
        };
        let model = ModelRef {
            id,
            name: name.to_owned(),
            source: name.into(),
            options: Default::default(),
        };
        self.plan.models.push(PlannedModel { model, facts });
    }

    /// Predictions for the fits that a report reads them of, and epochs of networks.
    fn add_predictions(&mut self) {
        let scores: Vec<&FitScores> = self.fits.iter().map(|fit| &fit.scores).collect();
        let needed = needs_predictions(&scores);
        for (fit, needed) in self.fits.iter_mut().zip(needed) {
            let task = task_named(&fit.scores.identity.task).unwrap();
            let value = fit.scores.statistics[0].value.unwrap();
            if needed {
                fit.predictions = predictions(&fit.scores.identity, task, value);
            }
            let is_network = !["ridge", "least-squares", "logistic"]
                .contains(&fit.scores.identity.probe.as_str());
            if is_network && task != TaskName::VariantEffect && fit.scores.identity.fraction == 1.0
            {
                fit.history = history(&fit.scores.identity);
            }
        }
    }
}

/// What tells repeat `repeat` of a published row.
fn identity(
    row: &[String],
    (task, dataset): (TaskName, &str),
    layer: Option<u32>,
    repeat: u32,
) -> FitIdentity {
    let (model, representation, probe) = (&row[4], &row[5], &row[7]);
    let (factor, fraction) = (&row[8], &row[9]);
    FitIdentity {
        fit: FitId::new(format!(
            "{dataset}/{model}/{layer:?}/{representation}/{probe}/{factor}/{fraction}/{repeat}"
        )),
        task: task.name().to_owned(),
        dataset: dataset.to_owned(),
        dataset_id: DatasetId::new(format!("d-{dataset}")),
        model: (!model.is_empty()).then(|| model.clone()),
        model_id: (!model.is_empty()).then(|| ModelId::new(format!("m-{model}"))),
        layer,
        representation: representation.clone(),
        probe: probe.clone(),
        factor: factor.parse().unwrap(),
        fraction: fraction.parse().unwrap(),
        repeat,
        seed: SEED,
        protocol: "published".to_owned(),
        trained_on: None,
    }
}

/// The statistic and those that stand beside it in a real fit.
fn statistics(
    task: TaskName,
    (name, target): (&str, &str),
    value: f64,
    examples: u64,
) -> Vec<Statistic> {
    let target = match (task, target) {
        (TaskName::Splicing, _) => "mean",
        (_, "") if task.is_binary() => "bound",
        (_, "") => "activity",
        (_, target) => target,
    };
    let half = 2.0 * (1.0 - value * value) / (examples as f64).sqrt();
    let one = |name: &str, value: f64| Statistic {
        name: name.to_owned(),
        split: "test".to_owned(),
        target: target.to_owned(),
        value: Some(value),
        low: Some(value - half),
        high: Some(value + half),
        examples,
    };
    let mut all = vec![one(name, value)];
    match name {
        "auroc_keras" | "auroc_hard" => all.push(one("auroc_exact", value + 0.0004)),
        "aupr_keras" => all.push(one("aupr", value + 0.0004)),
        "pearson" if task == TaskName::LentiMpra => all.push(one("spearman", value - 0.01)),
        "pearson" if task == TaskName::InsertSeq => all.push(one("mse", 0.2)),
        _ => {}
    }
    all
}

fn result(identity: FitIdentity, statistics: Vec<Statistic>) -> FitResult {
    let scores = FitScores {
        version: 1,
        identity,
        statistics,
        objects: Vec::new(),
        seconds: 41.5,
        worker: "w0".to_owned(),
        notes: Vec::new(),
    };
    FitResult { scores, predictions: Predictions::default(), history: Vec::new() }
}

/// Predictions about as good as `value` says.
fn predictions(identity: &FitIdentity, task: TaskName, value: f64) -> Predictions {
    let mut truth = Rng::derive(SEED, &identity.dataset);
    let mut noise = Rng::derive(SEED, identity.fit.as_str());
    let value = value.clamp(0.02, 0.98);
    let mut one = || {
        let truth = truth.normal();
        if task.is_binary() {
            let class = f64::from(u8::from(truth > 0.0));
            let distance = 2.0_f64.sqrt() * (value / (1.0 - value)).ln() / 1.702;
            let guess = (class - 0.5) * distance + noise.normal();
            (class, 1.0 / (1.0 + (-guess).exp()))
        } else {
            (truth, value * truth + (1.0 - value * value).sqrt() * noise.normal())
        }
    };
    let (targets, predictions) = (0..EXAMPLES).map(|_| one()).unzip();
    Predictions {
        ids: (0..EXAMPLES).map(|i| format!("row{i}")).collect(),
        target_names: vec![if task.is_binary() { "bound" } else { "activity" }.to_owned()],
        targets: vec![targets],
        predictions: vec![predictions],
    }
}

fn history(identity: &FitIdentity) -> Vec<EpochRecord> {
    let mut rng = Rng::derive(SEED, &format!("epochs/{}", identity.fit));
    let epoch = |epoch: u32| {
        let loss = 0.3 + 0.7 / f64::from(epoch).sqrt() + 0.01 * rng.normal();
        let learning_rate = if epoch < 20 { 1e-3 } else { 2e-4 };
        EpochRecord {
            epoch,
            loss,
            val_loss: Some(loss + 0.05),
            learning_rate,
            ..EpochRecord::default()
        }
    };
    (1..=25).map(epoch).collect()
}
