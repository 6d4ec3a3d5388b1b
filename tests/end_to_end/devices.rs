//! `--device` of every command that takes one: devices that are not there, and kernels in the emulator.
//!
//! Leaves out: numbers of a real device (the bundle of `cargo xtask gpu`).

use super::variants::{column, line, rows, write_inputs};
use glmeval_tests::glmeval::{glmeval, model, succeeds};
use glmeval_tests::jobs::table;
use glmeval_tests::results::results;
use serde_json::Value;
use std::path::Path;

#[tokio::test]
async fn a_device_that_is_not_there_is_named_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    std::fs::write(folder.join("regions.fa"), ">a\nACGTACGTACGT\n").unwrap();
    let model = model().display().to_string();
    let job = format!(
        "[[model]]\nname = \"nt\"\npath = {model:?}\n[[dataset]]\nname = \"d\"\nfasta = \"regions.fa\"\n"
    );
    std::fs::write(folder.join("job.toml"), job).unwrap();
    let scored = line(&model, "variants.vcf", "scores.tsv");
    let mapped = ["attribute", "--model", &model, "--fasta", "regions.fa", "--out", "maps"];
    let embedded = ["embed", "--model", &model, "--fasta", "regions.fa", "--out", "rows"];
    let works = ["worker", "--coordinator", "127.0.0.1:9", "--store", "store"];
    for (command, device) in [
        (&scored[..], "cuda:63"),
        (&mapped[..], "cuda:63"),
        (&embedded[..], "cuda:62,63"),
        (&["run", "job.toml"][..], "cuda:62,63"),
        (&works[..], "cuda:62,63"),
    ] {
        let ended = glmeval(folder, &[command, &["--device", device]].concat()).await;
        assert_ne!(ended.code, Some(0), "{command:?}: {ended:?}");
        assert!(ended.stderr.contains("cuda:6"), "{command:?}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{command:?}: {ended:?}");
    }
    for left in ["scores.tsv", "maps", "rows"] {
        assert!(!folder.join(left).exists(), "{left}");
    }
    let several = glmeval(folder, &[&scored[..], &["--device", "cuda:0,1"]].concat()).await;
    assert!(several.stderr.contains("expected one device, found 2"), "{several:?}");
    let probe = ["score-variants", "--probe", "p.json", "--genome", "genome.fa", "--variants"];
    let unused = [&probe[..], &["variants.vcf", "--out", "o.tsv", "--device", "cuda"]].concat();
    let unused = glmeval(folder, &unused).await;
    assert!(unused.stderr.contains("--model"), "a probe alone runs on the CPU: {unused:?}");
}

#[tokio::test]
async fn variants_scored_by_kernels_are_near_those_of_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_inputs(folder);
    let model = model().display().to_string();
    let scored = |out: &'static str, device: &'static str| {
        let device = ["--score", "all", "--device", device];
        [&line(&model, "variants.vcf", out)[..], &device].concat().join("\n")
    };
    for (out, device) in [("cpu.tsv", "cpu"), ("kernels.tsv", "emulated")] {
        let words = scored(out, device);
        succeeds(folder, &words.split('\n').collect::<Vec<_>>()).await;
    }
    let (cpu, kernels) =
        (rows(&folder.join("cpu.tsv"), '\t'), rows(&folder.join("kernels.tsv"), '\t'));
    assert_eq!(column(&cpu, "status"), column(&kernels, "status"));
    for name in ["one_minus_cos", "cos", "dot", "l1", "l2_squared", "masked_llr"] {
        for (expected, found) in column(&cpu, name).iter().zip(column(&kernels, name)) {
            let numbers = expected.parse::<f64>().ok().zip(found.parse::<f64>().ok());
            let is_near = numbers.is_none_or(|(a, b)| (a - b).abs() <= 1e-3 * (1e-3 + a.abs()));
            assert!(
                is_near && expected.is_empty() == found.is_empty(),
                "{name}: {expected} {found}"
            );
        }
    }
}

