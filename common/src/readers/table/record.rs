//! Records of separated fields, quoted where a field holds a separator, a quote or a line end.
//!
//! Leaves out: what fields mean. Invariant: one record at a time is in memory, of bounded length.
//!
//! Source: RFC 4180, with tabs allowed in place of commas; a quoted line end becomes `\n`.

use crate::error::{Error, InputError, Result};
use crate::limits::TABLE_LINE_BYTES_MAX;
use crate::readers::text::{TextReader, utf8};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

const COLUMNS_MAX: usize = 1 << 16;

/// Reads a header, then records with as many fields.
pub(in crate::readers) struct RecordReader {
    text: TextReader,
    separator: char,
    fields: Fields,
    /// Line on which the record starts.
    record_line: u64,
    column_count: Option<usize>,
}

/// Fields of one record, unquoted, one behind the other.
#[derive(Default)]
struct Fields {
    text: String,
    /// Where each kept field ends in `text`.
    ends: Vec<usize>,
    /// Fields of the record, kept or not.
    count: usize,
}

/// Where the parser stands inside a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Plain,
    Quoted { line: u64 },
    Closed,
}

impl RecordReader {
    /// Opens `path`.
    pub(in crate::readers) fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(TextReader::open(path, TABLE_LINE_BYTES_MAX)?))
    }

    pub(in crate::readers) fn new(text: TextReader) -> Self {
        let fields = Fields::default();
        Self { text, separator: ',', fields, record_line: 0, column_count: None }
    }

    pub(in crate::readers) fn path(&self) -> &Path {
        self.text.path()
    }

    /// Line on which the record starts, from 1.
    pub(in crate::readers) fn line_number(&self) -> u64 {
        self.record_line
    }

    /// As [`TextReader::explain`].
    pub(in crate::readers) fn explain(&mut self, error: Error) -> Error {
        self.text.explain(error)
    }

    /// Reads the column names and decides what separates fields.
    pub(in crate::readers) fn read_header(&mut self) -> Result<Vec<String>> {
        if !self.next_line()? {
            let (file, expected) = (self.path().display(), "a header line with column names");
            return Err(InputError::new(file, "", expected, "an empty file").into());
        }
        if self.text.line().contains(&b'\t') || is_called_tsv(self.text.path()) {
            self.separator = '\t';
        }
        self.parse_record()?;
        if self.fields.count > COLUMNS_MAX {
            let expected = format!("at most {COLUMNS_MAX} columns");
            return Err(self.defect("header", expected, self.fields.count));
        }
        let names: Vec<String> =
            (0..self.fields.count).map(|index| self.field(index).to_owned()).collect();
        let mut seen = BTreeSet::new();
        // Tables written with a row index have a column without a name.
        for name in names.iter().filter(|name| !name.is_empty()) {
            if !seen.insert(name) {
                let expected = "unique column names in the header";
                return Err(self.defect("header", expected, format_args!("{name} again")));
            }
        }
        self.column_count = Some(names.len());
        Ok(names)
    }

    /// Steps to the next record; `false` at the end of the file.
    pub(in crate::readers) fn next_record(&mut self) -> Result<bool> {
        if !self.next_line()? {
            return Ok(false);
        }
        self.parse_record()?;
        match self.column_count {
            Some(expected) if expected != self.fields.count => {
                let expected = format!("{expected} fields, as in the header");
                Err(self.defect("", expected, format_args!("{} fields", self.fields.count)))
            }
            _ => Ok(true),
        }
    }

    /// Field `index` of the record, from 0.
    pub(in crate::readers) fn field(&self, index: usize) -> &str {
        let end = self.fields.ends.get(index).copied().unwrap_or(0);
        let start = index.checked_sub(1).and_then(|before| self.fields.ends.get(before));
        self.fields.text.get(start.copied().unwrap_or(0)..end).unwrap_or_default()
    }

    /// A defect of the record; `detail` says where in it and may be empty.
    pub(in crate::readers) fn defect(
        &self,
        detail: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Error {
        self.text.defect_at(self.record_line, detail, expected, found).into()
    }

    /// Steps to the next line that is not blank.
    fn next_line(&mut self) -> Result<bool> {
        while let Some(line) = self.text.next_line()? {
            if !line.is_empty() {
                self.record_line = self.text.line_number();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Parses the record that starts on the line read last.
    fn parse_record(&mut self) -> Result<()> {
        self.fields.text.clear();
        self.fields.ends.clear();
        self.fields.count = 0;
        let mut place = self.parse_line(Place::Start)?;
        while let Place::Quoted { line } = place {
            if self.fields.text.len() > TABLE_LINE_BYTES_MAX {
                let expected = format!("a closing quote within {TABLE_LINE_BYTES_MAX} bytes");
                let defect = self.text.defect_at(line, "", expected, "an unterminated quote");
                return Err(defect.into());
            }
            self.fields.text.push('\n');
            if self.text.next_line()?.is_none() {
                let found = "end of file after an unterminated quote";
                return Err(self.text.defect_at(line, "", "a closing quote", found).into());
            }
            place = self.parse_line(place)?;
        }
        self.fields.end_field();
        Ok(())
    }

    /// Parses the line read last from `place` on; returns where its end stands.
    fn parse_line(&mut self, mut place: Place) -> Result<Place> {
        let line_number = self.text.line_number();
        let line =
            utf8(self.text.line()).map_err(|found| self.text.defect("", "text in UTF-8", found))?;
        let mut letters = line.chars().peekable();
        while let Some(letter) = letters.next() {
            place = match place {
                Place::Quoted { line } if letter == '"' => {
                    if letters.next_if_eq(&'"').is_some() {
                        self.fields.text.push('"');
                        Place::Quoted { line }
                    } else {
                        Place::Closed
                    }
                }
                Place::Quoted { line } => {
                    self.fields.text.push(letter);
                    Place::Quoted { line }
                }
                _ if letter == self.separator => {
                    self.fields.end_field();
                    Place::Start
                }
                Place::Start if letter == '"' => Place::Quoted { line: line_number },
                Place::Start | Place::Plain => {
                    self.fields.text.push(letter);
                    Place::Plain
                }
                Place::Closed => {
                    let expected = "a separator after a closing quote";
                    let found = letter.escape_debug();
                    return Err(self.text.defect("", expected, found).into());
                }
            };
        }
        Ok(place)
    }
}

impl Fields {
    /// Ends the field being read. Fields that no table has are counted, not kept.
    fn end_field(&mut self) {
        self.count += 1;
        if self.count <= COLUMNS_MAX {
            self.ends.push(self.text.len());
        }
    }
}

fn is_called_tsv(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.trim_end_matches(".gz").trim_end_matches(".bgz").ends_with(".tsv")
}
