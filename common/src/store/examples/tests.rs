use super::*;
use crate::dna::{DnaSequence, Interval, Strand};
use crate::example::Split;

fn schema() -> ExampleSchema {
    ExampleSchema {
        sequences: vec!["left".to_owned(), "right".to_owned()],
        targets: vec!["brain".to_owned(), "start".to_owned()],
        has_intervals: true,
        has_splits: true,
    }
}

fn example(row: u64) -> Example {
    let interval = Interval {
        chromosome: "chrX".to_owned(),
        start: row,
        end: row + 4,
        strand: if row.is_multiple_of(2) { Strand::Forward } else { Strand::Reverse },
    };
    Example {
        id: format!("id {row}"),
        sequences: vec![
            DnaSequence::new("ACGT").unwrap(),
            DnaSequence::new("N".repeat(row as usize % 3)).unwrap(),
        ],
        interval: (!row.is_multiple_of(3)).then_some(interval),
        split: Some(Split::ALL[row as usize % 3]),
        targets: vec![row as f32, -0.5],
    }
}

fn writer(store: &Store, attempt: &str) -> ExampleWriter {
    let who = (Attempt::new(attempt), WorkerId::new("w"));
    ExampleWriter::new(store, &DatasetId::new("d"), "name", schema(), who).with_rows_per_part(4)
}

async fn written(store: &Store, attempt: &str) -> Outcome<DatasetManifest> {
    let mut writer = writer(store, attempt);
    for row in 0..10 {
        writer.push(example(row)).await.unwrap();
    }
    writer.commit(BTreeMap::new()).await.unwrap()
}

#[tokio::test]
async fn any_range_of_examples_is_read_back_across_parts() {
    let store = Store::memory();
    assert!(written(&store, "a").await.is_won());
    let manifest = read_manifest(&store, &DatasetId::new("d")).await.unwrap();
    assert_eq!(manifest.parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(manifest.split_rows.values().copied().collect::<Vec<_>>(), [3, 4, 3]);
    for (start, end) in [(0, 10), (3, 9), (4, 8), (9, 10), (5, 5)] {
        let examples = read_examples(&store, &manifest, start, end).await.unwrap();
        assert_eq!(examples, (start..end).map(example).collect::<Vec<_>>(), "{start}..{end}");
    }
    assert!(read_examples(&store, &manifest, 0, 11).await.is_err());
}

#[tokio::test]
async fn a_target_that_is_not_measured_stays_nan() {
    let store = Store::memory();
    let mut writer = writer(&store, "a");
    let mut unmeasured = example(1);
    unmeasured.targets[0] = f32::NAN;
    writer.push(unmeasured).await.unwrap();
    let manifest = writer.commit(BTreeMap::new()).await.unwrap().into_record();
    let read = read_examples(&store, &manifest, 0, 1).await.unwrap();
    assert!(read[0].targets[0].is_nan() && read[0].targets[1] == -0.5);
}

#[tokio::test]
async fn the_second_attempt_loses_and_leaves_no_parts() {
    let store = Store::memory();
    assert!(written(&store, "a").await.is_won());
    assert!(!written(&store, "b").await.is_won());
    let left = store.list("examples/d/data").await.unwrap();
    assert!(left.len() == 3 && left.iter().all(|entry| entry.path.contains(".a.")));
}

#[tokio::test]
async fn an_example_that_does_not_fit_is_named() {
    let store = Store::memory();
    let mut short = example(7);
    short.targets.pop();
    let error = writer(&store, "a").push(short).await.unwrap_err();
    assert_eq!(error.to_string(), "example id 7: expected 2 targets, found 1");
}

#[test]
fn truncated_parts_are_refused_without_panic() {
    let examples: Vec<Example> = (0..9).map(example).collect();
    let bytes = parquet::encode(&schema(), &examples).unwrap();
    for cut in 0..bytes.len() {
        assert!(parquet::decode(&schema(), bytes.slice(..cut), (0, 9), "part").is_err());
    }
}

proptest::proptest! {
    #[test]
    fn flipped_bits_of_a_part_never_panic(at in 0_usize..4_000, bit in 0_u8..8) {
        let examples: Vec<Example> = (0..9).map(example).collect();
        let mut bytes = parquet::encode(&schema(), &examples).unwrap().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        drop(parquet::decode(&schema(), bytes.into(), (0, 9), "part"));
    }
}
