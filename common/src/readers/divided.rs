//! Any source with a rule that divides its examples into splits.
//!
//! Leaves out: the rules (`split_rule`), drawing fractions (`draw`), reading columns (`labels`).
//! Invariant: no needed split is empty and no value of a rule is unknown to the data set; either is an
//! error at the end of the source that names what was found.

mod draw;
mod labels;
#[cfg(test)]
mod tests;

use super::genome::names::same_chromosome;
use super::{ExampleReader, open};
use crate::dataset::{DatasetSource, TaskName};
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema, Split};
use crate::split_rule::{Place, SplitRule, SplitValues};
use labels::Labels;
use std::collections::{BTreeMap, BTreeSet};

/// Distinct values that are remembered, and those that an error names.
const VALUES_KEPT_MAX: usize = 10_000;
const VALUES_SHOWN_MAX: usize = 20;

/// Examples of a source in its order, each with the split that a rule gives it; those that the rule
/// leaves out are passed over.
pub struct DividedReader {
    inner: Box<dyn ExampleReader>,
    schema: ExampleSchema,
    file: String,
    rule: SplitRule,
    labels: Labels,
    /// The split of each row, where fractions were drawn.
    drawn: Vec<Split>,
    row: usize,
    counts: BTreeMap<Split, u64>,
    values: BTreeSet<String>,
}

impl DividedReader {
    /// Opens `source` under `rule`; fractions are drawn from a first reading of all of it.
    ///
    /// # Errors
    /// As [`open`]; `Invalid` for a source that stores splits itself, or lacks the rule's column.
    pub fn open(source: &DatasetSource, rule: &SplitRule, task: TaskName) -> Result<Self> {
        let inner = open(source, task)?;
        let file = source.paths().first().map_or(String::new(), |path| path.display().to_string());
        if inner.schema().has_splits {
            let expected = "a source without splits of its own under a split rule";
            return Err(InputError::new(file, "split", expected, "splits in the source").into());
        }
        let (labels, drawn) = match rule {
            SplitRule::Fractions { .. } => {
                (Labels::None, draw::draw(source, rule, task, inner.schema())?)
            }
            SplitRule::Column { column, .. } => (Labels::open(source, column)?, Vec::new()),
            SplitRule::Chromosome { column: Some(column), .. } => {
                (Labels::open(source, column)?, Vec::new())
            }
            SplitRule::Chromosome { column: None, .. } if inner.schema().has_intervals => {
                (Labels::Chromosome, Vec::new())
            }
            SplitRule::Chromosome { column: None, .. } => {
                let expected = "intervals, or chromosome = \"the column that holds it\"";
                let found = "a source without intervals";
                return Err(InputError::new(file, "split.chromosome", expected, found).into());
            }
        };
        let schema = ExampleSchema { has_splits: true, ..inner.schema().clone() };
        let (counts, values) = (BTreeMap::new(), BTreeSet::new());
        let rule = rule.clone();
        Ok(Self { inner, schema, file, rule, labels, drawn, row: 0, counts, values })
    }

    /// Gives the next examples of the source their splits.
    fn divide(&mut self, examples: Vec<Example>) -> Result<Vec<Example>> {
        let labels = self.labels.read(&examples)?;
        let mut kept = Vec::with_capacity(examples.len());
        for (i, mut example) in examples.into_iter().enumerate() {
            let row = self.row.saturating_add(i);
            let place = match &self.rule {
                rule
                @ (SplitRule::Column { values, .. } | SplitRule::Chromosome { values, .. }) => {
                    let mut label = labels.get(i).map_or("", String::as_str);
                    if matches!(rule, SplitRule::Chromosome { .. }) {
                        let listed = values.places();
                        label = same_chromosome(listed.keys().copied(), label).unwrap_or(label);
                    }
                    if self.values.len() < VALUES_KEPT_MAX && !self.values.contains(label) {
                        self.values.insert(label.to_owned());
                    }
                    values.place(label).ok_or_else(|| {
                        let place = match self.labels.line(i) {
                            Some(line) => format!("line {line}, {}", self.place()),
                            None => format!("{} row {row}", self.place()),
                        };
                        self.unknown(values, label, &place)
                    })?
                }
                SplitRule::Fractions { .. } => match self.drawn.get(row) {
                    Some(split) => Place::In(*split),
                    None => return Err(self.changed(row)),
                },
            };
            if let Place::In(split) = place {
                *self.counts.entry(split).or_default() += 1;
                example.split = Some(split);
                kept.push(example);
            }
        }
        Ok(kept)
    }

    fn changed(&self, row: usize) -> Error {
        let expected = format!("{} rows as in the first reading", self.drawn.len());
        InputError::new(&self.file, format!("row {row}"), expected, "more").into()
    }

    fn unknown(&self, values: &SplitValues, label: &str, place: &str) -> Error {
        let expected = match values.are_names() {
            true => "train, valid or test, as the rule lists no values".to_owned(),
            false => {
                let known: Vec<&str> = values.places().into_keys().collect();
                format!("one of {}, or the value in leave_out", known.join(", "))
            }
        };
        InputError::new(&self.file, place, expected, format!("{label:?}")).into()
    }

    fn place(&self) -> String {
        self.rule.column().map_or("chromosome".to_owned(), |column| format!("column {column}"))
    }

    /// What only the end of the source shows: lists that match nothing, and splits without examples.
    fn check_end(&self) -> Result<()> {
        let shown: Vec<&str> =
            self.values.iter().take(VALUES_SHOWN_MAX).map(String::as_str).collect();
        let more = if self.values.len() > shown.len() { ", …" } else { "" };
        if let SplitRule::Column { values, .. } | SplitRule::Chromosome { values, .. } = &self.rule
            && self.values.len() < VALUES_KEPT_MAX
            && let Some((missing, _)) =
                values.places().into_iter().find(|(value, _)| !self.values.contains(*value))
        {
            let expected = format!("the value {missing:?} that the split rule lists");
            let found = format!("{}{more}", shown.join(", "));
            return Err(InputError::new(&self.file, self.place(), expected, found).into());
        }
        for split in self.rule.needed() {
            if !self.counts.contains_key(&split) {
                let counts: Vec<String> =
                    self.counts.iter().map(|(split, count)| format!("{split} {count}")).collect();
                let mut found = match counts.is_empty() {
                    true => "no example in any split".to_owned(),
                    false => counts.join(", "),
                };
                if !shown.is_empty() {
                    found.push_str(&format!("; values {}{more}", shown.join(", ")));
                }
                let expected = format!("examples of split {split}");
                return Err(InputError::new(&self.file, "split", expected, found).into());
            }
        }
        Ok(())
    }
}

impl ExampleReader for DividedReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn target_titles(&self) -> Vec<String> {
        self.inner.target_titles()
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        loop {
            let examples = self.inner.read(rows)?;
            if examples.is_empty() {
                self.check_end()?;
                return Ok(examples);
            }
            let count = examples.len();
            let kept = self.divide(examples)?;
            self.row = self.row.saturating_add(count);
            // An empty batch would be the end of the source.
            if !kept.is_empty() {
                return Ok(kept);
            }
        }
    }
}
