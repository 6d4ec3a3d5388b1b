//! `gia`, `scan-motifs` and `logo` as their users meet them: small inputs, files, summaries, refusals.
//!
//! Leaves out: the numbers of whole analyses (golden_importance) and of scans (worker).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_tests::glmeval::{Ended, glmeval, succeeds};
use glmeval_tests::golden;
use glmeval_tests::jobs::Draw;
use serde_json::Value;
use std::path::Path;

/// The network and the wild type of a golden analysis, as files.
fn inputs(folder: &Path) -> (Value, String) {
    let path = golden::fixture("science/gia/motifs.json");
    let description = golden::json(&path);
    let sequence = description["wild_type"].as_str().unwrap();
    std::fs::write(folder.join("top.fa"), format!(">other\nACGT\n>wild\n{sequence}\n")).unwrap();
    (description, path.display().to_string())
}

fn set(row: &Value) -> String {
    let motif = |motif: &Value| format!("{}@{}", motif[0].as_str().unwrap(), motif[1]);
    let motifs: Vec<String> = row["motifs"].as_array().unwrap().iter().map(motif).collect();
    format!("{}={}", row["name"].as_str().unwrap(), motifs.join(","))
}

async fn refused(folder: &Path, arguments: &[&str]) -> Ended {
    let ended = glmeval(folder, arguments).await;
    assert_ne!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended
}

fn near(found: &Value, expected: &Value, tolerance: f64) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= tolerance, "{found} {expected}");
}

#[tokio::test]
async fn sets_of_motifs_are_told_with_importance_and_tests() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (description, probe) = inputs(folder);
    let backgrounds = description["backgrounds"].as_array().unwrap().iter().enumerate();
    let records = backgrounds.map(|(i, text)| format!(">b{i}\n{}\n", text.as_str().unwrap()));
    std::fs::write(folder.join("backgrounds.fa"), records.collect::<String>()).unwrap();
    let rows = description["experiments"].as_array().unwrap();
    let (first, second) = (set(&rows[0]), set(&rows[1]));
    let arguments = [
        "gia",
        "--probe",
        &probe,
        "--fasta",
        "top.fa",
        "--record",
        "wild",
        "--motifs",
        &first,
        "--motifs",
        &second,
        "--backgrounds",
        "backgrounds.fa",
        "--out",
        "gia.tsv",
        "--figure",
        "gia.svg",
        "--format",
        "json",
    ];
    let told: Value = serde_json::from_str(&succeeds(folder, &arguments).await).unwrap();
    let tolerance = description["tolerances"]["prediction_abs"].as_f64().unwrap();
    near(&told["wild_type"], &description["wild_type_prediction"], tolerance);
    near(&told["background_mean"], &description["background_mean"], tolerance);
    for (found, row) in told["experiments"].as_array().unwrap().iter().zip(rows) {
        near(&found["importance"], &row["importance_mean"], tolerance);
        near(&found["importance_sd"], &row["importance_sd_ddof1"], tolerance);
    }
    assert_eq!(told["comparisons"].as_array().unwrap().len(), 1);
    let table = std::fs::read_to_string(folder.join("gia.tsv")).unwrap();
    let count = description["backgrounds"].as_array().unwrap().len();
    assert_eq!(table.lines().count(), 1 + 3 * count);
    let columns = "experiment\tgroup\tbackground\tprediction\tdifference\tsequence\trecord\n";
    assert!(table.starts_with(columns));
    assert!(table.contains(rows[0]["first_sequence"].as_str().unwrap()));
    let figure = std::fs::read_to_string(folder.join("gia.svg")).unwrap();
    assert_eq!(figure.matches("<polygon").count(), 3);
}

