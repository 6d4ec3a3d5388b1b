//! Each format and number type by itself: shards, exports, examples, predictions, scores.

use crate::{TELL, embed, model, rows, told, write_fasta};
use glmeval_common::ids::{DatasetId, FitId};
use glmeval_common::representation::Pooling;
use glmeval_common::rng::Rng;
use glmeval_common::store::Store;
use glmeval_common::store::examples::{read_examples, read_manifest};
use glmeval_common::store::fits::{find_scores, read_predictions};
use glmeval_tests::process::{glmeval, succeed};
use glmeval_tests::python;
use serde_json::{Value, json};
use std::path::Path;

async fn value(python: &Path, folder: &Path, script: &str) -> Value {
    let printed = python::run(python, folder, script).await;
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}

const READ_SHARDS: &str = "
import json, numpy
from pathlib import Path
from safetensors import safe_open
from safetensors.numpy import load_file
paths = sorted(Path('set').glob('embeddings/*/data/*.safetensors'))
shards = [load_file(path) for path in paths]
opened = [safe_open(path, 'numpy') for path in paths]
metadata = [shard.metadata() for shard in opened]
axes, numeric = json.loads(metadata[0]['axes']), metadata[0]['numeric_class']
ids = [id for held in metadata for id in json.loads(held['row_ids'])]
first = [[int(held['start']), int(held['end']), held['dtype'], held['format_version']] for held in metadata]
";

#[tokio::test]
async fn shards_of_cls_and_mean_open_in_safetensors_as_f32_and_f16() {
    let Some(python) = python::python("shards in safetensors") else { return };
    for (dtype, half) in [("f32", false), ("f16", true)] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let ids = write_fasta(&at.join("regions.fa"));
        let options = ["--pool", "cls", "--pool", "mean", "--layer", "0", "--layer", "4"];
        let options = [&options[..], &["--dtype", dtype, "--shard-rows", "3"]].concat();
        let set = embed(at, "set", &options).await;
        let mut script = READ_SHARDS.to_owned();
        let tensors =
            [(0, Pooling::Cls), (0, Pooling::Mean), (4, Pooling::Cls), (4, Pooling::Mean)];
        for (layer, pooling) in tensors {
            let join = format!("[shard['layer_{layer}.{pooling}'] for shard in shards]");
            script.push_str(&format!("{pooling}_{layer} = numpy.concatenate({join})\n"));
        }
        let read = value(&python, at, &(script + "del metadata\n" + TELL)).await;
        assert_eq!(read["ids"], json!(ids));
        for (layer, pooling) in tensors {
            let ours = rows(&set, layer, pooling).await;
            let expected = told(&ours.values, ours.width, half);
            assert_eq!(read[format!("{pooling}_{layer}")], expected, "{dtype} {layer} {pooling}");
        }
        let first = value(&python, at, &format!("{READ_SHARDS}print(json.dumps(first))")).await;
        let long = if half { "f16" } else { "f32" };
        assert_eq!(first, json!([[0, 3, long, "1"], [3, 6, long, "1"], [6, 7, long, "1"]]));
    }
}

#[tokio::test]
async fn exports_hold_the_same_numbers_as_f32_and_f16() {
    let Some(python) = python::python("exports in Arrow and numpy") else { return };
    for (dtype, half) in [("f32", false), ("f16", true), ("bf16", false)] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let ids = write_fasta(&at.join("regions.fa"));
        let set = embed(at, "set", &["--pool", "cls", "--dtype", dtype]).await;
        for (format, name) in [("npy", "x.npy"), ("parquet", "x.parquet")] {
            let (set, out) = (set.to_str().unwrap(), at.join(name));
            let arguments = ["export", set, "--format", format, "--out", out.to_str().unwrap()];
            succeed(&mut glmeval(&arguments, &[])).await;
        }
        let script = "
import numpy, pyarrow.parquet
npy = numpy.load('x.npy')
table = pyarrow.parquet.read_table('x.parquet').combine_chunks()
ids = table['id'].to_pylist()
names = [f'{field.name}: {field.type}' for field in table.schema]
parquet = table['embedding'].chunk(0).flatten().to_numpy().reshape(len(ids), -1)
";
        let read = value(&python, at, &format!("{script}{TELL}")).await;
        let ours = rows(&set, 4, Pooling::Cls).await;
        let expected = told(&ours.values, ours.width, half);
        assert_eq!(read["ids"], json!(ids));
        assert_eq!((&read["npy"], &read["parquet"]), (&expected, &expected), "{dtype}");
        let item = if half { "halffloat" } else { "float" };
        let list = format!("embedding: fixed_size_list<item: {item} not null>[64]");
        assert_eq!(read["names"], json!(["id: string", list]), "{dtype}");
    }
}

