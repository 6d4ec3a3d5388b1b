//! Golden fixtures: their folder and their tensors.
//!
//! `GLMEVAL_GOLDEN` points at another folder of the same layout (`models/`, `probes/`, `layouts/`,
//! `hostile/`); every fixture found there is run by its own description.

use glmeval_common::model::{ModelOptions, UndefinedBase};
use glmeval_worker::model::Model;
use glmeval_worker::models;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub mod cases;

/// The folder of golden fixtures.
pub fn root() -> PathBuf {
    std::env::var_os("GLMEVAL_GOLDEN").map_or_else(vendored, PathBuf::from)
}

fn vendored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// One fixture by its path below the folder; the vendored one where another folder lacks it.
pub fn fixture(path: &str) -> PathBuf {
    let there = root().join(path);
    if there.exists() { there } else { vendored().join(path) }
}

/// Whether `GLMEVAL_GOLDEN` names the folder; a part it lacks is then left out rather than missed.
pub fn is_elsewhere() -> bool {
    std::env::var_os("GLMEVAL_GOLDEN").is_some()
}

/// Sub-folders of `root()/part`, sorted by name.
pub fn folders(part: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root().join(part)) else { return Vec::new() };
    let mut folders: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// JSON files of the folder `root()/part`, sorted by name.
///
/// # Panics
/// If there is none, unless `GLMEVAL_GOLDEN` names the folder.
pub fn descriptions(part: &str) -> Vec<PathBuf> {
    let folder = root().join(part);
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    assert!(!files.is_empty() || is_elsewhere(), "{}: no fixture", folder.display());
    files
}

/// The gLM of that name below `models/`; `N` becomes `[PAD]` where its vocabulary has no unknown token.
///
/// # Panics
/// If it cannot be opened.
pub fn model(name: &str) -> Model {
    let folder = fixture(&format!("models/{name}"));
    let open = |options| {
        let model = models::open_with(&folder, &options);
        model.unwrap_or_else(|e| panic!("{}: {}", folder.display(), e.chain()))
    };
    let model = open(ModelOptions::default());
    if model.tokenizer().encode("N").is_ok() {
        return model;
    }
    open(ModelOptions { undefined_bases: UndefinedBase::Pad, ..ModelOptions::default() })
}

/// A JSON file.
///
/// # Panics
/// With the path when it cannot be read or parsed.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One tensor of a fixture, widened to f64.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// Values in row-major order.
    pub values: Vec<f64>,
}

impl Tensor {
    /// The values as f32, as they were stored for F32 tensors.
    pub fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|&value| value as f32).collect()
    }

    /// The values as integers.
    pub fn i64(&self) -> Vec<i64> {
        self.values.iter().map(|&value| value as i64).collect()
    }
}

/// Every tensor of a safetensors file by name.
///
/// # Panics
/// With the path when it cannot be read or holds an unexpected type.
pub fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.tensors().into_iter().map(|(name, view)| (name, widen(path, &view))).collect()
}

fn widen(path: &Path, view: &safetensors::tensor::TensorView<'_>) -> Tensor {
    use safetensors::Dtype;
    fn each<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect()
    }
    let data = view.data();
    let values = match view.dtype() {
        Dtype::F64 => each(data, f64::from_le_bytes),
        Dtype::F32 => each(data, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => each(data, |b| half::f16::from_le_bytes(b).to_f64()),
        Dtype::I64 => each(data, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(data, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::U8 | Dtype::BOOL => each(data, |b: [u8; 1]| f64::from(b[0])),
        Dtype::I8 => each(data, |b| f64::from(i8::from_le_bytes(b))),
        other => panic!("{}: tensors of {other:?} are not handled", path.display()),
    };
    Tensor { shape: view.shape().to_vec(), values }
}

/// A number of a fixture's JSON, where `"NaN"` and `"Infinity"` are strings.
pub fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// Numbers of a fixture's list; `null` is NaN.
///
/// # Panics
/// If it is no list.
pub fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|one| number(one).unwrap_or(f64::NAN)).collect()
}

/// Texts of a fixture's list.
///
/// # Panics
/// If it is no list of texts.
pub fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

/// Compares within `tolerance * max(1, |expected|)`; NaN equals NaN.
///
/// # Panics
/// If a value is farther off, with `what` it is of.
pub fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let same = (found.is_nan() && expected.is_nan())
            || (f64::from(found) - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(same, "{what}: value {index} is {found}, expected {expected}");
    }
}

/// Says what a test found beside passing: cases left out, how near the tolerance it came.
#[expect(clippy::print_stderr, reason = "shown by the test runner")]
pub fn note(line: &str) {
    eprintln!("{line}");
}

/// Largest absolute difference of two slices, and where it is; NaN counts as infinite.
///
/// # Panics
/// If the lengths differ.
pub fn max_difference(found: &[f32], expected: &[f64]) -> (f64, usize) {
    assert_eq!(found.len(), expected.len(), "number of values");
    found.iter().zip(expected).enumerate().fold((0.0, 0), |worst, (i, (&a, &b))| {
        let difference = (f64::from(a) - b).abs();
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        if difference > worst.0 { (difference, i) } else { worst }
    })
}
