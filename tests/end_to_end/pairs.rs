//! Examples of two sequences: embedded, read back and exported.

use glmeval_common::representation::Pooling;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{Rows, read_rows};
use glmeval_tests::glmeval::{model, succeeds};
use glmeval_tests::golden;
use std::path::Path;

/// Examples of the fixture, three of each split.
const EXAMPLES: u64 = 9;

fn job(dataset: &str, representation: &str) -> String {
    let model = model().display().to_string();
    format!(
        "name = \"pairs\"\nshard_rows = 4\n[[model]]\nname = \"NT\"\npath = {model:?}\n\
         [[representation]]\nmodel = \"NT\"\nlayers = [2]\n{representation}\
         [[dataset]]\nname = \"exons\"\n{dataset}"
    )
}

/// Runs a job and reads layer 2 of its one set.
async fn embedded(folder: &Path, name: &str, job: &str, pooling: Pooling) -> (String, Rows) {
    std::fs::write(folder.join("job.toml"), job).unwrap();
    succeeds(folder, &["run", "job.toml", "--store", name]).await;
    let store = Store::open(folder.join(name).to_str().unwrap()).unwrap();
    let sets = store.list_folders("embeddings").await.unwrap();
    let [set] = sets.as_slice() else { panic!("one set, found {sets:?}") };
    let set = glmeval_common::ids::SetId::new(set);
    let end = glmeval_common::store::embeddings::committed_ranges(&store, &set).await.unwrap();
    let end = end.iter().map(|range| range.1).max().unwrap();
    let rows = read_rows(&store, &set, (2, pooling), (0, end)).await.unwrap();
    (format!("{name}/embeddings/{set}"), rows)
}

/// The windows of the fixture as FASTA: left and right of each exon in turn.
fn windows() -> String {
    let content = golden::json(&golden::root().join("layouts/mtsplice/expected.json"));
    let mut fasta = String::new();
    for split in ["train", "valid", "test"] {
        let part = &content["splits"][split];
        for row in 0..3 {
            for side in ["left", "right"] {
                let letters = part[side][row].as_str().unwrap();
                fasta.push_str(&format!(">{split}-{row}-{side}\n{letters}\n"));
            }
        }
    }
    fasta
}

#[tokio::test]
async fn both_windows_of_an_exon_have_the_bits_they_have_as_examples_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = golden::root().join("layouts/mtsplice/delta_logit.small_contiguous.h5");
    let exons = format!("task = \"splicing\"\nhdf5 = {:?}\n", file.display().to_string());
    std::fs::write(folder.join("windows.fa"), windows()).unwrap();
    for pooling in [Pooling::Mean, Pooling::Full] {
        let representation = format!("pooling = [\"{pooling}\"]\n");
        let of = |dataset: &str| job(dataset, &representation);
        let (set, pairs) =
            embedded(folder, &format!("pairs-{pooling}"), &of(&exons), pooling).await;
        let alone = of("task = \"none\"\nfasta = \"windows.fa\"\n");
        let (_, alone) = embedded(folder, &format!("alone-{pooling}"), &alone, pooling).await;
        assert_eq!((pairs.sequences, pairs.ids.len() as u64), (2, EXAMPLES));
        assert_eq!(pairs.ids[3], "valid-0");
        assert!(pairs.values == alone.values, "{pooling}");
        assert_eq!(pairs.token_counts, alone.token_counts);
        let line = ["export", &set, "--format", "npy", "--out", "x.npy"];
        succeeds(folder, &line).await;
        let bytes = std::fs::read(folder.join("x.npy")).unwrap();
        let header = String::from_utf8_lossy(&bytes[..128]);
        let shape = match pooling {
            Pooling::Full => format!("'shape': ({}, 64)", pairs.values.len() / 64),
            _ => format!("'shape': ({EXAMPLES}, 2, 64)"),
        };
        assert!(header.contains(&shape), "{header}");
        succeeds(folder, &["export", &set, "--format", "parquet", "--out", "x.parquet"]).await;
        let bytes = std::fs::read(folder.join("x.parquet")).unwrap();
        let column = if pooling == Pooling::Full { "sequence" } else { "embedding_right" };
        assert!(bytes.windows(column.len()).any(|part| part == column.as_bytes()), "{column}");
    }
}

#[tokio::test]
async fn networks_read_both_windows_of_an_exon() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = golden::root().join("layouts/mtsplice/delta_logit.small_contiguous.h5");
    let exons = format!("task = \"splicing\"\nhdf5 = {:?}\n", file.display().to_string());
    // A window with undefined letters has more tokens than others, never more nucleotides.
    let mut job = job(&exons, "pooling = [\"cls\", \"full\"]\nfull_rows = \"nucleotides\"\n");
    for kind in ["splicing-cnn", "rep-mlp"] {
        job.push_str(&format!("[[probe]]\nkind = {kind:?}\nrepeats = 1\nepochs = 2\n"));
    }
    std::fs::write(folder.join("job.toml"), job).unwrap();
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    let found = glmeval_tests::results::results(&folder.join("store")).await;
    for (probe, representation) in [("splicing-cnn", "full"), ("rep-mlp", "after-cls")] {
        let is_it = |text: &&String| {
            text.contains(&format!("\"probe\":\"{probe}"))
                && text.contains(&format!("\"representation\":\"{representation}"))
        };
        assert!(found.values().any(|text| is_it(&text)), "{probe}: {found:?}");
    }
}
