use super::*;
use crate::dataset::{DatasetSource, Hdf5Keys};
use crate::example::Split;
use hdf5_pure::{Datatype, FileBuilder};
use proptest::prelude::*;
use std::path::PathBuf;
use tempfile::TempDir;

const LETTERS: [&str; 3] = ["ACGTN", "TTTTT", "NACCA"];

/// Rows of 0 and 1, (N, L, 4), or (N, channels, L) padded by channels of 0.5.
fn onehot(texts: &[&str], channel_first: Option<usize>) -> Vec<f32> {
    let set = |letter: u8, channel: usize| {
        if channel >= 4 { 0.5 } else { f32::from(u8::from(b"ACGT"[channel] == letter)) }
    };
    let mut values = Vec::new();
    for text in texts {
        match channel_first {
            Some(channels) => values.extend(
                (0..channels).flat_map(|channel| text.bytes().map(move |l| set(l, channel))),
            ),
            None => {
                values
                    .extend(text.bytes().flat_map(|l| (0..4).map(move |channel| set(l, channel))));
            }
        }
    }
    values
}

/// A file of the binary layout, chunked and compressed.
fn binary_file() -> FileBuilder {
    let mut file = FileBuilder::new();
    for (split, rows) in [("train", 3), ("valid", 1), ("test", 2)] {
        let values = onehot(&LETTERS[..rows], None);
        file.create_dataset(&format!("X_{split}"))
            .with_f32_data(&values)
            .with_shape(&[rows as u64, 5, 4])
            .with_chunks(&[2, 3, 2])
            .with_shuffle()
            .with_deflate(6);
        file.create_dataset(&format!("y_{split}"))
            .with_i8_data(&[1, 0, 1][..rows])
            .with_shape(&[rows as u64, 1]);
    }
    file
}

fn saved(file: FileBuilder) -> (TempDir, PathBuf) {
    saved_bytes(&file.finish().unwrap())
}

fn saved_bytes(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.h5");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn read(path: &Path, layout: &Hdf5Layout, task: TaskName) -> Result<Vec<Example>> {
    let mut reader = Hdf5Reader::open(path, layout, task, None)?;
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
    text.split_once("data.h5: ").map(|(_, text)| text.to_owned()).unwrap()
}

fn letters(examples: &[Example]) -> Vec<&str> {
    examples.iter().map(|example| example.sequences[0].as_str()).collect()
}

#[test]
fn binary_rows_come_as_train_valid_test_with_ids_by_split() {
    let (_folder, path) = saved(binary_file());
    let examples = read(&path, &Hdf5Layout::Binary, TaskName::ChipSeq).unwrap();
    let ids: Vec<&str> = examples.iter().map(|example| example.id.as_str()).collect();
    assert_eq!(ids, ["train-0", "train-1", "train-2", "valid-0", "test-0", "test-1"]);
    assert_eq!(letters(&examples)[..3], LETTERS);
    assert_eq!(examples[3].split, Some(Split::Valid));
    assert_eq!(examples[5].targets, [0.0]);
    let other = Hdf5Reader::open(&path, &Hdf5Layout::Binary, TaskName::ChipSeq, Some(6));
    let error = other.err().unwrap().to_string();
    assert!(error.ends_with("X_train: expected sequences of length 6, found length 5"), "{error}");
}

#[test]
fn channels_are_found_by_their_number_and_last_wins() {
    let square = ["ACGT", "TTGA"];
    let cases: [(&[&str], Option<usize>, [u64; 3]); 5] = [
        (&LETTERS, None, [3, 5, 4]),
        (&LETTERS, Some(4), [3, 4, 5]),
        (&LETTERS, Some(9), [3, 9, 5]),
        (&square, None, [2, 4, 4]),
        (&["ACGTACGTA"], None, [1, 9, 4]),
    ];
    for (texts, channel_first, shape) in cases {
        let mut file = FileBuilder::new();
        let values = onehot(texts, channel_first);
        file.create_dataset("seqs").with_f32_data(&values).with_shape(&shape);
        let (_folder, path) = saved(file);
        let key = Hdf5Layout::Key("SEQS".to_owned());
        assert_eq!(letters(&read(&path, &key, TaskName::None).unwrap()), texts, "{shape:?}");
    }
}

