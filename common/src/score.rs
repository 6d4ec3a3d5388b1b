//! One result row: which fit, which statistic, what value.
//!
//! Invariant: a row carries the whole identity of its fit; no other file is needed to read it.

use crate::ids::{DatasetId, FitId, ModelId};
use serde::{Deserialize, Serialize};

/// Everything that tells one fit from another, as people name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitIdentity {
    /// Digest of what decides the score: all of the below but names.
    pub fit: FitId,
    /// `lenti-mpra`, `chip-seq`, …
    pub task: String,
    /// Name of the data set in the job file.
    pub dataset: String,
    /// Content id of the data set.
    pub dataset_id: DatasetId,
    /// Name of the gLM in the job file; `None` for sequence features.
    pub model: Option<String>,
    /// Content id of the gLM.
    pub model_id: Option<ModelId>,
    /// 1-based layer; `None` for sequence features.
    pub layer: Option<u32>,
    /// `cls`, `mean`, `full`, `one-hot`, `kmer-5`, …
    pub representation: String,
    /// `ridge`, `logistic`, …
    pub probe: String,
    /// Width factor of the probe.
    pub factor: f64,
    /// Fraction of the training split used.
    pub fraction: f64,
    /// Repeat, from 0.
    pub repeat: u32,
    /// Root seed of the job.
    pub seed: u64,
    /// `published` or `corrected`.
    pub protocol: String,
    /// Name of the data set that an applied probe was trained on; `None` where it is `dataset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<String>,
}

/// One statistic of one fit on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistic {
    /// `pearson`, `auroc_exact`, …
    pub name: String,
    /// Split it was computed on.
    pub split: String,
    /// Target name.
    pub target: String,
    /// `None` where the statistic is undefined (one class, constant input).
    pub value: Option<f64>,
    /// Lower end of the 95 % bootstrap interval.
    pub low: Option<f64>,
    /// Upper end of the 95 % bootstrap interval.
    pub high: Option<f64>,
    /// Examples it was computed on.
    pub examples: u64,
}

/// What a fit leaves in the store (`probes/<fit-id>/scores.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitScores {
    /// Format version of this record.
    pub version: u32,
    /// Which fit.
    pub identity: FitIdentity,
    /// Its statistics.
    pub statistics: Vec<Statistic>,
    /// Object paths of the attempt that won, by role (`weights`, `predictions`), with digests.
    pub objects: Vec<crate::layout::ObjectRecord>,
    /// Seconds of the winning attempt.
    pub seconds: f64,
    /// Worker of the winning attempt.
    pub worker: String,
    /// Anything the fit wants to say (unconverged optimiser, dropped rows).
    pub notes: Vec<String>,
}
