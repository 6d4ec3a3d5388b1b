//! The networks of the study, layer by layer, against tables of the published functions.
//!
//! Leaves out: what layers compute. Invariant: every table of the folder is compared, but that of
//! rep_onehot, with which nothing was published.

use crate::keras;
use glmeval_common::network::{Architecture, ChipFront, LayerKind, NetworkSpec, named};
use glmeval_tests::golden;

fn filters(network: &NetworkSpec, name: &str) -> Option<usize> {
    network.layers.iter().find(|layer| layer.name == name).map(|layer| match layer.kind {
        LayerKind::Conv1d { filters, .. } => filters,
        LayerKind::Dense { units, .. } => units,
        _ => 0,
    })
}

/// The architecture of a table; width factors are read from its first scaled layer.
fn architecture(name: &str, table: &NetworkSpec) -> Architecture {
    let factor =
        |layer, width| filters(table, layer).expect("the scaled layer") as f64 / f64::from(width);
    let has = |layer| filters(table, layer).is_some();
    match name {
        "rep_cnn" => Architecture::RepCnn {
            factor: factor("conv1", 196),
            reduce: filters(table, "reduce").expect("the reduction"),
        },
        "rep_mlp" | "embed_mlp" => Architecture::RepMlp { factor: factor("dense1", 512) },
        "linear_model" => Architecture::Linear,
        "chip_cnn" => Architecture::ChipCnn {
            front: match (has("input_bn"), has("reduce")) {
                (true, true) => ChipFront::Normalised,
                (false, true) => ChipFront::Reduced,
                _ => ChipFront::Raw,
            },
        },
        "resnet" => Architecture::Named(&named::resnet::NETWORK),
        "mprann" => Architecture::Named(&named::mprann::NETWORK),
        "insert_2cnn" => Architecture::InsertCnn,
        "rbp_2cnn" => Architecture::RbpCnn,
        "mtsplice" => Architecture::SplicingCnn { is_reduced: false },
        "mtsplice_embed" => Architecture::SplicingCnn { is_reduced: true },
        other => panic!("network {other}"),
    }
}

#[test]
fn layers_are_those_of_the_published_functions() {
    let mut compared = 0;
    for path in golden::descriptions("probes/paper_scale") {
        let table = golden::json(&path);
        let name = table["name"].as_str().unwrap_or_default();
        // Nothing was published with rep_onehot.
        if !table["layers"].is_array() || name == "rep_onehot" {
            continue;
        }
        let (expected, inputs) = keras::network(&table);
        let targets = keras::resolved(&table).output().channels();
        let found = architecture(name, &expected).network(&inputs, targets).unwrap();
        assert_eq!(found.inputs, expected.inputs, "{}", path.display());
        for (found, expected) in found.layers.iter().zip(&expected.layers) {
            assert_eq!(found, expected, "{}", path.display());
        }
        assert_eq!(found.layers.len(), expected.layers.len(), "{}", path.display());
        compared += 1;
    }
    assert!(compared > 0 || golden::is_elsewhere(), "no table of a published network");
}
