use super::*;
use glmeval_common::ids::DatasetId;
use glmeval_common::plan::PlanEntry;
use glmeval_common::unit::{Fit, UnitKind};
use std::collections::BTreeMap;

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn planned(name: &str) -> Planned {
    plan_file_assuming(&example(name), "cpu").map_err(|e| e.chain()).unwrap()
}

/// Fits by task.
fn fits(plan: &Plan) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    let fits = plan.fit_units().flat_map(|(_, unit)| &unit.fits);
    for fit in fits.filter(|fit| fit.probe.is_fitted()) {
        *counts.entry(fit.identity.task.as_str()).or_default() += 1;
    }
    counts
}

/// PFLOP and bytes of a stage.
fn total(plan: &Plan, kind: UnitKind) -> (f64, f64) {
    let mut total = (0.0, 0.0);
    let is_of_kind = |(_, entry): &(u32, &PlanEntry)| entry.kind() == kind;
    for (first, entry) in plan.entries.iter().filter(is_of_kind) {
        let past = first + u32::try_from(entry.unit_count()).unwrap();
        let totals = plan.totals(first, past);
        total.0 += totals.flops / 1e15;
        total.1 += totals.bytes as f64;
    }
    total
}

fn plan_total(plan: &Plan) -> (f64, f64) {
    let totals = plan.totals(0, plan.unit_count());
    (totals.flops / 1e15, totals.bytes as f64)
}

/// PFLOP of training convolutional networks, as the study counts: without its looks at validation.
fn convolutions(plan: &Plan) -> f64 {
    let rows = |id: &DatasetId, split: &str| {
        let dataset = plan.datasets.iter().find(|dataset| dataset.facts.id == *id).unwrap();
        dataset.facts.split_rows[split] as f64
    };
    let mut total = 0.0;
    for (first, unit) in plan.fit_units() {
        let dense = ["rep-mlp", "linear", "ridge", "least-squares", "logistic"];
        let first_fit = &unit.fits[0];
        let is_dense = dense.contains(&first_fit.identity.probe.as_str());
        if is_dense || !first_fit.probe.is_fitted() {
            continue;
        }
        let fraction = unit.fits.iter().map(|fit| fit.identity.fraction).sum::<f64>();
        let train = 6.0 * rows(&unit.dataset, "train") * fraction / unit.fits.len() as f64;
        let valid = 2.0 * rows(&unit.dataset, "valid");
        total += plan.totals(first, first + 1).flops / 1e15 * train / (train + valid);
    }
    total
}

fn is_near(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() < 0.05
}

