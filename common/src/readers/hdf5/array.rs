//! One data set of numbers: its shape, checked against its file, and its rows as a stream.
//!
//! Leaves out: what the numbers mean (`onehot`, `targets`). Invariant: nothing is allocated from a
//! number in the file before it was compared with the length of the file and the limits.

use super::element::Element;
use super::file::Hdf5File;
use crate::error::{Error, InputError, Result};
use crate::limits::PARSER_ALLOCATION_BYTES_MAX;
use crate::readers::isolate::isolated;
use hdf5_pure::{Dataset, Datatype};
use std::fmt::Display;
use std::path::Path;

/// Bytes of one window of rows, where the chunks of the file allow it.
const WINDOW_BYTES: u64 = 8 << 20;
/// Largest band of chunks that is read as one window.
const BAND_BYTES_MAX: u64 = 32 << 20;
/// Decoded chunks kept where a band of chunks takes several windows.
const CHUNK_CACHE_BYTES: usize = 32 << 20;
/// How far a file can expand: deflate's limit. HDF5 stores nothing at all for rows never written,
/// so a shape alone proves nothing.
const EXPANSION_MAX: u64 = 1_032;

/// A data set of numbers, read row by row in order.
pub struct Array {
    file: String,
    key: String,
    shape: Vec<u64>,
    element: Element,
    row_bytes: usize,
    dataset: Dataset,
    rows_per_window: u64,
    window: Vec<u8>,
    window_row: u64,
    next_row: u64,
}

/// Opens one data set of numbers of an HDF5 file, found whatever the case of its key.
///
/// Meant for stored embeddings, `x_train` (N, T, D), and everything else that is no example.
///
/// # Errors
/// `NotFound` without the file, `Invalid` for a file, key, shape or type that cannot be read.
pub fn read_array(path: &Path, key: &str) -> Result<Array> {
    let file = Hdf5File::open(path)?;
    let key = file.require(key)?;
    Array::open(&file, &key)
}

/// Opens every data set of floats below `group` of an HDF5 file, or below its root if there is no
/// such group; others are left out.
///
/// Meant for files of weights.
///
/// # Errors
/// `NotFound` without the file, `Invalid` for a file, group or shape that cannot be read.
pub fn float_arrays(path: &Path, group: &str) -> Result<Vec<Array>> {
    let file = Hdf5File::open(path)?;
    let mut arrays = Vec::new();
    for key in file.keys_below(group)? {
        let header = Header::read(&file, &key, &file.dataset(&key, 0)?)?;
        if header.element.is_ok_and(Element::is_float) {
            arrays.push(Array::open(&file, &key)?);
        }
    }
    Ok(arrays)
}

/// What a header says, before anything is believed.
pub(super) struct Header {
    pub(super) shape: Vec<u64>,
    chunk_shape: Option<Vec<u64>>,
    /// The first chunk that is said to lie outside the file, in words.
    chunk_outside: Option<String>,
    element: Result<Element, String>,
    element_bytes: u64,
    is_variable: bool,
}

impl Header {
    /// Reads the header of `dataset`.
    ///
    /// # Errors
    /// `Invalid` when it cannot be parsed.
    pub(super) fn read(file: &Hdf5File, key: &str, dataset: &Dataset) -> Result<Self> {
        let parsed = isolated(&file.name, key, || {
            let datatype = dataset.datatype()?;
            Ok::<_, hdf5_pure::Error>(Self {
                shape: dataset.shape()?,
                chunk_shape: dataset.chunk_shape()?,
                chunk_outside: chunk_outside(dataset, file.bytes)?,
                element: Element::of(&datatype),
                element_bytes: dataset.element_size()?,
                is_variable: matches!(datatype, Datatype::VariableLength { .. }),
            })
        })?;
        parsed.map_err(|e| {
            let found = format!("an invalid header: {e}");
            InputError::new(&file.name, key, "a dataset of numbers", found).into()
        })
    }

    /// Whether the elements are texts.
    pub(super) fn is_text(&self) -> bool {
        self.element.as_ref().err().is_some_and(|words| words == "strings")
    }