/// A job of a convolution on one-hot sequences, a dense network on a gLM's means, and a ridge fit.
fn write_job_of_networks(folder: &Path, precision: &str) {
    std::fs::write(folder.join("data.tsv"), table(40, 24)).unwrap();
    let model = model().display().to_string();
    let training = format!("epochs = 3\nbatch = 8\nrepeats = 1\nprecision = {precision:?}\n");
    let job = format!(
        "name = \"networks\"\nseed = 5\n[[model]]\nname = \"NT\"\npath = {model:?}\n\
         [[dataset]]\nname = \"activity\"\ntask = \"regression\"\ntable = \"data.tsv\"\n\
         columns = {{ sequence = \"seq\", id = \"id\", split = \"part\", targets = [\"activity\"] }}\n\
         [[representation]]\nmodel = \"NT\"\nlayers = [2]\npooling = [\"mean\"]\n\
         [[representation]]\none_hot = true\n\
         [[probe]]\nkind = \"network\"\nname = \"conv\"\nrepresentations = [\"one-hot\"]\n{training}\
         layers = [{{ kind = \"conv1d\", filters = 4, kernel = 3, activation = \"relu\" }},\n\
         {{ kind = \"max-pool\", size = 4 }}, {{ kind = \"flatten\" }}, {{ kind = \"dense\", units = 1 }}]\n\
         [[probe]]\nkind = \"network\"\nname = \"mlp\"\nrepresentations = [\"mean\"]\n{training}\
         layers = [{{ kind = \"dense\", units = 4, activation = \"relu\" }}, {{ kind = \"dense\", units = 1 }}]\n\
         [[probe]]\nkind = \"ridge\"\nrepresentations = [\"one-hot\"]\n"
    );
    std::fs::write(folder.join("job.toml"), job).unwrap();
}

/// Values of all statistics, by fit and name; fits are named by what they are, as ids name the device too.
fn statistics(printed: &str) -> Vec<(String, f64)> {
    let scores: Vec<Value> = serde_json::from_str(printed).unwrap();
    let mut all = Vec::new();
    for fit in &scores {
        let identity = &fit["identity"];
        for row in fit["statistics"].as_array().unwrap() {
            let name =
                format!("{} {} {}", identity["probe"], identity["representation"], row["name"]);
            all.push((name, row["value"].as_f64().unwrap_or(f64::NAN)));
        }
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

#[tokio::test]
async fn networks_trained_by_kernels_are_near_those_of_the_cpu_and_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_job_of_networks(folder, "f32");
    let run = |store: &'static str, device: &'static str, workers: &'static str| {
        ["run", "job.toml", "--store", store, "--device", device, "--workers", workers]
            .into_iter()
            .chain(["--format", "json"])
            .collect::<Vec<_>>()
    };
    let on_cpu = succeeds(folder, &run("cpu", "cpu", "1")).await;
    let on_device = succeeds(folder, &run("first", "emulated", "1")).await;
    succeeds(folder, &run("second", "emulated", "2")).await;
    let (expected, found) = (statistics(&on_cpu), statistics(&on_device));
    assert_eq!(expected.len(), found.len());
    for ((name, expected), (same, found)) in expected.iter().zip(&found) {
        // A correlation of eight examples moves more than what it is made of.
        let is_near = (expected - found).abs() <= 1e-2 * (1.0 + expected.abs());
        assert!(
            name == same && (is_near || expected.is_nan()),
            "{name} {same}: {expected} {found}"
        );
    }
    let stored = results(&folder.join("first")).await;
    assert_eq!(stored, results(&folder.join("second")).await);
    let on_cpu = results(&folder.join("cpu")).await;
    let shared = stored.keys().filter(|name| on_cpu.contains_key(*name)).count();
    assert!(0 < shared && shared < stored.len(), "only the ridge fit is the CPU's as well");
    let plan = |device| ["plan", "job.toml", "--device", device];
    let planned = succeeds(folder, &plan("emulated")).await;
    assert!(planned.contains("trained on") && planned.contains("f32.cuda-emulated."), "{planned}");
    assert!(!succeeds(folder, &plan("cpu")).await.contains("cuda"));
    let page = std::fs::read_to_string(folder.join("glmeval-report/report.html")).unwrap();
    assert!(page.contains("f32.cuda-emulated."), "the page says on what networks were trained");
}

#[tokio::test]
async fn tf32_is_for_devices() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_job_of_networks(folder, "tf32");
    let refused = glmeval(folder, &["plan", "job.toml"]).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("probe[0].precision: expected f32 or bf16"), "{refused:?}");
    let planned = succeeds(folder, &["plan", "job.toml", "--device", "cuda-sm90"]).await;
    assert!(planned.contains("tf32.cuda-sm90."), "{planned}");
}
