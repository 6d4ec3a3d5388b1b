//! `embed` from every kind of source, and `export` of what it wrote.

use glmeval_tests::glmeval::{glmeval, model, succeeds};
use glmeval_tests::jobs::Draw;
use std::path::Path;

/// Shape of an npy file of version 1, and its values.
fn read_npy(path: &Path) -> ((usize, usize), Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let (rows, width) = shape.split_once(", ").unwrap();
    let shape = (rows.parse().unwrap(), width.trim_end_matches(',').parse().unwrap());
    let values = bytes[end..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (shape, values.collect())
}

/// Embeds a source and exports it; checks the number of rows and returns the values.
async fn embedded(folder: &Path, name: &str, source: &[&str], rows: usize) -> Vec<f32> {
    let model = model().display().to_string();
    let line = [&["embed", "--model", &model, "--out", name], source].concat();
    let printed = succeeds(folder, &line).await;
    assert!(printed.starts_with(&format!("{name}/embeddings/")), "{printed}");
    assert_eq!(succeeds(folder, &line).await, printed, "again = resume");
    let (npy, parquet) = (format!("{name}.npy"), format!("{name}.parquet"));
    let export = ["export", printed.trim(), "--format"];
    assert_eq!(
        succeeds(folder, &[&export, &["npy", "--out", &npy][..]].concat()).await.trim(),
        npy
    );
    succeeds(folder, &[&export, &["parquet", "--out", &parquet][..]].concat()).await;
    let bytes = std::fs::read(folder.join(parquet)).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let (shape, values) = read_npy(&folder.join(npy));
    assert_eq!((shape, values.len()), ((rows, 64), rows * 64), "{name}");
    assert!(values.iter().all(|value| value.is_finite()), "{name}");
    values
}

#[tokio::test]
async fn one_sequence_has_the_same_bits_from_every_source() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let genome = Draw::new(3).dna(600);
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    write("genome.fa", format!(">chr1\n{genome}\n"));
    let (first, second) = (&genome[100..200], &genome[200..300]);
    write("two.fa", format!(">a\n{first}\n>b\n{second}\n"));
    write("two.bed", "chr1\t100\t200\nchr1\t200\t300\n".to_owned());
    write("two.tsv", format!("name\tdna\na\t{first}\nb\t{second}\n"));
    let peak = |start: u64, end| format!("chr1\t{start}\t{end}\tp\t1\t.\t1\t1\t1\t20\n");
    write("two.narrowPeak", peak(130, 170) + &peak(230, 270));
    let genome = ["--genome", "genome.fa"];
    let fasta = embedded(folder, "fasta", &["--fasta", "two.fa"], 2).await;
    let bed = [&["--bed", "two.bed"], &genome[..]].concat();
    assert_eq!(embedded(folder, "bed", &bed, 2).await, fasta);
    let peaks = [&["--narrowpeak", "two.narrowPeak", "--window", "100"], &genome[..]].concat();
    assert_eq!(embedded(folder, "peaks", &peaks, 2).await, fasta);
    let tsv = ["--tsv", "two.tsv:dna", "--id-column", "name"];
    assert_eq!(embedded(folder, "tsv", &tsv, 2).await, fasta);
    let windows = [&["--window", "100"], &genome[..]].concat();
    assert_eq!(embedded(folder, "windows", &windows, 6).await[64..3 * 64], fasta);
}

#[tokio::test]
async fn windows_of_undefined_letters_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let mut draw = Draw::new(4);
    let genome = draw.dna(300) + &"N".repeat(400) + &draw.dna(330);
    std::fs::write(folder.path().join("genome.fa"), format!(">chr1\n{genome}\n")).unwrap();
    let source = ["--genome", "genome.fa", "--window", "100", "--stride", "100"];
    embedded(folder.path(), "windows", &[&source[..], &["--shard-rows", "4"]].concat(), 6).await;
}

#[tokio::test]
async fn an_hdf5_key_is_embedded() {
    let folder = tempfile::tempdir().unwrap();
    let examples = model().parent().unwrap().parent().unwrap().join("data/REST_200.h5");
    let source = format!("{}:x_valid", examples.display());
    let fewer = ["--hdf5", &source, "--layer", "1"];
    embedded(folder.path(), "hdf5", &fewer, 1293).await;
}

