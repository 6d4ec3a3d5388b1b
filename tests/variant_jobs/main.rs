//! Effects of variants inside jobs: zero-shot scores and applied probes, against the command
//! `score-variants` and against whole analyses.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod golden_jobs;
mod refusals;

use glmeval_common::effect::Score;
use glmeval_common::plan::Plan;
use glmeval_common::representation::Pooling;
use glmeval_common::score::FitScores;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{read_rows, read_set};
use glmeval_common::store::fits::{Prediction, find_scores, read_predictions};
use glmeval_common::unit::{Fit, ProbeSpec};
use glmeval_tests::glmeval::{Coordinator, Running, command, model, succeeds};
use glmeval_tests::jobs::{Draw, table};
use glmeval_tests::results::{check_committed_once, results};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Length of the windows, and of the sequences that probes are trained on.
const WINDOW: usize = 60;
const ELEMENTS: [&str; 5] = ["LDLR", "SORT1", "F9", "PKLR", "IRF4"];

/// A genome of one chromosome, and three variants with effects at each of 20 places; those of one place
/// have a wrong reference.
fn write_variants(folder: &Path) {
    let genome = Draw::new(11).dna(300);
    std::fs::write(folder.join("genome.fa"), format!(">chr1\n{genome}\n")).unwrap();
    let mut draw = Draw::new(12);
    let mut rows = "chrom\tpos\tref\talt\telement\teffect\n".to_owned();
    for place in 0..20 {
        let position = 100 + 3 * place;
        let mut listed = &genome[position - 1..position];
        if place == 19 {
            listed = if listed == "A" { "C" } else { "A" };
        }
        let element = ELEMENTS[place % ELEMENTS.len()];
        for other in ["A", "C", "G", "T"].into_iter().filter(|base| *base != listed) {
            let effect = draw.below(200) as f64 / 100.0 - 1.0;
            rows.push_str(&format!("chr1\t{position}\t{listed}\t{other}\t{element}\t{effect}\n"));
        }
    }
    std::fs::write(folder.join("variants.tsv"), rows).unwrap();
}

/// Zero-shot scores of all kinds, two small probes, and their effects on three of the elements.
fn write_job(folder: &Path, name: &str, shard_rows: u64) {
    let model = model().display().to_string();
    let job = format!(
        "name = \"effects\"\nseed = 3\nshard_rows = {shard_rows}\n[[model]]\nname = \"NT\"\n\
         path = {model:?}\n[[dataset]]\nname = \"activity\"\ntask = \"regression\"\n\
         table = \"data.tsv\"\ncolumns = {{ sequence = \"seq\", id = \"id\", split = \"part\", \
         targets = [\"activity\"] }}\n[[dataset]]\nname = \"CAGI5\"\n\
         variants = [\"var*.tsv\"]\ngenome = \"genome.fa\"\nwindow = {WINDOW}\n\
         [[representation]]\nmodel = \"NT\"\nzero_shot = true\n\
         scores = [\"cosine\", \"dot\", \"l1\", \"l2\", \"masked-llr\"]\n\
         [[representation]]\none_hot = true\n\
         [[representation]]\nmodel = \"NT\"\nlayers = [3]\npooling = [\"full\"]\n\
         [[probe]]\nkind = \"network\"\nname = \"affine\"\nrepeats = 2\nepochs = 2\n\
         datasets = [\"activity\"]\nlayers = [\n{{ kind = \"flatten\" }}, \
         {{ kind = \"dense\", units = 1, name = \"out\" }}]\n\
         [[probe]]\nkind = \"ridge\"\nalpha = 1.0\ndatasets = [\"activity\"]\n\
         [[probe]]\nkind = \"variant-effect\"\ntrained_on = \"activity\"\n\
         probes = [\"affine\", \"ridge\"]\ntargets = [\"LDLR\", \"SORT1\", \"F9\"]\n"
    );
    std::fs::write(folder.join("data.tsv"), table(50, WINDOW)).unwrap();
    std::fs::write(folder.join(name), job).unwrap();
}

