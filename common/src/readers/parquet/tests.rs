use super::*;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array,
    LargeStringArray, RecordBatch, StringArray,
};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use std::sync::Arc;

fn bytes_of(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn read(bytes: &[u8], columns: &TableColumns, task: TaskName) -> Result<Vec<Example>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");
    std::fs::write(&path, bytes).unwrap();
    let mut reader = ParquetReader::open(&path, columns, task)?;
    let mut examples = Vec::new();
    loop {
        let mut batch = reader.read(2)?;
        if batch.is_empty() {
            return Ok(examples);
        }
        examples.append(&mut batch);
    }
}

fn message(outcome: Result<Vec<Example>>) -> String {
    let text = outcome.unwrap_err().to_string();
    text.split_once("table.parquet: ").map(|(_, text)| text.to_owned()).unwrap()
}

fn columns(targets: &[&str]) -> TableColumns {
    TableColumns {
        sequence: "seq".to_owned(),
        id: None,
        split: None,
        targets: targets.iter().map(|&name| name.to_owned()).collect(),
        missing: false,
    }
}

fn sequences() -> ArrayRef {
    Arc::new(StringArray::from(vec!["ACGT", "acgn", "TT"]))
}

#[test]
fn targets_that_rows_of_scores_would_not_tell_apart_are_refused() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]));
    let bytes = bytes_of(vec![("seq", sequences()), ("y", values.clone()), ("mean", values)]);
    let refused = |targets: &[&str]| message(read(&bytes, &columns(targets), TaskName::Regression));
    let error = refused(&["y", "y"]);
    assert_eq!(error, "column y: expected targets that differ, found y twice");
    let error = refused(&["mean", "y"]);
    assert!(error.starts_with("column mean: expected another name"), "{error}");
    assert_eq!(read(&bytes, &columns(&["mean"]), TaskName::Regression).unwrap().len(), 3);
}

#[test]
fn every_common_compression_is_read() {
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    let gzip = Compression::GZIP(GzipLevel::default());
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip, zstd] {
        let batch = RecordBatch::try_from_iter(vec![("seq", sequences())]).unwrap();
        let properties = parquet::file::properties::WriterProperties::builder();
        let properties = properties.set_compression(compression).build();
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(read(&bytes, &columns(&[]), TaskName::None).unwrap().len(), 3, "{compression}");
    }
}

#[test]
fn named_columns_become_examples_in_file_order() {
    let bytes = bytes_of(vec![
        ("other", Arc::new(Int64Array::from(vec![7, 8, 9]))),
        ("score", Arc::new(Float64Array::from(vec![0.5, -1.0, 2.0]))),
        ("part", Arc::new(StringArray::from(vec!["train", "VAL", "test"]))),
        ("name", Arc::new(Int64Array::from(vec![30, 20, 10]))),
        ("seq", sequences()),
        ("flag", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ]);
    let named = TableColumns {
        id: Some("name".to_owned()),
        split: Some("part".to_owned()),
        ..columns(&["flag", "score"])
    };
    let examples = read(&bytes, &named, TaskName::Regression).unwrap();
    let ids: Vec<&str> = examples.iter().map(|example| example.id.as_str()).collect();
    assert_eq!(ids, ["30", "20", "10"]);
    assert_eq!(examples[1].sequences[0].as_str(), "ACGN");
    assert_eq!(examples[1].split, Some(Split::Valid));
    assert_eq!(examples[1].targets, [0.0, -1.0]);
    let unnamed = read(&bytes, &columns(&[]), TaskName::None).unwrap();
    assert_eq!(unnamed[2].id, "row2");
    assert_eq!(unnamed[2].split, None);
}

#[test]
fn names_that_come_again_are_read() {
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
    let bytes = bytes_of(vec![("name", names), ("seq", sequences())]);
    let named = TableColumns { id: Some("name".to_owned()), ..columns(&[]) };
    let read = read(&bytes, &named, TaskName::None).unwrap();
    let ids: Vec<&str> = read.iter().map(|example| example.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "a"]);
}

