//! `attribute` from networks and gLMs to files, and what it refuses.

use glmeval_common::dna::DnaSequence;
use glmeval_tests::glmeval::{glmeval, model, succeeds};
use glmeval_tests::golden;
use glmeval_tests::jobs::Draw;
use glmeval_tests::python;
use glmeval_worker::attribution::{Entropies, EntropyMaximum, expand, information};
use glmeval_worker::models;
use serde_json::{Value, json};
use std::path::Path;

/// Length of all sequences in nucleotides: three six-mers and two singles.
const LENGTH: usize = 20;
/// Tokens of the gLM: CLS and those of the letters.
const TOKENS: usize = 6;
/// Channels of the gLM's states.
const WIDTH: usize = 64;

/// Names and letters of sequences, the last two alike.
fn sequences() -> Vec<(String, String)> {
    let mut draw = Draw::new(21);
    let mut found: Vec<(String, String)> =
        (0..8).map(|number| (format!("s{number}"), draw.dna(LENGTH))).collect();
    found.push(("twin".to_owned(), found[7].1.clone()));
    found
}

/// Writes a network of one dense layer over `[length, channels]`, a sigmoid behind it.
fn write_probe(path: &Path, (length, channels): (usize, usize), seed: u64) -> Vec<f32> {
    let layers = json!([
        {"name": "flat", "type": "Flatten", "inputs": ["x"]},
        {"name": "out", "type": "Dense", "units": 1, "activation": "sigmoid", "inputs": ["flat"]},
    ]);
    let inputs = json!([{"name": "x", "shape": [length, channels]}]);
    let described = json!({"inputs": inputs, "layers": layers, "output": "out"});
    std::fs::write(path, described.to_string()).unwrap();
    let mut draw = Draw::new(seed);
    let kernel: Vec<f32> =
        (0..length * channels).map(|_| draw.below(2_000) as f32 / 1_000.0 - 1.0).collect();
    let kernel_bytes = bytemuck::cast_slice::<f32, u8>(&kernel);
    let bias = 0.25_f32.to_le_bytes();
    let view = |shape: Vec<usize>, bytes| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes).unwrap()
    };
    let views = [
        ("out/kernel", view(vec![length * channels, 1], kernel_bytes)),
        ("out/bias", view(vec![1], &bias)),
    ];
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(path.with_extension("safetensors"), file).unwrap();
    kernel
}

/// A folder with sequences as FASTA and TSV and both networks.
fn write_inputs(folder: &Path) -> Vec<f32> {
    let (mut fasta, mut table) = (String::new(), "name\tletters\tpart\n".to_owned());
    for (number, (name, letters)) in sequences().iter().enumerate() {
        fasta.push_str(&format!(">{name}\n{letters}\n"));
        let part = if number % 2 == 0 { "test" } else { "train" };
        table.push_str(&format!("{name}\t{letters}\t{part}\n"));
    }
    std::fs::write(folder.join("s.fa"), fasta).unwrap();
    std::fs::write(folder.join("s.tsv"), table).unwrap();
    write_probe(&folder.join("states.json"), (TOKENS, WIDTH), 33);
    write_probe(&folder.join("letters.json"), (LENGTH, 4), 32)
}

/// The corrected gradient of a dense layer at each base.
fn expected_saliency(kernel: &[f32], letters: &str) -> Vec<f64> {
    let cells = letters.chars().zip(kernel.chunks(4));
    cells
        .map(|(letter, cell)| {
            let base = "ACGT".find(letter).unwrap();
            f64::from(cell[base]) - cell.iter().map(|&value| f64::from(value)).sum::<f64>() / 4.0
        })
        .collect()
}

fn output(kernel: &[f32], letters: &str) -> f64 {
    let cells = letters.chars().zip(kernel.chunks(4));
    0.25 + cells.map(|(base, cell)| f64::from(cell["ACGT".find(base).unwrap()])).sum::<f64>()
}

