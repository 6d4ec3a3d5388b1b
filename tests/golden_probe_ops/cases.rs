//! Cases of a family of fixtures: their parameters, their tensors, their tolerances.
//!
//! Leaves out: what is run. Invariant: a family none of whose cases is covered fails.

use glmeval_tests::golden::{self, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;

/// Relative to the largest expected value, and absolute.
pub(crate) type Bound = (f64, f64);

/// Of a result.
pub(crate) const FORWARD: Bound = (1e-5, 1e-6);
/// Of a gradient.
pub(crate) const GRADIENT: Bound = (2e-5, 1e-6);
/// Of a gradient that is a sum over batch and length.
pub(crate) const SUM: Bound = (1e-4, 1e-6);
/// Of weights after steps with given gradients.
pub(crate) const ADAM: Bound = (0.0, 2e-6);

/// One case: its parameters and its tensors by role.
pub(crate) struct Case {
    pub(crate) parameters: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.parameters[key].as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.text("name")
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        golden::number(&self.parameters[key])
            .unwrap_or_else(|| panic!("{}: {key} is no number", self.name()))
    }

    pub(crate) fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.parameters[key].as_bool().unwrap_or_default()
    }

    pub(crate) fn has(&self, role: &str) -> bool {
        self.tensors.contains_key(role)
    }

    pub(crate) fn tensor(&self, role: &str) -> &Tensor {
        self.tensors.get(role).unwrap_or_else(|| panic!("{}: no tensor {role}", self.name()))
    }

    pub(crate) fn shape(&self, role: &str) -> &[usize] {
        &self.tensor(role).shape
    }

    pub(crate) fn f32(&self, role: &str) -> Vec<f32> {
        self.tensor(role).f32()
    }

    /// Zeros, as many as the tensor `role` has values.
    pub(crate) fn place(&self, role: &str) -> Vec<f32> {
        vec![0.0; self.tensor(role).values.len()]
    }

    /// Compares with the tensor `role` within `relative * max |expected| + absolute`.
    pub(crate) fn check(&self, role: &str, found: &[f32], (relative, absolute): Bound) {
        let expected = &self.tensor(role).values;
        let scale = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let (difference, at) = golden::max_difference(found, expected);
        let bound = relative * scale + absolute;
        let name = self.name();
        assert!(difference <= bound, "{name}: {role}[{at}] is off by {difference} > {bound}");
    }
}

/// Runs every case of a family; `run` says whether it covers the case.
pub(crate) fn check(family: &str, run: impl Fn(&Case) -> bool) {
    let folder = golden::root().join("probes/ops");
    let description = golden::json(&folder.join(family).with_extension("json"));
    let tensors = golden::tensors(&folder.join(family).with_extension("safetensors"));
    let cases = description["cases"].as_array().expect("cases is a list");
    let mut not_covered = Vec::new();
    for parameters in cases {
        let roles = parameters["tensors"].as_object().into_iter().flatten();
        let roles = roles.map(|(role, key)| {
            let key = key.as_str().expect("the key of a tensor is a text");
            (role.clone(), tensors[key].clone())
        });
        let case = Case { parameters: parameters.clone(), tensors: roles.collect() };
        if !run(&case) {
            not_covered.push(case.name().to_owned());
        }
    }
    assert!(not_covered.len() < cases.len(), "{family}: no case is covered");
    note(family, cases.len(), &not_covered);
}

#[expect(clippy::print_stderr, reason = "cases that are skipped must be heard of")]
fn note(family: &str, count: usize, not_covered: &[String]) {
    eprintln!("{family}: {} of {count} covered, not: {not_covered:?}", count - not_covered.len());
}