#[test]
fn splits_of_different_length_are_refused() {
    let mut file = FileBuilder::new();
    for (split, text) in [("train", "ACGTA"), ("valid", "ACGTAC"), ("test", "ACGTA")] {
        let shape = [1, text.len() as u64, 4];
        let values = onehot(&[text], None);
        file.create_dataset(&format!("x_{split}")).with_f32_data(&values).with_shape(&shape);
        file.create_dataset(&format!("y_{split}")).with_f64_data(&[0.25]);
    }
    let (_folder, path) = saved(file);
    let error = message(read(&path, &Hdf5Layout::Regression, TaskName::LentiMpra));
    assert_eq!(error, "x_valid: expected sequences of length 5, found length 6");
}

#[test]
fn several_binary_targets_are_for_the_users_own_data_only() {
    let mut file = FileBuilder::new();
    for split in ["train", "valid", "test"] {
        let values = onehot(&LETTERS, None);
        file.create_dataset(&format!("x_{split}")).with_f32_data(&values).with_shape(&[3, 5, 4]);
        file.create_dataset(&format!("y_{split}"))
            .with_u8_data(&[1, 0, 0, 1, 1, 1])
            .with_shape(&[3, 2]);
    }
    let (_folder, path) = saved(file);
    let reader = Hdf5Reader::open(&path, &Hdf5Layout::Binary, TaskName::Classification, None);
    assert_eq!(reader.unwrap().schema().targets, ["target_0", "target_1"]);
    let error = message(read(&path, &Hdf5Layout::Binary, TaskName::Eclip));
    assert_eq!(error, "y_train: expected shape (rows,) or (rows, 1), found shape (3, 2)");
}

/// Two rows of the splicing layout per split; `change` sets targets of the last one of `valid`.
fn splicing_file(change: impl Fn(&mut [f32])) -> (TempDir, PathBuf) {
    let mut file = FileBuilder::new();
    for split in ["train", "valid", "test"] {
        let values = onehot(&["ACGTNA", "TTTGCA"], None);
        file.create_dataset(&format!("x_{split}")).with_f32_data(&values).with_shape(&[2, 6, 4]);
        let mut targets = [0.5, -1.0].repeat(112);
        if split == "valid" {
            change(&mut targets[112..]);
        }
        file.create_dataset(&format!("Y_{split}")).with_f32_data(&targets).with_shape(&[2, 56, 2]);
    }
    saved(file)
}

#[test]
fn splicing_rows_have_two_windows_and_a_mean_wherever_a_tissue_is_measured() {
    let read = |path: &Path| read(path, &Hdf5Layout::DeltaLogit, TaskName::Splicing);
    let (_folder, path) = splicing_file(|row| row[6] = f32::NAN);
    let examples = read(&path).unwrap();
    let windows = |row: usize| examples[row].sequences.iter().map(DnaSequence::as_str);
    assert_eq!(windows(0).collect::<Vec<_>>(), ["ACG", "TNA"]);
    assert_eq!((examples[3].targets[2], examples[3].targets[56]), (0.5, -1.0));
    assert!(examples[3].targets[3].is_nan());
    let (_folder, path) = splicing_file(|row| row.fill(f32::NAN));
    assert!(read(&path).unwrap()[3].targets.iter().all(|target| target.is_nan()));
    let (_folder, path) = splicing_file(|row| row[5] = f32::NAN);
    let expected = "Y_valid row 1: expected a mean logit, as tissues of the row are measured, \
                    found NaN in tissue 2";
    assert_eq!(message(read(&path)), expected);
}

#[test]
fn rows_of_an_array_come_in_batches_and_end() {
    let values: Vec<f32> = (0..60_u8).map(f32::from).collect();
    let mut file = FileBuilder::new();
    file.create_dataset("x").with_f32_data(&values).with_shape(&[10, 2, 3]).with_chunks(&[3, 2, 2]);
    let (_folder, path) = saved(file);
    let mut array = read_array(&path, "X").unwrap();
    assert_eq!((array.shape(), array.rows(), array.values_per_row()), (&[10, 2, 3][..], 10, 6));
    assert_eq!(array.read(7).unwrap(), values[..42]);
    assert_eq!(array.read(7).unwrap(), values[42..]);
    assert!(array.read(7).unwrap().is_empty());
}