/// Distinct pairs of a gLM and a data set.
fn embedding_jobs(plan: &Plan) -> usize {
    let pairs = plan.sets.iter().map(|set| (&set.model.name, &set.dataset));
    pairs.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn the_whole_study_is_its_count_of_embedding_jobs_and_fits() {
    let plan = planned("paper.toml").plan;
    assert_eq!(embedding_jobs(&plan), 135);
    assert_eq!(plan.sets.len(), 135, "one pass serves all layers and poolings of a gLM");
    let expected = [
        ("chip-seq", 700),
        ("classification", 1),
        ("eclip", 650),
        ("insert-seq", 4_000),
        ("lenti-mpra", 540),
        ("splicing", 160),
    ];
    assert_eq!(fits(&plan), expected.into());
    assert_eq!(fits(&plan).values().sum::<usize>(), 6_051);
}

#[test]
fn the_main_figures_take_the_same_embedding_jobs_and_few_fits() {
    let plan = planned("paper-core.toml").plan;
    assert_eq!(embedding_jobs(&plan), 135);
    let expected =
        [("chip-seq", 70), ("eclip", 70), ("insert-seq", 40), ("lenti-mpra", 18), ("splicing", 40)];
    assert_eq!(fits(&plan), expected.into());
}

/// The study's own table: 456.3 PFLOP to embed without variants and 8.6 for random weights; of the four
/// evaluated elements 3.5 for what probes read and 132.6 for scores; about 730 to train. Half
/// precision: 916 GB with the last layer of the Nucleotide Transformer, 58 of random weights, 131 of
/// its tenth layer, 209 of all its layers pooled, and 31 more layers in full for lentiMPRA.
#[test]
fn the_whole_study_costs_what_it_is_said_to() {
    let plan = planned("paper.toml").plan;
    let (flops, bytes) = total(&plan, UnitKind::Extract);
    let embedding = 456.3 + 8.6 + 3.5 + 132.6;
    assert!(is_near(flops, embedding), "{flops} PFLOP");
    let layer = 51.6e9 + 82.6e9;
    let expected = 916e9 + 58e9 + 131e9 + 209e9 + 31.0 * layer;
    assert!(is_near(bytes, expected), "{bytes} of {expected} bytes");
    let training = convolutions(&plan);
    assert!(is_near(training, 730.0), "{training} PFLOP");
    let (flops, _) = plan_total(&plan);
    let maps: f64 = maps(&plan).values().sum();
    assert!(is_near(flops - maps, embedding + 730.0), "{flops} PFLOP");
}

/// PFLOP of attribution maps by data set and gLM.
fn maps(plan: &Plan) -> BTreeMap<(String, String), f64> {
    let units = plan.fit_units().filter(|(_, unit)| unit.is_attribution());
    let of_unit = units.map(|(number, unit)| {
        let identity = &unit.fits[0].identity;
        let key = (identity.dataset.clone(), identity.model.clone().unwrap_or_default());
        (key, plan.totals(number, number + 1).flops / 1e15)
    });
    of_unit.collect()
}

/// 500 sequences, a pass for each token: 3.5 and 4.2 PFLOP on 230 nucleotides, 2.6 and 3.3 on 200.
#[test]
fn maps_of_the_study_are_ten_units_that_cost_what_they_are_said_to() {
    let plan = planned("paper.toml").plan;
    let found = maps(&plan);
    assert_eq!(found.len(), 10);
    let of = |dataset: &str, model: &str| found[&(dataset.to_owned(), model.to_owned())];
    for (dataset, gpn, transformer) in [("K562", 3.5, 4.2), ("CTCF", 2.6, 3.3)] {
        let both = (of(dataset, "GPN-human"), of(dataset, "NT-2B5-1000G"));
        assert!(is_near(both.0, gpn) && is_near(both.1, transformer), "{dataset}: {both:?}");
    }
    // GPN was padded to 512 on elongation; padding is never masked.
    assert!(is_near(of("INSERT-seq", "GPN-human"), 500.0 * 173.0 * 67.1e-6), "{found:?}");
    let explained = |dataset: &str| {
        let mut fits = plan.fit_units().flat_map(|(_, unit)| &unit.fits);
        let is_it =
            |fit: &&Fit| fit.probe.attribution().is_some() && fit.identity.dataset == dataset;
        let fit = fits.find(is_it).unwrap();
        let spec = fit.probe.attribution().unwrap();
        (fit.identity.probe.clone(), spec.explained.len(), spec.of_states.len())
    };
    assert_eq!(explained("K562"), ("resnet".to_owned(), 1, 1));
    assert_eq!(explained("CTCF"), ("chip-cnn".to_owned(), 1, 1));
    assert_eq!(explained("INSERT-seq"), ("insert-cnn".to_owned(), 1, 1));
}

#[test]
fn a_plan_without_data_tells_what_it_assumed_in_a_line_each() {
    let planned = planned("paper.toml");
    let lines = &planned.assumed;
    assert!(lines.iter().all(|line| !line.contains('\n')));
    let of = |start: &str| lines.iter().find(|line| line.starts_with(start)).unwrap();
    let ctcf = of("CTCF (chip-seq): not here, planned with 87263 examples: ");
    assert!(ctcf.ends_with("examples/archive/chip/CTCF_200.h5"), "{ctcf}");
    let splicing = of("ASCOT GTEx (splicing)");
    assert!(splicing.contains("mtsplice/delta_logit.h5 or "), "{splicing}");
    assert!(of("NT-2B5-1000G: ").contains("hf://InstaDeepAI/"), "{lines:?}");
}

#[test]
fn a_run_without_the_archive_is_refused_with_every_folder_at_once() {
    let error = plan_file(&example("paper.toml"), "cpu").err().unwrap().chain();
    for part in [
        "paper.toml: expected 30 data sets of the study's archive, found none of",
        "HepG2 (lenti-mpra): ",
        "/archive/lenti_MPRA/HepG2_data.h5",
        "/archive/chip/ZNF24_200.h5",
        "/archive/eclip/U2AF1_K562_200.h5",
        "/archive/mtsplice/delta_logit.h5 or ",
        "/archive/alternative_splicing/delta_logit.h5",
        "/archive/RNAenlong/insert_dataset.h5 or ",
        "/archive/CAGI/230/CAGI_onehot.h5",
        "GPN-human (gpn-human): ",
        "/archive/model/sei.pth",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("hf://"), "what can be fetched is not lacking: {error}");
}

fn refused(tables: &str) -> String {
    let text = format!("name = \"a\"\n{tables}[[representation]]\none_hot = true\n");
    let job = Job::parse(&text, "job.toml", Path::new("/")).unwrap();
    plan_with(job, "cpu", WhatIsAbsent::Assumed).err().unwrap().chain()
}

#[test]
fn an_unknown_set_or_task_is_refused_with_what_there_is() {
    let of = |task: &str, name: &str| {
        refused(&format!("[[dataset]]\narchive = \"a\"\ntask = \"{task}\"\nname = \"{name}\"\n"))
    };
    let factor = of("chip-seq", "CTFC");
    assert!(
        factor.contains("a set of chip-seq: Arid3, ATF2") && factor.contains("\"CTFC\""),
        "{factor}"
    );
    let task = of("regression", "mine");
    assert!(task.contains("a task that the archive has sets of, not regression"), "{task}");
}

/// Tokens that DNABERT-2 is padded to in the plan of a job over two sequences.
fn padded_to(protocol: &str, padding: &str) -> Option<u32> {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/dnabert2-tiny");
    std::fs::write(folder.path().join("a.fa"), ">a\nACGTAC\n>b\nACGTTGCAAACGTGGTACCATTGA\n")
        .unwrap();
    let text = format!(
        "name = \"padded\"\nprotocol = \"{protocol}\"\n\
        [[model]]\nname = \"m\"\npath = {:?}\n\
        [[dataset]]\nname = \"a\"\nfasta = \"a.fa\"\n\
        [[representation]]\nmodel = \"m\"\npooling = [\"full\"]\npad_to = 40\n{padding}\n",
        model.display().to_string()
    );
    let job = folder.path().join("job.toml");
    std::fs::write(&job, text).unwrap();
    let planned = plan_file(&job, "cpu").map_err(|e| e.chain()).unwrap();
    planned.plan.sets[0].model.options.pad_to
}

#[test]
fn corrected_padding_follows_the_longest_sequence_and_the_published_one_a_constant() {
    assert_eq!(padded_to("published", ""), Some(40));
    assert_eq!(padded_to("corrected", "padding = \"attended\""), Some(40));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/dnabert2-tiny");
    let tokenizer = glmeval_worker::models::tokenizer(&model, &Default::default()).unwrap();
    let longest = tokenizer.encode("ACGTTGCAAACGTGGTACCATTGA").unwrap().len();
    assert!(longest < 40);
    assert_eq!(padded_to("corrected", ""), u32::try_from(longest).ok());
}
