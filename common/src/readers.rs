//! Readers of the field's files: one per format, streaming, never panicking.
//!
//! Leaves out: what the values mean to a task. Invariant: every defect is an
//! [`InputError`](crate::error::InputError) with file, place, expected and found.

use crate::dataset::{DatasetSource, TaskName};
use crate::error::{Error, Result};
use crate::example::{Example, ExampleSchema};

pub mod bed;
pub mod divided;
pub mod fasta;
pub mod genome;
pub mod hdf5;
mod isolate;
pub mod motifs;
pub mod narrow_peak;
pub mod parquet;
pub mod peaks;
pub mod splicing;
pub mod table;
pub mod text;
pub mod tfrecord;
pub mod variants;
pub mod windows;

/// A stream of examples in file order.
pub trait ExampleReader: Send {
    /// What every example has.
    fn schema(&self) -> &ExampleSchema;

    /// The next at most `rows` examples; empty once the source has ended.
    ///
    /// # Errors
    /// `Invalid` with file, place, expected and found.
    fn read(&mut self, rows: usize) -> Result<Vec<Example>>;

    /// What people should know of the rows read so far, such as how many were left out.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What people call the first targets of the schema, where the source knows; else empty.
    fn target_titles(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Opens the reader of `source`; targets obey the rules of `task`.
///
/// # Errors
/// `NotFound` or `Invalid` with the file and what is wrong with it.
pub fn open(source: &DatasetSource, task: TaskName) -> Result<Box<dyn ExampleReader>> {
    Ok(match source {
        DatasetSource::Fasta { path } => Box::new(fasta::FastaReader::open(path, None)?),
        DatasetSource::Bed { path, genome, window } => {
            Box::new(bed::BedReader::open(path, genome, *window)?)
        }
        DatasetSource::NarrowPeak { path, genome, window } => {
            Box::new(narrow_peak::NarrowPeakReader::open(path, genome, *window)?)
        }
        DatasetSource::Windows { genome, .. } => {
            let options = windows::WindowOptions::of(source).expect("the variant was matched");
            Box::new(windows::WindowReader::open(genome, options, None)?)
        }
        DatasetSource::Table { path, columns } => {
            Box::new(table::TableReader::open(path, columns, task)?)
        }
        DatasetSource::Hdf5 { path, layout, length } => {
            Box::new(hdf5::Hdf5Reader::open(path, layout, task, *length)?)
        }
        DatasetSource::Parquet { path, columns } => {
            Box::new(parquet::ParquetReader::open(path, columns, task)?)
        }
        DatasetSource::Variants { .. } => {
            Box::new(variants::examples::VariantExamples::open(source)?)
        }
        DatasetSource::Divided { source, rule } => {
            Box::new(divided::DividedReader::open(source, rule, task)?)
        }
        DatasetSource::Splicing(set) => Box::new(splicing::SplicingReader::open(set)?),
        DatasetSource::Peaks(set) => {
            Box::new(peaks::PeakReader::open(set, task == TaskName::Eclip)?)
        }
        DatasetSource::Tfrecord { files } => Box::new(tfrecord::TfrecordReader::open(files)?),
        DatasetSource::Archive { root, set, .. } => {
            let expected = "a data set of an archive is looked up before it is read";
            return Err(Error::bug(format!("{}: {set}: {expected}", root.display())));
        }
    })
}
