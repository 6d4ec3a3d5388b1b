use super::*;
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor, narrow};
use glmeval_common::example::ExampleSchema;
use glmeval_common::ids::{Attempt, DatasetId, Generation, ModelId, WorkerId};
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::store::embeddings::{ShardAttempt, commit_shard};
use std::collections::BTreeMap;

/// Three examples of a left and a right window.
fn manifest() -> DatasetManifest {
    DatasetManifest {
        version: FORMAT_VERSION,
        id: DatasetId::new("d"),
        name: "exons".to_owned(),
        schema: ExampleSchema {
            sequences: vec!["left".to_owned(), "right".to_owned()],
            ..ExampleSchema::sequences_only()
        },
        rows: 3,
        parts: Vec::new(),
        split_rows: BTreeMap::new(),
        attempt: Attempt::new("a"),
        worker: WorkerId::new("w"),
        provenance: BTreeMap::new(),
    }
}

/// Examples `start..end`, sequence s of example e with `tokens[e][s]` tokens; the states of its token
/// t are 100 e + 10 s + t, then their negative.
fn shard(start: usize, end: usize, tokens: [[u64; 2]; 3]) -> EmbeddingShard {
    let (mut pooled, mut full, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
    for (example, counts) in (start..end).zip(&tokens[start..end]) {
        for (sequence, &count) in counts.iter().enumerate() {
            let first = (100 * example + 10 * sequence) as f32;
            pooled.extend([first, -first]);
            full.extend((0..count).flat_map(|token| [first + token as f32, -first - token as f32]));
            offsets.push(offsets.last().unwrap() + count);
        }
    }
    let second: Vec<f32> = pooled.iter().map(|value| value + 0.5).collect();
    let tensor = |pooling, rows, values: &[f32]| {
        let values = narrow(values, 2, StoredDtype::F32, &|row| row.to_string()).unwrap();
        ShardTensor { layer: 1, pooling, rows, width: 2, values: values.into() }
    };
    EmbeddingShard {
        identity: ShardIdentity {
            set: SetId::new("s"),
            model: ModelId::new("m"),
            dataset: DatasetId::new("d"),
            dtype: StoredDtype::F32,
            numeric_class: "f32.cpu.1".to_owned(),
            columns: Vec::new(),
        },
        start: start as u64,
        end: end as u64,
        row_ids: (start..end).map(|example| format!("e{example}")).collect(),
        example_indices: None,
        sequences: 2,
        tensors: vec![
            tensor(Pooling::Mean, (end - start) as u64, &pooled),
            tensor(Pooling::AfterCls, (end - start) as u64, &second),
            tensor(Pooling::Full, *offsets.last().unwrap(), &full),
        ],
        token_offsets: Some(offsets),
    }
}

/// Every row, and the extents of a side, read from shards of two and one examples.
async fn read_rows(
    poolings: [Option<Pooling>; 2],
    tokens: [[u64; 2]; 3],
) -> Result<(Vec<Vec<f32>>, Vec<Extent>)> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    for (start, end) in [(0, 2), (2, 3)] {
        let attempt = ShardAttempt {
            set: SetId::new("s"),
            start: start as u64,
            end: end as u64,
            rows: (end - start) as u64,
            attempt: Attempt::new("a"),
            worker: WorkerId::new("w"),
            generation: Generation { epoch: 1, counter: 1 },
            seconds: 1.0,
        };
        let bytes = shard(start, end, tokens).encode().unwrap();
        commit_shard(&store, &attempt, bytes).await.unwrap();
    }
    let (manifest, set) = (manifest(), SetId::new("s"));
    let builder = Builder::new(&manifest, 1 << 20);
    let mut measured = Measured::new(0);
    measured.ids = ["e0", "e1", "e2"].map(str::to_owned).into();
    measured.splits = vec![Some(Split::Train), Some(Split::Valid), None];
    let tensors = poolings.map(|pooling| pooling.map(|pooling| (1, pooling)));
    let builder = embeddings(&store, (&set, tensors), builder, &measured).await?;
    let (cache, sides) = builder.finish(poolings[0] == Some(Pooling::Full))?;
    let read = |row| {
        let mut values = vec![0.0; cache.row_values()];
        cache.read(row, &mut Vec::new(), &mut values).unwrap();
        values
    };
    Ok(((0..cache.rows()).map(read).collect(), sides))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn windows_of_an_example_stand_one_after_the_other_in_a_row() {
    let (rows, sides) = read_rows([Some(Pooling::Mean), None], [[2, 2]; 3]).await.unwrap();
    assert_eq!(sides, [Extent::Vector { channels: 2 }; 2]);
    assert_eq!(rows[2], [200.0, -200.0, 210.0, -210.0]);
    let (rows, sides) = read_rows([Some(Pooling::Full), None], [[2, 2]; 3]).await.unwrap();
    assert_eq!(sides, [Extent::Sequence { length: 2, channels: 2 }; 2]);
    assert_eq!(rows[1], [100.0, -100.0, 101.0, -101.0, 110.0, -110.0, 111.0, -111.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_window_of_another_length_is_refused_with_its_example() {
    let uneven = [[2, 2], [3, 1], [2, 2]];
    let error = read_rows([Some(Pooling::Full), None], uneven).await.unwrap_err().to_string();
    let expected = "exons: example e1: expected 2 tokens as in the first sequence";
    assert!(error.contains(expected) && error.ends_with("found 3"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn examples_of_valid_have_another_pooling_where_the_study_took_one() {
    let poolings = [Some(Pooling::Mean), Some(Pooling::AfterCls)];
    let (rows, _) = read_rows(poolings, [[2, 2]; 3]).await.unwrap();
    assert_eq!(rows[0], [0.0, 0.0, 10.0, -10.0], "train");
    assert_eq!(rows[1], [100.5, -99.5, 110.5, -109.5], "valid");
    assert_eq!(rows[2], [200.0, -200.0, 210.0, -210.0], "no split");
}
