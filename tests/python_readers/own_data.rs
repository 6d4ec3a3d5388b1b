//! A data set of the user's own from table to AnnData: rule, missing targets, leakage, export.

use crate::model;
use glmeval_common::rng::Rng;
use glmeval_tests::process::{finish, glmeval, succeed};
use glmeval_tests::python;
use serde_json::{Value, json};
use std::path::Path;

const ROWS: usize = 60;

/// Two targets with holes, a gene for every three rows, one sequence twice and one turned.
fn write_job(folder: &Path) {
    let mut rng = Rng::derive(3, "own data");
    let mut table = "name\tseq\tchrom\ta\tb\n".to_owned();
    let mut before = String::new();
    for row in 0..ROWS {
        let mut sequence: String =
            (0..36).map(|_| b"ACGT"[rng.below(4) as usize] as char).collect();
        let chromosome = format!("chr{}", 1 + row % 4);
        if row == 3 {
            sequence.clone_from(&before);
        }
        before.clone_from(&sequence);
        let share = sequence.matches('G').count() as f64 / 36.0;
        let a = if row % 5 == 1 { "NA".to_owned() } else { share.to_string() };
        let b = if row % 7 == 2 { String::new() } else { (1.0 - share).to_string() };
        table.push_str(&format!("n{row}\t{sequence}\t{chromosome}\t{a}\t{b}\n"));
    }
    std::fs::write(folder.join("table.tsv"), table).unwrap();
    let job = format!(
        r#"
name = "own"
[[model]]
name = "NT"
path = "{}"
[[dataset]]
name = "mine"
task = "regression"
table = "table.tsv"
columns = {{ sequence = "seq", id = "name", targets = ["a", "b"], missing = true }}
split = {{ chromosome = "chrom", valid = ["chr3"], test = ["chr4"] }}
[[representation]]
model = "NT"
pooling = ["mean"]
[[representation]]
nucleotides = true
[[probe]]
kind = "ridge"
"#,
        model().display()
    );
    std::fs::write(folder.join("job.toml"), job).unwrap();
}

const READ: &str = "
import json, numpy, anndata, polars, duckdb, warnings
warnings.simplefilter('error')
data = anndata.read_h5ad('mine.h5ad')
obs = data.obs
scores = polars.read_csv('report/scores.csv')
parquet = polars.read_parquet('report/scores.parquet')
assert scores.height == parquet.height == duckdb.sql(\"SELECT count(*) FROM 'report/scores.parquet'\").fetchall()[0][0]
rows = parquet.filter(polars.col('statistic') == 'pearson') if 'statistic' in parquet.columns else parquet
lists = polars.read_parquet('mine.parquet')
assert numpy.array_equal(numpy.array(lists['embedding'].to_list(), 'f4'), data.X)
assert (lists['id'].to_list() == list(data.obs_names))
data.write_h5ad('again.h5ad')
told = dict(shape=data.shape, type=str(data.X.dtype), names=list(data.obs_names), columns=list(obs.columns),
    splits=obs['split'].value_counts().to_dict(), missing=[int(obs[c].isna().sum()) for c in ('a', 'b')],
    dimensions=list(data.var_names)[:2], uns=sorted(data.uns['glmeval']), pooling=str(data.uns['glmeval']['pooling']),
    again=bool((anndata.read_h5ad('again.h5ad').X == data.X).all()), columns_of_scores=parquet.columns)
print(json.dumps(told))
";

#[tokio::test]
async fn the_users_own_table_runs_and_its_embeddings_open_in_anndata_and_polars() {
    let Some(python) = python::python("AnnData and Polars") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_job(at);
    let run = ["run", "job.toml", "--store", "store", "--report", "report"];
    let finished = finish(glmeval(&run, &[]).current_dir(at)).await;
    let said = finished.stderr;
    assert_eq!(finished.code, Some(0), "{said}");
    // Row 3 of chr4 is row 2 of chr3 again.
    let expected = "warning: data set mine: 1 of 15 test examples have a sequence that valid has too \
        (0 as its reverse complement), such as n3 and n2 of valid";
    assert!(said.lines().any(|line| line == expected), "{said}");
    for (format, name) in [("h5ad", "mine.h5ad"), ("parquet", "mine.parquet")] {
        let export = ["export", "store", "--format", format, "--out", name];
        succeed(glmeval(&export, &[]).current_dir(at)).await;
    }
    let printed = python::run(&python, at, READ).await;
    let told: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!((&told["shape"], &told["type"]), (&json!([ROWS, 64]), &json!("float32")));
    let names: Vec<String> = (0..ROWS).map(|row| format!("n{row}")).collect();
    assert_eq!(told["names"], json!(names));
    assert_eq!(told["columns"], json!(["split", "a", "b"]));
    assert_eq!(told["splits"], json!({"train": 30, "valid": 15, "test": 15}));
    assert_eq!(told["missing"], json!([12, 9]));
    assert_eq!((&told["dimensions"], &told["again"]), (&json!(["0", "1"]), &json!(true)));
    assert_eq!(told["pooling"], json!("mean"));
}
