//! Variants of a file: VCF, CAGI5's tables, tables with named columns, the archive's stored windows.
//!
//! Leaves out: the genome (worker). Invariant: one variant for each alternative of each row, in the
//! order of the file.

use crate::error::{Error, InputError, Result};
use crate::variant::{Indels, Variant, VariantFields};
use std::collections::BTreeMap;
use std::path::Path;

mod archive;
mod cagi;
mod checks;
mod columns;
pub mod examples;
mod vcf;
pub mod windows;

pub use archive::{ArchiveVariants, archive_table};
pub use cagi::CagiVariants;
pub use columns::{TableVariants, VariantColumn};
pub use vcf::VcfVariants;

/// A stream of variants in file order.
pub trait VariantReader: Send {
    /// Which optional values its variants have.
    fn fields(&self) -> VariantFields;

    /// The next variant; `None` once the file has ended.
    ///
    /// # Errors
    /// `Invalid` with file, line, column, expected and found.
    fn next_variant(&mut self) -> Result<Option<Variant>>;

    /// The next at most `rows` variants; empty once the file has ended.
    ///
    /// # Errors
    /// As [`VariantReader::next_variant`].
    fn read(&mut self, rows: usize) -> Result<Vec<Variant>> {
        let mut variants = Vec::new();
        while variants.len() < rows {
            let Some(variant) = self.next_variant()? else { break };
            variants.push(variant);
        }
        Ok(variants)
    }
}

/// How a file names its variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariantFormat {
    /// VCF 4, plain, gzip or bgzip.
    Vcf,
    /// TSV or CSV with a header line.
    Table,
    /// CAGI5's raw tables: seven lines, then six columns without a header.
    Cagi,
    /// `ref` and `alt` windows in HDF5 with a CSV beside them.
    Archive,
}

impl VariantFormat {
    /// The format that the name of a file lets expect.
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let plain = name.trim_end_matches(".gz").trim_end_matches(".bgz");
        let is_cagi = plain.ends_with(".tsv") && cagi::part_and_element(path).is_some();
        match plain.rsplit_once('.').map(|(_, ending)| ending) {
            Some("vcf") => Self::Vcf,
            Some("h5" | "hdf5") => Self::Archive,
            _ if is_cagi => Self::Cagi,
            _ => Self::Table,
        }
    }
}

/// How variants are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantOptions {
    /// The format; `None` = by the name of the file.
    pub format: Option<VariantFormat>,
    /// What happens to variants that are no exchange of one base.
    pub indels: Indels,
    /// Columns of a table that are called otherwise than usual.
    pub columns: BTreeMap<VariantColumn, String>,
}

/// Opens the variants of `path`.
///
/// # Errors
/// `NotFound`, or `Invalid` with what is wrong with the file's head.
pub fn open(path: &Path, options: &VariantOptions) -> Result<Box<dyn VariantReader>> {
    let format = options.format.unwrap_or_else(|| VariantFormat::of(path));
    Ok(match format {
        VariantFormat::Vcf => Box::new(VcfVariants::open(path, options.indels)?),
        VariantFormat::Table => {
            Box::new(TableVariants::open(path, &options.columns, options.indels)?)
        }
        VariantFormat::Cagi => Box::new(CagiVariants::open(path, options.indels)?),
        VariantFormat::Archive => Box::new(ArchiveVariants::open(path)?),
    })
}

/// The error of a file without a single row.
fn no_rows(path: &Path) -> Error {
    InputError::new(path.display(), "", "at least one row with a variant", "0 rows").into()
}

#[cfg(test)]
mod tests;
