//! `--device` of every command that takes one: devices that are not there, and kernels in the emulator.
//!
//! Leaves out: numbers of a real device (the bundle of `cargo xtask gpu`).

use super::variants::{column, line, rows, write_inputs};
use glmeval_tests::glmeval::{glmeval, model, succeeds};

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
