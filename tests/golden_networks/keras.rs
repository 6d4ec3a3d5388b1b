//! From Keras' description of a model to a network of ours.
//!
//! Leaves out: numbers. Invariant: what cannot be said in our terms is a panic, never left out.

use glmeval_common::network::{
    Activation, Adam, AdamForm, Extent, Initializer, JoinAxis, LayerKind, LayerSpec, Loss,
    NetworkSpec, Padding, Plateau, ResolvedNetwork,
};
use serde_json::Value;

/// The layers of a fixture and the extents of its inputs.
pub(crate) fn network(description: &Value) -> (NetworkSpec, Vec<Extent>) {
    let inputs = list(&description["inputs"]);
    let extents = inputs.iter().map(|input| extent(&input["shape"])).collect();
    let inputs = inputs.iter().map(|input| text(&input["name"])).collect();
    let layers: Vec<LayerSpec> = list(&description["layers"]).iter().map(layer).collect();
    let last = layers.last().expect("at least one layer");
    assert_eq!(last.name, text(&description["output"]), "the last layer is the output");
    (NetworkSpec { inputs, layers }, extents)
}

/// The resolved layers; their extents and weights are those that Keras found.
pub(crate) fn resolved(description: &Value) -> ResolvedNetwork {
    let (spec, extents) = network(description);
    let name = text(&description["name"]);
    let resolved = spec.resolve(&extents).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut weights = resolved.weights.iter();
    for (layer, described) in resolved.layers.iter().zip(list(&description["layers"])) {
        let place = format!("{name}: {}", layer.spec.name);
        assert_eq!(layer.output, extent(&described["output_shape"]), "{place}");
        for described in described["weights"].as_array().into_iter().flatten() {
            let weight = weights.next().unwrap_or_else(|| panic!("{place}: a weight is missing"));
            assert_eq!(weight.name, text(&described["name"]), "{place}");
            assert_eq!(weight.shape, extents_of(&described["shape"]), "{place}");
            assert_eq!(weight.role.is_trained(), described["trainable"] == true, "{place}");
        }
    }
    assert_eq!(weights.next(), None, "{name}: a weight that Keras does not have");
    let parameters = &description["parameters"];
    assert_eq!(resolved.parameters(), parameters["total"], "{name}");
    assert_eq!(resolved.trained_parameters(), parameters["trainable"], "{name}");
    resolved
}

/// What is made small.
pub(crate) fn loss(description: &Value) -> Loss {
    let loss = &description["loss"];
    match (loss["type"].as_str(), loss["path"].as_str()) {
        (Some("mse"), _) => Loss::MeanSquaredError,
        (Some("bce"), None | Some("logits" | "probabilities_keras2")) => Loss::BinaryCrossEntropy,
        (Some("diff_kl"), _) => Loss::SplicingDivergence,
        other => panic!("a loss that is not known: {other:?}"),
    }
}

/// The optimiser and its learning rate.
pub(crate) fn adam(description: &Value) -> (Adam, f32) {
    let optimizer = &description["optimizer"];
    let form = match optimizer["form"].as_str() {
        Some("keras") => AdamForm::Keras,
        Some("torch") => AdamForm::Torch,
        other => panic!("a form of Adam that is not known: {other:?}"),
    };
    let (beta_1, beta_2) = (number(&optimizer["beta_1"]), number(&optimizer["beta_2"]));
    let adam = Adam { form, beta_1, beta_2, epsilon: number(&optimizer["epsilon"]) };
    (adam, number(&optimizer["learning_rate"]) as f32)
}

/// Settings of a fall of the learning rate.
pub(crate) fn plateau(settings: &Value) -> Plateau {
    Plateau {
        factor: number(&settings["factor"]),
        patience: count(&settings["patience"]) as u32,
        learning_rate_min: number(&settings["min_lr"]),
        improvement_min: number(&settings["min_delta"]),
        cooldown: count(&settings["cooldown"]) as u32,
    }
}

fn layer(description: &Value) -> LayerSpec {
    let inputs = list(&description["inputs"]).iter().map(text).collect();
    LayerSpec { name: text(&description["name"]), inputs, kind: kind(description) }
}

