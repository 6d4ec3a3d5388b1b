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

/// What the rows of an exported file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLayout {
    /// D.
    pub width: usize,
    /// Number format of the set.
    pub dtype: StoredDtype,
    /// Whether a row is a token rather than an example.
    pub tokens: bool,
    /// Names of the S sequences of each example.
    pub sequences: Vec<String>,
    /// Names of the D values, such as scores of variants; empty for states, which have none.
    pub columns: Vec<String>,
}

impl ExportLayout {
    /// S.
    fn sequence_count(&self) -> usize {
        self.sequences.len().max(1)
    }

    /// Columns of a table; lists are `FixedSizeList` of Float32 or Float16.
    fn schema(&self) -> Result<Schema> {
        let width = self.width;
        let list = i32::try_from(width)
            .map_err(|_| Error::invalid(format!("expected a width below 2^31, found {width}")))?;
        let list = DataType::FixedSizeList(Arc::new(self.item()), list);
        let mut fields = vec![Field::new("id", DataType::Utf8, false)];
        match (self.tokens, self.sequence_count()) {
            (false, 1) if self.is_named() => {
                let number = self.item().data_type().clone();
                fields.extend(self.columns.iter().map(|n| Field::new(n, number.clone(), false)));
            }
            (false, 1) => fields.push(Field::new("embedding", list, false)),
            (false, _) => fields.extend(
                self.sequences
                    .iter()
                    .map(|name| Field::new(format!("embedding_{name}"), list.clone(), false)),
            ),
            (true, count) => {
                if count > 1 {
                    fields.push(Field::new("sequence", DataType::Utf8, false));
                }
                fields.push(Field::new("token", DataType::UInt64, false));
                fields.push(Field::new("embedding", list, false));
            }
        }
        Ok(Schema::new(fields))
    }

    /// Whether each value of a row is a column of its own.
    fn is_named(&self) -> bool {
        !self.tokens && self.sequence_count() == 1 && self.columns.len() == self.width
    }

    fn item(&self) -> Field {
        let half = self.dtype == StoredDtype::F16;
        Field::new("item", if half { DataType::Float16 } else { DataType::Float32 }, false)
    }

    fn numbers(&self, values: impl Iterator<Item = f32>) -> ArrayRef {
        if self.dtype == StoredDtype::F16 {
            Arc::new(Float16Array::from_iter_values(values.map(half::f16::from_f32)))
        } else {
            Arc::new(Float32Array::from_iter_values(values))
        }
    }

    /// A column of lists of `width` values each.
    fn lists(&self, values: impl Iterator<Item = f32>) -> Result<ArrayRef> {
        let items = self.numbers(values);
        let width = i32::try_from(self.width).unwrap_or(i32::MAX);
        let lists = FixedSizeListArray::try_new(Arc::new(self.item()), width, items, None);
        Ok(Arc::new(lists.map_err(unwritten)?))
    }
}

/// Writes columns `id` and `embedding`, or `embedding_left`, `embedding_right` of examples of two
/// sequences; of single tokens `id`, `sequence` (where there are several), `token`, `embedding`. Values
/// that have names are columns under these.
pub struct ParquetExport<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    layout: ExportLayout,
}