#[test]
fn a_type_nested_deeper_than_a_stack_is_refused() {
    let mut deep = hdf5_pure::make_u8_type();
    for _ in 0..8_000 {
        let base_type = Box::new(deep);
        deep =
            Datatype::VariableLength { is_string: false, padding: None, charset: None, base_type };
    }
    let write = move || {
        let mut file = FileBuilder::new();
        file.create_dataset("x").with_raw_data(deep, vec![0; 16], 1);
        file.finish()
    };
    let bytes = std::thread::Builder::new().stack_size(256 << 20).spawn(write).unwrap().join();
    let (_folder, path) = saved_bytes(&bytes.unwrap().unwrap());
    let error = read_array(&path, "x").err().unwrap().to_string();
    assert!(error.contains("variable-length sequences"), "{error}");
}

#[test]
fn floats_below_a_group_are_found_at_any_depth() {
    let mut file = FileBuilder::new();
    file.create_dataset("elsewhere").with_f32_data(&[1.0]);
    let mut inner = file.create_group("inner");
    inner.create_dataset("kernel:0").with_f32_data(&[1.0, 2.0, 3.0, 4.0]).with_shape(&[2, 2]);
    inner.create_dataset("count").with_u8_data(&[1]);
    let mut layers = file.create_group("layers");
    layers.create_dataset("bias:0").with_f64_data(&[0.5]);
    layers.add_group(inner.finish());
    file.add_group(layers.finish());
    let (_folder, path) = saved(file);
    let found = |group| -> Vec<(String, Vec<u64>, Vec<f32>)> {
        let arrays = float_arrays(&path, group).unwrap().into_iter();
        let read = |mut array: Array| {
            let values = array.read(usize::MAX).unwrap();
            (array.key().to_owned(), array.shape().to_vec(), values)
        };
        arrays.map(read).collect()
    };
    let bias = ("layers/bias:0".to_owned(), vec![1], vec![0.5]);
    let kernel = ("layers/inner/kernel:0".to_owned(), vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    assert_eq!(found("layers"), [bias.clone(), kernel.clone()]);
    let elsewhere = ("elsewhere".to_owned(), vec![1], vec![1.0]);
    assert_eq!(found("none"), [elsewhere, bias, kernel]);
}

#[test]
fn a_missing_file_and_a_folder_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let kind = |path: &Path| read_array(path, "x").err().unwrap().kind();
    assert_eq!(kind(&folder.path().join("none.h5")), crate::error::ErrorKind::NotFound);
    assert_eq!(kind(folder.path()), crate::error::ErrorKind::Invalid);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_never_ends_the_process(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = binary_file().finish().unwrap();
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(end) = end {
            let end = end.index(bytes.len());
            bytes.truncate(end);
        }
        let (_folder, path) = saved_bytes(&bytes);
        drop(read(&path, &Hdf5Layout::Binary, TaskName::ChipSeq));
        drop(read_array(&path, "y_test").and_then(|mut array| array.read(100)));
        drop(float_arrays(&path, "none"));
    }

    #[test]
    fn arbitrary_bytes_after_the_signature_never_end_the_process(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (_folder, path) = saved_bytes(&[b"\x89HDF\r\n\x1a\n", bytes.as_slice()].concat());
        prop_assert!(read(&path, &Hdf5Layout::Binary, TaskName::ChipSeq).is_err());
    }
}

/// A file of the user's own: one-hot (N, L, 4), two targets with a hole, folds, names of splits and ids.
fn own_file() -> FileBuilder {
    let mut file = FileBuilder::new();
    let onehot = onehot(&["ACG", "TAC", "GTA", "CGT"], None);
    file.create_dataset("X").with_f32_data(&onehot).with_shape(&[4, 3, 4]);
    let targets = [0.0, 1.0, f32::NAN, 1.0, 1.0, f32::NAN, 0.0, 0.0];
    file.create_dataset("y").with_f32_data(&targets).with_shape(&[4, 2]);
    file.create_dataset("Fold").with_i64_data(&[1, 9, 10, 2]);
    file.create_dataset("set").with_vlen_strings(&["train", "val", "test", "train"]);
    file.create_dataset("names").with_vlen_strings(&["a", "b", "c", "d"]);
    file
}

