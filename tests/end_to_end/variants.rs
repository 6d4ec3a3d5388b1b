//! `score-variants` from every kind of file, and what it refuses.

use glmeval_common::dna::DnaSequence;
use glmeval_common::ids::FitId;
use glmeval_common::store::Store;
use glmeval_common::store::fits::{find_scores, read_weights};
use glmeval_tests::glmeval::{glmeval, model, succeeds};
use glmeval_tests::golden;
use glmeval_tests::jobs::{Draw, table};
use glmeval_tests::python;
use glmeval_worker::model::{LayerRequest, TokenBatch};
use glmeval_worker::models;
use std::collections::BTreeMap;
use std::path::Path;

/// Rows of a table of scores: each a map from column to field.
pub(crate) fn rows(path: &Path, separator: char) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(separator).collect();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(separator).collect();
        assert_eq!(fields.len(), names.len(), "{line}");
        names
            .iter()
            .zip(fields)
            .map(|(name, field)| ((*name).to_owned(), field.to_owned()))
            .collect()
    };
    lines.map(row).collect()
}

pub(crate) fn column(rows: &[BTreeMap<String, String>], name: &str) -> Vec<String> {
    rows.iter().map(|row| row[name].clone()).collect()
}

/// A genome of one chromosome, and the same 12 variants as VCF, TSV and CSV, effects in the tables.
///
/// Variants stand at four places with three alternatives each, in no order; the last one has a wrong
/// reference.
pub(crate) fn write_inputs(folder: &Path) {
    let genome = Draw::new(11).dna(400);
    std::fs::write(folder.join("genome.fa"), format!(">chr1\n{genome}\n")).unwrap();
    let header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    let mut vcf = header.to_owned();
    let mut table = "chrom\tpos\tref\talt\telement\teffect\n".to_owned();
    let mut draw = Draw::new(12);
    for position in [200, 150, 203, 151] {
        let reference = &genome[position - 1..position];
        let is_last = position == 151;
        let listed = if !is_last {
            reference
        } else if reference == "A" {
            "C"
        } else {
            "A"
        };
        let others: Vec<&str> =
            ["A", "C", "G", "T"].into_iter().filter(|base| *base != listed).collect();
        vcf.push_str(&format!(
            "1\t{position}\tv{position}\t{listed}\t{}\t.\t.\t.\n",
            others.join(",")
        ));
        for other in others {
            let effect = draw.below(200) as f64 / 100.0 - 1.0;
            table.push_str(&format!("chr1\t{position}\t{listed}\t{other}\tLDLR\t{effect}\n"));
        }
    }
    std::fs::write(folder.join("variants.vcf"), vcf).unwrap();
    std::fs::write(folder.join("variants.tsv"), &table).unwrap();
    std::fs::write(folder.join("variants.csv"), table.replace('\t', ",")).unwrap();
}

pub(crate) fn line<'a>(model: &'a str, variants: &'a str, out: &'a str) -> Vec<&'a str> {
    let first = ["score-variants", "--model", model, "--genome", "genome.fa"];
    [&first[..], &["--variants", variants, "--window", "120", "--out", out]].concat()
}

#[tokio::test]
async fn a_variant_has_the_same_scores_from_every_file_and_on_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let model = model().display().to_string();
    let all = ["--score", "all"];
    succeeds(folder, &[&line(&model, "variants.vcf", "vcf.tsv")[..], &all].concat()).await;
    let threads = [&all[..], &["--threads", "1"]].concat();
    let table = [&line(&model, "variants.tsv", "table.csv")[..], &threads].concat();
    let printed = succeeds(folder, &table).await;
    assert!(printed.contains("HepG2") && printed.contains("mean of 1"), "{printed}");
    succeeds(folder, &[&line(&model, "variants.csv", "again.csv")[..], &all].concat()).await;
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert!(read("table.csv") == read("again.csv"), "threads or separators change a table");
    let (vcf, table) = (rows(&folder.join("vcf.tsv"), '\t'), rows(&folder.join("table.csv"), ','));
    let scores = ["pos", "alt", "one_minus_cos", "cos", "dot", "l1", "l2_squared", "masked_llr"];
    for name in scores {
        assert_eq!(column(&vcf, name), column(&table, name), "{name}");
    }
    assert_eq!(column(&vcf, "id")[..3], ["v200", "v200", "v200"]);
    assert_eq!(column(&vcf, "pos")[..6], ["200", "200", "200", "150", "150", "150"]);
    let scored = column(&vcf, "status").iter().filter(|status| *status == "scored").count();
    assert_eq!((vcf.len(), scored), (12, 9));
    assert!(vcf[11]["status"].starts_with("dropped: the genome has"), "{:?}", vcf[11]);
    assert_eq!(vcf[11]["cos"], "");
    let leftover = std::fs::read_dir(folder).unwrap().flatten();
    let leftover = leftover.filter(|e| e.file_name().to_string_lossy().contains("partial"));
    assert_eq!(leftover.count(), 0);
}

