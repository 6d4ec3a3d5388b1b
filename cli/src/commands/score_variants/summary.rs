//! What is told at the end: counts on stderr, correlations on stdout.

use super::Arguments;
use super::engine::Engine;
use crate::output::{Format, Table, complain, say, say_json};
use glmeval_common::error::{Error, Result};
use glmeval_common::readers::variants::examples::reason_kind;
use glmeval_worker::variants::{Correlations, Outcome};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Reasons that are listed with their counts.
const REASONS_SHOWN_MAX: usize = 5;

/// Rows by what became of them.
#[derive(Default)]
pub(super) struct Summary {
    scored: u64,
    dropped: u64,
    /// Rows by the first words of their reason.
    reasons: BTreeMap<String, u64>,
}

/// The document of `--format json`.
#[derive(Serialize)]
struct Document<'a> {
    out: String,
    window: u64,
    scores: Vec<&'static str>,
    scored: u64,
    dropped: u64,
    correlations: Option<&'a Correlations>,
}

impl Summary {
    /// Counts a row.
    pub(super) fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Scored(_) => self.scored += 1,
            Outcome::Dropped(reason) => {
                self.dropped += 1;
                *self.reasons.entry(reason_kind(reason)).or_default() += 1;
            }
        }
    }

    /// Prints all of it.
    ///
    /// # Errors
    /// `Invalid` if not a single row was scored.
    pub(super) fn tell(
        &self,
        arguments: &Arguments,
        engine: &Engine<'_>,
        window: u64,
        correlations: Option<&Correlations>,
    ) -> Result<ExitCode> {
        let out = arguments.out.display();
        let (scored, dropped) = (self.scored, self.dropped);
        complain(&format!(
            "{scored} variants scored over windows of {window} nt, {dropped} dropped: {out}"
        ));
        for (reason, count) in self.reasons.iter().take(REASONS_SHOWN_MAX) {
            complain(&format!("  {count} dropped: {reason}"));
        }
        match (arguments.format, correlations) {
            (Format::Json, correlations) => say_json(&Document {
                out: out.to_string(),
                window,
                scores: engine.columns(),
                scored,
                dropped,
                correlations,
            })?,
            (format, Some(correlations)) => say(&table(correlations).text(format)),
            (_, None) => {}
        }
        if scored == 0 {
            return Err(Error::invalid(format!(
                "no variant was scored; the column `status` of {out} tells why"
            )));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(correlations: &Correlations) -> Table {
    let mut table = Table::new(&["cell", "element", "score", "variants", "r"]);
    let number = |r: Option<f64>| r.map_or_else(|| "-".to_owned(), |r| format!("{r:.4}"));
    let name = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    for row in &correlations.elements {
        table.row(vec![
            name(&row.cell),
            name(&row.element),
            row.score.clone(),
            row.variants.to_string(),
            number(row.r_signed),
        ]);
    }
    for row in &correlations.cells {
        let elements = format!("mean of {}", row.elements);
        let variants = correlations.elements.iter();
        let members = variants.filter(|e| e.cell == row.cell && e.score == row.score);
        let count: usize = members.map(|element| element.variants).sum();
        let r = number(row.r_mean_signed);
        table.row(vec![row.cell.clone(), elements, row.score.clone(), count.to_string(), r]);
    }
    table
}