fn kind(of: &Value) -> LayerKind {
    match text(&of["type"]).as_str() {
        "Conv1D" => {
            assert_eq!(of["strides"], 1, "strides are one");
            LayerKind::Conv1d {
                filters: count(&of["filters"]),
                kernel: count(&of["kernel_size"]),
                dilation: count(&of["dilation_rate"]),
                padding: padding(&of["padding"]),
                bias: of["use_bias"] == true,
                activation: activation(&of["activation"]),
                initializer: initializer(&of["kernel_initializer"]),
                l2: number(&of["kernel_l2"]),
            }
        }
        "DepthwiseConv1D" => LayerKind::DepthwiseConv1d {
            kernel: count(&of["kernel_size"]),
            dilation: count(&of["dilation_rate"]),
            padding: padding(&of["padding"]),
            bias: of["use_bias"] == true,
            initializer: initializer(&of["depthwise_initializer"]),
        },
        "Dense" => LayerKind::Dense {
            units: count(&of["units"]),
            bias: of["use_bias"] == true,
            activation: activation(&of["activation"]),
            initializer: initializer(&of["kernel_initializer"]),
            l2: number(&of["kernel_l2"]),
        },
        "BatchNormalization" => {
            assert!(of["center"] == true && of["scale"] == true, "with scale and shift");
            let (momentum, epsilon) = (number(&of["momentum"]), number(&of["epsilon"]));
            LayerKind::BatchNorm { momentum, epsilon }
        }
        "LayerNormalization" => {
            assert!(of["center"] == true && of["scale"] == true, "with scale and shift");
            LayerKind::LayerNorm { epsilon: number(&of["epsilon"]) }
        }
        "Activation" => LayerKind::Activation { function: activation(&of["function"]) },
        "Dropout" => LayerKind::Dropout { rate: number(&of["rate"]) },
        "MaxPooling1D" => LayerKind::MaxPool { size: pool(of) },
        "AveragePooling1D" => LayerKind::AveragePool { size: pool(of) },
        "GlobalAveragePooling1D" => LayerKind::GlobalAveragePool,
        "Flatten" => LayerKind::Flatten,
        "Add" => LayerKind::Add,
        "Concatenate" => {
            let rank = list(&of["output_shape"]).len() as i64;
            let axis = of["axis"].as_i64().expect("an axis");
            let is_last = axis == -1 || axis == rank;
            LayerKind::Concatenate {
                axis: if is_last { JoinAxis::Channels } else { JoinAxis::Length },
            }
        }
        "ZeroPadding1D" => {
            LayerKind::ZeroPad { before: count(&of["padding"][0]), after: count(&of["padding"][1]) }
        }
        other => panic!("a layer that is not known: {other}"),
    }
}

fn pool(of: &Value) -> usize {
    assert_eq!(of["strides"], of["pool_size"], "pools do not overlap");
    assert_eq!(of["padding"], "valid", "pools lie inside");
    count(&of["pool_size"])
}

fn padding(name: &Value) -> Padding {
    match name.as_str() {
        Some("same") => Padding::Same,
        Some("valid") => Padding::Valid,
        other => panic!("a padding that is not known: {other:?}"),
    }
}

fn activation(name: &Value) -> Activation {
    match name.as_str() {
        Some("linear") => Activation::Linear,
        Some("relu") => Activation::Relu,
        Some("silu" | "swish") => Activation::Silu,
        Some("exponential") => Activation::Exponential,
        Some("softmax") => Activation::Softmax,
        Some("sigmoid") => Activation::Sigmoid,
        Some("tanh") => Activation::Tanh,
        Some("gelu") => Activation::Gelu,
        other => panic!("a function that is not known: {other:?}"),
    }
}

fn initializer(of: &Value) -> Initializer {
    match of["type"].as_str() {
        Some("GlorotUniform") => Initializer::GlorotUniform,
        Some("HeUniform") => Initializer::HeUniform,
        Some("RandomNormal") => Initializer::Normal { deviation: number(&of["stddev"]) },
        Some("Zeros") => Initializer::Zeros,
        other => panic!("an initialiser that is not known: {other:?}"),
    }
}

fn extent(shape: &Value) -> Extent {
    match extents_of(shape).as_slice() {
        &[length, channels] => Extent::Sequence { length, channels },
        &[channels] => Extent::Vector { channels },
        other => panic!("neither a sequence nor a vector: {other:?}"),
    }
}

fn extents_of(shape: &Value) -> Vec<usize> {
    list(shape).iter().map(count).collect()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("expected a list, found {value}"))
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a text, found {value}")).to_owned()
}

pub(crate) fn count(value: &Value) -> usize {
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.unwrap_or_else(|| panic!("expected a count, found {value}"))
}

pub(crate) fn number(value: &Value) -> f64 {
    glmeval_tests::golden::number(value)
        .unwrap_or_else(|| panic!("expected a number, found {value}"))
}
