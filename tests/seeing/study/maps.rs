//! Attribution maps of the study, made up: two data sets, two gLMs, logos of three sequences each.
//!
//! Leaves out: scores of probes. Invariant: the same seed gives the same maps.

use glmeval_common::dna::DnaSequence;
use glmeval_common::ids::{DatasetId, FitId, ModelId};
use glmeval_common::rng::Rng;
use glmeval_common::score::{FitIdentity, FitScores, Statistic};
use glmeval_worker::attribution::{MapKind, Named, StoredMaps};
use glmeval_worker::report::AttributionResult;

/// Data set, task, explained network, gLM, published correlations.
type Published = (&'static str, &'static str, &'static str, &'static str, [f64; 2]);

const PUBLISHED: [Published; 4] = [
    ("K562", "lenti-mpra", "resnet", "GPN-human", [0.094, 0.401]),
    ("K562", "lenti-mpra", "resnet", "NT-2B5-1000G", [0.081, 0.228]),
    ("CTCF", "chip-seq", "chip-cnn", "GPN-human", [0.015, 0.642]),
    ("CTCF", "chip-seq", "chip-cnn", "NT-2B5-1000G", [-0.013, 0.553]),
];

pub(super) fn attributions(seed: u64) -> Vec<AttributionResult> {
    PUBLISHED.iter().map(|one| result(seed, one)).collect()
}

fn result(seed: u64, &(dataset, task, probe, model, r): &Published) -> AttributionResult {
    let fit = format!("maps/{dataset}/{model}");
    let mut rng = Rng::derive(seed, &fit);
    let kinds = MapKind::ALL.map(MapKind::name);
    let statistic = |name: &str, map: &str, value: f64| Statistic {
        name: name.to_owned(),
        split: "test".to_owned(),
        target: format!("{map} vs saliency"),
        value: Some(value),
        low: None,
        high: None,
        examples: 500,
    };
    let mut statistics = Vec::new();
    for (map, value) in kinds.iter().skip(1).zip(r) {
        statistics.push(statistic("map_pearson", map, value + 0.02 * rng.normal()));
        statistics.push(statistic("map_spearman", map, value - 0.03));
    }
    let identity = FitIdentity {
        fit: FitId::new(fit),
        task: task.to_owned(),
        dataset: dataset.to_owned(),
        dataset_id: DatasetId::new(format!("d-{dataset}")),
        model: Some(model.to_owned()),
        model_id: Some(ModelId::new(format!("m-{model}"))),
        layer: None,
        representation: "attribution".to_owned(),
        probe: probe.to_owned(),
        factor: 1.0,
        fraction: 1.0,
        repeat: 0,
        seed,
        protocol: "published".to_owned(),
        trained_on: None,
    };
    let scores = FitScores {
        version: 1,
        identity,
        statistics,
        objects: Vec::new(),
        seconds: 812.0,
        worker: "w0".to_owned(),
        notes: vec!["explained: <one>, repeat 4, of 5 repeats".to_owned()],
    };
    let length = if task == "chip-seq" { 200 } else { 230 };
    let logos = (0..3).map(|rank| maps(seed, (dataset, model), rank, length)).collect();
    AttributionResult { scores, logos }
}

/// A sequence with a motif that the network heeds.
fn maps(seed: u64, (dataset, model): (&str, &str), rank: u64, length: usize) -> StoredMaps {
    const MOTIF: &[u8] = b"CCACCAGGGGGCGC";
    let mut rng = Rng::derive(seed, &format!("sequence/{dataset}/{rank}"));
    let mut letters: Vec<u8> = (0..length).map(|_| b"ACGT"[rng.below(4) as usize]).collect();
    let start = 70 + 11 * rank as usize;
    letters[start..start + MOTIF.len()].copy_from_slice(MOTIF);
    let is_motif = |at: usize| (start..start + MOTIF.len()).contains(&at);
    let map = |of: &str, (inside, outside): (f64, f64)| -> Vec<f32> {
        let mut rng = Rng::derive(seed, &format!("{of}/{dataset}/{rank}"));
        let height = |at| if is_motif(at) { inside } else { 0.0 };
        (0..length).map(|at| (height(at) + outside * rng.normal()) as f32).collect()
    };
    let saliency = map("saliency", (1.4, 0.15));
    let positive = |of: &str, heights| -> Vec<f32> {
        map(&format!("{of}/{model}"), heights).into_iter().map(f32::abs).collect()
    };
    let (information, gradient) = (positive("i", (0.1, 0.2)), positive("g", (0.6, 0.1)));
    let kinds = MapKind::ALL.into_iter().zip([saliency, information, gradient]);
    let id = format!("chr{rank}:1,000-<1,230>");
    let sequence = DnaSequence::new(letters).unwrap();
    let output = Some(9.0 - rank as f32);
    StoredMaps { named: Named { row: rank, id, sequence }, output, maps: kinds.collect() }
}