#[tokio::test]
async fn scans_spacings_pairs_and_maps_share_one_set_of_shuffles() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (description, probe) = inputs(folder);
    let maps = golden::fixture("science/gia").join(description["arrays"].as_str().unwrap());
    let map = golden::tensors(&maps)["wildtype_map1"].f32();
    // The FASTA's first record is short: NaN stands behind its end.
    let mut rows = vec![f32::NAN; map.len()];
    rows[..4].copy_from_slice(&[1.0; 4]);
    rows.extend(&map);
    write_maps(&folder.join("maps.safetensors"), &rows, map.len());
    let run = |seed: &'static str, out: &'static str| {
        let probe = probe.clone();
        let arguments = [
            "gia",
            "--probe",
            &probe,
            "--fasta",
            "top.fa",
            "--record",
            "wild",
            "--scan",
            "m=ACGT@0..21/10",
            "--spacing",
            "p=ACGT@4,TTT+0+3",
            "--interaction",
            "i=ACGT@4,GGG@9",
            "--maps",
            "maps.safetensors",
            "--shuffles",
            "6",
            "--seed",
            seed,
            "--out",
            out,
        ];
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        async move { glmeval(folder, &arguments).await }
    };
    let told = run("1", "a.csv").await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for name in ["m@0", "m@20", "p+0", "p+3", "i ", "kept map", "kept |map|", "interaction"] {
        assert!(told.stdout.contains(name), "{name}: {}", told.stdout);
    }
    assert_eq!((run("1", "b.csv").await.code, run("2", "c.csv").await.code), (Some(0), Some(0)));
    let [a, b, c] =
        ["a", "b", "c"].map(|name| std::fs::read(folder.join(format!("{name}.csv"))).unwrap());
    assert_eq!(a, b, "the same seed");
    assert_ne!(a, c, "another seed");
    let rows = String::from_utf8(a).unwrap().lines().count();
    assert_eq!(rows, 1 + 6 * (1 + 3 + 2 + 1 + 2));
}

/// A safetensors file of the tensor `maps`.
fn write_maps(path: &Path, values: &[f32], length: usize) {
    write_maps_of(path, values, length, None);
}

/// As [`write_maps`], with the ids of the maps in its header.
fn write_maps_of(path: &Path, values: &[f32], length: usize, ids: Option<&[String]>) {
    let texts = ids.map(|ids| [("ids".to_owned(), serde_json::to_string(ids).unwrap())].into());
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = vec![values.len() / length, length];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes);
    safetensors::serialize_to_file([("maps", view.unwrap())], texts, path).unwrap();
}

#[tokio::test]
async fn what_gia_cannot_do_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_, probe) = inputs(folder);
    let run = async |arguments: &[&str]| {
        let start = ["gia", "--probe", &probe, "--fasta", "top.fa", "--shuffles", "2"];
        refused(folder, &[&start, arguments].concat()).await.stderr
    };
    let wild = ["--record", "wild", "--motifs"];
    let short = run(&["--motifs", "a=A@0", "--out", "a.tsv"]).await;
    assert!(short.contains("top.fa: record other: expected"), "{short}");
    let ending = run(&[&wild[..], &["a=A@0", "--out", "a.xlsx"]].concat()).await;
    assert!(ending.contains("--out: expected a name that ends in .tsv"), "{ending}");
    let behind = run(&[&wild[..], &["a=ACG@9999", "--out", "a.tsv"]].concat()).await;
    assert!(behind.contains("a: ACG@9999: expected a motif that ends within"), "{behind}");
    let twice = run(&[&wild[..], &["a=A@0", "--motifs", "a=C@0", "--out", "a.tsv"]].concat()).await;
    assert!(twice.contains("a name of its own for each experiment, found a"), "{twice}");
    let letters = run(&[&wild[..], &["a=AXG@0", "--out", "a.tsv"]].concat()).await;
    assert!(letters.contains("expected letters of DNA"), "{letters}");
    let record = run(&["--record", "no", "--motifs", "a=A@0", "--out", "a.tsv"]).await;
    assert!(record.contains("expected a sequence called no"), "{record}");
    assert!(!folder.join("a.tsv").exists());
}

