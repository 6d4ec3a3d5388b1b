//! CAGI5's raw tables of the regulation saturation challenge: `challenge_LDLR.tsv`, `release_LDLR.tsv`.
//!
//! Leaves out: the header's words. Invariant: seven lines are skipped whatever they say; every row
//! after them has six fields between tabs.

use super::checks::{self, Field};
use super::{VariantReader, no_rows};
use crate::error::{InputError, Result};
use crate::limits::TABLE_LINE_BYTES_MAX;
use crate::readers::text::{TextReader, excerpt, utf8};
use crate::variant::{Indels, Variant, VariantFields};
use std::path::Path;

/// Lines before the first row.
const LINES_SKIPPED: u64 = 7;
/// Columns of every row, as the last of those lines names them.
const COLUMNS: [&str; 6] = ["Chrom", "Pos", "Ref", "Alt", "Value", "Confidence"];

/// Reads chromosome, position in hg19, alleles, effect and confidence; part and element come from
/// the name of the file.
pub struct CagiVariants {
    text: TextReader,
    indels: Indels,
    element: String,
    part: Option<String>,
    has_rows: bool,
}

/// Part and element of `{challenge|release}_{element}.tsv`.
pub(super) fn part_and_element(path: &Path) -> Option<(String, String)> {
    let name = path.file_name()?.to_str()?;
    let (part, element) = stem(name).split_once('_')?;
    (["challenge", "release"].contains(&part) && !element.is_empty())
        .then(|| (part.to_owned(), element.to_owned()))
}

fn stem(name: &str) -> &str {
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    plain.strip_suffix(".tsv").unwrap_or(plain)
}

impl CagiVariants {
    /// Opens `path` and skips its first seven lines.
    ///
    /// # Errors
    /// `Invalid` for a file with fewer lines.
    pub fn open(path: &Path, indels: Indels) -> Result<Self> {
        let mut text = TextReader::open(path, TABLE_LINE_BYTES_MAX)?;
        for found in 0..LINES_SKIPPED {
            if text.next_line()?.is_none() {
                let expected = format!("{LINES_SKIPPED} lines before the first row");
                let found = format!("{found} lines");
                return Err(InputError::new(path.display(), "", expected, found).into());
            }
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (part, element) = match part_and_element(path) {
            Some((part, element)) => (Some(part), element),
            None => (None, stem(&name).to_owned()),
        };
        Ok(Self { text, indels, element, part, has_rows: false })
    }

    fn parse(&self) -> Result<Variant> {
        let defect = |column: &str, expected: &str, found: String| {
            self.text.defect(format_args!("column {column}"), expected, found).into()
        };
        let line = utf8(self.text.line());
        let line = line.map_err(|found| self.text.defect("", "text in UTF-8", found))?;
        let fields: Vec<&str> = line.split('\t').collect();
        let &[chromosome, position, reference, alternative, effect, confidence] = fields.as_slice()
        else {
            let expected = format!("{} fields between tabs", COLUMNS.len());
            let found = format!("{} fields: {}", fields.len(), excerpt(line.as_bytes()));
            return Err(self.text.defect("", expected, found).into());
        };
        let [chrom, pos, from, to, value, trust] = COLUMNS;
        let field = |column, text| Field { column, text };
        let (reference, alternative) =
            checks::alleles(field(from, reference), field(to, alternative), self.indels, &defect)?;
        Ok(Variant {
            chromosome: checks::chromosome(field(chrom, chromosome), &defect)?,
            position: checks::position(field(pos, position), &defect)?,
            reference,
            alternative,
            element: Some(self.element.clone()),
            part: self.part.clone(),
            effect: Some(checks::number(field(value, effect), &defect)?),
            confidence: Some(checks::number(field(trust, confidence), &defect)?),
            line: self.text.line_number(),
            ..Variant::default()
        })
    }
}

impl VariantReader for CagiVariants {
    fn fields(&self) -> VariantFields {
        VariantFields {
            element: true,
            part: self.part.is_some(),
            confidence: true,
            effect: true,
            ..VariantFields::default()
        }
    }

    fn next_variant(&mut self) -> Result<Option<Variant>> {
        while let Some(line) = self.text.next_line()? {
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.has_rows = true;
            return match self.parse() {
                Ok(variant) => Ok(Some(variant)),
                Err(error) => Err(self.text.explain(error)),
            };
        }
        if !self.has_rows {
            return Err(no_rows(self.text.path()));
        }
        Ok(None)
    }
}