impl<W: Write + Send> ParquetExport<W> {
    /// Starts a file of rows of `layout`.
    ///
    /// # Errors
    /// `Invalid` for a width that a Parquet list cannot have; `Unavailable` when writing fails.
    pub fn new(out: W, layout: ExportLayout) -> Result<Self> {
        let schema = Arc::new(layout.schema()?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by("glmeval".to_owned())
            .build();
        let writer =
            ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(unwritten)?;
        Ok(Self { writer, schema, layout })
    }

    /// Adds rows: `values` is `[E, S, D]`; with tokens `[N, D]` and `token_counts` `[E, S]` sums to N.
    ///
    /// # Errors
    /// `Bug` when the lengths disagree; `Unavailable` when writing fails.
    pub fn push(&mut self, ids: &[String], token_counts: &[u64], values: &[f32]) -> Result<()> {
        let columns = if self.layout.tokens {
            self.token_columns(ids, token_counts, values)?
        } else {
            self.example_columns(ids, values)?
        };
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(unwritten)?;
        self.writer.write(&batch).map_err(unwritten)
    }

    fn example_columns(&self, ids: &[String], values: &[f32]) -> Result<Vec<ArrayRef>> {
        let (width, count) = (self.layout.width, self.layout.sequence_count());
        check_rows(ids.len().saturating_mul(count), width, values)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(ids))];
        if self.layout.is_named() {
            let of = |column| values.iter().skip(column).step_by(width.max(1)).copied();
            columns.extend((0..width).map(|column| self.layout.numbers(of(column))));
            return Ok(columns);
        }
        for sequence in 0..count {
            let rows = values.chunks_exact(width.max(1)).skip(sequence).step_by(count);
            columns.push(self.layout.lists(rows.flatten().copied())?);
        }
        Ok(columns)
    }

    fn token_columns(
        &self,
        ids: &[String],
        token_counts: &[u64],
        values: &[f32],
    ) -> Result<Vec<ArrayRef>> {
        let count = self.layout.sequence_count();
        let (mut row_ids, mut names, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for (id, counts) in ids.iter().zip(token_counts.chunks(count)) {
            for (sequence, &count) in counts.iter().enumerate() {
                let name = self.layout.sequences.get(sequence).map_or("", String::as_str);
                row_ids.extend((0..count).map(|_| id.as_str()));
                names.extend((0..count).map(|_| name));
                tokens.extend(0..count);
            }
        }
        check_rows(tokens.len(), self.layout.width, values)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(row_ids))];
        if count > 1 {
            columns.push(Arc::new(StringArray::from_iter_values(names)));
        }
        columns.push(Arc::new(UInt64Array::from(tokens)));
        columns.push(self.layout.lists(values.iter().copied())?);
        Ok(columns)
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn finish(self) -> Result<W> {
        self.writer.into_inner().map_err(unwritten)
    }
}

/// Bytes of the npy header: room for any shape, a multiple of 64.
const NPY_HEADER_BYTES: usize = 128;

/// Writes one array as npy 1.0, `[E, D]`, `[E, S, D]` of examples of several sequences, or `[N, D]`
/// of single tokens; ids are the caller's to keep.
pub struct NpyExport<W: Write + Seek> {
    out: W,
    rows: u64,
    /// Extents of one row.
    extents: Vec<usize>,
    dtype: StoredDtype,
}

impl<W: Write + Seek> NpyExport<W> {
    /// Starts a file of rows of `layout`.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn new(mut out: W, layout: &ExportLayout) -> Result<Self> {
        let dtype = if layout.dtype == StoredDtype::Bf16 { StoredDtype::F32 } else { layout.dtype };
        let extents = match layout.sequence_count() {
            count if count > 1 && !layout.tokens => vec![count, layout.width],
            _ => vec![layout.width],
        };
        out.write_all(&npy_header(0, &extents, dtype)).map_err(unwritten)?;
        Ok(Self { out, rows: 0, extents, dtype })
    }

    /// Adds whole rows.
    ///
    /// # Errors
    /// `Bug` for a part of a row; `Invalid` for values that are not finite; `Unavailable` when writing fails.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        let width = self.extents.iter().fold(1, |size, extent| extent.saturating_mul(size));
        let rows = values.len() / width.max(1);
        check_rows(rows, width, values)?;
        let first = self.rows;
        let name = |row: usize| first.saturating_add(row as u64).to_string();
        let bytes = narrow(values, width, self.dtype, &name)?;
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
        let header = npy_header(self.rows, &self.extents, self.dtype);
        self.out.write_all(&header).map_err(unwritten)?;
        self.out.seek(SeekFrom::End(0)).map_err(unwritten)?;
        self.out.flush().map_err(unwritten)?;
        Ok(self.out)
    }
}

