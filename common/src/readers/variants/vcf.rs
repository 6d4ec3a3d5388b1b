//! VCF 4: sites with their alternatives.
//!
//! Leaves out: quality, filter, INFO and genotypes. Invariant: a row with several alternatives is as
//! many variants, in its order.

use super::checks::{self, Field};
use super::{VariantReader, no_rows};
use crate::error::Result;
use crate::limits::TABLE_LINE_BYTES_MAX;
use crate::readers::text::{TextReader, excerpt, utf8};
use crate::variant::{Indels, Variant, VariantFields};
use std::collections::VecDeque;
use std::path::Path;

/// Columns that are read; a row may have more.
const COLUMNS: [&str; 5] = ["CHROM", "POS", "ID", "REF", "ALT"];

/// Reads the variants of a VCF, plain, gzip or bgzip.
pub struct VcfVariants {
    text: TextReader,
    indels: Indels,
    has_header: bool,
    has_rows: bool,
    /// Alternatives of the line read last.
    waiting: VecDeque<Variant>,
}

impl VcfVariants {
    /// Opens `path`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, indels: Indels) -> Result<Self> {
        let text = TextReader::open(path, TABLE_LINE_BYTES_MAX)?;
        let waiting = VecDeque::new();
        Ok(Self { text, indels, has_header: false, has_rows: false, waiting })
    }

    /// Reads on to the next row.
    fn advance(&mut self) -> Result<bool> {
        while let Some(line) = self.text.next_line()? {
            if line.trim_ascii().is_empty() || line.starts_with(b"##") {
                continue;
            }
            if line.starts_with(b"#") {
                self.check_header()?;
                self.has_header = true;
                continue;
            }
            self.waiting = self.parse()?;
            self.has_rows = true;
            return Ok(true);
        }
        Ok(false)
    }

    fn check_header(&self) -> Result<()> {
        let line = utf8(self.text.line()).unwrap_or_default();
        let names = line.trim_start_matches('#').split('\t').take(COLUMNS.len());
        if names.eq(COLUMNS) {
            return Ok(());
        }
        let expected = format!("a header #{} between tabs", COLUMNS.join(" "));
        Err(self.text.defect("", expected, excerpt(self.text.line())).into())
    }

    fn parse(&self) -> Result<VecDeque<Variant>> {
        let line = utf8(self.text.line());
        let line = line.map_err(|found| self.text.defect("", "text in UTF-8", found))?;
        let count = line.split('\t').count();
        let mut fields = line.split('\t');
        let mut field = |column| Field { column, text: fields.next().unwrap_or_default() };
        let [chromosome, position, id, reference, alternatives] = COLUMNS.map(&mut field);
        if !self.has_header {
            let expected = "a header line that begins with #CHROM before the first row";
            return Err(self.text.defect("", expected, excerpt(chromosome.text.as_bytes())).into());
        }
        if count < COLUMNS.len() {
            let expected = format!("at least {} columns between tabs", COLUMNS.len());
            return Err(self.text.defect("", expected, format_args!("{count} columns")).into());
        }
        let defect = |column: &str, expected: &str, found: String| {
            self.text.defect(format_args!("column {column}"), expected, found).into()
        };
        let name = Some(id.text).filter(|id| !matches!(*id, "" | ".")).map(str::to_owned);
        let variant = |text| {
            let alternative = Field { column: alternatives.column, text };
            let (reference, alternative) =
                checks::alleles(reference, alternative, self.indels, &defect)?;
            Ok(Variant {
                chromosome: checks::chromosome(chromosome, &defect)?,
                position: checks::position(position, &defect)?,
                reference,
                alternative,
                id: name.clone(),
                line: self.text.line_number(),
                ..Variant::default()
            })
        };
        alternatives.text.split(',').map(variant).collect()
    }
}

impl VariantReader for VcfVariants {
    fn fields(&self) -> VariantFields {
        VariantFields { id: true, ..VariantFields::default() }
    }

    fn next_variant(&mut self) -> Result<Option<Variant>> {
        if self.waiting.is_empty() {
            match self.advance() {
                Ok(true) => {}
                Ok(false) if !self.has_rows => return Err(no_rows(self.text.path())),
                Ok(false) => return Ok(None),
                Err(error) => return Err(self.text.explain(error)),
            }
        }
        Ok(self.waiting.pop_front())
    }
}
