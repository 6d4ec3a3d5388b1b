//! TSV and CSV whose header names the columns of variants.
//!
//! Leaves out: columns that nobody asked for. Invariant: chromosome, position and alleles are always
//! there; an empty optional field is a missing value, any other text that is no value an error.

use super::checks::{self, Field};
use super::{VariantReader, no_rows};
use crate::error::{InputError, Result};
use crate::readers::table::record::RecordReader;
use crate::variant::{Indels, Variant, VariantFields};
use std::collections::BTreeMap;
use std::path::Path;

/// What a column of a table is to a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VariantColumn {
    /// Chromosome.
    Chrom,
    /// Position, from 1.
    Pos,
    /// Reference allele.
    Ref,
    /// Alternative allele.
    Alt,
    /// Name.
    Id,
    /// Regulatory element.
    Element,
    /// Cell line.
    Cell,
    /// Part of a challenge.
    Part,
    /// Confidence.
    Confidence,
    /// Measured effect.
    Effect,
}

impl VariantColumn {
    /// All of them, those that must be there first.
    pub const ALL: [Self; 10] = [
        Self::Chrom,
        Self::Pos,
        Self::Ref,
        Self::Alt,
        Self::Id,
        Self::Element,
        Self::Cell,
        Self::Part,
        Self::Confidence,
        Self::Effect,
    ];

    /// Names that columns usually have, in lower case; the first is ours.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Chrom => &["chrom", "chromosome", "chr"],
            Self::Pos => &["pos", "position"],
            Self::Ref => &["ref", "reference"],
            Self::Alt => &["alt", "alternative"],
            Self::Id => &["id"],
            Self::Element => &["element"],
            Self::Cell => &["cell", "cell_line"],
            Self::Part => &["part", "set"],
            Self::Confidence => &["confidence"],
            Self::Effect => &["effect"],
        }
    }

    /// Our name.
    pub fn name(self) -> &'static str {
        self.names().first().copied().unwrap_or_default()
    }

    /// The column with our name `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    fn must_be_there(self) -> bool {
        matches!(self, Self::Chrom | Self::Pos | Self::Ref | Self::Alt)
    }
}

/// Reads the rows of a table, plain or gzip.
pub struct TableVariants {
    records: RecordReader,
    indels: Indels,
    /// Place and name of each column that is there.
    columns: BTreeMap<VariantColumn, (usize, String)>,
    has_rows: bool,
}

impl TableVariants {
    /// Opens `path` and finds its columns; `named` gives those with other names than usual.
    ///
    /// Upper and lower case are alike in usual names, and a `#` before the first one is overlooked.
    ///
    /// # Errors
    /// `Invalid` with the names that there are for a column that is missing.
    pub fn open(
        path: &Path,
        named: &BTreeMap<VariantColumn, String>,
        indels: Indels,
    ) -> Result<Self> {
        let mut records = RecordReader::open(path)?;
        let header = match records.read_header() {
            Ok(header) => header,
            Err(error) => return Err(records.explain(error)),
        };
        let mut columns = BTreeMap::new();
        for column in VariantColumn::ALL {
            let asked = named.get(&column);
            let found = match asked {
                Some(name) => header.iter().position(|known| known == name),
                None => usual(&header, column),
            };
            match found.and_then(|index| Some((index, header.get(index)?.clone()))) {
                Some(place) => drop(columns.insert(column, place)),
                None if column.must_be_there() || asked.is_some() => {
                    let expected = match asked {
                        Some(name) => format!("a column called {name}"),
                        None => format!("a column called {}", column.names().join(" or ")),
                    };
                    let place = format!("header, column {}", column.name());
                    let found = format!("columns {}", header.join(", "));
                    return Err(InputError::new(path.display(), place, expected, found).into());
                }
                None => {}
            }
        }
        Ok(Self { records, indels, columns, has_rows: false })
    }

    /// The field of `column`; `None` if the table has no such column.
    fn field(&self, column: VariantColumn) -> Option<Field<'_>> {
        let (index, name) = self.columns.get(&column)?;
        Some(Field { column: name, text: self.records.field(*index) })
    }

    fn parse(&self) -> Result<Variant> {
        let defect = |column: &str, expected: &str, found: String| {
            self.records.defect(format_args!("column {column}"), expected, found)
        };
        let always = |column: VariantColumn| {
            self.field(column).unwrap_or(Field { column: column.name(), text: "" })
        };
        let given = |column| self.field(column).filter(|field| !field.text.trim_ascii().is_empty());
        let text = |column| given(column).map(|field| field.text.to_owned());
        let number = |column| given(column).map(|field| checks::number(field, &defect)).transpose();
        let (reference, alternative) = checks::alleles(
            always(VariantColumn::Ref),
            always(VariantColumn::Alt),
            self.indels,
            &defect,
        )?;
        Ok(Variant {
            chromosome: checks::chromosome(always(VariantColumn::Chrom), &defect)?,
            position: checks::position(always(VariantColumn::Pos), &defect)?,
            reference,
            alternative,
            id: text(VariantColumn::Id),
            element: text(VariantColumn::Element),
            cell: text(VariantColumn::Cell),
            part: text(VariantColumn::Part),
            confidence: number(VariantColumn::Confidence)?,
            effect: number(VariantColumn::Effect)?,
            line: self.records.line_number(),
            stored: None,
        })
    }
}

/// The column of `header` that has a usual name of `column`.
fn usual(header: &[String], column: VariantColumn) -> Option<usize> {
    column.names().iter().find_map(|name| {
        let is_called =
            |known: &String| known.trim_ascii().trim_start_matches('#').eq_ignore_ascii_case(name);
        header.iter().position(is_called)
    })
}

impl VariantReader for TableVariants {
    fn fields(&self) -> VariantFields {
        let has = |column| self.columns.contains_key(&column);
        VariantFields {
            id: has(VariantColumn::Id),
            element: has(VariantColumn::Element),
            cell: has(VariantColumn::Cell),
            part: has(VariantColumn::Part),
            confidence: has(VariantColumn::Confidence),
            effect: has(VariantColumn::Effect),
        }
    }

    fn next_variant(&mut self) -> Result<Option<Variant>> {
        let parsed = match self.records.next_record() {
            Ok(false) if !self.has_rows => return Err(no_rows(self.records.path())),
            Ok(false) => return Ok(None),
            Ok(true) => self.parse(),
            Err(error) => Err(error),
        };
        self.has_rows = true;
        match parsed {
            Ok(variant) => Ok(Some(variant)),
            Err(error) => Err(self.records.explain(error)),
        }
    }
}
