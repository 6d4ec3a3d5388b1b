//! Why a unit failed, as facts; words for people are made where they are shown.
//!
//! Leaves out: what becomes of the unit (coordinator).

use crate::error::{Error, ErrorKind};
use crate::ids::FitId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why an attempt at a unit failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What its last error asks for; `Corrupt` = what an earlier unit committed is damaged.
    pub kind: ErrorKind,
    /// The whole error chain on one line.
    pub chain: String,
    /// Whether no single row is at fault, so that a part of the unit would fail too.
    pub of_all_rows: bool,
    /// Fits of the unit that cannot be made; empty where that is not known of each.
    pub fits: Vec<FitFailure>,
}

impl Failure {
    /// A failure of which no more is known.
    pub fn new(kind: ErrorKind, chain: impl Into<String>) -> Self {
        Self { kind, chain: chain.into(), of_all_rows: false, fits: Vec::new() }
    }

    /// What an error tells.
    pub fn of(error: &Error) -> Self {
        let fits = error.find::<FitFailures>().map(|fits| fits.0.clone()).unwrap_or_default();
        let of_all_rows = error.is_of_all_rows();
        Self { kind: error.kind(), chain: error.chain(), of_all_rows, fits }
    }
}

/// Why one fit of a unit cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FitFailure {
    /// The fit.
    pub fit: FitId,
    /// As people name it.
    pub label: String,
    /// Its own error chain on one line.
    pub reason: String,
}

/// Fits of one unit that cannot be made, as the cause of the unit's error; displays as their reasons, each with
/// its fit where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitFailures(pub Vec<FitFailure>);

impl FitFailures {
    /// Every fit with its reason, on one line.
    pub fn listed(&self) -> String {
        let lines =
            self.0.iter().map(|FitFailure { label, reason, .. }| format!("{label}: {reason}"));
        lines.collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for FitFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => f.write_str(&only.reason),
            _ => f.write_str(&self.listed()),
        }
    }
}

impl std::error::Error for FitFailures {}
