//! Attribution maps inside jobs: against the command `attribute`, with one worker and with several, and
//! in the report.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::attribution::MapKind;
use glmeval_common::plan::Plan;
use glmeval_common::score::FitScores;
use glmeval_common::store::Store;
use glmeval_common::store::fits::{find_scores, read_maps};
use glmeval_common::unit::Fit;
use glmeval_tests::glmeval::{Coordinator, Running, command, glmeval, model, succeeds};
use glmeval_tests::jobs::table;
use glmeval_tests::results::{check_committed_once, results};
use glmeval_worker::attribution::StoredMaps;
use serde_json::Value;
use std::path::Path;

const LENGTH: usize = 60;
const ROWS: usize = 100;
const TOP: usize = 7;

/// A network of letters and of all states of the gLM's last layer, three repeats each, and their maps.
fn write_job(folder: &Path, name: &str, (protocol, attribution): (&str, &str)) {
    let model = model().display().to_string();
    let job = format!(
        "name = \"maps\"\nseed = 3\nprotocol = \"{protocol}\"\nshard_rows = 40\n\
         [[model]]\nname = \"NT\"\npath = {model:?}\n\
         [[dataset]]\nname = \"activity\"\ntask = \"regression\"\ntable = \"data.tsv\"\n\
         columns = {{ sequence = \"seq\", id = \"id\", split = \"part\", targets = [\"activity\"] }}\n\
         [[representation]]\none_hot = true\n\
         [[representation]]\nmodel = \"NT\"\npooling = [\"full\"]\n\
         [[probe]]\nkind = \"network\"\nname = \"affine\"\nrepeats = 3\nepochs = 2\n\
         layers = [\n{{ kind = \"flatten\" }}, {{ kind = \"dense\", units = 1, name = \"out\" }}]\n\
         [[attribution]]\n{attribution}\n"
    );
    std::fs::write(folder.join(name), job).unwrap();
}

fn write_data(folder: &Path) {
    let text = table(ROWS, LENGTH);
    let tests = |line: &&str| line.split('\t').nth(2).is_some_and(|part| part != "train");
    let tested: String = text.lines().filter(tests).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("tested.tsv"), tested).unwrap();
    std::fs::write(folder.join("data.tsv"), text).unwrap();
}