#[test]
fn every_kind_of_text_column_is_read() {
    let texts = ["ACGT", "acgn", "TT"];
    let kinds: Vec<ArrayRef> = vec![
        sequences(),
        Arc::new(LargeStringArray::from(texts.to_vec())),
        Arc::new(BinaryArray::from_vec(texts.iter().map(|text| text.as_bytes()).collect())),
        Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for kind in kinds {
        let what = format!("{}", kind.data_type());
        let examples = read(&bytes_of(vec![("seq", kind)]), &columns(&[]), TaskName::None).unwrap();
        let found: Vec<&str> = examples.iter().map(|row| row.sequences[0].as_str()).collect();
        assert_eq!(found, ["ACGT", "ACGN", "TT"], "{what}");
    }
}

#[test]
fn a_missing_column_is_named_with_the_columns_there_are() {
    let bytes = bytes_of(vec![("sequence", sequences())]);
    let error = message(read(&bytes, &columns(&[]), TaskName::None));
    assert_eq!(error, "column seq: expected a column seq, found columns sequence");
}

#[test]
fn a_null_a_bad_target_and_a_bad_letter_are_named_with_their_row() {
    let holed = vec![Some("A"), None, Some("C")];
    let kinds: [ArrayRef; 2] = [
        Arc::new(StringArray::from(holed.clone())),
        Arc::new(holed.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for kind in kinds {
        let bytes = bytes_of(vec![("seq", kind)]);
        let error = message(read(&bytes, &columns(&[]), TaskName::None));
        assert_eq!(error, "column seq row 1: expected a value, found null");
    }
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 1.0, f64::NAN]));
    let bytes = bytes_of(vec![("seq", sequences()), ("y", numbers)]);
    let error = message(read(&bytes, &columns(&["y"]), TaskName::Classification));
    assert_eq!(error, "column y row 2: expected 0 or 1, found NaN");
    let error = message(read(&bytes, &columns(&["y"]), TaskName::Regression));
    assert_eq!(
        error,
        "column y row 2: expected a finite number (missing = true lets a target be missing), found NaN"
    );
    assert!(read(&bytes, &columns(&["y"]), TaskName::Splicing).unwrap()[2].targets[0].is_nan());
    let allowed = TableColumns { missing: true, ..columns(&["y"]) };
    for task in [TaskName::Regression, TaskName::Classification] {
        assert!(read(&bytes, &allowed, task).unwrap()[2].targets[0].is_nan());
    }
    let holed: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(0)]));
    let bytes = bytes_of(vec![("seq", sequences()), ("y", holed)]);
    let found = read(&bytes, &allowed, TaskName::Classification).unwrap();
    assert!(found[1].targets[0].is_nan() && found[2].targets == [0.0]);
    let letters: ArrayRef = Arc::new(StringArray::from(vec!["AC", "AXC"]));
    let error = message(read(&bytes_of(vec![("seq", letters)]), &columns(&[]), TaskName::None));
    assert_eq!(error, "column seq row 1: expected letters of nucleotides, found 'X' at column 2");
}

#[test]
fn a_column_of_another_type_is_refused_before_any_row() {
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![0.0]));
    let error = message(read(&bytes_of(vec![("seq", numbers)]), &columns(&[]), TaskName::None));
    assert_eq!(error, "column seq: expected strings, found type Float64");
    let error =
        message(read(&bytes_of(vec![("seq", sequences())]), &columns(&["seq"]), TaskName::None));
    assert_eq!(error, "column seq: expected numbers: integer, float or bool, found type Utf8");
}

#[test]
fn a_row_number_counts_over_batches() {
    let mut texts = vec!["ACGT"; 5_000];
    texts[4_321] = "A-C";
    let bytes = bytes_of(vec![("seq", Arc::new(StringArray::from(texts)))]);
    let error = message(read(&bytes, &columns(&[]), TaskName::None));
    assert!(error.starts_with("column seq row 4321: "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_never_ends_the_process(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 1.0, 0.0]));
        let mut bytes = bytes_of(vec![("seq", sequences()), ("y", numbers)]);
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(end) = end {
            let end = end.index(bytes.len());
            bytes.truncate(end);
        }
        drop(read(&bytes, &columns(&["y"]), TaskName::Classification));
    }
}
