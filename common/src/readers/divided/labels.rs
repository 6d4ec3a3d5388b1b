//! One value of each example that is no sequence and no target: a fold, a gene, a chromosome.
//!
//! Leaves out: what the values mean. Invariant: values come in the order of the examples, one each.

use crate::dataset::DatasetSource;
use crate::error::{InputError, Result};
use crate::example::Example;
use crate::readers::hdf5::labels::Hdf5Labels;
use crate::readers::parquet::labels::ParquetLabels;
use crate::readers::table::labels::TableLabels;
use crate::split_rule::plain_value;

/// Where the values of examples come from.
pub(super) enum Labels {
    /// There are none.
    None,
    /// The chromosome of the interval.
    Chromosome,
    /// The id.
    Id,
    /// A column of a table.
    Table(TableLabels),
    /// A column of Parquet.
    Parquet(Box<ParquetLabels>),
    /// A data set of HDF5.
    Hdf5(Hdf5Labels),
}

impl Labels {
    /// Finds `column` in `source`; sources without columns have `chrom` and `id` of their intervals, or
    /// `id` alone.
    ///
    /// # Errors
    /// `Invalid` with the columns there are.
    pub(super) fn open(source: &DatasetSource, column: &str) -> Result<Self> {
        Ok(match source {
            DatasetSource::Table { path, .. } => Self::Table(TableLabels::open(path, column)?),
            DatasetSource::Parquet { path, .. } => {
                Self::Parquet(Box::new(ParquetLabels::open(path, column)?))
            }
            DatasetSource::Hdf5 { path, .. } => Self::Hdf5(Hdf5Labels::open(path, column)?),
            _ if column == "id" => Self::Id,
            DatasetSource::Bed { .. } | DatasetSource::NarrowPeak { .. } if column == "chrom" => {
                Self::Chromosome
            }
            _ => {
                let file = source.paths().first().map(|path| path.display().to_string());
                let expected = "id, or chrom where there are intervals: the source has no columns";
                let file = file.unwrap_or_default();
                return Err(InputError::new(file, "split", expected, format!("{column:?}")).into());
            }
        })
    }

    /// Line of example `index` of those that were read last, where the source is a table.
    pub(super) fn line(&self, index: usize) -> Option<u64> {
        match self {
            Self::Table(labels) => labels.line(index),
            Self::None | Self::Chromosome | Self::Id | Self::Parquet(_) | Self::Hdf5(_) => None,
        }
    }

    /// The values of the next examples, which are `examples`.
    ///
    /// # Errors
    /// `Invalid` with the row without a value.
    pub(super) fn read(&mut self, examples: &[Example]) -> Result<Vec<String>> {
        let values = match self {
            Self::None => return Ok(Vec::new()),
            Self::Chromosome => {
                let of = |example: &Example| match &example.interval {
                    Some(interval) => interval.chromosome.clone(),
                    None => String::new(),
                };
                return Ok(examples.iter().map(of).collect());
            }
            Self::Id => return Ok(examples.iter().map(|example| example.id.clone()).collect()),
            Self::Table(labels) => labels.read(examples.len())?,
            Self::Parquet(labels) => labels.read(examples.len())?,
            Self::Hdf5(labels) => labels.read(examples.len())?,
        };
        Ok(values.iter().map(|value| plain_value(value).to_owned()).collect())
    }
}
