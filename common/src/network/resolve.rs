//! From a network as written to one with extents: every layer's output and every weight's shape.
//!
//! Leaves out: numbers. Invariant: a resolved network can be built; what cannot is refused here with
//! the name of the layer.

use super::{
    Activation, Extent, Initializer, JoinAxis, LayerKind, LayerSpec, NetworkSpec, Padding,
};
use crate::error::{InputError, Result};
use std::collections::BTreeMap;

/// Values of one example in one layer at most.
const LAYER_VALUES_MAX: usize = 1 << 28;
/// Values of one weight at most.
const WEIGHT_VALUES_MAX: usize = 1 << 30;

/// What a weight is to its layer, in the order Keras stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeightRole {
    /// `[taps, in, out]` of a convolution, `[taps, channels]` of a depthwise one, `[in, out]` of a
    /// dense layer, `[bases, channels]` of a spline.
    Kernel,
    /// Added to every position, `[out]`.
    Bias,
    /// Scale of a normalisation.
    Gamma,
    /// Shift of a normalisation.
    Beta,
    /// Running mean of a batch normalisation; not trained.
    MovingMean,
    /// Running variance of a batch normalisation; not trained.
    MovingVariance,
}

impl WeightRole {
    /// Name after the layer's: `conv1/kernel`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Bias => "bias",
            Self::Gamma => "gamma",
            Self::Beta => "beta",
            Self::MovingMean => "moving_mean",
            Self::MovingVariance => "moving_variance",
        }
    }

    /// Whether steps change it.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::MovingMean | Self::MovingVariance)
    }
}

/// One weight of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightShape {
    /// `layer/role`.
    pub name: String,
    /// What it is.
    pub role: WeightRole,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// How it is drawn; for gamma and moving variance ones, for everything but kernels zeros.
    pub initializer: Initializer,
    /// c of the penalty c sum(w^2).
    pub l2: f64,
}

impl WeightShape {
    /// Number of values.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A layer with extents.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedLayer {
    /// As written.
    pub spec: LayerSpec,
    /// What it reads: indices below the number of inputs are inputs, the others layers.
    pub inputs: Vec<usize>,
    /// Extents of what it reads.
    pub input_extents: Vec<Extent>,
    /// Extent of its output.
    pub output: Extent,
    /// Its weights: a range of [`ResolvedNetwork::weights`].
    pub weights: std::ops::Range<usize>,
    /// Multiply-adds of one example, forward.
    pub products: u64,
}

/// A network with extents.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedNetwork {
    /// Extents of the inputs.
    pub inputs: Vec<Extent>,
    /// Layers in order.
    pub layers: Vec<ResolvedLayer>,
    /// All weights, layer by layer.
    pub weights: Vec<WeightShape>,
}

impl ResolvedNetwork {
    /// Extent of the prediction.
    pub fn output(&self) -> Extent {
        self.layers.last().map_or(Extent::Vector { channels: 0 }, |layer| layer.output)
    }

    /// Values of all weights, moving statistics included.
    pub fn parameters(&self) -> u64 {
        self.weights.iter().map(|weight| weight.values() as u64).sum()
    }

    /// Values of the weights that steps change.
    pub fn trained_parameters(&self) -> u64 {
        let trained = self.weights.iter().filter(|weight| weight.role.is_trained());
        trained.map(|weight| weight.values() as u64).sum()
    }

    /// Multiply-adds of one example, forward.
    pub fn products(&self) -> u64 {
        self.layers.iter().map(|layer| layer.products).sum()
    }
}

impl NetworkSpec {
    /// Gives every layer its extents.
    ///
    /// # Errors
    /// `Invalid` with the layer, what it needs and what it has.
    pub fn resolve(&self, inputs: &[Extent]) -> Result<ResolvedNetwork> {
        if inputs.len() != self.inputs.len() || self.layers.is_empty() {
            let expected = format!("{} inputs and at least one layer", self.inputs.len());
            let found = format!("{} inputs, {} layers", inputs.len(), self.layers.len());
            return Err(InputError::new("network", "", expected, found).into());
        }
        let mut network =
            ResolvedNetwork { inputs: inputs.to_vec(), layers: Vec::new(), weights: Vec::new() };
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.inputs.iter() {
            add_name(&mut known, name)?;
        }
        for spec in &self.layers {
            let layer = resolve_layer(&mut network, spec, &known)?;
            add_name(&mut known, &spec.name)?;
            network.layers.push(layer);
        }
        Ok(network)
    }
}