/// Two motifs, and ten sequences that have the first at 40.
fn scan_inputs(folder: &Path) {
    let row = |letter: char| {
        let counts = ['A', 'C', 'G', 'T'].map(|base| if base == letter { "0.97" } else { "0.01" });
        format!("{}\n", counts.join(" "))
    };
    let matrix = |id: &str, letters: &str| {
        let rows: String = letters.chars().map(row).collect();
        let width = letters.len();
        format!(
            "MOTIF {id} x{id}\nletter-probability matrix: alength= 4 w= {width} nsites= 50\n{rows}\n"
        )
    };
    let motifs = [matrix("M1", "GATTACAGT"), matrix("M2", "CCGGAAGTGA")].concat();
    std::fs::write(folder.join("m.meme"), format!("MEME version 4\n\n{motifs}")).unwrap();
    let mut draw = Draw::new(5);
    let record = |i: usize| {
        let mut letters = draw.dna(100);
        letters.replace_range(40..49, if i.is_multiple_of(2) { "GATTACAGT" } else { "ACTGTAATC" });
        format!(">s{i}\n{letters}\n")
    };
    std::fs::write(folder.join("s.fa"), (0..10).map(record).collect::<String>()).unwrap();
    let mut maps = vec![0.0_f32; 1_000];
    for row in maps.chunks_mut(100) {
        (row[44], row[45], row[46]) = (2.0, 3.0, 1.0);
    }
    write_maps(&folder.join("maps.safetensors"), &maps, 100);
}

#[tokio::test]
async fn motifs_are_found_in_sequences_and_enriched_at_peaks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scan_inputs(folder);
    let whole = ["scan-motifs", "--motifs", "m.meme", "--fasta", "s.fa", "--out", "hits.tsv"];
    let told = succeeds(folder, &whole).await;
    assert!(told.contains("M1 xM1"), "{told}");
    let hits = std::fs::read_to_string(folder.join("hits.tsv")).unwrap();
    let planted: Vec<Vec<&str>> = hits
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row[9] == "GATTACAGT" && row[1] == "40")
        .collect();
    assert_eq!(planted.len(), 10, "{hits}");
    for (row, fields) in planted.iter().enumerate() {
        let strand = if row.is_multiple_of(2) { "+" } else { "-" };
        assert_eq!(fields[..6], [&format!("s{row}"), "40", "49", strand, "M1", "xM1"]);
    }
    let peaks = [
        "--maps",
        "maps.safetensors",
        "--reach",
        "8",
        "--shuffles",
        "4",
        "--enrichment",
        "enriched.csv",
        "--format",
        "json",
    ];
    let told = succeeds(folder, &[&whole[..], &peaks].concat()).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    let first = &told["motifs"][0];
    assert_eq!((first["motif"].as_str(), first["sequences"].as_u64()), (Some("M1 xM1"), Some(10)));
    assert!(first["q"].as_f64().unwrap() < 1e-6, "{first}");
    let enriched = std::fs::read_to_string(folder.join("enriched.csv")).unwrap();
    assert_eq!(enriched.lines().count(), 3);
    assert!(enriched.starts_with("motif,name,windows,sequences,shuffled_share,fold,p,q\nM1,xM1,"));
}

#[tokio::test]
async fn maps_with_ids_are_found_by_them_in_any_order_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scan_inputs(folder);
    // The peak of s0 to s4 is at the motif, that of the others behind it.
    let row = |i: usize| (0..100).map(move |at| f32::from(at == if i < 5 { 44 } else { 80 }));
    let maps: Vec<Vec<f32>> = (0..10).map(|i| row(i).collect()).collect();
    let ids: Vec<String> = (0..10).map(|i| format!("s{i}")).collect();
    let (mut back, mut back_ids) = (maps.clone(), ids.clone());
    back.reverse();
    back_ids.reverse();
    write_maps_of(&folder.join("a.safetensors"), &maps.concat(), 100, Some(&ids));
    write_maps_of(&folder.join("b.safetensors"), &back.concat(), 100, Some(&back_ids));
    write_maps_of(&folder.join("c.safetensors"), &back[..3].concat(), 100, Some(&back_ids[..3]));
    let scan = ["scan-motifs", "--motifs", "m.meme", "--fasta", "s.fa"];
    for name in ["a", "b"] {
        let (maps, out) = (format!("{name}.safetensors"), format!("{name}.tsv"));
        succeeds(folder, &[&scan[..], &["--maps", &maps, "--out", &out]].concat()).await;
    }
    let [a, b] = ["a.tsv", "b.tsv"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap());
    assert_eq!(a, b);
    assert!(a.contains("s4\t40") && !a.contains("s5\t40"), "{a}");
    let logo = ["logo", "--maps", "c.safetensors", "--fasta", "s.fa", "--out", "l.svg", "--record"];
    succeeds(folder, &[&logo[..], &["s9"]].concat()).await;
    let ended = refused(folder, &[&logo[..], &["s2"]].concat()).await;
    let reason = "c.safetensors: sequence s2: expected a map of that id, found none among 3";
    assert!(ended.stderr.contains(reason), "{}", ended.stderr);
}