#[tokio::test]
async fn an_export_asks_which_tensor_where_there_are_several() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    std::fs::write(folder.join("a.fa"), ">a\nACGTACGTACGTACGT\n>b\nACGTAC\n").unwrap();
    let embed = ["embed", "--model", &model, "--fasta", "a.fa", "--out", "out"];
    let several = ["--layer", "1", "--layer", "3", "--pool", "cls", "--pool", "full"];
    succeeds(folder, &[&embed, &several[..]].concat()).await;
    let export = ["export", "out", "--format", "npy", "--out", "a.npy"];
    let ended = glmeval(folder, &export).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("--layer: expected one of 1, 3"), "{ended:?}");
    assert!(!folder.join("a.npy").exists());
    let full = [&export[..], &["--layer", "3", "--pool", "full"]].concat();
    let ended = glmeval(folder, &full).await;
    let ((rows, width), _) = read_npy(&folder.join("a.npy"));
    assert_eq!((rows > 4, width), (true, 64), "token rows of both sequences: {rows}");
    assert!(ended.stderr.contains(&format!("{rows} rows of layer 3 full")), "{ended:?}");
}

/// Takes back the commit of the last shard of the one set of `store`.
fn forget_last_shard(store: &Path) {
    let set = std::fs::read_dir(store.join("embeddings")).unwrap().next().unwrap().unwrap();
    let commits = std::fs::read_dir(set.path().join("commit")).unwrap();
    let last = commits.map(|entry| entry.unwrap().path()).max().unwrap();
    std::fs::remove_file(last).unwrap();
}

#[tokio::test]
async fn an_unfinished_set_is_not_exported_as_if_it_were_whole() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    let genome = Draw::new(5).dna(600);
    let records = (0..6).map(|n| format!(">r{n}\n{}\n", &genome[100 * n..100 * (n + 1)]));
    std::fs::write(folder.join("r.fa"), records.collect::<String>()).unwrap();
    std::fs::write(folder.join("genome.fa"), format!(">chr1\n{genome}\n")).unwrap();
    let windows = &["--genome", "genome.fa", "--window", "100", "--stride", "100"][..];
    for (store, source) in [("records", &["--fasta", "r.fa"][..]), ("windows", windows)] {
        let embed = ["embed", "--model", &model, "--out", store, "--shard-rows", "2"];
        succeeds(folder, &[&embed, source].concat()).await;
        forget_last_shard(&folder.join(store));
        for format in ["npy", "parquet", "h5ad"] {
            let export = ["export", store, "--format", format, "--out", "file"];
            let ended = glmeval(folder, &export).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
            assert!(ended.stderr.contains("no shard for examples 4-6"), "{ended:?}");
        }
    }
    assert!(!folder.join("file").exists());
    // Without its plan nothing says how many windows there are.
    std::fs::remove_dir_all(folder.join("windows/jobs")).unwrap();
    let export = ["export", "windows", "--format", "npy", "--out", "x.npy"];
    let ended = glmeval(folder, &export).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("does not say how many examples"), "{ended:?}");
    assert_eq!(read_npy(&folder.join("x.npy")).0, (4, 64));
}

#[tokio::test]
async fn a_shard_whose_data_was_deleted_is_made_again_by_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = model().display().to_string();
    let genome = Draw::new(6).dna(600);
    let records = (0..6).map(|n| format!(">r{n}\n{}\n", &genome[100 * n..100 * (n + 1)]));
    std::fs::write(folder.join("r.fa"), records.collect::<String>()).unwrap();
    let embed =
        ["embed", "--model", &model, "--fasta", "r.fa", "--shard-rows", "2", "--out", "out"];
    let set = succeeds(folder, &embed).await;
    let exported = async || {
        succeeds(folder, &["export", "out", "--format", "npy", "--out", "x.npy"]).await;
        read_npy(&folder.join("x.npy"))
    };
    let whole = exported().await;
    let listed = std::fs::read_dir(folder.join(set.trim()).join("data")).unwrap();
    let mut shards: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    shards.sort();
    assert_eq!(shards.len(), 3);
    std::fs::remove_file(&shards[1]).unwrap();
    let ended = glmeval(folder, &embed).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), set.as_str()), "{ended:?}");
    assert!(ended.stderr.contains("the first that of examples 2-4"), "{ended:?}");
    assert_eq!(exported().await, whole);
    assert!(shards[0].exists() && !shards[1].exists(), "made under a name of its own");
}

#[tokio::test]
async fn an_export_makes_no_store_and_reads_none_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("r.fa"), ">a\nACGT\n").unwrap();
    for (store, expected) in [("typo", "no such folder"), ("r.fa", "found a file")] {
        let ended = glmeval(folder, &["export", store, "--format", "npy", "--out", "x.npy"]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
    }
    assert!(!folder.join("typo").exists());
}
