//! What is told at the end: counts on stderr, correlations on stdout, all of it in `attribution.json`.

use super::Arguments;
use super::input::Chosen;
use crate::output::{Format, Table, complain, say, say_json};
use glmeval_common::error::{Error, Result};
use glmeval_worker::attribution::{EntropyMaximum, Mapper, PairCorrelation};
use glmeval_worker::model::Model;
use serde::Serialize;
use std::process::ExitCode;

/// The document of `--format json`, which is stored as well.
#[derive(Serialize)]
pub(super) struct Summary {
    out: String,
    maps: Vec<&'static str>,
    sequences: u64,
    candidates: u64,
    length: u64,
    probe: Option<String>,
    embedding_probe: Option<String>,
    model: Option<String>,
    /// Vocabulary entries of A, C, G and T where the softmax was over these alone.
    softmax_columns: Option<Vec<u32>>,
    /// The set's largest entropy in nats, and where it is.
    max_entropy: Option<EntropyMaximum>,
    correlations: Vec<PairCorrelation>,
}

impl Summary {
    /// Gathers it.
    pub(super) fn new(
        arguments: &Arguments,
        (mapper, model): (&Mapper<'_>, Option<&Model>),
        chosen: &Chosen,
        max_entropy: Option<EntropyMaximum>,
        correlations: Vec<PairCorrelation>,
    ) -> Self {
        let shown = |path: &std::path::PathBuf| path.display().to_string();
        Self {
            out: shown(&arguments.out),
            maps: mapper.kinds().into_iter().map(|kind| kind.name()).collect(),
            sequences: chosen.count,
            candidates: chosen.candidates,
            length: chosen.length,
            probe: arguments.probe.as_ref().map(shown),
            embedding_probe: arguments.embedding_probe.as_ref().map(shown),
            model: model.map(|model| model.facts().id.to_string()),
            softmax_columns: mapper.entropies().and_then(|e| Some(e.columns()?.to_vec())),
            max_entropy,
            correlations,
        }
    }

    /// Prints it.
    pub(super) fn tell(&self, arguments: &Arguments) -> Result<ExitCode> {
        let (count, candidates) = (self.sequences, self.candidates);
        let maps = self.maps.join(", ");
        complain(&format!("{count} of {candidates} sequences mapped ({maps}): {}", self.out));
        match arguments.format {
            Format::Json => say_json(self)?,
            format if !self.correlations.is_empty() => {
                say(&self.table("-", |r| format!("{r:.4}")).text(format));
            }
            _ => {}
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Whether there are two maps to compare.
    pub(super) fn has_correlations(&self) -> bool {
        !self.correlations.is_empty()
    }

    /// Lines of `correlations.tsv`, with all digits.
    pub(super) fn correlation_lines(&self) -> String {
        self.table("", |r| format!("{r:?}")).text(Format::Tsv)
    }

    /// Text of `attribution.json`.
    pub(super) fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|e| Error::bug("encode as JSON").with_source(e))? + "\n")
    }

    fn table(&self, missing: &str, number: impl Fn(f64) -> String) -> Table {
        let mut table =
            Table::new(&["map", "other", "sequences", "undefined", "pearson", "spearman"]);
        let number = |r: Option<f64>| r.map_or_else(|| missing.to_owned(), &number);
        for pair in &self.correlations {
            table.row(vec![
                pair.map.to_owned(),
                pair.other.to_owned(),
                pair.sequences.to_string(),
                pair.undefined.to_string(),
                number(pair.pearson),
                number(pair.spearman),
            ]);
        }
        table
    }
}