fn lines(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Names of what stands in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const ALL: [&str; 9] = [
    "attribute",
    "--probe",
    "letters.json",
    "--embedding-probe",
    "states.json",
    "--fasta",
    "s.fa",
    "--out",
    "maps",
];

#[tokio::test]
async fn all_maps_of_the_highest_sequences_are_written_with_their_correlations() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let kernel = write_inputs(folder);
    let path = model().display().to_string();
    let line = [&ALL[..], &["--model", &path, "--top", "5", "--format", "json"]].concat();
    let printed: Value = serde_json::from_str(&succeeds(folder, &line).await).unwrap();
    assert_eq!(names(folder).len(), 7, "{:?}", names(folder));
    let maps = folder.join("maps");
    let files = ["attribution.json", "correlations.tsv", "maps.safetensors", "maps.tsv"];
    assert_eq!(names(&maps), [&files[..], &["sequences.tsv"]].concat());
    // The network ranks; of the twins the first of the file comes first.
    let mut ranked = sequences();
    ranked.sort_by(|a, b| output(&kernel, &b.1).total_cmp(&output(&kernel, &a.1)));
    ranked.truncate(5);
    let rows = lines(&maps.join("sequences.tsv"));
    let ids: Vec<&str> = rows[1..].iter().map(|row| row[1].as_str()).collect();
    let expected: Vec<&str> = ranked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(ids, expected);
    let tensors = golden::tensors(&maps.join("maps.safetensors"));
    let asked = models::open(&model()).unwrap();
    let asked = Entropies::new(&asked).unwrap();
    let sequences = ranked.iter().map(|(_, letters)| DnaSequence::new(letters.as_str()).unwrap());
    let entropies: Vec<_> = sequences.map(|sequence| asked.of(&sequence).unwrap()).collect();
    let mut maximum = EntropyMaximum::default();
    (0..).zip(&entropies).for_each(|(number, one)| maximum.add(number, one));
    assert_eq!(printed["max_entropy"]["value"].as_f64(), maximum.value);
    for (index, (_, letters)) in ranked.iter().enumerate() {
        let row = |kind: &str| &tensors[kind].values[index * LENGTH..(index + 1) * LENGTH];
        let saliency = expected_saliency(&kernel, letters);
        assert!(row("saliency").iter().zip(&saliency).all(|(a, b)| (a - b).abs() < 1e-6));
        let of_tokens = information(&entropies[index].values, maximum.value.unwrap());
        let expected = expand(&of_tokens, &entropies[index].lengths).unwrap();
        let single = expected.iter().map(|&value| f64::from(value as f32));
        assert_eq!(row("information"), single.collect::<Vec<_>>());
    }
    assert_eq!(tensors["information_gradient"].shape, [5, LENGTH]);
    let table = lines(&maps.join("maps.tsv"));
    assert_eq!(table.len(), 1 + 5 * LENGTH);
    assert_eq!(table[0][..4], ["index", "id", "position", "base"]);
    let read: f64 = table[1 + LENGTH][4].parse().unwrap();
    assert!((read - tensors["saliency"].values[LENGTH]).abs() < 1e-7);
    let correlations = lines(&maps.join("correlations.tsv"));
    assert_eq!(correlations.len(), 4);
    assert_eq!(correlations[1][..4], ["information", "saliency", "5", "0"]);
    assert_eq!(correlations[1][4], printed["correlations"][0]["pearson"].to_string());
}

#[tokio::test]
async fn every_sequence_has_the_same_maps_in_the_order_of_the_file_on_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let path = model().display().to_string();
    let line = [&ALL[..8], &["all", "--model", &path, "--all", "--table", "m.parquet"]].concat();
    let printed = succeeds(folder, &line).await;
    assert!(printed.contains("information_gradient  saliency"), "{printed}");
    let other = ["--model", &path, "--all", "--threads", "1", "--table", "m.parquet"];
    succeeds(folder, &[&ALL[..8], &["again"], &other[..]].concat()).await;
    let read = |place: &str| std::fs::read(folder.join(place)).unwrap();
    for file in ["maps.safetensors", "m.parquet", "sequences.tsv"] {
        assert!(read(&format!("all/{file}")) == read(&format!("again/{file}")), "{file}");
    }
    let rows = lines(&folder.join("all/sequences.tsv"));
    assert_eq!(rows.len(), 10);
    assert_eq!((rows[1][1].as_str(), rows[9][1].as_str()), ("s0", "twin"));
    let tensors = golden::tensors(&folder.join("all/maps.safetensors"));
    for tensor in tensors.values() {
        assert_eq!(tensor.values[7 * LENGTH..8 * LENGTH], tensor.values[8 * LENGTH..]);
    }
}

