use super::*;
use crate::error::ErrorKind;
use proptest::prelude::*;

fn identity(dtype: StoredDtype) -> ShardIdentity {
    ShardIdentity {
        set: SetId::new("s"),
        model: ModelId::new("m"),
        dataset: DatasetId::new("d"),
        dtype,
        numeric_class: "f32.cpu.1".to_owned(),
        columns: Vec::new(),
    }
}

fn tensor(layer: u32, pooling: Pooling, rows: usize, dtype: StoredDtype) -> ShardTensor {
    let values: Vec<f32> = (0..rows * 2).map(|i| i as f32 + f32::from(layer as u8)).collect();
    let values = narrow(&values, 2, dtype, &|row| row.to_string()).unwrap().into();
    ShardTensor { layer, pooling, rows: rows as u64, width: 2, values }
}

/// Examples 10..13 with 1, 0 and 3 tokens.
fn shard(dtype: StoredDtype) -> EmbeddingShard {
    EmbeddingShard {
        identity: identity(dtype),
        start: 10,
        end: 13,
        row_ids: vec!["a \"quoted\" id".to_owned(), "b".to_owned(), "ä".to_owned()],
        example_indices: None,
        sequences: 1,
        tensors: vec![
            tensor(2, Pooling::Mean, 3, dtype),
            tensor(2, Pooling::Full, 4, dtype),
            tensor(12, Pooling::Cls, 3, dtype),
        ],
        token_offsets: Some(vec![0, 1, 1, 4]),
    }
}

#[test]
fn a_shard_is_read_back_and_its_bytes_do_not_depend_on_tensor_order() {
    for dtype in [StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16] {
        let mut shard = shard(dtype);
        let bytes = shard.encode().unwrap();
        assert_eq!(EmbeddingShard::decode(&bytes, "x").unwrap(), shard_sorted(&shard));
        shard.tensors.reverse();
        assert_eq!(shard.encode().unwrap(), bytes);
    }
}

fn shard_sorted(shard: &EmbeddingShard) -> EmbeddingShard {
    let mut sorted = shard.clone();
    sorted.tensors.sort_by_key(|t| (t.layer, t.pooling));
    sorted
}

