//! TSV and CSV with a header line, plain or gzip: one row is one example.
//!
//! Leaves out: columns that nobody asked for. Invariant: a row has as many fields as the header, and
//! every target is a finite number, 0 or 1 where the task is binary, or missing where the source says so.

use crate::dataset::{TableColumns, TaskName};
use crate::dna::DnaSequence;
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema, Split};
use crate::limits::SEQUENCE_NT_MAX;
use crate::readers::ExampleReader;
use crate::readers::fasta::EXPECTED_LETTER;
use crate::readers::text::unique::RepeatedIds;
use crate::readers::text::{batch, excerpt};
use record::RecordReader;
use std::fmt;
use std::path::Path;

pub(in crate::readers) mod labels;
pub(in crate::readers) mod record;

/// Columns of a header that an error names.
const NAMES_SHOWN_MAX: usize = 64;

/// Reads the rows of a table in file order.
///
/// Fields are separated by tabs if the header has one or the file is called `.tsv`, else by commas;
/// they may stand in double quotes. Lines without any letter are skipped.
pub struct TableReader {
    records: RecordReader,
    columns: Vec<Column>,
    task: TaskName,
    may_miss: bool,
    row_index: u64,
    ids: RepeatedIds,
    schema: ExampleSchema,
}

/// A column that was asked for.
struct Column {
    index: usize,
    name: String,
    role: Role,
}

/// What a column is to an example.
#[derive(Clone, Copy)]
enum Role {
    Sequence,
    Id,
    Split,
    Target,
}

impl TableReader {
    /// Opens `path` and finds `columns` in its header. `task` decides which targets are allowed.
    ///
    /// # Errors
    /// `Invalid` for an empty file, a header with a name twice, a column that is absent, or a target
    /// that is there twice or called as their average is.
    pub fn open(path: &Path, columns: &TableColumns, task: TaskName) -> Result<Self> {
        Self::new(RecordReader::open(path)?, columns, task)
    }

    fn new(mut records: RecordReader, wanted: &TableColumns, task: TaskName) -> Result<Self> {
        let columns = records
            .read_header()
            .and_then(|header| find(&records, &header, wanted))
            .map_err(|error| records.explain(error))?;
        let schema = ExampleSchema {
            targets: wanted.targets.clone(),
            has_splits: wanted.split.is_some(),
            ..ExampleSchema::sequences_only()
        };
        let may_miss = wanted.missing && task.may_lack_targets();
        let ids = RepeatedIds::default();
        Ok(Self { records, columns, task, may_miss, row_index: 0, ids, schema })
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        if !self.records.next_record()? {
            if self.row_index == 0 {
                let (file, expected) = (self.records.path().display(), "at least one data row");
                return Err(InputError::new(file, "", expected, "0 rows").into());
            }
            return Ok(None);
        }
        let mut example = Example {
            id: format!("row{}", self.row_index),
            sequences: Vec::with_capacity(1),
            interval: None,
            split: None,
            targets: Vec::with_capacity(self.schema.targets.len()),
        };
        for column in &self.columns {
            match column.role {
                Role::Sequence => example.sequences.push(self.sequence(column)?),
                Role::Id => example.id = self.id(column)?,
                Role::Split => example.split = Some(self.split(column)?),
                Role::Target => example.targets.push(self.target(column)?),
            }
        }
        if self.columns.iter().any(|column| matches!(column.role, Role::Id)) {
            self.ids.look(&example.id, self.records.line_number());
        }
        self.row_index += 1;
        Ok(Some(example))
    }

    fn sequence(&self, column: &Column) -> Result<DnaSequence> {
        let field = self.records.field(column.index);
        if field.is_empty() || field.len() > SEQUENCE_NT_MAX {
            let expected = format!("a sequence of 1 to {SEQUENCE_NT_MAX} bases");
            let found = format!("{} letters{}", field.len(), empty_mark(field));
            return Err(self.defect(column, expected, found));
        }
        DnaSequence::new(field).map_err(|bad| {
            self.defect(column, EXPECTED_LETTER, format_args!("{bad} of the sequence"))
        })
    }

    fn id(&self, column: &Column) -> Result<String> {
        match self.records.field(column.index) {
            "" => Err(self.defect(column, "an id", "an empty field")),
            id => Ok(id.to_owned()),
        }
    }

    fn split(&self, column: &Column) -> Result<Split> {
        let field = self.records.field(column.index);
        Split::parse(field)
            .ok_or_else(|| self.defect(column, "train, valid or test", excerpt(field.as_bytes())))
    }

    fn target(&self, column: &Column) -> Result<f32> {
        let field = self.records.field(column.index);
        let bad = |expected| Err(self.defect(column, expected, excerpt(field.as_bytes())));
        if self.may_miss && is_missing(field) {
            return Ok(f32::NAN);
        }
        if is_missing(field) {
            return bad("a finite number (missing = true lets a target be missing)");
        }
        let Ok(value) = field.trim_ascii().parse::<f64>() else { return bad("a finite number") };
        let narrow = value as f32;
        if !narrow.is_finite() {
            return bad("a finite number in the range of 32-bit floats");
        }
        if self.task.is_binary() && value != 0.0 && value != 1.0 {
            return bad("0 or 1, the targets of a binary task");
        }
        Ok(narrow)
    }

    fn defect(
        &self,
        column: &Column,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Error {
        self.records.defect(format_args!("column {}", column.name), expected, found)
    }
}

impl ExampleReader for TableReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn notes(&self) -> Vec<String> {
        self.ids.notes(&self.records.path().display().to_string(), "lines")
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || self.next_example()).map_err(|error| self.records.explain(error))
    }
}

/// The columns that `wanted` names, by their place in `header`.
fn find(records: &RecordReader, header: &[String], wanted: &TableColumns) -> Result<Vec<Column>> {
    if let Some((column, expected, found)) = wanted.confused_target() {
        return Err(records.defect(format_args!("header, column {column}"), expected, found));
    }
    let roles = [(&wanted.sequence, Role::Sequence)]
        .into_iter()
        .chain(wanted.id.iter().map(|name| (name, Role::Id)))
        .chain(wanted.split.iter().map(|name| (name, Role::Split)))
        .chain(wanted.targets.iter().map(|name| (name, Role::Target)));
    let column = |(name, role): (&String, Role)| {
        let index = header.iter().position(|column| column == name).ok_or_else(|| {
            let more = if header.len() > NAMES_SHOWN_MAX { ", …" } else { "" };
            let shown = header.iter().take(NAMES_SHOWN_MAX).map(|name| excerpt(name.as_bytes()));
            let found = format!("columns {}{more}", shown.collect::<Vec<_>>().join(", "));
            let expected = format!("a column called {name}");
            records.defect(format_args!("header, column {name}"), expected, found)
        })?;
        Ok(Column { index, name: name.clone(), role })
    };
    roles.map(column).collect()
}

/// Whether a field is what spreadsheets, R and pandas write for a value that was not measured.
fn is_missing(field: &str) -> bool {
    const WORDS: [&str; 8] = ["", "na", "n/a", "#n/a", "nan", "null", "none", "<na>"];
    let field = field.trim_ascii();
    WORDS.iter().any(|word| field.eq_ignore_ascii_case(word))
}

fn empty_mark(field: &str) -> &'static str {
    if field.is_empty() { " (empty)" } else { "" }
}

#[cfg(test)]
mod tests;