fn keys(missing: bool) -> Hdf5Keys {
    let text = |key: &str| Some(key.to_owned());
    let (sequence, targets, split) = ("x".to_owned(), text("Y"), text("set"));
    Hdf5Keys { sequence, targets, split, id: text("names"), missing }
}

#[test]
fn keys_of_the_users_own_become_examples_whatever_their_case() {
    let (_kept, path) = saved(own_file());
    let read = |keys: Hdf5Keys, task| {
        let mut reader = Hdf5Reader::open(&path, &Hdf5Layout::Keys(keys), task, None)?;
        reader.read(10)
    };
    for task in [TaskName::Classification, TaskName::Regression] {
        let examples = read(keys(true), task).unwrap();
        let ids: Vec<&str> = examples.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "d"]);
        assert_eq!(examples[1].sequences[0].as_str(), "TAC");
        assert_eq!(examples[1].split, Some(Split::Valid));
        assert!(examples[1].targets[0].is_nan() && examples[1].targets[1] == 1.0);
        let error = read(keys(false), task).unwrap_err().chain();
        assert!(error.contains("y row 1") && error.contains("NaN"), "{error}");
    }
    let wrong = Hdf5Keys { split: Some("fold".to_owned()), ..keys(true) };
    let error = read(wrong, TaskName::Regression).unwrap_err().chain();
    assert!(error.contains("Fold row 0: expected train, valid or test"), "{error}");
    let absent = Hdf5Keys { targets: Some("labels".to_owned()), ..keys(true) };
    let error = read(absent, TaskName::Regression).unwrap_err().chain();
    assert!(error.contains("a dataset labels") && error.contains("keys: X, y, Fold"), "{error}");
}

#[test]
fn a_rule_reads_folds_of_another_key() {
    use crate::split_rule::{SplitRule, SplitValues};
    let (_kept, path) = saved(own_file());
    let layout = Hdf5Layout::Keys(Hdf5Keys { split: None, ..keys(true) });
    let source = DatasetSource::Hdf5 { path, layout, length: None };
    let values = SplitValues {
        valid: vec!["9".to_owned()],
        test: vec!["10".to_owned()],
        ..SplitValues::default()
    };
    let rule = SplitRule::Column { column: "fold".to_owned(), values };
    let source = DatasetSource::Divided { source: Box::new(source), rule };
    let examples = crate::readers::open(&source, TaskName::Regression).unwrap().read(9).unwrap();
    let splits: Vec<_> = examples.iter().filter_map(|example| example.split).collect();
    assert_eq!(splits, [Split::Train, Split::Valid, Split::Test, Split::Train]);
}

#[test]
fn a_key_for_each_split_gives_its_split() {
    let mut file = FileBuilder::new();
    for (name, letters) in
        [("train", ["ACG", "AAA"]), ("val", ["CCC", "CC"]), ("test", ["G", "GG"])]
    {
        file.create_dataset(&format!("seq_{name}")).with_vlen_strings(&letters);
        file.create_dataset(&format!("y_{name}")).with_f64_data(&[0.5, 1.5]);
    }
    let (_kept, path) = saved(file);
    let keys = Hdf5Keys {
        sequence: "seq_{split}".to_owned(),
        targets: Some("y_{split}".to_owned()),
        ..Hdf5Keys::default()
    };
    let layout = Hdf5Layout::Keys(keys);
    let mut reader = Hdf5Reader::open(&path, &layout, TaskName::Regression, None).unwrap();
    let examples = reader.read(10).unwrap();
    let told: Vec<_> = examples.iter().map(|e| (e.id.as_str(), e.split.unwrap())).collect();
    assert_eq!((told[0], told[5]), (("train-0", Split::Train), ("test-1", Split::Test)));
    assert_eq!((examples[3].sequences[0].as_str(), examples[3].targets[0]), ("CC", 1.5));
    // Texts may differ in their length, but not if one is asked for.
    let mut asked = Hdf5Reader::open(&path, &layout, TaskName::Regression, Some(3)).unwrap();
    let error = message(asked.read(10));
    assert_eq!(error, "seq_val row 1: expected a sequence of length 3, found length 2");
}
