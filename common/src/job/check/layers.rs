//! From `layers` of a `[[probe]]` table to a network.
//!
//! Leaves out: extents, which depend on what is read (planned). Invariant: a key that a kind of layer
//! does not have is refused with the keys it has.

use super::Place;
use crate::error::InputError;
use crate::job::{LayerTable, ProbeLayers, ProbeTable};
use crate::network::{Initializer, LayerKind, LayerSpec, NetworkSpec};
use std::collections::BTreeMap;

/// Layers of one network at most.
const LAYERS_MAX: usize = 1_000;

/// Kinds of layers with the keys they have beside kind, name and inputs.
const KINDS: [(&str, &[&str]); 15] = [
    (
        "conv1d",
        &[
            "filters",
            "kernel",
            "dilation",
            "padding",
            "bias",
            "activation",
            "initializer",
            "deviation",
            "l2",
        ],
    ),
    ("depthwise-conv1d", &["kernel", "dilation", "padding", "bias", "initializer", "deviation"]),
    ("dense", &["units", "bias", "activation", "initializer", "deviation", "l2"]),
    ("batch-norm", &["momentum", "epsilon"]),
    ("layer-norm", &["epsilon"]),
    ("activation", &["activation"]),
    ("dropout", &["rate"]),
    ("max-pool", &["size"]),
    ("average-pool", &["size"]),
    ("global-average-pool", &[]),
    ("flatten", &[]),
    ("add", &[]),
    ("concatenate", &["axis"]),
    ("zero-pad", &["before", "after"]),
    ("spline-weights", &["bases", "degree"]),
];

/// The network that a table's `inputs` and `layers` describe.
pub(super) fn network(
    place: &Place<'_>,
    key: &str,
    table: &ProbeTable,
) -> Result<NetworkSpec, InputError> {
    let inputs = table.inputs.clone().unwrap_or_else(|| vec!["sequence".to_owned()]);
    if inputs != ["sequence"] && inputs != ["left", "right"] {
        let expected = "[\"sequence\"], or [\"left\", \"right\"] for splicing";
        return Err(place.wrong(&format!("{key}.inputs"), expected, format!("{inputs:?}")));
    }
    let tables = table.layers.as_ref().and_then(ProbeLayers::tables).unwrap_or_default();
    if tables.is_empty() || tables.len() > LAYERS_MAX {
        let expected = format!("1 to {LAYERS_MAX} layers");
        return Err(place.wrong(&format!("{key}.layers"), expected, tables.len()));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut last = inputs[0].clone();
    let mut layers = Vec::new();
    for (i, table) in tables.iter().enumerate() {
        let count = counts.entry(table.kind.as_str()).or_default();
        *count += 1;
        let name = table.name.clone().unwrap_or_else(|| format!("{}{count}", table.kind));
        let kind = Layer { place, key: format!("{key}.layers[{i}]"), table }.kind()?;
        let inputs = table.inputs.clone().unwrap_or_else(|| vec![last]);
        last = name.clone();
        layers.push(LayerSpec { name, inputs, kind });
    }
    Ok(NetworkSpec { inputs, layers })
}

/// One layer as written.
struct Layer<'a> {
    place: &'a Place<'a>,
    key: String,
    table: &'a LayerTable,
}