#[tokio::test]
async fn both_strands_and_a_json_document() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let model = model().display().to_string();
    let forward = line(&model, "variants.tsv", "forward.tsv");
    succeeds(folder, &forward).await;
    let both = line(&model, "variants.tsv", "both.tsv");
    let both = [&both[..], &["--both-strands", "--format", "json"]].concat();
    let printed = succeeds(folder, &both).await;
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&document["scored"], &document["window"]), (&9.into(), &120.into()));
    assert_eq!(document["scores"], serde_json::json!(["one_minus_cos", "cos"]));
    assert_eq!(document["correlations"]["elements"][0]["variants"], 9);
    let [forward, both] = ["forward.tsv", "both.tsv"].map(|name| rows(&folder.join(name), '\t'));
    assert_ne!(column(&forward, "cos"), column(&both, "cos"));
    assert_eq!(column(&forward, "status"), column(&both, "status"));
}

#[tokio::test]
async fn what_cannot_be_scored_is_refused_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let genome = Draw::new(11).dna(400);
    let base = &genome[199..200];
    let indel = format!(
        "#CHROM\tPOS\tID\tREF\tALT\n1\t200\t.\t{base}\t{base}T\n1\t200\t.\t{base}\t{}\n",
        if base == "A" { "C" } else { "A" }
    );
    std::fs::write(folder.join("indel.vcf"), indel).unwrap();
    let model = model().display().to_string();
    let refused = line(&model, "indel.vcf", "a.tsv");
    let ended = glmeval(folder, &refused).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("indel.vcf: line 2, column ALT: expected a single base"),
        "{ended:?}"
    );
    assert!(!folder.join("a.tsv").exists());
    succeeds(folder, &[&refused[..], &["--indels", "skip"]].concat()).await;
    let found = rows(&folder.join("a.tsv"), '\t');
    let expected = ["dropped: no exchange of one base for another", "scored"];
    assert_eq!(column(&found, "status"), expected);
    for (more, message) in [
        (&["--score", "causal-llr"][..], "gives no causal-llr: its tokens see those behind them"),
        (&["--window", "121"], "expected an even number of nucleotides"),
        (&["--column", "effect=nothing"], "expected a column called nothing"),
    ] {
        let arguments = line(&model, "variants.tsv", "b.tsv");
        let arguments = arguments.into_iter().filter(|a| more[0] != "--window" || *a != "--window");
        let arguments: Vec<&str> =
            arguments.filter(|a| more[0] != "--window" || *a != "120").collect();
        let ended = glmeval(folder, &[&arguments[..], more].concat()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(message), "{message}: {ended:?}");
    }
    let mut arguments = line(&model, "variants.tsv", "b.txt");
    let ended = glmeval(folder, &arguments).await;
    assert!(ended.stderr.contains("--out: expected a name that ends in"), "{ended:?}");
    arguments.truncate(3);
    arguments.extend(["--variants", "x", "--out", "b.tsv"]);
    assert_eq!(glmeval(folder, &arguments).await.code, Some(1));
    assert!(!folder.join("b.tsv").exists());
}

#[tokio::test]
async fn a_stored_network_scores_by_its_difference() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let probe = golden::fixture("science/variants/probe-onehot.json");
    let description = golden::json(&probe);
    let contigs = description["contigs"].as_object().unwrap().iter();
    let contigs =
        contigs.map(|(name, letters)| format!(">{name}\n{}\n", letters.as_str().unwrap()));
    std::fs::write(folder.join("genome.fa"), contigs.collect::<String>()).unwrap();
    let mut table = "chrom,pos,ref,alt,element,cell,effect\n".to_owned();
    for row in description["variants"].as_array().unwrap() {
        let text = |key: &str| row[key].as_str().unwrap();
        let place = format!("{},{},{},{}", text("contig"), row["pos"], text("ref"), text("alt"));
        table.push_str(&format!(
            "{place},{},{},{}\n",
            text("element"),
            text("cell"),
            row["effect"]
        ));
    }
    std::fs::write(folder.join("variants.csv"), table).unwrap();
    let probe = probe.display().to_string();
    let line = ["score-variants", "--probe", &probe, "--genome", "genome.fa"];
    let files = ["--variants", "variants.csv", "--out", "scores.tsv"];
    let printed = succeeds(folder, &[&line[..], &files].concat()).await;
    assert!(printed.contains("alpha") && !printed.contains("f_ref"), "{printed}");
    let found = rows(&folder.join("scores.tsv"), '\t');
    for (row, expected) in found.iter().zip(description["variants"].as_array().unwrap()) {
        let score: f64 = row["probe"].parse().unwrap();
        let expected = expected["scores"]["probe"].as_f64().unwrap();
        assert!((score - expected).abs() < 2e-5, "{row:?}");
    }
}