#[test]
fn rows_of_pooled_and_full_tensors_are_taken_by_example() {
    let shard = shard(StoredDtype::F32);
    let rows = shard.rows_of(11, 13);
    assert_eq!(rows, 1..3);
    let pooled = shard.values_f32(2, Pooling::Mean, rows.clone()).unwrap();
    assert_eq!(pooled, [4.0, 5.0, 6.0, 7.0]);
    let full = shard.values_f32(2, Pooling::Full, rows).unwrap();
    assert_eq!(full, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert!(shard.values_f32(2, Pooling::Mean, 2..9).is_err());
    let absent = shard.values_f32(3, Pooling::Mean, 0..1).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

/// Examples 10 and 11 of two sequences each, with 1, 2, 0 and 1 tokens.
fn paired_shard() -> EmbeddingShard {
    let dtype = StoredDtype::F32;
    let mut pooled = tensor(1, Pooling::Cls, 4, dtype);
    pooled.rows = 2;
    EmbeddingShard {
        end: 12,
        row_ids: vec!["a".to_owned(), "b".to_owned()],
        sequences: 2,
        tensors: vec![pooled, tensor(1, Pooling::Full, 4, dtype)],
        token_offsets: Some(vec![0, 1, 3, 3, 4]),
        ..shard(dtype)
    }
}

#[test]
fn examples_of_two_sequences_are_read_back_side_by_side() {
    let shard = paired_shard();
    let bytes = shard.encode().unwrap();
    let header = String::from_utf8_lossy(&bytes);
    assert!(header.contains(r#""shape":[2,2,2]"#), "{header}");
    assert!(header.contains(r#""sequences":"2""#), "{header}");
    assert_eq!(EmbeddingShard::decode(&bytes, "x").unwrap(), shard);
    let second = shard.values_f32(1, Pooling::Cls, 1..2).unwrap();
    assert_eq!(second, [5.0, 6.0, 7.0, 8.0]);
    assert_eq!(shard.values_f32(1, Pooling::Full, 1..2).unwrap(), [7.0, 8.0]);
    assert_eq!(shard.values_f32(1, Pooling::Full, 0..1).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(shard.values_f32(1, Pooling::Cls, 1..3).is_err());
}

/// Scores of three variants in two columns.
fn scores() -> EmbeddingShard {
    let mut scores = tensor(4, Pooling::Effect, 6, StoredDtype::F32);
    (scores.rows, scores.width) = (3, 2);
    let mut shard = EmbeddingShard {
        end: 13,
        row_ids: ["a", "b", "c"].map(str::to_owned).to_vec(),
        example_indices: None,
        sequences: 1,
        token_offsets: None,
        ..shard(StoredDtype::F32)
    };
    shard.identity.columns = vec!["one_minus_cos".to_owned(), "cos".to_owned()];
    let values = (1..=6).flat_map(|value| (value as f32).to_le_bytes()).collect::<Vec<_>>();
    shard.tensors = vec![ShardTensor { values: values.into(), ..scores }];
    shard
}

#[test]
fn columns_of_scores_are_named_and_read_back() {
    let shard = scores();
    let bytes = shard.encode().unwrap();
    let header = String::from_utf8_lossy(&bytes);
    assert!(header.contains("layer_4.effect") && header.contains("one_minus_cos"), "{header}");
    assert_eq!(EmbeddingShard::decode(&bytes, "x").unwrap(), shard);
    assert_eq!(shard.values_f32(4, Pooling::Effect, 1..3).unwrap(), [3.0, 4.0, 5.0, 6.0]);
    let mut unnamed = scores();
    unnamed.identity.columns.pop();
    assert!(unnamed.encode().is_err());
    let mut of_states = paired_shard();
    of_states.identity.columns = vec!["cos".to_owned()];
    assert!(of_states.encode().is_err());
}

#[test]
fn a_shard_whose_tensors_have_another_number_of_sequences_is_refused() {
    let breaks: [fn(&mut EmbeddingShard); 5] = [
        |s| s.sequences = 0,
        |s| s.sequences = 1,
        |s| s.sequences = 4,
        |s| s.token_offsets = Some(vec![0, 1, 4]),
        |s| s.tensors[0].rows = 4,
    ];
    for (index, damage) in breaks.iter().enumerate() {
        let mut shard = paired_shard();
        damage(&mut shard);
        assert!(shard.encode().is_err(), "case {index}");
    }
    let mut bytes = paired_shard().encode().unwrap().to_vec();
    let place = bytes.windows(14).position(|w| w == br#"sequences":"2""#).unwrap();
    bytes[place + 12] = b'1';
    let error = EmbeddingShard::decode(&bytes.into(), "x").unwrap_err().to_string();
    assert!(error.contains("sequences: expected a whole number above 1"), "{error}");
}

#[test]
fn a_shard_with_skipped_examples_finds_rows_by_number() {
    let mut shard = shard(StoredDtype::F32);
    (shard.end, shard.example_indices) = (20, Some(vec![10, 14, 19]));
    let decoded = EmbeddingShard::decode(&shard.encode().unwrap(), "x").unwrap();
    assert_eq!(decoded.rows_of(11, 19), 1..2);
    assert_eq!(decoded.rows_of(15, 15), 2..2);
}

#[test]
fn contradictions_are_refused_when_written() {
    let breaks: [fn(&mut EmbeddingShard); 8] = [
        |s| s.end = 14,
        |s| s.start = 13,
        |s| s.token_offsets = None,
        |s| s.token_offsets = Some(vec![0, 2, 1, 4]),
        |s| s.token_offsets = Some(vec![0, 1, 1, 5]),
        |s| s.example_indices = Some(vec![10, 10, 11]),
        |s| s.tensors.push(s.tensors[0].clone()),
        |s| s.tensors[0].width = 3,
    ];
    for (index, damage) in breaks.iter().enumerate() {
        let mut shard = shard(StoredDtype::F16);
        damage(&mut shard);
        assert!(shard.encode().is_err(), "case {index}");
    }
}

#[test]
fn a_newer_format_version_is_refused() {
    let bytes = shard(StoredDtype::F32).encode().unwrap();
    let found = bytes.windows(20).position(|w| w == b"format_version\":\"1\",").unwrap();
    let mut newer = bytes.to_vec();
    newer[found + 17] = b'2';
    let error = EmbeddingShard::decode(&newer.into(), "x.safetensors").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("written by a newer glmeval"), "{error}");
}

#[test]
fn f16_and_bf16_round_to_nearest_even() {
    let half = |value: f32, dtype| {
        widen(&narrow(&[value], 1, dtype, &|_| String::new()).unwrap(), dtype)[0]
    };
    assert_eq!(half(2049.0, StoredDtype::F16), 2048.0);
    assert_eq!(half(2051.0, StoredDtype::F16), 2052.0);
    assert_eq!(half(65_519.0, StoredDtype::F16), 65_504.0);
    assert_eq!(half(257.0, StoredDtype::Bf16), 256.0);
    assert_eq!(half(259.0, StoredDtype::Bf16), 260.0);
    assert_eq!(half(5.960_464_5e-8, StoredDtype::F16), 5.960_464_5e-8);
}

#[test]
fn a_value_that_does_not_fit_names_row_column_and_value() {
    let narrowed = |values: &[f32], dtype| {
        narrow(values, 2, dtype, &|row| format!("chr1:{row}")).unwrap_err().to_string()
    };
    assert_eq!(
        narrowed(&[1.0, 2.0, 3.0, 65_520.0], StoredDtype::F16),
        "row chr1:1, column 1: expected a value that f16 can hold, found 65520"
    );
    assert!(narrowed(&[f32::MAX], StoredDtype::Bf16).contains("found 3402823"));
    assert!(narrowed(&[f32::NAN], StoredDtype::F32).contains("found NaN"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(EmbeddingShard::decode(&bytes.into(), "x").is_err());
    }

    #[test]
    fn arbitrary_headers_never_panic(
        shape in prop::collection::vec(any::<u64>(), 0..3),
        to in any::<u64>(),
    ) {
        let header = serde_json::json!({
            "__metadata__": {"format_version": "1"},
            "layer_1.cls": {"dtype": "F32", "shape": shape, "data_offsets": [0, to]},
        });
        let mut bytes = (header.to_string().len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.to_string().as_bytes());
        prop_assert!(EmbeddingShard::decode(&bytes.into(), "x").is_err());
    }

    #[test]
    fn truncations_are_refused_and_flips_never_panic(cut in 0_usize..2000, flip in 0_usize..2000) {
        let bytes = shard(StoredDtype::F16).encode().unwrap();
        if cut < bytes.len() {
            prop_assert!(EmbeddingShard::decode(&bytes.slice(..cut), "x").is_err());
        }
        let mut damaged = bytes.to_vec();
        if let Some(byte) = damaged.get_mut(flip) {
            *byte ^= 1 << (flip % 8);
        }
        drop(EmbeddingShard::decode(&damaged.into(), "x"));
    }
}
