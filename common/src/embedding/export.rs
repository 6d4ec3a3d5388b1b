//! One file for other tools: rows of a set as Parquet or npy.
//!
//! Leaves out: reading the set (store) and naming files (command line).
//! Invariant: rows stand in the order they were pushed; bf16 is widened to f32, which it fits exactly.

use super::narrow;
use crate::error::{Error, ErrorKind, Result};
use crate::representation::StoredDtype;
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float16Array, Float32Array, RecordBatch, StringArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fmt::Display;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

/// Writes columns `id`, `token` (for single tokens) and `embedding` (`FixedSizeList` of Float32 or Float16).
pub struct ParquetExport<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    width: usize,
    half: bool,
    tokens: bool,
}

impl<W: Write + Send> ParquetExport<W> {
    /// Starts a file of rows of `width` values; `tokens` = one row per token rather than per example.
    ///
    /// # Errors
    /// `Invalid` for a width that a Parquet list cannot have; `Unavailable` when writing fails.
    pub fn new(out: W, width: usize, dtype: StoredDtype, tokens: bool) -> Result<Self> {
        let half = dtype == StoredDtype::F16;
        let list = i32::try_from(width)
            .map_err(|_| Error::invalid(format!("expected a width below 2^31, found {width}")))?;
        let list = DataType::FixedSizeList(Arc::new(item(half)), list);
        let mut fields = vec![Field::new("id", DataType::Utf8, false)];
        if tokens {
            fields.push(Field::new("token", DataType::UInt64, false));
        }
        fields.push(Field::new("embedding", list, false));
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by("glmeval".to_owned())
            .build();
        let writer =
            ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(unwritten)?;
        Ok(Self { writer, schema, width, half, tokens })
    }

    /// Adds rows: `values` is `[E, D]`; with tokens `[N, D]` and `token_counts` has E entries that sum to N.
    ///
    /// # Errors
    /// `Bug` when the lengths disagree; `Unavailable` when writing fails.
    pub fn push(&mut self, ids: &[String], token_counts: &[u64], values: &[f32]) -> Result<()> {
        let mut row_ids: Vec<&str> = Vec::new();
        let mut tokens: Vec<u64> = Vec::new();
        if self.tokens {
            for (id, &count) in ids.iter().zip(token_counts) {
                row_ids.extend((0..count).map(|_| id.as_str()));
                tokens.extend(0..count);
            }
        } else {
            row_ids.extend(ids.iter().map(String::as_str));
        }
        check_rows(row_ids.len(), self.width, values)?;
        let items: ArrayRef = if self.half {
            let halves = values.iter().map(|&value| half::f16::from_f32(value));
            Arc::new(Float16Array::from_iter_values(halves))
        } else {
            Arc::new(Float32Array::from_iter_values(values.iter().copied()))
        };
        let width = i32::try_from(self.width).unwrap_or(i32::MAX);
        let lists = FixedSizeListArray::try_new(Arc::new(item(self.half)), width, items, None)
            .map_err(unwritten)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(row_ids))];
        if self.tokens {
            columns.push(Arc::new(UInt64Array::from(tokens)));
        }
        columns.push(Arc::new(lists));
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(unwritten)?;
        self.writer.write(&batch).map_err(unwritten)
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn finish(self) -> Result<W> {
        self.writer.into_inner().map_err(unwritten)
    }
}

fn item(half: bool) -> Field {
    Field::new("item", if half { DataType::Float16 } else { DataType::Float32 }, false)
}

/// Bytes of the npy header: room for any shape, a multiple of 64.
const NPY_HEADER_BYTES: usize = 128;

/// Writes one `[rows, width]` array as npy 1.0; ids are the caller's to keep.
pub struct NpyExport<W: Write + Seek> {
    out: W,
    rows: u64,
    width: usize,
    dtype: StoredDtype,
}