    /// Whether the elements are references to texts stored elsewhere.
    pub(super) fn is_variable(&self) -> bool {
        self.is_variable
    }

    /// Bytes of one row, after every size was checked.
    ///
    /// # Errors
    /// `Invalid` when the shape is empty or larger than the file can hold.
    pub(super) fn row_bytes(&self, file: &Hdf5File, key: &str) -> Result<usize> {
        let defect = |expected: String, found: String| -> Error {
            InputError::new(&file.name, key, expected, found).into()
        };
        let shape = words(&self.shape);
        if self.shape.first().is_some_and(|&rows| rows == 0) {
            return Err(defect("at least one row".into(), format!("0 rows in shape {shape}")));
        }
        let bytes = |extents: &[u64]| {
            extents.iter().try_fold(self.element_bytes, |bytes, &n| bytes.checked_mul(n))
        };
        let row_bytes = bytes(self.shape.get(1..).unwrap_or_default());
        if row_bytes == Some(0) {
            return Err(defect("at least one value in a row".into(), format!("shape {shape}")));
        }
        let limit =
            file.bytes.saturating_mul(EXPANSION_MAX).max(PARSER_ALLOCATION_BYTES_MAX as u64);
        if bytes(&self.shape).is_none_or(|bytes| bytes > limit) {
            let length = file.bytes;
            let expected =
                format!("a size below {limit} bytes, the maximum of a {length}-byte file");
            return Err(defect(expected, format!("shape {shape}")));
        }
        if let Some(chunk) = &self.chunk_shape
            && bytes(chunk).is_none_or(|bytes| bytes > PARSER_ALLOCATION_BYTES_MAX as u64)
        {
            let expected = format!("chunks below the limit of {PARSER_ALLOCATION_BYTES_MAX} bytes");
            return Err(defect(expected, format!("chunks of shape {}", words(chunk))));
        }
        if let Some(found) = &self.chunk_outside {
            let expected = format!("chunks within the {} bytes of the file", file.bytes);
            return Err(defect(expected, found.clone()));
        }
        row_bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .filter(|&bytes| bytes <= PARSER_ALLOCATION_BYTES_MAX)
            .ok_or_else(|| {
                let expected =
                    format!("rows below the limit of {PARSER_ALLOCATION_BYTES_MAX} bytes");
                defect(expected, format!("shape {shape}"))
            })
    }

    /// Rows of one window, and bytes of decoded chunks worth keeping between windows.
    pub(super) fn window(&self, row_bytes: usize) -> (u64, usize) {
        let row_bytes = (row_bytes as u64).max(1);
        let Some(&chunk_rows) = self.chunk_shape.as_ref().and_then(|chunk| chunk.first()) else {
            return ((WINDOW_BYTES / row_bytes).max(1), 0);
        };
        let chunk_rows = chunk_rows.max(1);
        match chunk_rows.checked_mul(row_bytes) {
            // Whole bands of chunks: no chunk is decoded twice.
            Some(band) if band <= BAND_BYTES_MAX => {
                ((WINDOW_BYTES / band).max(1).saturating_mul(chunk_rows), 0)
            }
            _ => ((WINDOW_BYTES / row_bytes).max(1), CHUNK_CACHE_BYTES),
        }
    }
}

impl Array {
    /// Opens the data set that the file spells `key`.
    ///
    /// # Errors
    /// `Invalid` for a shape or type that cannot be read.
    pub(super) fn open(file: &Hdf5File, key: &str) -> Result<Self> {
        let dataset = file.dataset(key, 0)?;
        let header = Header::read(file, key, &dataset)?;
        let row_bytes = header.row_bytes(file, key)?;
        let (rows_per_window, cache_bytes) = header.window(row_bytes);
        let dataset = if cache_bytes == 0 { dataset } else { file.dataset(key, cache_bytes)? };
        let element = header.element.map_err(|words| {
            InputError::new(&file.name, key, "numbers: integer, float or bool", words)
        })?;
        Ok(Self {
            file: file.name.clone(),
            key: key.to_owned(),
            shape: header.shape,
            element,
            row_bytes,
            dataset,
            rows_per_window,
            window: Vec::new(),
            window_row: 0,
            next_row: 0,
        })
    }