fn add_name<'a>(known: &mut BTreeMap<&'a str, usize>, name: &'a str) -> Result<(), InputError> {
    let index = known.len();
    if name.is_empty() || name.contains('/') || known.insert(name, index).is_some() {
        return Err(wrong(name, "a name used once, without /", format!("{name:?}")));
    }
    Ok(())
}

fn wrong(
    layer: &str,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> InputError {
    InputError::new("network", format!("layer {layer}"), expected, found)
}

fn resolve_layer(
    network: &mut ResolvedNetwork,
    spec: &LayerSpec,
    known: &BTreeMap<&str, usize>,
) -> Result<ResolvedLayer, InputError> {
    let mut inputs = Vec::new();
    for name in &spec.inputs {
        let index = known.get(name.as_str()).copied();
        let expected = "names of inputs or earlier layers";
        inputs.push(index.ok_or_else(|| wrong(&spec.name, expected, format!("{name:?}")))?);
    }
    let extent = |index: &usize| match network.inputs.get(*index) {
        Some(extent) => *extent,
        None => network.layers[*index - network.inputs.len()].output,
    };
    let input_extents: Vec<Extent> = inputs.iter().map(extent).collect();
    let joins = matches!(spec.kind, LayerKind::Add | LayerKind::Concatenate { .. });
    let Some(&input) = input_extents.first().filter(|_| joins || inputs.len() == 1) else {
        let expected = if joins { "at least one input" } else { "one input" };
        return Err(wrong(&spec.name, expected, inputs.len()));
    };
    let mut weights = Vec::new();
    let output = output_of(spec, input, &input_extents, &mut weights)?;
    let first = network.weights.len();
    let products = products_of(&spec.kind, input, output);
    let positive = output.length() > 0 && output.channels() > 0;
    if !positive || output.values() > LAYER_VALUES_MAX {
        let expected = format!("1 to {LAYER_VALUES_MAX} values of an example");
        return Err(wrong(&spec.name, expected, format!("{output:?}")));
    }
    for weight in weights {
        let values = weight.shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent));
        if values.is_none_or(|values| values > WEIGHT_VALUES_MAX) {
            let expected = format!("a weight of at most {WEIGHT_VALUES_MAX} values");
            return Err(wrong(&spec.name, expected, format!("{:?}", weight.shape)));
        }
        network.weights.push(weight);
    }
    let weights = first..network.weights.len();
    Ok(ResolvedLayer { spec: spec.clone(), inputs, input_extents, output, weights, products })
}

