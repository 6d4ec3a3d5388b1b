//! Cases of a family of fixtures: their parameters, their tensors, their tolerances.
//!
//! Leaves out: what is run. Invariant: a family none of whose cases is covered fails.

use super::{Tensor, is_elsewhere, json, max_difference, note, number, root, tensors};
use serde_json::Value;
use std::collections::BTreeMap;

/// Relative to the largest expected value, and absolute.
pub type Bound = (f64, f64);

/// Of a result.
pub const FORWARD: Bound = (1e-5, 1e-6);
/// Of a gradient.
pub const GRADIENT: Bound = (2e-5, 1e-6);
/// Of a gradient that is a sum over batch and length.
pub const SUM: Bound = (1e-4, 1e-6);
/// Of weights after steps with given gradients.
pub const ADAM: Bound = (0.0, 2e-6);

/// One case: its parameters and its tensors by role.
pub struct Case {
    /// What its description says.
    pub parameters: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    /// A text of its description, empty where there is none.
    pub fn text(&self, key: &str) -> &str {
        self.parameters[key].as_str().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// A number of its description.
    ///
    /// # Panics
    /// If there is none.
    pub fn number(&self, key: &str) -> f64 {
        number(&self.parameters[key])
            .unwrap_or_else(|| panic!("{}: {key} is no number", self.name()))
    }

    /// A whole number of its description.
    ///
    /// # Panics
    /// If there is none.
    pub fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    /// Whether its description says so.
    pub fn flag(&self, key: &str) -> bool {
        self.parameters[key].as_bool().unwrap_or_default()
    }

    /// Whether it has the tensor `role`.
    pub fn has(&self, role: &str) -> bool {
        self.tensors.contains_key(role)
    }

    /// The tensor `role`.
    ///
    /// # Panics
    /// If there is none.
    pub fn tensor(&self, role: &str) -> &Tensor {
        self.tensors.get(role).unwrap_or_else(|| panic!("{}: no tensor {role}", self.name()))
    }

    /// The tensor `role`, if it has it.
    pub fn find(&self, role: &str) -> Option<&Tensor> {
        self.tensors.get(role)
    }

    /// Extents of the tensor `role`.
    ///
    /// # Panics
    /// As [`Case::tensor`].
    pub fn shape(&self, role: &str) -> &[usize] {
        &self.tensor(role).shape
    }

    /// Values of the tensor `role`.
    ///
    /// # Panics
    /// As [`Case::tensor`].
    pub fn f32(&self, role: &str) -> Vec<f32> {
        self.tensor(role).f32()
    }

    /// Values of the tensor `role`, in f64.
    ///
    /// # Panics
    /// As [`Case::tensor`].
    pub fn values(&self, role: &str) -> &[f64] {
        &self.tensor(role).values
    }

    /// Zeros, as many as the tensor `role` has values.
    ///
    /// # Panics
    /// As [`Case::tensor`].
    pub fn place(&self, role: &str) -> Vec<f32> {
        vec![0.0; self.tensor(role).values.len()]
    }

    /// Compares with the tensor `role` within `relative * max |expected| + absolute`.
    ///
    /// # Panics
    /// If a value is farther off.
    pub fn check(&self, role: &str, found: &[f32], (relative, absolute): Bound) {
        let expected = &self.tensor(role).values;
        let scale = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let (difference, at) = max_difference(found, expected);
        let bound = relative * scale + absolute;
        let name = self.name();
        assert!(difference <= bound, "{name}: {role}[{at}] is off by {difference} > {bound}");
    }
}

/// Every case of a family.
///
/// # Panics
/// If there is none, or the family cannot be read, unless `GLMEVAL_GOLDEN` names a folder without it.
pub fn all(family: &str) -> Vec<Case> {
    let folder = root().join("probes/ops");
    let path = folder.join(family).with_extension("json");
    if is_elsewhere() && !path.exists() {
        note(&format!("{family}: not in {}", folder.display()));
        return Vec::new();
    }
    let description = json(&path);
    let tensors = tensors(&folder.join(family).with_extension("safetensors"));
    let cases = description["cases"].as_array().expect("cases is a list");
    assert!(!cases.is_empty(), "{family}: no case");
    let case = |parameters: &Value| {
        let roles = parameters["tensors"].as_object().into_iter().flatten();
        let roles = roles.map(|(role, key)| {
            let key = key.as_str().expect("the key of a tensor is a text");
            (role.clone(), tensors[key].clone())
        });
        Case { parameters: parameters.clone(), tensors: roles.collect() }
    };
    cases.iter().map(case).collect()
}

/// Runs every case of a family; `run` says whether it covers the case.
///
/// # Panics
/// As [`all`]; if no case is covered.
pub fn check(family: &str, run: impl Fn(&Case) -> bool) {
    let cases = all(family);
    let not_covered: Vec<&str> = cases.iter().filter(|case| !run(case)).map(Case::name).collect();
    let (count, covered) = (cases.len(), cases.len() - not_covered.len());
    note(&format!("{family}: {covered} of {count} covered, not: {not_covered:?}"));
    assert!(covered > 0 || count == 0, "{family}: no case is covered");
}
