//! Whole analyses of fixtures as jobs: every window length a data set, every score a column.

use super::plan;
use glmeval_common::effect::Score;
use glmeval_common::representation::Pooling;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::read_rows;
use glmeval_tests::glmeval::{glmeval, succeeds};
use glmeval_tests::golden::{self, number};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The column that holds a score of the fixtures; `None` for those that a job does not compute.
fn column(score: &str) -> Option<&'static str> {
    let score = score.trim_start_matches("embedding_");
    let known = [
        ("masked_logit_difference", "masked_llr"),
        ("masked_token_llr", "masked_llr"),
        ("llr_all16", "causal_llr"),
        ("llr_all16_with_sep", "causal_llr_all_tokens"),
        ("llr_acgt", "causal_llr_acgt"),
    ];
    let renamed = known.into_iter().find(|(name, _)| *name == score).map(|(_, column)| column);
    let all = Score::ALL.iter().flat_map(|score| score.columns()).copied();
    renamed.or_else(|| all.into_iter().find(|column| *column == score))
}

/// Rows of a fixture as tables, one for each window length.
fn write_tables(folder: &Path, description: &Value) -> Vec<u64> {
    let contigs = description["contigs"].as_object().unwrap().iter();
    let contigs =
        contigs.map(|(name, letters)| format!(">{name}\n{}\n", letters.as_str().unwrap()));
    std::fs::write(folder.join("contigs.fa"), contigs.collect::<String>()).unwrap();
    let mut tables: BTreeMap<u64, String> = BTreeMap::new();
    for row in description["variants"].as_array().unwrap() {
        let length = row["window_length"].as_u64().unwrap();
        let text = |key: &str| row[key].as_str().unwrap();
        let table = tables
            .entry(length)
            .or_insert_with(|| "chrom\tpos\tref\talt\telement\teffect\n".to_owned());
        let place = format!("{}\t{}\t{}\t{}", text("contig"), row["pos"], text("ref"), text("alt"));
        table.push_str(&format!("{place}\t{}\t{}\n", text("element"), row["effect"]));
    }
    for (length, table) in &tables {
        std::fs::write(folder.join(format!("v{length}.tsv")), table).unwrap();
    }
    tables.into_keys().collect()
}

/// Every score that the fixture's gLM has, by the words of a job.
fn words(description: &Value) -> Vec<&'static str> {
    let found = description["tolerances"].as_object().unwrap().keys();
    let columns: Vec<_> = found.filter_map(|name| column(name)).collect();
    let has = |score: &Score| score.columns().iter().any(|name| columns.contains(name));
    Score::ALL.into_iter().filter(has).map(Score::name).collect()
}

fn job(folder: &Path, description: &Value, pad: bool) -> String {
    let name = description["model"].as_str().unwrap();
    let model = golden::fixture(&format!("models/{name}")).display().to_string();
    let pad = if pad { "undefined_bases = \"pad\"\n" } else { "" };
    let mut job = format!(
        "name = \"golden\"\nshard_rows = 4\n[[model]]\nname = \"M\"\npath = {model:?}\n{pad}\
         [[representation]]\nmodel = \"M\"\nzero_shot = true\nscores = {:?}\n",
        words(description)
    );
    for length in write_tables(folder, description) {
        job.push_str(&format!(
            "[[dataset]]\nname = \"{length}\"\nvariants = [\"v{length}.tsv\"]\n\
             genome = \"contigs.fa\"\nwindow = {length}\n"
        ));
    }
    job
}

/// Compares every row of every set; returns how many values were compared.
async fn compare(folder: &Path, description: &Value) -> usize {
    let path = folder.join("store");
    let store = Store::open(path.to_str().unwrap()).unwrap();
    let plan = plan(&store, &path).await;
    let mut compared = 0;
    for set in plan.sets.iter().filter(|set| set.effects.is_some()) {
        let dataset = plan.datasets.iter().find(|one| one.facts.id == set.dataset).unwrap();
        let layer = set.layers[0];
        let range = (0, dataset.facts.rows);
        let read = read_rows(&store, &set.id, (layer, Pooling::Effect), range).await.unwrap();
        let length: u64 = dataset.name.parse().unwrap();
        let rows = description["variants"].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["window_length"] == length);
        let pad_to = set.effects.as_ref().unwrap().pad_to.map(u64::from);
        for (row, values) in rows.zip(read.values.chunks(read.width)) {
            // The study's table pads some lengths further than the longest window of a fixture.
            if row["pad_to"].as_u64() != pad_to {
                continue;
            }
            for (score, expected) in row["scores"].as_object().unwrap() {
                let place = column(score)
                    .and_then(|name| set.columns().iter().position(|column| column == name));
                let (Some(place), Some(expected)) = (place, number(expected)) else { continue };
                let tolerance = number(&description["tolerances"][score]["abs"]).unwrap();
                // What is stored is f32.
                let tolerance = tolerance + expected.abs() * f64::from(f32::EPSILON);
                let found = f64::from(values[place]);
                let what = format!("{} {score} of {row}", description["case"]);
                assert!((found - expected).abs() <= tolerance, "{what}: {found} for {expected}");
                compared += 1;
            }
        }
    }
    compared
}

#[tokio::test]
async fn jobs_give_the_scores_of_the_fixtures() {
    let mut compared = 0;
    for path in golden::descriptions("science/variants") {
        let description = golden::json(&path);
        if description["model"].is_null() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("job.toml"), job(folder, &description, false)).unwrap();
        let line = ["run", "job.toml", "--store", "store"];
        let ended = glmeval(folder, &line).await;
        if ended.code != Some(0) {
            // A vocabulary without an unknown token.
            std::fs::write(folder.join("job.toml"), job(folder, &description, true)).unwrap();
            std::fs::remove_dir_all(folder.join("store")).unwrap();
            succeeds(folder, &line).await;
        }
        let found = compare(folder, &description).await;
        assert!(found > 0, "{}: nothing was compared", path.display());
        compared += found;
    }
    assert!(compared > 0 || golden::is_elsewhere(), "nothing was compared");
}