/// Extent of a layer's output; its weights are added to `weights`.
fn output_of(
    spec: &LayerSpec,
    input: Extent,
    inputs: &[Extent],
    weights: &mut Vec<WeightShape>,
) -> Result<Extent, InputError> {
    let channels = input.channels();
    let mut add = |role: WeightRole, shape: Vec<usize>, initializer: Initializer, l2: f64| {
        let name = format!("{}/{}", spec.name, role.name());
        weights.push(WeightShape { name, role, shape, initializer, l2 });
    };
    let zeros = Initializer::Zeros;
    Ok(match &spec.kind {
        LayerKind::Conv1d { filters, kernel, dilation, padding, bias, initializer, l2, .. } => {
            let length = convolved(spec, input, (*kernel, *dilation), *padding)?;
            check_l2(spec, *l2)?;
            add(WeightRole::Kernel, vec![*kernel, channels, *filters], *initializer, *l2);
            if *bias {
                add(WeightRole::Bias, vec![*filters], zeros, 0.0);
            }
            Extent::Sequence { length, channels: *filters }
        }
        LayerKind::DepthwiseConv1d { kernel, dilation, padding, bias, initializer } => {
            let length = convolved(spec, input, (*kernel, *dilation), *padding)?;
            add(WeightRole::Kernel, vec![*kernel, channels], *initializer, 0.0);
            if *bias {
                add(WeightRole::Bias, vec![channels], zeros, 0.0);
            }
            Extent::Sequence { length, channels }
        }
        LayerKind::Dense { units, bias, initializer, l2, .. } => {
            check_l2(spec, *l2)?;
            add(WeightRole::Kernel, vec![channels, *units], *initializer, *l2);
            if *bias {
                add(WeightRole::Bias, vec![*units], zeros, 0.0);
            }
            input.with_channels(*units)
        }
        LayerKind::BatchNorm { momentum, epsilon } => {
            check_range(spec, "momentum from 0 to 1", *momentum, 0.0..=1.0)?;
            check_range(spec, "an epsilon above 0", *epsilon, f64::MIN_POSITIVE..=f64::MAX)?;
            use WeightRole::{Beta, Gamma, MovingMean, MovingVariance};
            for role in [Gamma, Beta, MovingMean, MovingVariance] {
                add(role, vec![channels], zeros, 0.0);
            }
            input
        }
        LayerKind::LayerNorm { epsilon } => {
            check_range(spec, "an epsilon above 0", *epsilon, f64::MIN_POSITIVE..=f64::MAX)?;
            add(WeightRole::Gamma, vec![channels], zeros, 0.0);
            add(WeightRole::Beta, vec![channels], zeros, 0.0);
            input
        }
        LayerKind::SplineWeights { bases, degree } => {
            if *degree == 0 || *degree > 8 || *bases <= *degree || *bases > 4_096 {
                let expected = "a degree of 1 to 8 and more bases than that, at most 4096";
                return Err(wrong(&spec.name, expected, format!("{degree} and {bases}")));
            }
            positions(spec, input)?;
            add(WeightRole::Kernel, vec![*bases, channels], zeros, 0.0);
            input
        }
        _ => unweighted(spec, input, inputs)?,
    })
}

/// Extent of the output of a layer without weights.
fn unweighted(spec: &LayerSpec, input: Extent, inputs: &[Extent]) -> Result<Extent, InputError> {
    let channels = input.channels();
    let sequence = |length| Extent::Sequence { length, channels };
    Ok(match &spec.kind {
        LayerKind::Dropout { rate } => {
            check_range(spec, "a rate from 0 to below 1", *rate, 0.0..=0.999_999)?;
            input
        }
        LayerKind::MaxPool { size } | LayerKind::AveragePool { size } => {
            let length = positions(spec, input)?;
            if *size == 0 || *size > length {
                let expected = format!("a pool of 1 to {length} positions");
                return Err(wrong(&spec.name, expected, size));
            }
            sequence(length / size)
        }
        LayerKind::GlobalAveragePool => {
            positions(spec, input)?;
            Extent::Vector { channels }
        }
        LayerKind::Flatten => Extent::Vector { channels: input.values() },
        LayerKind::Add => {
            if let Some(other) = inputs.iter().find(|&&other| other != input) {
                return Err(wrong(
                    &spec.name,
                    format!("inputs of {input:?}"),
                    format!("{other:?}"),
                ));
            }
            input
        }
        LayerKind::Concatenate { axis } => joined(spec, input, inputs, *axis)?,
        LayerKind::ZeroPad { before, after } => {
            let length = positions(spec, input)?;
            sequence(length.saturating_add(*before).saturating_add(*after))
        }
        _ => input,
    })
}

/// Extent of several inputs joined along `axis`.
fn joined(
    spec: &LayerSpec,
    first: Extent,
    inputs: &[Extent],
    axis: JoinAxis,
) -> Result<Extent, InputError> {
    let is_vector = |extent: &Extent| matches!(extent, Extent::Vector { .. });
    let fits = inputs.iter().all(|extent| match axis {
        JoinAxis::Length => !is_vector(extent) && extent.channels() == first.channels(),
        JoinAxis::Channels => {
            is_vector(extent) == is_vector(&first) && extent.length() == first.length()
        }
    });
    if !fits {
        let expected = "inputs that agree but for the axis they are joined along";
        return Err(wrong(&spec.name, expected, format!("{inputs:?}")));
    }
    let sum = |of: fn(Extent) -> usize| inputs.iter().map(|extent| of(*extent)).sum();
    Ok(match axis {
        JoinAxis::Length => {
            Extent::Sequence { length: sum(Extent::length), channels: first.channels() }
        }
        JoinAxis::Channels => first.with_channels(sum(Extent::channels)),
    })
}