/// The one plan of a store.
async fn plan(store: &Store, folder: &Path) -> Plan {
    let jobs = store.list_folders("jobs").await.unwrap();
    let [job] = jobs.as_slice() else { panic!("one job, found {jobs:?}") };
    let text = std::fs::read(folder.join("jobs").join(job).join("plan.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The one fit of maps with what it committed.
async fn maps(folder: &Path) -> (Store, Fit, FitScores) {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let plan = plan(&store, folder).await;
    let all = plan.fit_units().flat_map(|(_, unit)| &unit.fits);
    let found: Vec<Fit> = all.filter(|fit| fit.probe.attribution().is_some()).cloned().collect();
    let [fit] = found.as_slice() else { panic!("one unit of maps: {found:?}") };
    let scores = find_scores(&store, fit.id()).await.unwrap().unwrap();
    (store, fit.clone(), scores)
}

/// The files of `attribute` with the fits that the job explained.
async fn by_command(folder: &Path, store: &str, fit: &Fit) -> (Vec<u8>, Value) {
    let spec = fit.probe.attribution().unwrap();
    let probe = |fits: &[glmeval_common::ids::FitId]| format!("{store}/probes/{}", fits[0]);
    let (letters, states) = (probe(&spec.explained), probe(&spec.of_states));
    let (model, top) = (model().display().to_string(), TOP.to_string());
    let line = [
        "attribute",
        "--probe",
        &letters,
        "--embedding-probe",
        &states,
        "--model",
        &model,
        "--tsv",
        "tested.tsv:seq",
        "--id-column",
        "id",
        "--split-column",
        "part",
        "--top",
        &top,
        "--out",
        "maps",
        "--format",
        "json",
    ];
    let printed = succeeds(folder, &line).await;
    let maps = std::fs::read(folder.join("maps/maps.safetensors")).unwrap();
    (maps, serde_json::from_str(&printed).unwrap())
}

#[tokio::test]
async fn maps_of_a_job_are_those_of_the_command_whatever_the_workers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let attribution = ("published", "top = 7\nlogos = 2");
    write_job(folder, "job.toml", attribution);
    succeeds(folder, &["run", "job.toml", "--store", "one", "--report", "report"]).await;
    let coordinator = Coordinator::start(folder, "127.0.0.1:0", &[]).await;
    let at = ["--coordinator", &coordinator.address];
    succeeds(folder, &[&["submit", "job.toml"], &at[..]].concat()).await;
    let worker = [&["worker", "--store", "store", "--until-idle"], &at[..]].concat();
    let workers = [&worker, &worker].map(|line| Running::start(command(folder, line)));
    for worker in workers {
        assert_eq!(worker.exit().await, (Some(0), Vec::new()));
    }
    check_committed_once(&folder.join("store")).await;
    assert_eq!(results(&folder.join("store")).await, results(&folder.join("one")).await);
    let (store, fit, scores) = maps(&folder.join("one")).await;
    let (expected, printed) = by_command(folder, "one", &fit).await;
    let (stored, rows) = read_maps(&store, &scores).await.unwrap();
    assert!(stored == expected, "the same bytes");
    let pairs = printed["correlations"].as_array().unwrap();
    assert_eq!((pairs.len(), scores.statistics.len()), (3, 6));
    for pair in pairs {
        let target =
            format!("{} vs {}", pair["map"].as_str().unwrap(), pair["other"].as_str().unwrap());
        for name in ["pearson", "spearman"] {
            let is_it = |s: &&glmeval_common::score::Statistic| {
                s.target == target && s.name == format!("map_{name}")
            };
            let found = scores.statistics.iter().find(is_it).unwrap();
            assert_eq!((found.value, found.examples), (pair[name].as_f64(), TOP as u64));
        }
    }
    assert!(scores.notes[0].contains("repeat 2"), "the study kept the last: {:?}", scores.notes);
    let first = StoredMaps::first(&stored, rows.clone(), 2, "maps").unwrap();
    assert_eq!((first.len(), first[0].maps.len(), first[0].named.sequence.len()), (2, 3, LENGTH));
    assert!(first[0].output >= first[1].output);
    StoredMaps::first(&rows, stored.clone(), 2, "swapped").unwrap_err();
    check_report(&folder.join("report"));
}

fn check_report(report: &Path) {
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    for part in ["id=\"regression-maps\"", "information × gradient", "class=\"la\"", "no reference"]
    {
        assert!(page.contains(part), "{part}");
    }
    for rank in ["01", "02"] {
        let name = format!("figures/00-activity-logo-0-{rank}.svg");
        let logo = std::fs::read_to_string(report.join(&name)).unwrap();
        assert!(logo.contains("prefers-color-scheme:dark") && page.contains(&name), "{name}");
    }
    let rows = std::fs::read_to_string(report.join("attributions.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + 3);
    let text = std::fs::read_to_string(report.join("scores.txt")).unwrap();
    assert!(
        text.contains("affine, 2 epochs and NT on activity: information vs saliency"),
        "{text}"
    );
    // Maps are no scores of a probe.
    let scores = std::fs::read_to_string(report.join("scores.csv")).unwrap();
    assert!(!scores.contains("attribution"), "{scores}");
}

#[tokio::test]
async fn corrected_the_repeat_with_the_lowest_validation_loss_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    write_job(folder, "job.toml", ("corrected", "top = 3\nkinds = [\"saliency\"]"));
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    let (store, fit, scores) = maps(&folder.join("store")).await;
    let spec = fit.probe.attribution().unwrap();
    assert_eq!((spec.explained.len(), &spec.kinds[..]), (3, &[MapKind::Saliency][..]));
    assert!(spec.masked.is_none() && scores.statistics.is_empty());
    let mut best = (f64::INFINITY, String::new());
    for id in &spec.explained {
        let made = find_scores(&store, id).await.unwrap().unwrap();
        let history = glmeval_common::store::fits::read_history(&store, &made).await.unwrap();
        let lowest =
            history.iter().filter_map(|epoch| epoch.val_loss).fold(f64::INFINITY, f64::min);
        if lowest < best.0 {
            best = (lowest, format!("fit {id}, of 3 repeats"));
        }
    }
    assert!(scores.notes[0].contains(&best.1), "{:?} {best:?}", scores.notes);
    let planned = succeeds(folder, &["plan", "job.toml"]).await;
    assert!(planned.contains("1 attributions, for which nothing is fitted"), "{planned}");
    assert!(!planned.contains("evaluations"), "{planned}");
    let job = std::fs::read_to_string(folder.join("job.toml")).unwrap();
    std::fs::write(
        folder.join("bad.toml"),
        job.replace("top = 3", "probe = \"resnet\"\ndatasets = [\"activity\"]"),
    )
    .unwrap();
    let refused = glmeval(folder, &["plan", "bad.toml"]).await;
    assert!(
        refused.stderr.contains("attribution[0].probe: expected fits of resnet"),
        "{}",
        refused.stderr
    );
}