/// The one plan of a store.
async fn plan(store: &Store, folder: &Path) -> Plan {
    let jobs = store.list_folders("jobs").await.unwrap();
    let [job] = jobs.as_slice() else { panic!("one job, found {jobs:?}") };
    let text = std::fs::read(folder.join("jobs").join(job).join("plan.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Fits of a plan that nothing is trained for, with what they committed.
async fn evaluations(store: &Store, plan: &Plan) -> Vec<(Fit, FitScores, Vec<Prediction>)> {
    let mut found = Vec::new();
    let fits = plan.fit_units().flat_map(|(_, unit)| &unit.fits);
    for fit in fits.filter(|fit| !fit.probe.is_fitted()) {
        let scores = find_scores(store, fit.id()).await.unwrap().unwrap();
        let predictions = read_predictions(store, &scores).await.unwrap();
        found.push((fit.clone(), scores, predictions));
    }
    found
}

/// The table that `score-variants` writes, without what it dropped, and the document it prints.
async fn command_scores(folder: &Path, more: &[&str]) -> (Vec<BTreeMap<String, String>>, Value) {
    let first = ["score-variants", "--genome", "genome.fa", "--variants", "variants.tsv"];
    let window = WINDOW.to_string();
    let last = ["--window", &window, "--out", "scores.tsv", "--format", "json"];
    let printed = succeeds(folder, &[&first[..], more, &last].concat()).await;
    let text = std::fs::read_to_string(folder.join("scores.tsv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| -> BTreeMap<String, String> {
        let fields = line.split('\t').map(str::to_owned);
        names.iter().map(|name| (*name).to_owned()).zip(fields).collect()
    };
    let rows = lines.map(row).filter(|row| row["status"] == "scored").collect();
    (rows, serde_json::from_str(&printed).unwrap())
}

/// r as the command prints it.
fn correlation(document: &Value, score: &str, element: &str) -> f64 {
    let rows = document["correlations"]["elements"].as_array().unwrap();
    let found = rows.iter().find(|row| row["score"] == score && row["element"] == element);
    found.unwrap()["r_signed"].as_f64().unwrap()
}

async fn check_zero_shot(folder: &Path, store: &Store, plan: &Plan) {
    let set = plan.sets.iter().find(|set| set.effects.is_some()).unwrap();
    let columns = set.columns();
    assert_eq!(read_set(store, &set.id).await.unwrap().columns, columns);
    let rows = plan.datasets[1].facts.rows;
    assert_eq!(rows, 57, "three of 60 have a wrong reference");
    let read = read_rows(store, &set.id, (4, Pooling::Effect), (0, rows)).await.unwrap();
    assert_eq!((read.width, read.sequences, read.ids.len()), (columns.len(), 1, 57));
    let model = model().display().to_string();
    let (table, document) = command_scores(folder, &["--model", &model, "--score", "all"]).await;
    for (row, (values, id)) in table.iter().zip(read.values.chunks(columns.len()).zip(&read.ids)) {
        let name = |key: &str| row[key].as_str();
        let place = format!("{}:{}:{}>{}", name("chrom"), name("pos"), name("ref"), name("alt"));
        assert_eq!(*id, format!("{}:{place}", name("element")));
        for (column, value) in columns.iter().zip(values) {
            let expected = row[column].parse::<f64>().unwrap() as f32;
            assert_eq!(expected.to_bits(), value.to_bits(), "{id} {column}");
        }
    }
    let mut compared = 0;
    for (fit, scores, predictions) in evaluations(store, plan).await {
        let ProbeSpec::ZeroShot { score, .. } = fit.probe else { continue };
        assert_eq!(fit.identity.representation, "zero-shot");
        assert_eq!((predictions.len(), fit.identity.probe.as_str()), (5 * 57, score.name()));
        let column = if score == Score::Cosine { "cos" } else { score.columns()[0] };
        let value = |name: &str, target: &str| {
            let mut rows = scores.statistics.iter();
            let row = rows.find(|row| row.name == name && row.target == target).unwrap();
            assert!(row.low <= row.value && row.value <= row.high, "{row:?}");
            row.value.unwrap()
        };
        for element in ELEMENTS {
            let expected = correlation(&document, column, element);
            let found = value("pearson", element);
            assert!((found - expected).abs() < 1e-5, "{column} {element}: {found} {expected}");
        }
        let mean = ELEMENTS[..3].iter().map(|name| value("pearson", name)).sum::<f64>() / 3.0;
        assert!((value("pearson_mean", "HepG2") - mean).abs() < 1e-12);
        assert!((value("r_reported", "HepG2") - mean.abs()).abs() < 1e-12);
        assert_eq!(value("pearson_mean", "K562"), value("pearson", "PKLR"));
        assert_eq!(scores.statistics.len(), 9);
        compared += 1;
    }
    assert_eq!(compared, 5);
}

async fn check_applied(folder: &Path, store: &Store, plan: &Plan) {
    let model = model().display().to_string();
    let mut seen = BTreeMap::new();
    for (fit, scores, predictions) in evaluations(store, plan).await {
        let ProbeSpec::Applied { fit: base, .. } = &fit.probe else { continue };
        *seen
            .entry((fit.identity.representation.clone(), fit.identity.probe.clone()))
            .or_insert(0) += 1;
        let names: Vec<_> =
            scores.statistics.iter().map(|s| (s.name.as_str(), s.target.as_str())).collect();
        let elements = ELEMENTS[..3].iter().map(|name| ("pearson", *name));
        let expected: Vec<_> = [("pearson_mean", "HepG2")].into_iter().chain(elements).collect();
        assert_eq!(names, expected);
        assert_eq!(predictions.len(), 3 * 57);
        if !fit.identity.probe.starts_with("affine") {
            continue;
        }
        let probe = format!("{}/probes/{base}", folder.join("all").display());
        let more = match fit.identity.representation.as_str() {
            "full" => vec!["--probe", &probe, "--model", &model],
            _ => vec!["--probe", &probe],
        };
        let (table, document) = command_scores(folder, &more).await;
        for (row, prediction) in table.iter().zip(&predictions) {
            let expected = row["probe"].parse::<f64>().unwrap() as f32;
            assert_eq!(expected.to_bits(), prediction.prediction.to_bits(), "{prediction:?}");
        }
        let r = scores.statistics.iter().find(|row| row.target == "F9").unwrap().value.unwrap();
        assert!((r - correlation(&document, "probe", "F9")).abs() < 1e-5);
    }
    let expected = [
        (("full".to_owned(), "affine, 2 epochs".to_owned()), 2),
        (("one-hot".to_owned(), "affine, 2 epochs".to_owned()), 2),
        (("one-hot".to_owned(), "ridge, alpha 1".to_owned()), 1),
    ];
    assert_eq!(seen, BTreeMap::from(expected));
}

#[tokio::test]
async fn effects_of_a_job_are_those_of_the_command_whatever_the_shards_and_workers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_variants(folder);
    for (name, shard_rows) in [("all.toml", 1_000), ("one.toml", 1), ("seven.toml", 7)] {
        write_job(folder, name, shard_rows);
    }
    succeeds(folder, &["run", "all.toml", "--store", "all"]).await;
    succeeds(folder, &["run", "one.toml", "--store", "one"]).await;
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    let worker = ["worker", "--store", "store", "--until-idle"];
    succeeds(folder, &[&["submit", "seven.toml"], &at[..]].concat()).await;
    let worker = [&worker, &at[..]].concat();
    let workers = [&worker, &worker].map(|line| Running::start(command(folder, line)));
    for worker in workers {
        assert_eq!(worker.exit().await, (Some(0), Vec::new()));
    }
    check_committed_once(&folder.join("store")).await;
    let expected = results(&folder.join("all")).await;
    for store in ["one", "store"] {
        assert_eq!(results(&folder.join(store)).await, expected, "{store}");
    }
    let store = Store::open(folder.join("all").to_str().unwrap()).unwrap();
    let plan = plan(&store, &folder.join("all")).await;
    let notes = ["3 of 60 variants left out: the genome has another base for the reference"];
    assert_eq!(plan.datasets[1].facts.notes, notes);
    let prepared = folder.join("all/examples").join(plan.datasets[1].facts.id.as_str());
    let manifest = std::fs::read_to_string(prepared.join("manifest.json")).unwrap();
    assert!(manifest.contains(notes[0]), "{manifest}");
    check_zero_shot(folder, &store, &plan).await;
    check_applied(folder, &store, &plan).await;
    let set = plan.sets.iter().find(|set| set.effects.is_some()).unwrap();
    let export = ["export", "all", "--set", set.id.as_str(), "--format", "npy", "--out", "e.npy"];
    succeeds(folder, &export).await;
    let bytes = std::fs::read(folder.join("e.npy")).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..128]).contains("(57, 6)"));
}
