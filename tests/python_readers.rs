//! What we write is what numpy, safetensors, Arrow, pandas, Polars, DuckDB and anndata read: same shapes, same bytes.
//!
//! Leaves out: what the numbers mean (golden tests). The blocks of `docs/guide/reading-embeddings.md`
//! are run as they stand.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::ids::SetId;
use glmeval_common::representation::Pooling;
use glmeval_common::rng::Rng;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{Rows, committed_ranges, read_rows};
use glmeval_tests::process::{glmeval, program_folder, succeed};
use glmeval_tests::python;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::process::Command;

#[path = "python_readers/formats.rs"]
mod formats;
#[path = "python_readers/own_data.rs"]
mod own_data;

/// Prints name, type, shape and bytes of every array, and every list of ids, that a block left behind.
const TELL: &str = r#"
def _tell(values):
    import hashlib, json, numpy, os
    def of(value):
        value = numpy.ascontiguousarray(value)
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    told = {}
    for name, value in values.items():
        if isinstance(value, numpy.ndarray):
            told[name] = of(value)
        elif name == "per_example":
            told[name] = [of(part) for part in (value.values() if isinstance(value, dict) else value)]
        elif name in ("ids", "names", "metadata"):
            told[name] = [str(part) for part in value] if isinstance(value, list) else value
    print(json.dumps(told), flush=True)
    # Threads that a reader left behind may abort an interpreter that takes itself apart.
    os._exit(0)
_tell(dict(globals()))
"#;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn model() -> PathBuf {
    repository().join("examples/models/nt-v1-random")
}

/// Records of random DNA, none as long as the one before, one with undefined letters.
fn write_fasta(path: &Path) -> Vec<String> {
    let mut rng = Rng::derive(0, "python readers");
    let mut text = String::new();
    let ids: Vec<String> = (0..7).map(|i| format!("region {i}").replace(' ', "_")).collect();
    for (i, id) in ids.iter().enumerate() {
        let letters = if i == 3 { "ACGTN" } else { "ACGT" };
        let letter = |_| letters.as_bytes()[rng.below(letters.len() as u64) as usize] as char;
        let sequence: String = (0..40 + 13 * i).map(letter).collect();
        text.push_str(&format!(">{id}\n{sequence}\n"));
    }
    std::fs::write(path, text).unwrap();
    ids
}

/// Every row of the one set below `folder`, as our own reader sees it.
async fn rows(folder: &Path, layer: u32, pooling: Pooling) -> Rows {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let sets = store.list_folders("embeddings").await.unwrap();
    assert_eq!(sets.len(), 1, "{sets:?}");
    let set = SetId::new(&sets[0]);
    let end = committed_ranges(&store, &set).await.unwrap().iter().map(|range| range.1).max();
    read_rows(&store, &set, (layer, pooling), (0, end.unwrap())).await.unwrap()
}

/// What [`TELL`] prints of `[rows, width]` values held as f32 or f16.
fn told(values: &[f32], width: usize, half: bool) -> Value {
    let bytes: Vec<u8> = if half {
        values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    };
    let dtype = if half { "float16" } else { "float32" };
    let sha256 = glmeval_common::digest::sha256_hex(&bytes);
    serde_json::json!([dtype, [values.len() / width, width], sha256])
}

/// What [`TELL`] prints of the tokens of each example.
fn told_per_example(rows: &Rows) -> Value {
    let mut rest = rows.values.as_slice();
    let parts = rows.token_counts.iter().map(|&count| {
        let (part, after) = rest.split_at(count as usize * rows.width);
        rest = after;
        told(part, rows.width, true)
    });
    parts.collect()
}

/// Fenced blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let fence = regex::Regex::new(r"(?ms)^```(\w+)\n(.*?)^```$").unwrap();
    fence.captures_iter(page).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

async fn run_shell(folder: &Path, script: &str) {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", script]).current_dir(folder).kill_on_drop(true);
    succeed(command.env("PATH", format!("{}:{path}", program_folder().display()))).await;
}

#[tokio::test]
async fn every_block_of_the_guide_runs_and_reads_the_bytes_we_wrote() {
    let Some(python) = python::python("the guide's Python") else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ids = write_fasta(&at.join("regions.fa"));
    std::os::unix::fs::symlink(model(), at.join("my-nt")).unwrap();
    let page = repository().join("docs/guide/reading-embeddings.md");
    let page = std::fs::read_to_string(page).unwrap();
    // Half a gigabyte before its own requirements: read where a machine has it.
    let has_torch = python::has_module(&python, "torch").await;
    let mut read: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (language, block) in blocks(&page) {
        if language == "sh" {
            run_shell(at, &block).await;
            continue;
        }
        assert_eq!(language, "python", "{block}");
        if block.contains("torch") && !has_torch {
            glmeval_tests::golden::note(&format!("SKIPPED, as PyTorch is not installed:\n{block}"));
            continue;
        }
        let printed = python::run(&python, at, &format!("{block}\n{TELL}")).await;
        let printed: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        let means = rows(&at.join("embeddings"), 4, Pooling::Mean).await;
        let tokens = rows(&at.join("tokens"), 4, Pooling::Full).await;
        assert_eq!(means.ids, ids);
        for (name, value) in printed.as_object().unwrap() {
            *read.entry(name.clone()).or_default() += 1;
            let expected = match name.as_str() {
                "embeddings" => told(&means.values, means.width, false),
                "tokens" => told(&tokens.values, tokens.width, true),
                "per_example" => told_per_example(&tokens),
                "ids" => ids.clone().into(),
                "names" => serde_json::json!(["layer_4.mean"]),
                _ => continue,
            };
            assert_eq!(value, &expected, "{name} of\n{block}");
        }
    }
    let embeddings = if has_torch { 9 } else { 7 };
    for (name, count) in [("embeddings", embeddings), ("tokens", 1), ("per_example", 2), ("ids", 6)]
    {
        assert_eq!(read.get(name), Some(&count), "{name} in {read:?}");
    }
}

/// Runs `glmeval embed` on the FASTA file of `folder`.
async fn embed(folder: &Path, out: &str, options: &[&str]) -> PathBuf {
    let (fasta, out) = (folder.join("regions.fa"), folder.join(out));
    let model = model();
    let mut arguments = vec!["embed", "--model", model.to_str().unwrap()];
    arguments.extend(["--fasta", fasta.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    arguments.extend(options);
    succeed(&mut glmeval(&arguments, &[])).await;
    out
}
