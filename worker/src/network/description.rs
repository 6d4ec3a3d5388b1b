//! A trained network as a JSON file describes its layers, in the words of Keras.
//!
//! Leaves out: how it was trained; first values and penalties are of no use any more. Invariant: what
//! cannot be computed as described is refused with the layer, never left out.

use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::network::{
    Activation, Extent, Initializer, JoinAxis, LayerKind, LayerSpec, NetworkSpec, Padding,
};
use serde_json::Value;
use std::fmt;

/// Share of the old value in Keras' moving statistics, which no prediction reads.
const MOMENTUM: f64 = 0.99;
/// What Keras adds to a variance unless told otherwise.
const EPSILON: f64 = 1e-3;

/// Layers up to the logits, and what they read.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkDescription {
    /// The layers; the last one is `logit_layer` where that is named, else `output`.
    pub network: NetworkSpec,
    /// Extents of the inputs.
    pub inputs: Vec<Extent>,
}

impl NetworkDescription {
    /// Reads the object `described` of `file`: `inputs` of `name` and `shape`, `layers` of `name`,
    /// `type`, `inputs` and the settings of their type, `output` and optionally `logit_layer`.
    ///
    /// # Errors
    /// `Invalid` with file, layer and key.
    pub fn parse(file: &str, described: &Value) -> Result<Self> {
        let whole = Part { file, place: String::new(), value: described };
        let inputs = whole.parts("inputs")?;
        let names = inputs.iter().map(|input| input.text("name")).collect::<Result<_>>()?;
        let extents = inputs.iter().map(Part::extent).collect::<Result<_>>()?;
        let mut layers = Vec::new();
        for layer in whole.parts("layers")? {
            let inputs = layer.list("inputs")?.iter().map(|name| name.as_str().map(str::to_owned));
            let inputs = inputs.collect::<Option<Vec<_>>>();
            let inputs = inputs.ok_or_else(|| layer.defect("inputs", "names", "no texts"))?;
            layers.push(LayerSpec { name: layer.text("name")?, inputs, kind: layer.kind()? });
        }
        let key = if described.get("logit_layer").is_some() { "logit_layer" } else { "output" };
        let last = whole.text(key)?;
        let Some(index) = layers.iter().position(|layer| layer.name == last) else {
            return Err(whole.defect(key, "the name of a layer", last));
        };
        layers.truncate(index + 1);
        Ok(Self { network: NetworkSpec { inputs: names, layers }, inputs: extents })
    }
}

/// One object of the file.
struct Part<'a> {
    file: &'a str,
    place: String,
    value: &'a Value,
}

impl<'a> Part<'a> {
    fn defect(&self, key: &str, expected: &str, found: impl fmt::Display) -> Error {
        let place =
            if self.place.is_empty() { key.into() } else { format!("{}.{key}", self.place) };
        InputError::new(self.file, place, expected, found).into()
    }

