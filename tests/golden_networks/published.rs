//! The networks of the study, layer by layer, against tables of the published functions.
//!
//! Leaves out: what layers compute. Invariant: every table of the folder is compared, but that of
//! rep_onehot, with which nothing was published.

use glmeval_common::network::{
    Activation, Architecture, ChipFront, Extent, Initializer, JoinAxis, LayerKind, LayerSpec,
    NetworkSpec, Padding,
};
use glmeval_tests::golden;
use serde_json::Value;

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a count")).expect("a small count")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn list<T>(value: &Value, of: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().expect("a list").iter().map(of).collect()
}

/// A name of Keras as one of this system's kebab-case names.
fn named<T: serde::de::DeserializeOwned>(name: &Value) -> T {
    serde_json::from_value(name.clone()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn extent(shape: &Value) -> Extent {
    match list(shape, count)[..] {
        [length, channels] => Extent::Sequence { length, channels },
        [channels] => Extent::Vector { channels },
        _ => panic!("{shape}"),
    }
}

fn initializer(layer: &Value) -> Initializer {
    let entry = &layer["kernel_initializer"];
    match text(&entry["type"]).as_str() {
        "GlorotUniform" => Initializer::GlorotUniform,
        "HeUniform" => Initializer::HeUniform,
        "RandomNormal" => Initializer::Normal { deviation: number(&entry["stddev"]) },
        other => panic!("initializer {other}"),
    }
}

fn kind(layer: &Value) -> LayerKind {
    let strides = || assert!(layer["strides"] == layer["pool_size"] || layer["strides"] == 1);
    let activation = || named::<Activation>(&layer["activation"]);
    let bias = || layer["use_bias"].as_bool().expect("a flag");
    match text(&layer["type"]).as_str() {
        "Conv1D" => {
            strides();
            LayerKind::Conv1d {
                filters: count(&layer["filters"]),
                kernel: count(&layer["kernel_size"]),
                dilation: count(&layer["dilation_rate"]),
                padding: named::<Padding>(&layer["padding"]),
                bias: bias(),
                activation: activation(),
                initializer: initializer(layer),
                l2: number(&layer["kernel_l2"]),
            }
        }
        "Dense" => LayerKind::Dense {
            units: count(&layer["units"]),
            bias: bias(),
            activation: activation(),
            initializer: initializer(layer),
            l2: number(&layer["kernel_l2"]),
        },
        "BatchNormalization" => LayerKind::BatchNorm {
            momentum: number(&layer["momentum"]),
            epsilon: number(&layer["epsilon"]),
        },
        "Activation" => LayerKind::Activation { function: named(&layer["function"]) },
        "Dropout" => LayerKind::Dropout { rate: number(&layer["published_rate"]) },
        "MaxPooling1D" => {
            strides();
            LayerKind::MaxPool { size: count(&layer["pool_size"]) }
        }
        "AveragePooling1D" => {
            strides();
            LayerKind::AveragePool { size: count(&layer["pool_size"]) }
        }
        "GlobalAveragePooling1D" => LayerKind::GlobalAveragePool,
        "Flatten" => LayerKind::Flatten,
        "Add" => LayerKind::Add,
        "Concatenate" => {
            assert_eq!(layer["axis"], 1, "along the length");
            LayerKind::Concatenate { axis: JoinAxis::Length }
        }
        other => panic!("layer {other}"),
    }
}

fn layer(value: &Value) -> LayerSpec {
    let inputs = list(&value["inputs"], text);
    LayerSpec { name: text(&value["name"]), inputs, kind: kind(value) }
}

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
        "resnet" => Architecture::ResNet,
        "mprann" => Architecture::MpraNn,
        "insert_2cnn" => Architecture::InsertCnn,
        "rbp_2cnn" => Architecture::RbpCnn,
        "mtsplice" => Architecture::SplicingCnn { is_reduced: false },
        "mtsplice_embed" => Architecture::SplicingCnn { is_reduced: true },
        other => panic!("network {other}"),
    }
}

#[test]
fn layers_are_those_of_the_published_functions() {
    let folder = golden::fixture("probes/paper_scale");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the tables").map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut compared = 0;
    for path in files {
        let table = golden::json(&path);
        let name = table["name"].as_str().unwrap_or_default();
        // Nothing was published with rep_onehot.
        if name.is_empty() || name == "rep_onehot" {
            continue;
        }
        let expected = NetworkSpec {
            inputs: list(&table["inputs"], |input| text(&input["name"])),
            layers: list(&table["layers"], layer),
        };
        let inputs = list(&table["inputs"], |input| extent(&input["shape"]));
        let outputs = list(&table["layers"], |layer| extent(&layer["output_shape"]));
        let targets = outputs.last().expect("a layer").channels();
        let found = architecture(name, &expected).network(&inputs, targets).unwrap();
        assert_eq!(found.inputs, expected.inputs, "{}", path.display());
        for (found, expected) in found.layers.iter().zip(&expected.layers) {
            assert_eq!(found, expected, "{}", path.display());
        }
        assert_eq!(found.layers.len(), expected.layers.len(), "{}", path.display());
        let resolved = found.resolve(&inputs).unwrap();
        let extents: Vec<_> = resolved.layers.iter().map(|layer| layer.output).collect();
        assert_eq!(extents, outputs, "{}", path.display());
        let named = table["layers"].as_array().expect("layers").iter();
        let weights: Vec<_> = named
            .flat_map(|layer| layer["weights"].as_array().cloned().unwrap_or_default())
            .map(|weight| (text(&weight["name"]), list(&weight["shape"], count)))
            .collect();
        let found: Vec<_> =
            resolved.weights.iter().map(|w| (w.name.clone(), w.shape.clone())).collect();
        assert_eq!(found, weights, "{}", path.display());
        assert_eq!(resolved.parameters(), table["parameters"]["total"].as_u64().unwrap());
        compared += 1;
    }
    assert!(compared > 0, "no table in {}", folder.display());
}