#[tokio::test]
async fn only_the_test_split_of_a_table_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let source = ["--tsv", "s.tsv:letters", "--id-column", "name", "--split-column", "part"];
    let line = [&["attribute", "--probe", "letters.json", "--out", "maps"][..], &source].concat();
    let printed = succeeds(folder, &line).await;
    assert_eq!(printed, "", "one kind of map agrees with nothing");
    let rows = lines(&folder.join("maps/sequences.tsv"));
    let mut ids: Vec<&str> = rows[1..].iter().map(|row| row[1].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["s0", "s2", "s4", "s6", "twin"]);
    assert!(!folder.join("maps/correlations.tsv").exists());
}

#[tokio::test]
async fn what_cannot_be_mapped_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    std::fs::write(folder.join("other.fa"), ">short\nACGTAC\n").unwrap();
    std::fs::create_dir(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/notes.txt"), "mine").unwrap();
    let before = names(folder);
    let path = model().display().to_string();
    let by_letters = ["attribute", "--probe", "letters.json", "--out", "maps"];
    let by_states = ["attribute", "--model", &path, "--embedding-probe", "states.json"];
    let out = ["--out", "maps", "--fasta"];
    let refusals: [(Vec<&str>, &str); 5] = [
        (
            [&by_letters[..], &["--fasta", "other.fa"]].concat(),
            "other.fa: sequence short (row 0): its length: expected 20 nucleotides",
        ),
        (
            [&by_states[..], &out, &["other.fa"]].concat(),
            "other.fa: sequence short (row 0): embedding probe: states: expected",
        ),
        (
            vec!["attribute", "--probe", "letters.json", "--fasta", "s.fa", "--out", "full"],
            "--out: expected full, a folder that is not there",
        ),
        (
            [&by_letters[..], &["--fasta", "s.fa", "--table", "maps.txt"]].concat(),
            "--table: expected a name that ends in .tsv, .csv or .parquet",
        ),
        (
            [&by_letters[..], &["--fasta", "s.fa", "--top", "0"]].concat(),
            "--top: expected at least one sequence",
        ),
    ];
    for (line, reason) in refusals {
        let ended = glmeval(folder, &line).await;
        assert_ne!(ended.code, Some(0), "{line:?}");
        assert!(ended.stderr.contains(reason), "{line:?}: {}", ended.stderr);
        assert_eq!(names(folder), before, "{line:?}");
    }
}

#[tokio::test]
async fn numpy_and_pandas_read_the_files() {
    let Some(python) = python::python("attribution maps in Python") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let path = model().display().to_string();
    let line = [&ALL[..], &["--model", &path, "--top", "4", "--table", "maps.parquet"]].concat();
    succeeds(folder, &line).await;
    let script = r#"
import json, numpy, pandas
from safetensors.numpy import load_file
maps = load_file("maps/maps.safetensors")
table = pandas.read_parquet("maps/maps.parquet")
for name, map in maps.items():
    assert map.shape == (4, 20) and map.dtype == numpy.float32
    wide = table.pivot(index="index", columns="position", values=name).to_numpy()
    assert (wide == map).all(), name
sequences = pandas.read_csv("maps/sequences.tsv", sep="\t")
means = pandas.read_csv("maps/correlations.tsv", sep="\t")
row = means[(means["map"] == "information_gradient") & (means["other"] == "saliency")].iloc[0]
r = [numpy.corrcoef(abs(a), abs(b))[0, 1]
     for a, b in zip(maps["information_gradient"], maps["saliency"])]
assert abs(numpy.mean(r) - row["pearson"]) < 1e-5, (r, row)
assert numpy.allclose(sequences["pearson_information_gradient_saliency"], r, atol=1e-5)
assert (sequences["output"].diff().dropna() <= 0).all()
print(json.load(open("maps/attribution.json"))["sequences"])
"#;
    assert_eq!(python::run(&python, folder, script).await.trim(), "4");
}