fn npy_header(rows: u64, extents: &[usize], dtype: StoredDtype) -> Vec<u8> {
    let descr = if dtype == StoredDtype::F16 { "<f2" } else { "<f4" };
    let extents: Vec<String> = extents.iter().map(usize::to_string).collect();
    let shape = format!("({rows}, {})", extents.join(", "));
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
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
    use arrow_array::types::{Float16Type, Float32Type, UInt64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
    use std::io::Cursor;

    fn layout(width: usize, dtype: StoredDtype, tokens: bool, names: &[&str]) -> ExportLayout {
        let sequences = names.iter().map(|&name| name.to_owned()).collect();
        ExportLayout { width, dtype, tokens, sequences, columns: Vec::new() }
    }

    fn ids() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    #[test]
    fn parquet_rows_stand_in_the_order_pushed() {
        let mut export =
            ParquetExport::new(Vec::new(), layout(2, StoredDtype::F16, true, &[])).unwrap();
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

    fn table(export: ParquetExport<Vec<u8>>) -> RecordBatch {
        let bytes = bytes::Bytes::from(export.finish().unwrap());
        ParquetRecordBatchReader::try_new(bytes, 10).unwrap().next().unwrap().unwrap()
    }

    #[test]
    fn sequences_of_an_example_are_columns_and_of_its_tokens_a_column() {
        let names = ["left", "right"];
        let pooled = layout(1, StoredDtype::F32, false, &names);
        let mut export = ParquetExport::new(Vec::new(), pooled.clone()).unwrap();
        export.push(&ids(), &[], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!(export.push(&ids(), &[], &[1.0, 2.0]).is_err());
        let batch = table(export);
        let column = |batch: &RecordBatch, name: &str| -> Vec<f32> {
            let lists = batch.column_by_name(name).unwrap().as_fixed_size_list().clone();
            lists.values().as_primitive::<Float32Type>().values().to_vec()
        };
        assert_eq!(column(&batch, "embedding_left"), [1.0, 3.0]);
        assert_eq!(column(&batch, "embedding_right"), [2.0, 4.0]);
        let tokens = layout(1, StoredDtype::F32, true, &names);
        let mut export = ParquetExport::new(Vec::new(), tokens).unwrap();
        export.push(&ids(), &[1, 2, 0, 1], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let batch = table(export);
        let sides = batch.column_by_name("sequence").unwrap().as_string::<i32>();
        let sides: Vec<_> = sides.iter().flatten().collect();
        assert_eq!(sides, ["left", "right", "right", "right"]);
        let numbers = batch.column_by_name("token").unwrap().as_primitive::<UInt64Type>();
        assert_eq!(numbers.values(), &[0, 0, 1, 0]);
        assert_eq!(column(&batch, "embedding"), [1.0, 2.0, 3.0, 4.0]);
        let mut export = NpyExport::new(Cursor::new(Vec::new()), &pooled).unwrap();
        export.push(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        let bytes = export.finish().unwrap().into_inner();
        assert!(String::from_utf8_lossy(&bytes[..128]).contains("'shape': (2, 2, 1)"));
    }

    #[test]
    fn values_with_names_are_columns_of_numbers() {
        let columns = ["cosine", "masked-llr"].map(str::to_owned).to_vec();
        let named = ExportLayout { columns, ..layout(2, StoredDtype::F32, false, &["window"]) };
        let mut export = ParquetExport::new(Vec::new(), named).unwrap();
        export.push(&ids(), &[], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!(export.push(&ids(), &[], &[1.0]).is_err());
        let batch = table(export);
        let column = |name| batch.column_by_name(name).unwrap().as_primitive::<Float32Type>();
        assert_eq!(column("cosine").values(), &[1.0, 3.0]);
        assert_eq!(column("masked-llr").values(), &[2.0, 4.0]);
    }

    #[test]
    fn npy_has_the_header_numpy_writes_and_the_values() {
        let mut export =
            NpyExport::new(Cursor::new(Vec::new()), &layout(3, StoredDtype::Bf16, false, &[]))
                .unwrap();
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
        let header = npy_header(u64::MAX, &[usize::MAX, 2], StoredDtype::F32);
        assert_eq!(header.len(), NPY_HEADER_BYTES);
        assert!(String::from_utf8_lossy(&header).contains(", }"));
    }
}
