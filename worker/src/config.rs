//! Typed, checked reading of a model's `config.json`.
//!
//! Leaves out: defaults of any model (its own module says them). Invariant: every error names file,
//! key, allowed and found values; a value outside its range is never returned.

pub mod esm;
pub mod gpn;
pub mod hyenadna;
pub use esm::EsmConfig;
pub use gpn::GpnConfig;
pub use hyenadna::HyenaDnaConfig;
#[cfg(test)]
mod tests;

use crate::json;
use crate::weights::Weights;
use glmeval_common::error::{Error, InputError, Result};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The keys and values of one `config.json`.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    /// Where the values stand in the file: empty, or a key and a dot.
    place: String,
    values: Map<String, Value>,
}

/// A size that a config tells and a tensor shows.
pub(crate) struct StoredSize<'a> {
    /// Key of the config.
    pub(crate) key: &'a str,
    /// What the config says.
    pub(crate) value: usize,
    /// A tensor that has it as an extent.
    pub(crate) tensor: String,
    /// Which of its extents.
    pub(crate) axis: usize,
}

impl Config {
    /// Reads `config.json` of a folder, or that file itself.
    ///
    /// # Errors
    /// `NotFound` with the path; `Invalid` with line and column if it is not strict JSON (NaN, a
    /// repeated key, text behind the end), or no object.
    pub fn read(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
        match json::read(&path)? {
            Value::Object(values) => Ok(Self { path, place: String::new(), values }),
            other => {
                let found = json::describe(&other);
                Err(InputError::new(path.display(), "", "a JSON object", found).into())
            }
        }
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `key` has a value other than null.
    pub fn contains(&self, key: &str) -> bool {
        self.present(key).is_some()
    }

    /// The value of `key` as it stands in the file; null counts as absent.
    pub fn present(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// The object under `key`, whose errors name the key too; `None` if missing or null.
    ///
    /// # Errors
    /// `Invalid` if it is no object.
    pub fn nested(&self, key: &str) -> Result<Option<Self>> {
        let values = self.optional(key, "an object", |value| value.as_object().cloned())?;
        let place = format!("{}{key}.", self.place);
        Ok(values.map(|values| Self { path: self.path.clone(), place, values }))
    }

    /// Refuses the first size that a tensor contradicts; tensors that are missing tell nothing.
    ///
    /// # Errors
    /// `Invalid` with the key, the tensor and both numbers.
    pub(crate) fn check_sizes(&self, weights: &Weights, sizes: &[StoredSize<'_>]) -> Result<()> {
        for size in sizes {
            let Some(shape) = weights.shape(&size.tensor) else { continue };
            let Some(&stored) = shape.get(size.axis).filter(|&&stored| stored != size.value) else {
                continue;
            };
            let (tensor, file) = (&size.tensor, weights.path().display());
            let expected = format!("{stored}, as {tensor} in {file} has shape {shape:?}");
            return Err(self.error(size.key, expected, size.value));
        }
        Ok(())
    }

    /// Refuses a number of layers other than that of the tensors whose names begin with `start`
    /// and go on with the number of a layer; no such tensor tells nothing.
    ///
    /// # Errors
    /// `Invalid` with the key and both numbers.
    pub(crate) fn check_layers(
        &self,
        weights: &Weights,
        start: &str,
        (key, value): (&str, usize),
    ) -> Result<()> {
        let stored = layers_stored(weights, start);
        if stored == 0 || stored == value {
            return Ok(());
        }
        let expected = format!("{stored}, the layers in {}", weights.path().display());
        Err(self.error(key, expected, value))
    }

    /// An error about `key`, for checks between keys or against weights.
    pub fn error(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        let place = format!("{}{key}", self.place);
        InputError::new(self.path.display(), place, expected, found).into()
    }

    /// An integer in `range`.
    ///
    /// # Errors
    /// `Invalid` if it is missing, null, no integer or out of range.
    pub fn u32(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32> {
        let expected = integer_in(&range);
        self.optional_u32(key, range)?.ok_or_else(|| self.absent(key, &expected))
    }

    /// An integer in `range`; `None` if missing or null.
    ///
    /// # Errors
    /// `Invalid` if it is no integer or out of range.
    pub fn optional_u32(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
        self.optional(key, &integer_in(&range), |value| {
            value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n))
        })
    }

    /// A positive finite number.
    ///
    /// # Errors
    /// `Invalid` if it is missing, null, no number, zero, negative or too large.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.optional_f64(key)?.ok_or_else(|| self.absent(key, POSITIVE))
    }

    /// A positive finite number; `None` if missing or null.
    ///
    /// # Errors
    /// `Invalid` if it is no number, zero, negative or too large.
    pub fn optional_f64(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, POSITIVE, |value| {
            value.as_f64().filter(|number| number.is_finite() && *number > 0.0)
        })
    }

    /// A truth value.
    ///
    /// # Errors
    /// `Invalid` if it is missing, null or anything but `true` or `false`.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.optional_bool(key)?.ok_or_else(|| self.absent(key, TRUTH))
    }

    /// A truth value; `None` if missing or null.
    ///
    /// # Errors
    /// `Invalid` if it is anything but `true` or `false`.
    pub fn optional_bool(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, TRUTH, Value::as_bool)
    }

    /// A text out of `choices`.
    ///
    /// # Errors
    /// `Invalid` if it is missing, null or none of them.
    pub fn one_of<'c>(&self, key: &str, choices: &[&'c str]) -> Result<&'c str> {
        let expected = format!("one of the supported {}", choices.join(", "));
        self.optional_one_of(key, choices)?.ok_or_else(|| self.absent(key, &expected))
    }

    /// A text out of `choices`; `None` if missing or null.
    ///
    /// # Errors
    /// `Invalid` if it is none of them.
    pub fn optional_one_of<'c>(&self, key: &str, choices: &[&'c str]) -> Result<Option<&'c str>> {
        self.optional(key, &format!("one of the supported {}", choices.join(", ")), |value| {
            choices.iter().copied().find(|choice| value.as_str() == Some(choice))
        })
    }

    fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        let converted = convert(value);
        converted.map(Some).ok_or_else(|| self.error(key, expected, json::describe(value)))
    }

    fn absent(&self, key: &str, expected: &str) -> Error {
        let found = if self.values.contains_key(key) { "null" } else { "missing" };
        self.error(key, expected, found)
    }
}

/// One more than the highest number that follows `start` in a tensor's name.
pub(crate) fn layers_stored(weights: &Weights, start: &str) -> usize {
    let number = |name: &str| {
        let rest = name.strip_prefix(start)?;
        rest.split('.').next()?.parse::<usize>().ok()?.checked_add(1)
    };
    weights.names().filter_map(number).max().unwrap_or(0)
}

const POSITIVE: &str = "a positive number";
const TRUTH: &str = "true or false";

fn integer_in(range: &RangeInclusive<u32>) -> String {
    format!("an integer from {} to {} (limit)", range.start(), range.end())
}