/// What `gia` says of every sequence: rows of its table and of that of sequences.
async fn motifs_in(
    folder: &Path,
    network: &[&str],
    which: &[&str],
    out: &str,
) -> [Vec<Vec<String>>; 2] {
    let (table, rows) = (format!("{out}.tsv"), format!("{out}-each.tsv"));
    let rest = ["--fasta", "s.fa", "--motifs", "m=ACGT@3", "--shuffles", "7", "--out", &table];
    let mut line = [&["gia"], network, &rest, which].concat();
    if which.len() == 1 || which[0] == "--top" {
        line.extend(["--per-sequence", &rows]);
    }
    succeeds(folder, &line).await;
    let rows = folder.join(&rows);
    [lines(&folder.join(&table)), if rows.exists() { lines(&rows) } else { Vec::new() }]
}

#[tokio::test]
async fn a_motif_is_put_into_every_sequence_as_into_each_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let kernel = write_inputs(folder);
    let network = ["--probe", "letters.json"];
    let [all, each] = motifs_in(folder, &network, &["--all"], "all").await;
    assert_eq!((all.len(), each.len()), (1 + 9 * 2 * 7, 1 + 9));
    let [alone, _] = motifs_in(folder, &network, &["--record", "s4"], "alone").await;
    let of_s4: Vec<_> = all.iter().filter(|row| row[6] == "s4").cloned().collect();
    assert_eq!(of_s4, alone[1..], "the same rows beside others");
    let [_, top] = motifs_in(folder, &network, &["--top", "3"], "top").await;
    let mut ranked = sequences();
    ranked.sort_by(|a, b| output(&kernel, &b.1).total_cmp(&output(&kernel, &a.1)));
    let ids: Vec<_> = top[1..].iter().map(|row| row[0].clone()).collect();
    assert_eq!(ids, ranked[..3].iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    assert_eq!(top[1], *each.iter().find(|row| row[0] == ids[0]).unwrap());
    for row in &each[1..] {
        let letters = &sequences().into_iter().find(|(name, _)| *name == row[0]).unwrap().1;
        let wild_type: f64 = row[3].parse().unwrap();
        assert!((wild_type - output(&kernel, letters)).abs() < 1e-5, "{row:?}");
        let parsed = |column: usize| row[column].parse::<f64>().unwrap();
        assert!((parsed(5) - parsed(4) - parsed(7)).abs() < 1e-9, "mean - background");
    }
}

#[tokio::test]
async fn a_network_of_states_tells_what_a_motif_adds() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let path = model().display().to_string();
    let network = ["--model", path.as_str(), "--embedding-probe", "states.json"];
    let [all, each] = motifs_in(folder, &network, &["--all"], "all").await;
    assert_eq!((all.len(), each.len()), (1 + 9 * 2 * 7, 1 + 9));
    let line = [&["attribute"], &network[..], &["--fasta", "s.fa", "--all", "--out", "maps"]];
    succeeds(folder, &line.concat()).await;
    let mapped = lines(&folder.join("maps/sequences.tsv"));
    let output = mapped[0].iter().position(|name| name == "embedding_output").unwrap();
    for (row, mapped) in each[1..].iter().zip(&mapped[1..]) {
        let single = |text: &String| text.parse::<f32>().unwrap();
        assert_eq!(row[0], mapped[1]);
        assert_eq!(single(&row[3]), single(&mapped[output]), "without the gradient");
    }
    let letters = ["gia", "--probe", "states.json", "--fasta", "s.fa", "--motifs", "m=A@1"];
    let ended = glmeval(folder, &[&letters[..], &["--out", "no.tsv"]].concat()).await;
    assert_ne!(ended.code, Some(0), "{ended:?}");
    let both = [&letters[..], &["--model", &path, "--out", "no.tsv"]].concat();
    let ended = glmeval(folder, &both).await;
    assert!(ended.stderr.contains("--embedding-probe"), "{}", ended.stderr);
}