#[tokio::test]
async fn outputs_that_are_inputs_or_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scan_inputs(folder);
    let scan = ["scan-motifs", "--motifs", "m.meme", "--fasta", "s.fa", "--maps"];
    let out = ["maps.safetensors", "--out", "h.tsv", "--enrichment", "./h.tsv"];
    let ended = refused(folder, &[&scan[..], &out].concat()).await;
    assert!(
        ended.stderr.contains("--enrichment: expected another file than that of --out"),
        "{}",
        ended.stderr
    );
    assert!(!folder.join("h.tsv").exists());
    let table = "chrom\tpos\tref\talt\n1\t2\tA\tC\n";
    std::fs::write(folder.join("v.tsv"), table).unwrap();
    let (_, probe) = inputs(folder);
    let line = ["score-variants", "--probe", &probe, "--genome", "s.fa", "--variants", "v.tsv"];
    let ended = refused(folder, &[&line[..], &["--out", "v.tsv"]].concat()).await;
    assert!(ended.stderr.contains("--out: expected another file than that of --variants"));
    assert_eq!(std::fs::read_to_string(folder.join("v.tsv")).unwrap(), table);
}

#[tokio::test]
async fn logos_are_drawn_of_motifs_and_maps() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scan_inputs(folder);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    succeeds(folder, &["logo", "--motifs", "m.meme", "--id", "xM2", "--out", "m.svg"]).await;
    assert!(read("m.svg").contains("M2 xM2"));
    let map = ["logo", "--maps", "maps.safetensors", "--fasta", "s.fa", "--record", "s3"];
    succeeds(folder, &[&map[..], &["--out", "s.svg"]].concat()).await;
    assert_eq!(read("s.svg").matches("<path").count(), 3);
}

#[tokio::test]
async fn files_of_motifs_and_maps_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    scan_inputs(folder);
    let run = async |arguments: &[&str]| refused(folder, arguments).await.stderr;
    std::fs::write(folder.join("bad.meme"), "MEME version 4\nMOTIF a\n").unwrap();
    let start = ["scan-motifs", "--fasta", "s.fa", "--out", "h.tsv", "--motifs"];
    let bad = run(&[&start[..], &["bad.meme"]].concat()).await;
    assert!(bad.contains("bad.meme: line 2, motif a: expected"), "{bad}");
    write_maps(&folder.join("few.safetensors"), &[0.5; 300], 100);
    let few = run(&[&start[..], &["m.meme", "--maps", "few.safetensors"]].concat()).await;
    assert!(few.contains("few.safetensors: expected 10 maps"), "{few}");
    let start = [&start[..], &["m.meme", "--maps", "maps.safetensors"]].concat();
    let name = run(&[&start[..], &["--maps-name", "saliency"]].concat()).await;
    assert!(name.contains("tensor saliency: expected maps of that name, found maps"), "{name}");
    let id = run(&["logo", "--motifs", "m.meme", "--id", "M9", "--out", "m.svg"]).await;
    assert!(id.contains("m.meme: expected motif M9, found none among 2 motifs"), "{id}");
    assert!(!folder.join("h.tsv").exists() && !folder.join("m.svg").exists());
}