#[tokio::test]
async fn an_h5ad_file_of_windows_has_their_places() {
    let Some(python) = python::python("windows in anndata") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let undefined = "N".repeat(40);
    std::fs::write(
        at.join("genome.fa"),
        format!(">chr2\n{}{undefined}{}\n", "ACGT".repeat(10), "TTGA".repeat(10)),
    )
    .unwrap();
    let model = model();
    let model = model.to_str().unwrap();
    let embed = ["embed", "--model", model, "--genome", "genome.fa", "--window", "40"];
    let embed = [&embed[..], &["--stride", "40", "--out", "set"]].concat();
    succeed(glmeval(&embed, &[]).current_dir(at)).await;
    let export = ["export", "set", "--format", "h5ad", "--out", "x.h5ad"];
    succeed(glmeval(&export, &[]).current_dir(at)).await;
    let script = "
import anndata, json
obs = anndata.read_h5ad('x.h5ad').obs
columns = ['chrom', 'start', 'end', 'strand']
print(json.dumps([list(obs.index), list(obs.columns)] + [obs[name].tolist() for name in columns]))
";
    let columns = ["chrom", "start", "end", "strand"];
    let expected = json!([
        ["chr2:0-40", "chr2:80-120"],
        columns,
        ["chr2", "chr2"],
        [0, 80],
        [40, 120],
        ["+", "+"]
    ]);
    assert_eq!(value(&python, at, script).await, expected);
}

/// A table of random DNA with a target, and a job over it.
fn write_job(folder: &Path) {
    let mut rng = Rng::derive(1, "python readers");
    let mut table = "name\tsequence\tsplit\tactivity\n".to_owned();
    for row in 0..48 {
        let split = ["train", "train", "valid", "test"][row % 4];
        let sequence: String = (0..30).map(|_| b"ACGT"[rng.below(4) as usize] as char).collect();
        table.push_str(&format!("r{row}\t{sequence}\t{split}\t{}\n", rng.normal()));
    }
    std::fs::write(folder.join("table.tsv"), table).unwrap();
    let job = r#"
name = "small"
seed = 1
[[dataset]]
name = "table"
task = "lenti-mpra"
table = "table.tsv"
columns = { sequence = "sequence", id = "name", split = "split", targets = ["activity"] }
[[representation]]
one_hot = true
[[representation]]
kmer = 2
[[probe]]
kind = "ridge"
alpha = 1.0
"#;
    std::fs::write(folder.join("job.toml"), job).unwrap();
    assert!(model().is_dir());
}

const READ_TABLES: &str = "
import json, duckdb, numpy, pandas, pyarrow.parquet
from pathlib import Path
def sorted_files(pattern):
    return [str(path) for path in sorted(Path('store').glob(pattern))]
def table(path):
    read = pyarrow.parquet.read_table(path)
    assert read.num_rows == len(pandas.read_parquet(path)), path
    assert read.num_rows == duckdb.sql(f\"SELECT count(*) FROM '{path}'\").fetchall()[0][0], path
    return read.to_pydict()
examples = [table(path) for path in sorted_files('examples/*/data/*.parquet')]
predictions = {path.split('/')[2]: table(path) for path in sorted_files('probes/*/data/predictions.*.parquet')}
scores = pandas.read_parquet('report/scores.parquet')
duckdb.sql(\"SELECT * FROM 'report/scores.parquet'\").fetchall()
print(json.dumps([examples, predictions, list(scores.columns), len(scores)]))
";

#[tokio::test]
async fn examples_predictions_and_scores_open_in_arrow_pandas_and_duckdb() {
    let Some(python) = python::python("tables in Arrow, pandas and DuckDB") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_job(at);
    let arguments = ["run", "job.toml", "--store", "store", "--report", "report"];
    succeed(glmeval(&arguments, &[]).current_dir(at)).await;
    let read = value(&python, at, READ_TABLES).await;
    let [parts, predictions, columns, score_rows] = read.as_array().unwrap().as_slice() else {
        panic!("{read}");
    };

    let store = Store::open(at.join("store").to_str().unwrap()).unwrap();
    let dataset = DatasetId::new(&store.list_folders("examples").await.unwrap()[0]);
    let manifest = read_manifest(&store, &dataset).await.unwrap();
    let examples = read_examples(&store, &manifest, 0, manifest.rows).await.unwrap();
    assert_eq!((parts.as_array().unwrap().len(), examples.len()), (1, 48));
    let texts = |of: fn(&glmeval_common::example::Example) -> String| -> Value {
        examples.iter().map(of).collect()
    };
    assert_eq!(parts[0]["id"], texts(|e| e.id.clone()));
    assert_eq!(parts[0]["sequence"], texts(|e| e.sequences[0].as_str().to_owned()));
    assert_eq!(parts[0]["split"], texts(|e| e.split.unwrap().name().to_owned()));
    let activity: Vec<f64> = examples.iter().map(|e| f64::from(e.targets[0])).collect();
    assert_eq!(parts[0]["activity"], json!(activity));

    let fits = store.list_folders("probes").await.unwrap();
    assert_eq!((fits.len(), predictions.as_object().unwrap().len()), (2, 2));
    for fit in fits {
        let scores = find_scores(&store, &FitId::new(&fit)).await.unwrap().unwrap();
        let ours = read_predictions(&store, &scores).await.unwrap();
        let predicted: Vec<f64> = ours.iter().map(|row| f64::from(row.prediction)).collect();
        assert_eq!(predictions[&fit]["prediction"], json!(predicted));
        let ids: Vec<&str> = ours.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(predictions[&fit]["id"], json!(ids));
    }
    let csv = std::fs::read_to_string(at.join("report/scores.csv")).unwrap();
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(columns, &json!(header));
    assert_eq!(score_rows.as_u64().unwrap() as usize, csv.lines().count() - 1);
}