    /// Extents, rows first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The key as the file spells it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Number of rows; a scalar is one row.
    pub fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Number of values in a row.
    pub fn values_per_row(&self) -> usize {
        self.row_bytes / self.element.bytes()
    }

    /// The values of the next at most `rows` rows in row-major order; empty once all were read.
    ///
    /// # Errors
    /// `Invalid` when stored bytes are damaged.
    pub fn read(&mut self, rows: usize) -> Result<Vec<f32>> {
        let (mut values, mut row) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            if !self.read_row(&mut row)? {
                break;
            }
            values.extend(row.iter().map(|&value| value as f32));
        }
        Ok(values)
    }

    /// Replaces `values` by the next row; false once all were read.
    ///
    /// # Errors
    /// `Invalid` when stored bytes are damaged.
    pub(super) fn read_row(&mut self, values: &mut Vec<f64>) -> Result<bool> {
        values.clear();
        if self.next_row >= self.rows() {
            self.window = Vec::new();
            return Ok(false);
        }
        if self.window.is_empty() {
            self.fill_window()?;
        }
        let start = usize::try_from(self.next_row - self.window_row)
            .ok()
            .and_then(|row| row.checked_mul(self.row_bytes))
            .unwrap_or(usize::MAX);
        let raw = start.checked_add(self.row_bytes).and_then(|end| self.window.get(start..end));
        let Some(raw) = raw else {
            let expected = format!("{} bytes", self.row_bytes);
            return Err(self.defect(self.next_row, expected, "corrupt storage: fewer bytes"));
        };
        self.element.widen(raw, values);
        self.next_row += 1;
        if self.next_row - self.window_row >= self.rows_per_window {
            self.window = Vec::new();
        }
        Ok(true)
    }

    /// A defect of one row.
    pub(super) fn defect(&self, row: u64, expected: impl Display, found: impl Display) -> Error {
        self.defect_at(&format!("row {row}"), expected, found)
    }

    /// A defect somewhere in the data set.
    pub(super) fn defect_at(&self, at: &str, expected: impl Display, found: impl Display) -> Error {
        InputError::new(&self.file, format!("{} {at}", self.key), expected, found).into()
    }

    /// A defect of the whole data set.
    pub(super) fn shape_defect(&self, expected: impl Display, found: impl Display) -> Error {
        InputError::new(&self.file, &self.key, expected, found).into()
    }

    fn fill_window(&mut self) -> Result<()> {
        let (row, rows) = (self.next_row, self.rows_per_window);
        let read = isolated(&self.file, &self.key, || self.dataset.read_raw_rows(row, rows))?;
        self.window = read.map_err(|e| {
            let last = row.saturating_add(rows).min(self.rows()).saturating_sub(1);
            let place = format!("{} rows {row}-{last}", self.key);
            InputError::new(&self.file, place, "readable chunks", format!("corrupt storage: {e}"))
        })?;
        self.window_row = row;
        Ok(())
    }
}

/// The first chunk of `dataset` that ends after `file_bytes`: the library makes room for a chunk
/// of any stated size before it tries to read it.
fn chunk_outside(dataset: &Dataset, file_bytes: u64) -> Result<Option<String>, hdf5_pure::Error> {
    if !dataset.is_chunked() {
        return Ok(None);
    }
    let outside = dataset.chunks()?.into_iter().find(|chunk| {
        chunk.address.checked_add(chunk.storage_size).is_none_or(|end| end > file_bytes)
    });
    Ok(outside.map(|chunk| {
        let (address, bytes) = (chunk.address, chunk.storage_size);
        format!("an invalid chunk of {bytes} bytes at address {address}")
    }))
}

/// A shape in words: `(14, 4, 200)`; a scalar is `()`.
pub(super) fn words(shape: &[u64]) -> String {
    let extents: Vec<String> = shape.iter().map(u64::to_string).collect();
    match extents.as_slice() {
        [] => "(), a scalar".to_owned(),
        [one] => format!("({one},)"),
        _ => format!("({})", extents.join(", ")),
    }
}