    fn list(&self, key: &str) -> Result<&'a [Value]> {
        let list = self.value.get(key).and_then(Value::as_array).map(Vec::as_slice);
        list.ok_or_else(|| self.defect(key, "a list", self.shown(key)))
    }

    fn parts(&self, key: &str) -> Result<Vec<Part<'a>>> {
        let parts = self.list(key)?.iter().enumerate().map(|(index, value)| {
            let name = value.get("name").and_then(Value::as_str);
            let place = name.map_or_else(|| format!("{key} {index}"), str::to_owned);
            Part { file: self.file, place, value }
        });
        Ok(parts.collect())
    }

    fn shown(&self, key: &str) -> String {
        self.value.get(key).map_or_else(|| "nothing".to_owned(), crate::json::describe)
    }

    fn text(&self, key: &str) -> Result<String> {
        let text = self.value.get(key).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| self.defect(key, "a text", self.shown(key)))
    }

    fn count(&self, key: &str) -> Result<usize> {
        let count = self.value.get(key).and_then(Value::as_u64);
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.defect(key, "a count", self.shown(key)))
    }

    /// A count that is one unless given.
    fn count_or_one(&self, key: &str) -> Result<usize> {
        if self.value.get(key).is_none() { Ok(1) } else { self.count(key) }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.value.get(key) {
            None => Ok(true),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.defect(key, "true or false", self.shown(key))),
        }
    }

    fn number_or(&self, key: &str, otherwise: f64) -> Result<f64> {
        match self.value.get(key) {
            None => Ok(otherwise),
            Some(value) => {
                value.as_f64().ok_or_else(|| self.defect(key, "a number", self.shown(key)))
            }
        }
    }

    fn extent(&self) -> Result<Extent> {
        let shape = self.list("shape")?;
        let extents: Option<Vec<usize>> =
            shape.iter().map(|extent| usize::try_from(extent.as_u64()?).ok()).collect();
        match extents.as_deref() {
            Some(&[length, channels]) => Ok(Extent::Sequence { length, channels }),
            Some(&[channels]) => Ok(Extent::Vector { channels }),
            _ => Err(self.defect("shape", "one or two extents", self.shown("shape"))),
        }
    }

    fn activation(&self, key: &str) -> Result<Activation> {
        Ok(match self.value.get(key).and_then(Value::as_str) {
            None if self.value.get(key).is_none() => Activation::Linear,
            Some("linear") => Activation::Linear,
            Some("relu") => Activation::Relu,
            Some("silu" | "swish") => Activation::Silu,
            Some("exponential" | "exp") => Activation::Exponential,
            Some("softmax") => Activation::Softmax,
            Some("sigmoid") => Activation::Sigmoid,
            Some("tanh") => Activation::Tanh,
            Some("gelu") => Activation::Gelu,
            _ => return Err(self.defect(key, "a function that is known", self.shown(key))),
        })
    }

    fn padding(&self) -> Result<Padding> {
        match self.value.get("padding").and_then(Value::as_str) {
            Some("same") => Ok(Padding::Same),
            Some("valid") => Ok(Padding::Valid),
            _ => Err(self.defect("padding", "same or valid", self.shown("padding"))),
        }
    }

    /// Positions of a pool that stands beside the next.
    fn pool(&self) -> Result<usize> {
        let size = self.count("pool_size")?;
        let strides = self.value.get("strides").is_none() || self.count("strides")? == size;
        let is_inside = self.value.get("padding").is_none_or(|padding| padding == "valid");
        if strides && is_inside {
            return Ok(size);
        }
        Err(self.defect("strides", "pools side by side, padding valid", self.shown("strides")))
    }

    /// Both of a normalisation's scale and shift.
    fn check_scaled(&self) -> Result<()> {
        for key in ["center", "scale"] {
            if !self.flag(key)? {
                return Err(self.defect(key, "true", "false"));
            }
        }
        Ok(())
    }

    fn kind(&self) -> Result<LayerKind> {
        let initializer = Initializer::default();
        Ok(match self.text("type")?.as_str() {
            "Conv1D" => {
                if self.count_or_one("strides")? != 1 {
                    return Err(self.defect("strides", "1", self.shown("strides")));
                }
                LayerKind::Conv1d {
                    filters: self.count("filters")?,
                    kernel: self.count("kernel_size")?,
                    dilation: self.count_or_one("dilation_rate")?,
                    padding: self.padding()?,
                    bias: self.flag("use_bias")?,
                    activation: self.activation("activation")?,
                    initializer,
                    l2: 0.0,
                }
            }
            "DepthwiseConv1D" => LayerKind::DepthwiseConv1d {
                kernel: self.count("kernel_size")?,
                dilation: self.count_or_one("dilation_rate")?,
                padding: self.padding()?,
                bias: self.flag("use_bias")?,
                initializer,
            },
            "Dense" => LayerKind::Dense {
                units: self.count("units")?,
                bias: self.flag("use_bias")?,
                activation: self.activation("activation")?,
                initializer,
                l2: 0.0,
            },
            "BatchNormalization" => {
                self.check_scaled()?;
                let epsilon = self.number_or("epsilon", EPSILON)?;
                LayerKind::BatchNorm { momentum: MOMENTUM, epsilon }
            }
            "LayerNormalization" => {
                self.check_scaled()?;
                LayerKind::LayerNorm { epsilon: self.number_or("epsilon", EPSILON)? }
            }
            _ => return self.plain_kind(),
        })
    }

    /// Layers without weights.
    fn plain_kind(&self) -> Result<LayerKind> {
        Ok(match self.text("type")?.as_str() {
            "Activation" => LayerKind::Activation { function: self.activation("function")? },
            "Dropout" => LayerKind::Dropout { rate: self.number_or("rate", 0.0)? },
            "MaxPooling1D" => LayerKind::MaxPool { size: self.pool()? },
            "AveragePooling1D" => LayerKind::AveragePool { size: self.pool()? },
            "GlobalAveragePooling1D" => LayerKind::GlobalAveragePool,
            "Flatten" => LayerKind::Flatten,
            "Add" => LayerKind::Add,
            "Concatenate" => match self.number_or("axis", -1.0)? {
                1.0 => LayerKind::Concatenate { axis: JoinAxis::Length },
                -1.0 | 2.0 => LayerKind::Concatenate { axis: JoinAxis::Channels },
                other => return Err(self.defect("axis", "1, 2 or -1", other)),
            },
            "ZeroPadding1D" => {
                let ends = self.list("padding")?.iter().map(Value::as_u64);
                let ends = ends.map(|end| usize::try_from(end?).ok()).collect::<Option<Vec<_>>>();
                let Some(&[before, after]) = ends.as_deref() else {
                    return Err(self.defect("padding", "two counts", self.shown("padding")));
                };
                LayerKind::ZeroPad { before, after }
            }
            other => return Err(self.defect("type", "a layer that is known", other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn described(layer: Value) -> Value {
        json!({
            "inputs": [{"name": "x", "shape": [6, 4]}],
            "layers": [
                layer,
                {"name": "flat", "type": "Flatten", "inputs": ["first"]},
                {"name": "logits", "type": "Dense", "units": 1, "inputs": ["flat"]},
                {"name": "out", "type": "Activation", "function": "sigmoid", "inputs": ["logits"]},
            ],
            "output": "out",
            "logit_layer": "logits",
        })
    }

    #[test]
    fn layers_end_at_the_logits() {
        let conv = json!({
            "name": "first", "type": "Conv1D", "filters": 2, "kernel_size": 3, "padding": "same",
            "activation": "exp", "inputs": ["x"],
        });
        let found = NetworkDescription::parse("a.json", &described(conv)).unwrap();
        let resolved = found.network.resolve(&found.inputs).unwrap();
        assert_eq!(resolved.output(), Extent::Vector { channels: 1 });
        let names: Vec<&str> = resolved.weights.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["first/kernel", "first/bias", "logits/kernel", "logits/bias"]);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_with_its_layer() {
        for (layer, expected) in [
            (json!({"name": "first", "type": "LSTM", "inputs": []}), "first.type"),
            (
                json!({"name": "first", "type": "Conv1D", "strides": 2, "inputs": ["x"]}),
                "first.strides: expected 1",
            ),
            (
                json!({"name": "first", "type": "MaxPooling1D", "pool_size": 3, "strides": 2,
                       "inputs": ["x"]}),
                "first.strides: expected pools side by side",
            ),
            (json!({"name": "first", "type": "Dense", "inputs": ["x"]}), "first.units"),
            (json!({"type": "Dense", "inputs": ["x"]}), "layers 0.name"),
        ] {
            let error = NetworkDescription::parse("a.json", &described(layer)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