impl<W: Write + Seek> NpyExport<W> {
    /// Starts a file of rows of `width` values.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn new(mut out: W, width: usize, dtype: StoredDtype) -> Result<Self> {
        let dtype = if dtype == StoredDtype::Bf16 { StoredDtype::F32 } else { dtype };
        out.write_all(&npy_header(0, width, dtype)).map_err(unwritten)?;
        Ok(Self { out, rows: 0, width, dtype })
    }

    /// Adds rows: `values` is `[rows, width]`.
    ///
    /// # Errors
    /// `Bug` for a part of a row; `Invalid` for values that are not finite; `Unavailable` when writing fails.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        let rows = values.len() / self.width.max(1);
        check_rows(rows, self.width, values)?;
        let first = self.rows;
        let name = |row: usize| first.saturating_add(row as u64).to_string();
        let bytes = narrow(values, self.width, self.dtype, &name)?;
        self.out.write_all(&bytes).map_err(unwritten)?;
        self.rows = self.rows.saturating_add(rows as u64);
        Ok(())
    }

    /// Writes the header with the number of rows and gives back what it was written to.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn finish(mut self) -> Result<W> {
        self.out.seek(SeekFrom::Start(0)).map_err(unwritten)?;
        let header = npy_header(self.rows, self.width, self.dtype);
        self.out.write_all(&header).map_err(unwritten)?;
        self.out.seek(SeekFrom::End(0)).map_err(unwritten)?;
        self.out.flush().map_err(unwritten)?;
        Ok(self.out)
    }
}

fn npy_header(rows: u64, width: usize, dtype: StoredDtype) -> Vec<u8> {
    let descr = if dtype == StoredDtype::F16 { "<f2" } else { "<f4" };
    let text =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    let length = (NPY_HEADER_BYTES - header.len() - 2) as u16;
    header.extend_from_slice(&length.to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header.resize(NPY_HEADER_BYTES - 1, b' ');
    header.push(b'\n');
    header
}

fn check_rows(rows: usize, width: usize, values: &[f32]) -> Result<()> {
    if rows.checked_mul(width) == Some(values.len()) {
        return Ok(());
    }
    let found = values.len();
    Err(Error::bug(format!("export {rows} rows of width {width}: found {found} values")))
}

fn unwritten(error: impl Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("write the export: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float16Type, UInt64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
    use std::io::Cursor;

    fn ids() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    #[test]
    fn parquet_rows_stand_in_the_order_pushed() {
        let mut export = ParquetExport::new(Vec::new(), 2, StoredDtype::F16, true).unwrap();
        export.push(&ids(), &[1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert!(export.push(&ids(), &[1, 1], &[1.0]).is_err());
        let bytes = bytes::Bytes::from(export.finish().unwrap());
        let mut batches = ParquetRecordBatchReader::try_new(bytes, 10).unwrap();
        let batch = batches.next().unwrap().unwrap();
        let names: Vec<_> = batch.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["a", "b", "b"]);
        assert_eq!(batch.column(1).as_primitive::<UInt64Type>().values(), &[0, 0, 1]);
        let last = batch.column(2).as_fixed_size_list().value(2);
        let last: Vec<f32> =
            last.as_primitive::<Float16Type>().values().iter().map(|v| v.to_f32()).collect();
        assert_eq!((last, batch.column(2).null_count()), (vec![5.0, 6.0], 0));
    }

    #[test]
    fn npy_has_the_header_numpy_writes_and_the_values() {
        let mut export = NpyExport::new(Cursor::new(Vec::new()), 3, StoredDtype::Bf16).unwrap();
        export.push(&[1.0, 2.0, 3.0]).unwrap();
        export.push(&[4.0, 5.0, 6.0]).unwrap();
        assert!(export.push(&[7.0]).is_err());
        let bytes = export.finish().unwrap().into_inner();
        assert_eq!(bytes.len(), NPY_HEADER_BYTES + 24);
        let header = String::from_utf8_lossy(&bytes[10..NPY_HEADER_BYTES]);
        let expected = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert_eq!(header.trim_end(), expected);
        assert_eq!(super::super::widen(&bytes[NPY_HEADER_BYTES..], StoredDtype::F32)[5], 6.0);
    }

    #[test]
    fn the_npy_header_has_room_for_the_largest_shape() {
        let header = npy_header(u64::MAX, usize::MAX, StoredDtype::F32);
        assert_eq!(header.len(), NPY_HEADER_BYTES);
        assert!(String::from_utf8_lossy(&header).contains(", }"));
    }
}