impl Layer<'_> {
    fn wrong(&self, name: &str, expected: &str, found: impl std::fmt::Display) -> InputError {
        self.place.wrong(&format!("{}.{name}", self.key), expected, found)
    }

    /// A key without a default.
    fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T, InputError> {
        let expected = format!("a value for {}", self.table.kind);
        value.ok_or_else(|| self.wrong(name, &expected, "nothing"))
    }

    /// What the layer computes; numbers are checked where extents are known.
    fn kind(&self) -> Result<LayerKind, InputError> {
        self.refuse_others()?;
        let t = self.table;
        let (dilation, padding) = (t.dilation.unwrap_or(1), t.padding.unwrap_or_default());
        let (bias, activation) = (t.bias.unwrap_or(true), t.activation.unwrap_or_default());
        let (initializer, l2) = (self.initializer()?, t.l2.unwrap_or(0.0));
        let epsilon = t.epsilon.unwrap_or(1e-3);
        Ok(match t.kind.as_str() {
            "conv1d" => LayerKind::Conv1d {
                filters: self.needed("filters", t.filters)?,
                kernel: self.needed("kernel", t.kernel)?,
                dilation,
                padding,
                bias,
                activation,
                initializer,
                l2,
            },
            "depthwise-conv1d" => {
                let kernel = self.needed("kernel", t.kernel)?;
                LayerKind::DepthwiseConv1d { kernel, dilation, padding, bias, initializer }
            }
            "dense" => {
                let units = self.needed("units", t.units)?;
                LayerKind::Dense { units, bias, activation, initializer, l2 }
            }
            "batch-norm" => LayerKind::BatchNorm { momentum: t.momentum.unwrap_or(0.99), epsilon },
            "layer-norm" => LayerKind::LayerNorm { epsilon },
            "activation" => {
                LayerKind::Activation { function: self.needed("activation", t.activation)? }
            }
            "dropout" => LayerKind::Dropout { rate: self.needed("rate", t.rate)? },
            "max-pool" => LayerKind::MaxPool { size: self.needed("size", t.size)? },
            "average-pool" => LayerKind::AveragePool { size: self.needed("size", t.size)? },
            "global-average-pool" => LayerKind::GlobalAveragePool,
            "flatten" => LayerKind::Flatten,
            "add" => LayerKind::Add,
            "concatenate" => LayerKind::Concatenate { axis: self.needed("axis", t.axis)? },
            "zero-pad" => {
                LayerKind::ZeroPad { before: t.before.unwrap_or(0), after: t.after.unwrap_or(0) }
            }
            _ => LayerKind::SplineWeights {
                bases: t.bases.unwrap_or(10),
                degree: t.degree.unwrap_or(3),
            },
        })
    }

    /// Three words and one with a number of its own.
    fn initializer(&self) -> Result<Initializer, InputError> {
        let t = self.table;
        let name = t.initializer.as_deref().unwrap_or("glorot-uniform");
        if t.deviation.is_some() && name != "normal" {
            return Err(self.wrong("deviation", "no such key", format!("initializer {name:?}")));
        }
        let deviation = t.deviation.unwrap_or(0.005);
        if !(deviation.is_finite() && deviation > 0.0) {
            return Err(self.wrong("deviation", "a positive number", deviation));
        }
        Ok(match name {
            "glorot-uniform" => Initializer::GlorotUniform,
            "he-uniform" => Initializer::HeUniform,
            "normal" => Initializer::Normal { deviation },
            "zeros" => Initializer::Zeros,
            other => {
                let expected = "glorot-uniform, he-uniform, normal or zeros";
                return Err(self.wrong("initializer", expected, format!("{other:?}")));
            }
        })
    }

    /// Refuses an unknown kind and keys that only other kinds have.
    fn refuse_others(&self) -> Result<(), InputError> {
        let t = self.table;
        let Some((kind, known)) = KINDS.iter().find(|(kind, _)| *kind == t.kind) else {
            let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
            return Err(self.wrong("kind", &kinds.join(", "), format!("{:?}", t.kind)));
        };
        let given = [
            ("filters", t.filters.is_some()),
            ("units", t.units.is_some()),
            ("kernel", t.kernel.is_some()),
            ("dilation", t.dilation.is_some()),
            ("padding", t.padding.is_some()),
            ("bias", t.bias.is_some()),
            ("activation", t.activation.is_some()),
            ("initializer", t.initializer.is_some()),
            ("deviation", t.deviation.is_some()),
            ("l2", t.l2.is_some()),
            ("momentum", t.momentum.is_some()),
            ("epsilon", t.epsilon.is_some()),
            ("rate", t.rate.is_some()),
            ("size", t.size.is_some()),
            ("axis", t.axis.is_some()),
            ("before", t.before.is_some()),
            ("after", t.after.is_some()),
            ("bases", t.bases.is_some()),
            ("degree", t.degree.is_some()),
        ];
        match given.into_iter().find(|(name, given)| *given && !known.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let expected = match known.len() {
                    0 => "no key but kind, name and inputs".to_owned(),
                    _ => format!("only {}", known.join(", ")),
                };
                Err(self.wrong(name, &expected, format!("{name} on a {kind} layer")))
            }
        }
    }
}