#[tokio::test]
async fn pandas_and_duckdb_read_a_table_of_scores() {
    let Some(python) = python::python("tables of scores in Python") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let model = model().display().to_string();
    succeeds(folder, &line(&model, "variants.tsv", "scores.parquet")).await;
    succeeds(folder, &line(&model, "variants.tsv", "scores.tsv")).await;
    let script = r#"
import duckdb, pandas
table = pandas.read_parquet("scores.parquet")
text = pandas.read_csv("scores.tsv", sep="\t", float_precision="round_trip")
assert list(table.columns) == list(text.columns)
assert table["cos"].isna().sum() == 3 and (table["cos"].dropna() == text["cos"].dropna()).all()
assert table["pos"].dtype == "int64" and table["status"].iloc[0] == "scored"
print(duckdb.sql("SELECT count(one_minus_cos) FROM 'scores.parquet'").fetchall()[0][0])
"#;
    assert_eq!(python::run(&python, folder, script).await.trim(), "9");
}

/// A job that trains one affine layer on one-hot sequences and on states of the last layer.
fn probe_job(model: &str) -> String {
    format!(
        "name = \"probes\"\nseed = 3\n[[model]]\nname = \"NT\"\npath = {model:?}\n\
         [[dataset]]\nname = \"activity\"\ntask = \"regression\"\ntable = \"data.tsv\"\n\
         columns = {{ sequence = \"seq\", id = \"id\", split = \"part\", targets = [\"activity\"] }}\n\
         [[representation]]\none_hot = true\n\
         [[representation]]\nmodel = \"NT\"\nlayers = [3]\npooling = [\"full\"]\n\
         [[probe]]\nkind = \"network\"\nname = \"affine\"\nrepeats = 1\nepochs = 2\nlayers = [\n\
         {{ kind = \"flatten\" }}, {{ kind = \"dense\", units = 1, name = \"out\" }}]\n"
    )
}

/// Fits of a store by their representation: the path that `--probe` takes, and the kernel.
async fn fits(folder: &Path) -> BTreeMap<String, (String, Vec<f64>)> {
    let store = Store::open(folder.join("store").to_str().unwrap()).unwrap();
    let mut found = BTreeMap::new();
    for fit in store.list_folders("probes").await.unwrap() {
        let scores = find_scores(&store, &FitId::new(&fit)).await.unwrap().unwrap();
        let bytes = read_weights(&store, &scores).await.unwrap();
        std::fs::write(folder.join("weights.safetensors"), &bytes).unwrap();
        let tensors = golden::tensors(&folder.join("weights.safetensors"));
        let kernel = tensors["out/kernel"].values.clone();
        found.insert(scores.identity.representation, (format!("store/probes/{fit}"), kernel));
    }
    found
}

#[tokio::test]
async fn probes_of_a_job_score_variants_by_their_difference() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let path = model().display().to_string();
    std::fs::write(folder.join("data.tsv"), table(50, 120)).unwrap();
    std::fs::write(folder.join("job.toml"), probe_job(&path)).unwrap();
    succeeds(folder, &["run", "job.toml", "--store", "store"]).await;
    let fits = fits(folder).await;
    let genome = Draw::new(11).dna(400);
    let opened = models::open(&model()).unwrap();
    let layer = LayerRequest::new(&[3], 4).unwrap();
    let states = |window: &str| -> Vec<f64> {
        let ids = opened.tokenize(&DnaSequence::new(window).unwrap()).unwrap();
        let mut states = Vec::new();
        let batch = TokenBatch::pack([ids.as_slice()]);
        opened.forward(&batch, &layer, &mut |_, layer| states.extend_from_slice(layer)).unwrap();
        states.into_iter().map(f64::from).collect()
    };
    let one_hot = |window: &str| -> Vec<f64> {
        window
            .chars()
            .flat_map(|letter| "ACGT".chars().map(move |b| f64::from(b == letter)))
            .collect()
    };
    for (representation, more) in [("one-hot", &[][..]), ("full", &["--model", &path])] {
        let (probe, kernel) = &fits[representation];
        let files = ["--variants", "variants.tsv", "--window", "120", "--out", "scores.tsv"];
        let line = ["score-variants", "--probe", probe, "--genome", "genome.fa"];
        succeeds(folder, &[&line[..], more, &files].concat()).await;
        for row in rows(&folder.join("scores.tsv"), '\t').iter().filter(|r| r["status"] == "scored")
        {
            let start = row["pos"].parse::<usize>().unwrap() - 60;
            let window = &genome[start..start + 120];
            let changed = format!("{}{}{}", &window[..59], row["alt"], &window[60..]);
            let read =
                |window| if representation == "full" { states(window) } else { one_hot(window) };
            let differences =
                read(&changed).into_iter().zip(read(window)).map(|(to, from)| to - from);
            let expected: f64 = differences.zip(kernel).map(|(d, weight)| d * weight).sum();
            let found: f64 = row["probe"].parse().unwrap();
            assert!((found - expected).abs() < 1e-5, "{representation}: {found} for {expected}");
        }
    }
    let (probe, _) = &fits["full"];
    let line = ["score-variants", "--probe", probe, "--genome", "genome.fa", "--out", "a.tsv"];
    let ended = glmeval(folder, &[&line[..], &["--variants", "variants.tsv"]].concat()).await;
    assert!(
        ended.stderr.contains("--model: expected the gLM that the probe was trained on, NT"),
        "{ended:?}"
    );
}
