//! Tables of percent spliced in (PSI): one row is one exon with a value for each tissue.
//!
//! Leaves out: sequences. Invariant: a table is read twice, since its scale (shares or percent) shows
//! in the mean of all its exons only; no more than one row is in memory.

use super::tissues::{OTHER_COLUMNS, STUDY_TISSUES};
use crate::dataset::{PsiSplit, PsiTable};
use crate::dna::Strand;
use crate::error::{Error, InputError, Result};
use crate::example::Split;
use crate::readers::table::record::RecordReader;
use crate::readers::text::excerpt;
use std::fmt;

/// PSI of a tissue that was not measured.
const MISSING: f64 = -1.0;
/// Shares are kept this far from 0 and 1 before their logit is taken.
const SHARE_MIN: f64 = 1e-5;
/// Columns that an error names.
const NAMES_SHOWN_MAX: usize = 64;

/// One exon: its place, 1-based with both ends, and its targets.
pub(super) struct Exon {
    pub(super) id: Option<String>,
    pub(super) chromosome: String,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) strand: Strand,
    pub(super) split: Option<Split>,
    /// `delta` of every tissue, then `mean` once for each.
    pub(super) targets: Vec<f32>,
}

/// Reads the exons of one table.
pub(super) struct PsiReader {
    records: RecordReader,
    columns: Columns,
    split: PsiSplit,
    is_percent: bool,
}

/// Where columns stand.
struct Columns {
    chromosome: usize,
    start: usize,
    end: usize,
    strand: usize,
    id: Option<usize>,
    split: Option<usize>,
    tissues: Vec<(usize, String)>,
}

impl PsiReader {
    /// Opens `table`, finds its columns and the scale of its values.
    ///
    /// `tissues` names the columns that are read, in their order; empty = the study's in the order
    /// of this table.
    ///
    /// # Errors
    /// `Invalid` for a column that is absent and for a value that is no PSI, with line and column.
    pub(super) fn open(table: &PsiTable, tissues: &[String]) -> Result<Self> {
        let begin = || -> Result<Self> {
            let mut records = RecordReader::open(&table.path)?;
            let header = match records.read_header() {
                Ok(header) => header,
                Err(error) => return Err(records.explain(error)),
            };
            let columns = match find(&records, &header, tissues, &table.split) {
                Ok(columns) => columns,
                Err(error) => return Err(records.explain(error)),
            };
            Ok(Self { records, columns, split: table.split.clone(), is_percent: false })
        };
        let is_percent = begin()?.measure_scale()?;
        Ok(Self { is_percent, ..begin()? })
    }

    /// Names of the tissues in the order of the targets.
    pub(super) fn tissues(&self) -> Vec<String> {
        self.columns.tissues.iter().map(|(_, name)| name.clone()).collect()
    }

    /// Whether the mean over exons of their mean PSI exceeds 1, so that values are percent.
    ///
    /// Exons without a measured tissue have no mean and do not count, as in the study.
    fn measure_scale(mut self) -> Result<bool> {
        let (mut sum, mut exons, mut rows) = (0.0, 0_u64, 0_u64);
        while self.step()? {
            rows += 1;
            if let Some(mean) = mean(&self.shares()?) {
                sum += mean;
                exons += 1;
            }
        }
        if rows == 0 {
            let file = self.records.path().display();
            return Err(InputError::new(file, "", "at least one exon", "0 rows").into());
        }
        Ok(exons > 0 && sum / exons as f64 > 1.0)
    }

    /// The next exon; `None` once the table has ended.
    ///
    /// # Errors
    /// `Invalid` with line and column.
    pub(super) fn next_exon(&mut self) -> Result<Option<Exon>> {
        if !self.step()? {
            return Ok(None);
        }
        let (start, end) = (self.position("exon_start")?, self.position("exon_end")?);
        if start > end {
            let expected = "exon_start <= exon_end";
            let found = format!("exon_start {start}, exon_end {end}");
            return Err(self.defect("exon_end", expected, found));
        }
        let strand = match self.records.field(self.columns.strand) {
            "+" => Strand::Forward,
            "-" => Strand::Reverse,
            other => return Err(self.defect("strand", "+ or -", excerpt(other.as_bytes()))),
        };
        let id = self.columns.id.map(|index| self.records.field(index));
        Ok(Some(Exon {
            id: id.filter(|id| !id.is_empty()).map(str::to_owned),
            chromosome: self.records.field(self.columns.chromosome).to_owned(),
            start,
            end,
            strand,
            split: self.split()?,
            targets: self.targets()?,
        }))
    }