/// Positions of a sequence; a vector has none.
fn positions(spec: &LayerSpec, input: Extent) -> Result<usize, InputError> {
    match input {
        Extent::Sequence { length, .. } => Ok(length),
        Extent::Vector { channels } => {
            Err(wrong(&spec.name, "a sequence", format!("a vector of {channels}")))
        }
    }
}

/// Positions after a convolution.
fn convolved(
    spec: &LayerSpec,
    input: Extent,
    (kernel, dilation): (usize, usize),
    padding: Padding,
) -> Result<usize, InputError> {
    let length = positions(spec, input)?;
    let reach = kernel.checked_sub(1).and_then(|taps| taps.checked_mul(dilation));
    let Some(reach) = reach.filter(|_| dilation > 0) else {
        let found = format!("{kernel} and {dilation}");
        return Err(wrong(&spec.name, "at least one tap and a dilation of at least 1", found));
    };
    match padding {
        Padding::Same => Ok(length),
        Padding::Valid => length.checked_sub(reach).filter(|&left| left > 0).ok_or_else(|| {
            let expected = format!("a sequence longer than {reach} positions");
            wrong(&spec.name, expected, length)
        }),
    }
}

fn check_l2(spec: &LayerSpec, l2: f64) -> Result<(), InputError> {
    check_range(spec, "an l2 of at least 0", l2, 0.0..=f64::MAX)
}

fn check_range(
    spec: &LayerSpec,
    expected: &str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<(), InputError> {
    if range.contains(&value) { Ok(()) } else { Err(wrong(&spec.name, expected, value)) }
}

/// Multiply-adds of one example; element-wise layers count as none.
fn products_of(kind: &LayerKind, input: Extent, output: Extent) -> u64 {
    let per_output = match kind {
        LayerKind::Conv1d { kernel, .. } => kernel.saturating_mul(input.channels()),
        LayerKind::DepthwiseConv1d { kernel, .. } => *kernel,
        LayerKind::Dense { .. } => input.channels(),
        _ => 0,
    };
    (output.values() as u64).saturating_mul(per_output as u64)
}

impl LayerKind {
    /// The function after a weighted layer's bias, or of an activation layer; linear elsewhere.
    pub fn activation(&self) -> Activation {
        match self {
            Self::Conv1d { activation, .. } | Self::Dense { activation, .. } => *activation,
            Self::Activation { function } => *function,
            _ => Activation::Linear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, input: &str, kind: LayerKind) -> LayerSpec {
        LayerSpec { name: name.to_owned(), inputs: vec![input.to_owned()], kind }
    }

    fn network(layers: Vec<LayerSpec>) -> NetworkSpec {
        NetworkSpec { inputs: vec!["x".to_owned()], layers }
    }

    const INPUT: Extent = Extent::Sequence { length: 23, channels: 4 };

    #[test]
    fn extents_follow_padding_pools_and_flattening() {
        let conv = LayerKind::Conv1d {
            filters: 6,
            kernel: 8,
            dilation: 2,
            padding: Padding::Valid,
            bias: true,
            activation: Activation::Relu,
            initializer: Initializer::HeUniform,
            l2: 0.0,
        };
        let layers = vec![
            layer("conv", "x", conv),
            layer("pool", "conv", LayerKind::MaxPool { size: 2 }),
            layer("flat", "pool", LayerKind::Flatten),
        ];
        let resolved = network(layers).resolve(&[INPUT]).unwrap();
        assert_eq!(resolved.layers[0].output, Extent::Sequence { length: 9, channels: 6 });
        assert_eq!(resolved.output(), Extent::Vector { channels: 24 });
        assert_eq!(resolved.parameters(), 8 * 4 * 6 + 6);
        assert_eq!(resolved.products(), 9 * 6 * 32);
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_its_layer() {
        let cases = [
            (layer("a", "y", LayerKind::Flatten), "earlier layers"),
            (layer("a", "x", LayerKind::MaxPool { size: 24 }), "1 to 23"),
            (layer("a", "x", LayerKind::Dropout { rate: 1.0 }), "below 1"),
            (layer("x", "x", LayerKind::Flatten), "used once"),
        ];
        for (spec, expected) in cases {
            let error = network(vec![spec]).resolve(&[INPUT]).unwrap_err().to_string();
            assert!(error.contains("layer") && error.contains(expected), "{error}");
        }
    }
}