    /// A defect of the exon read last.
    pub(super) fn defect(
        &self,
        column: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Error {
        self.records.defect(format_args!("column {column}"), expected, found)
    }

    /// Prefers damage of a compressed file to `error`.
    pub(super) fn explain(&mut self, error: Error) -> Error {
        self.records.explain(error)
    }

    fn step(&mut self) -> Result<bool> {
        match self.records.next_record() {
            Ok(is_row) => Ok(is_row),
            Err(error) => Err(self.records.explain(error)),
        }
    }

    fn position(&self, name: &str) -> Result<u64> {
        let columns = &self.columns;
        let index = if name == "exon_start" { columns.start } else { columns.end };
        let field = self.records.field(index);
        field.trim_ascii().parse().ok().filter(|&position| position > 0).ok_or_else(|| {
            let expected = format!("{name}, an integer from 1 on");
            self.defect(name, expected, excerpt(field.as_bytes()))
        })
    }

    fn split(&self) -> Result<Option<Split>> {
        match (&self.split, self.columns.split) {
            (PsiSplit::All(split), _) => Ok(Some(*split)),
            (PsiSplit::Column(name), Some(index)) => {
                let field = self.records.field(index);
                let split = Split::parse(field.trim_ascii());
                split.map(Some).ok_or_else(|| {
                    self.defect(name, "train, valid or test", excerpt(field.as_bytes()))
                })
            }
            _ => Ok(None),
        }
    }

    /// PSI of every tissue as written; NaN where not measured (-1, or an empty field).
    fn shares(&self) -> Result<Vec<f64>> {
        let highest = if self.is_percent { "100, in percent" } else { "1, or to 100 in percent" };
        self.columns
            .tissues
            .iter()
            .map(|(index, name)| {
                let field = self.records.field(*index).trim_ascii();
                if field.is_empty() {
                    return Ok(f64::NAN);
                }
                match field.parse::<f64>() {
                    Ok(MISSING) => Ok(f64::NAN),
                    Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
                    parsed => {
                        let what = if parsed.is_ok() { "a PSI" } else { "a number, a PSI" };
                        let expected = format!("{what} from 0 to {highest}; -1 if not measured");
                        Err(self.defect(name, expected, excerpt(field.as_bytes())))
                    }
                }
            })
            .collect()
    }

    /// Differences of logits, then the logit of the mean for each tissue.
    ///
    /// With p the share of a tissue, m their mean over measured tissues and both kept in
    /// [1e-5, 1 - 1e-5],
    ///
    /// ```text
    /// delta = logit(p) - logit(m)     mean = logit(m)     logit(p) = ln(p / (1 - p))
    /// ```
    ///
    /// An exon without a measured tissue has no mean: all its targets are NaN.
    ///
    /// Source: data preparation of the study, after MTSplice (Cheng et al. 2021).
    fn targets(&self) -> Result<Vec<f32>> {
        let mut shares = self.shares()?;
        let mut middle = mean(&shares).unwrap_or(f64::NAN);
        if self.is_percent {
            shares.iter_mut().for_each(|share| *share /= 100.0);
            middle /= 100.0;
        } else if let Some((index, share)) = shares.iter().enumerate().find(|(_, p)| **p > 1.0) {
            let name = self.columns.tissues.get(index).map_or("", |(_, name)| name.as_str());
            let expected =
                "a PSI from 0 to 1: the mean over the exons of this table is not above 1";
            return Err(self.defect(name, expected, share));
        }
        let middle = logit(middle);
        let differences = shares.iter().map(|&share| (logit(share) - middle) as f32);
        Ok(differences.chain(shares.iter().map(|_| middle as f32)).collect())
    }
}

/// Mean of the values that are there.
fn mean(values: &[f64]) -> Option<f64> {
    let there = values.iter().filter(|value| !value.is_nan());
    let (sum, count) = there.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn logit(share: f64) -> f64 {
    let share = share.clamp(SHARE_MIN, 1.0 - SHARE_MIN);
    (share / (1.0 - share)).ln()
}

fn find(
    records: &RecordReader,
    header: &[String],
    wanted: &[String],
    split: &PsiSplit,
) -> Result<Columns> {
    let optional = |name: &str| header.iter().position(|column| column == name);
    let column = |name: &str| {
        optional(name).ok_or_else(|| {
            let shown: Vec<_> = header.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect();
            let place = format!("header, column {name}");
            let expected = format!("a column called {name}");
            records.defect(place, expected, format_args!("columns {}", shown.join(", ")))
        })
    };
    let split = match split {
        PsiSplit::Column(name) => Some(column(name)?),
        _ => None,
    };
    Ok(Columns {
        chromosome: column("chrom")?,
        start: column("exon_start")?,
        end: column("exon_end")?,
        strand: column("strand")?,
        id: optional("exon_id"),
        tissues: find_tissues(records, header, wanted, split)?,
        split,
    })
}

fn find_tissues(
    records: &RecordReader,
    header: &[String],
    wanted: &[String],
    split: Option<usize>,
) -> Result<Vec<(usize, String)>> {
    let is_study = wanted.is_empty();
    let expected: Vec<&str> = match is_study {
        true => STUDY_TISSUES.to_vec(),
        false => wanted.iter().map(String::as_str).collect(),
    };
    let place_of = |name: &&str| header.iter().position(|column| column == name);
    let missing: Vec<&str> = expected.iter().copied().filter(|n| place_of(n).is_none()).collect();
    if !missing.is_empty() {
        let place = format!("header, tissue {}", missing.join(", "));
        let whose = if is_study { "of the study" } else { "that were named" };
        let count = expected.len();
        let wanted = format!("the columns of {count} tissues {whose}, with {}", missing.join(", "));
        let is_other = |(index, name): &(usize, &String)| {
            Some(*index) != split
                && !expected.contains(&name.as_str())
                && !OTHER_COLUMNS.contains(&name.as_str())
        };
        let others = header.iter().enumerate().filter(is_other).take(NAMES_SHOWN_MAX);
        let others: Vec<_> = others.map(|(_, name)| excerpt(name.as_bytes())).collect();
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!("; columns that are none of them: {}", others.join(", ")),
        };
        let found = format!("{} of them{others}", count - missing.len());
        return Err(records.defect(place, wanted, found));
    }
    let mut found: Vec<(usize, String)> = expected
        .iter()
        .filter_map(|name| place_of(name).map(|index| (index, (*name).to_owned())))
        .collect();
    if is_study {
        found.sort_unstable();
    }
    Ok(found)
}
