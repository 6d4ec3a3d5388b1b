//! From resolved layers to the steps that compute them: values, operations, who reads what.
//!
//! Leaves out: numbers. Invariant: a plan depends on the layers, the loss and whether gradients of
//! inputs are wanted; layers that the prediction does not depend on are not in it.

use glmeval_common::error::{Error, Result};
use glmeval_common::network::{
    Activation, Extent, JoinAxis, LayerKind, Loss, Padding, ResolvedLayer, ResolvedNetwork,
};
use std::ops::Range;

mod rewrite;

/// Index of a value: inputs first, then outputs of operations.
pub(super) type ValueIndex = usize;

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Statistics of the batch, dropout; what gradients need is kept.
    Train,
    /// Moving statistics, no dropout; nothing is kept.
    Predict,
    /// As predict, but what gradients need is kept.
    Explain,
}

impl Mode {
    /// Whether values are kept for a backward pass.
    pub(super) fn keeps(self) -> bool {
        self != Self::Predict
    }
}

/// A tensor of a pass.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    /// Values of one example.
    pub(super) length: usize,
    /// Whether the gradient with respect to it is needed.
    pub(super) needs_gradient: bool,
    /// The value that it equals where nothing is dropped: itself, or what a dropout reads.
    pub(super) undropped: ValueIndex,
}

/// Extents of a product along positions; one position for vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Taps {
    pub(super) length: usize,
    pub(super) input_width: usize,
    pub(super) output_width: usize,
    pub(super) kernel: usize,
    pub(super) dilation: usize,
    pub(super) padding: Padding,
}

/// Weights of a batch normalisation and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norm {
    pub(super) width: usize,
    /// Index of gamma; beta and the moving statistics follow.
    pub(super) gamma: usize,
    pub(super) momentum: f32,
    pub(super) epsilon: f32,
}

/// A convolution or a dense layer; with `norm`, of its normalised input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Linear {
    pub(super) taps: Taps,
    /// Index of its weights.
    pub(super) kernel: usize,
    pub(super) bias: Option<usize>,
    pub(super) norm: Option<Norm>,
}

/// A dropout: which layer it is, which decides what is dropped, and its rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drop {
    pub(super) layer: u32,
    pub(super) rate: f32,
}

/// A normalisation and what is done to its output at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NormBlock {
    pub(super) norm: Norm,
    pub(super) function: Activation,
    /// Before the pool, or without one.
    pub(super) before: Option<Drop>,
    /// Positions of the input, and of each pool.
    pub(super) pool: Option<(usize, usize)>,
    pub(super) after: Option<Drop>,
}

/// What an operation computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Product(Linear),
    /// The second of two products, of the first's output, as one product.
    Composed(Linear, Linear),
    /// A convolution of every channel with its own taps.
    Depthwise {
        taps: Taps,
        kernel: usize,
        bias: Option<usize>,
    },
    BatchNorm {
        norm: Norm,
    },
    NormBlock(NormBlock),
    LayerNorm {
        width: usize,
        gamma: usize,
        epsilon: f32,
    },
    Function {
        function: Activation,
        width: usize,
    },
    Dropout(Drop),
    MaxPool {
        length: usize,
        width: usize,
        size: usize,
    },
    AveragePool {
        length: usize,
        width: usize,
        size: usize,
    },
    GlobalAveragePool {
        length: usize,
        width: usize,
    },
    Add,
    /// Rows of several inputs side by side.
    Join {
        widths: Vec<usize>,
    },
    /// Zeros around each example.
    Pad {
        before: usize,
        values: usize,
        after: usize,
    },
    Spline {
        length: usize,
        width: usize,
        bases: usize,
        degree: usize,
        kernel: usize,
    },
}

/// One operation of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) inputs: Vec<ValueIndex>,
    pub(super) output: ValueIndex,
    /// Its weights.
    pub(super) weights: Range<usize>,
}

/// Operations in the order they are computed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Inputs of the network: the first values.
    pub(super) inputs: usize,
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<Value>,
    /// Weights that the prediction depends on.
    pub(super) weights: Vec<usize>,
    /// What the loss reads.
    pub(super) logits: ValueIndex,
    /// What the network answers.
    pub(super) prediction: ValueIndex,
}

impl Plan {
    /// Lowers `network`.
    ///
    /// Keras' cross-entropy looks through a sigmoid that is the last thing the network does.
    pub(super) fn new(network: &ResolvedNetwork, loss: Loss, input_gradients: bool) -> Self {
        let mut plan = Self::lowered(network, loss, input_gradients);
        plan.compose_products();
        plan.join_blocks();
        plan.find_undropped();
        plan
    }

    /// As [`Plan::new`], without what spares a CPU products and costs a device launches.
    pub(super) fn for_device(network: &ResolvedNetwork, loss: Loss) -> Self {
        let mut plan = Self::lowered(network, loss, false);
        plan.join_blocks();
        plan.find_undropped();
        plan
    }

    fn lowered(network: &ResolvedNetwork, loss: Loss, input_gradients: bool) -> Self {
        let mut plan = Self {
            inputs: network.inputs.len(),
            nodes: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
            logits: 0,
            prediction: 0,
        };
        for extent in &network.inputs {
            plan.add_value(extent.values(), input_gradients);
        }
        // Layers that change nothing stand for the value they read.
        let mut outputs: Vec<ValueIndex> = (0..network.inputs.len()).collect();
        for (index, layer) in network.layers.iter().enumerate() {
            let inputs = layer.inputs.iter().map(|&input| outputs[input]).collect();
            let output = plan.lower(index, layer, inputs);
            outputs.push(output);
        }
        plan.prediction = outputs.last().copied().unwrap_or(0);
        plan.logits = plan.prediction;
        let width = network.output().channels();
        match loss {
            Loss::BinaryCrossEntropyOfLogits => {
                let function = Kind::Function { function: Activation::Sigmoid, width };
                plan.prediction = plan.add_node(function, vec![plan.logits], 0..0);
            }
            Loss::BinaryCrossEntropy => plan.look_through_sigmoid(),
            Loss::MeanSquaredError | Loss::SplicingDivergence => {}
        }
        plan.prune();
        plan.fold_normalisations();
        plan
    }

    /// Where `value` is held.
    pub(super) fn place(&self, mode: Mode, value: ValueIndex) -> ValueIndex {
        if mode == Mode::Train { value } else { self.values[value].undropped }
    }

    /// Whether a node is left out, as dropouts are outside training.
    pub(super) fn is_left_out(&self, mode: Mode, node: &Node) -> bool {
        self.place(mode, node.output) != node.output
    }

    /// Whether `value` is held after the pass.
    pub(super) fn is_answer(&self, mode: Mode, value: ValueIndex) -> bool {
        let answers = [self.logits, self.prediction];
        answers.map(|answer| self.place(mode, answer)).contains(&value)
    }

    /// Whether an operation after node `index` reads `value`.
    pub(super) fn is_read_after(&self, mode: Mode, index: usize, value: ValueIndex) -> bool {
        let mut later = self.nodes.iter().skip(index + 1);
        later.any(|node| {
            let mut places = node.inputs.iter().map(|&input| self.place(mode, input));
            !self.is_left_out(mode, node) && places.any(|place| place == value)
        })
    }

    /// Values of `rows` examples of `value`.
    ///
    /// # Errors
    /// `Bug` for more than can be counted.
    pub(super) fn length(&self, value: ValueIndex, rows: usize) -> Result<usize> {
        let length = self.values[value].length.checked_mul(rows);
        length.ok_or_else(|| Error::bug("network: activations are past all memory"))
    }

    /// Whether the loss reads what the last sigmoid reads.
    pub(super) fn ends_in_sigmoid(&self) -> bool {
        self.logits != self.prediction
    }

    fn look_through_sigmoid(&mut self) {
        let sigmoid = |node: &&Node| {
            node.output == self.prediction
                && matches!(node.kind, Kind::Function { function: Activation::Sigmoid, .. })
        };
        if let Some(input) = self.nodes.iter().find(sigmoid).map(|node| node.inputs[0]) {
            self.logits = input;
        }
    }

    fn add_value(&mut self, length: usize, needs_gradient: bool) -> ValueIndex {
        let index = self.values.len();
        self.values.push(Value { length, needs_gradient, undropped: index });
        index
    }

    fn add_node(
        &mut self,
        kind: Kind,
        inputs: Vec<ValueIndex>,
        weights: Range<usize>,
    ) -> ValueIndex {
        let reads = |index: usize| self.values[inputs[index]].length;
        let length = match &kind {
            Kind::Product(Linear { taps, .. }) | Kind::Composed(_, Linear { taps, .. }) => {
                taps.output_length() * taps.output_width
            }
            Kind::Depthwise { taps, .. } => taps.output_length() * taps.input_width,
            Kind::MaxPool { length, width, size } | Kind::AveragePool { length, width, size } => {
                length / size * width
            }
            Kind::GlobalAveragePool { width, .. } => *width,
            Kind::Join { .. } => (0..inputs.len()).map(reads).sum(),
            Kind::Pad { before, values, after } => before + values + after,
            _ => reads(0),
        };
        let needs_gradient =
            !weights.is_empty() || inputs.iter().any(|&input| self.values[input].needs_gradient);
        let output = self.add_value(length, needs_gradient);
        self.nodes.push(Node { kind, inputs, output, weights });
        output
    }

    /// Adds the operations of one layer; the index of its output.
    fn lower(
        &mut self,
        index: usize,
        layer: &ResolvedLayer,
        inputs: Vec<ValueIndex>,
    ) -> ValueIndex {
        let input = layer.input_extents.first().copied().unwrap_or(layer.output);
        let weights = layer.weights.clone();
        let Some(kind) = kind_of(index, layer, input) else {
            return inputs.first().copied().unwrap_or(0);
        };
        let output = self.add_node(kind, inputs, weights);
        let function = layer.spec.kind.activation();
        let is_separate = !matches!(layer.spec.kind, LayerKind::Activation { .. });
        if !is_separate || function == Activation::Linear {
            return output;
        }
        let width = layer.output.channels();
        self.add_node(Kind::Function { function, width }, vec![output], 0..0)
    }

    /// Finds the value that stands for each where nothing is dropped.
    fn find_undropped(&mut self) {
        for node in &self.nodes {
            self.values[node.output].undropped = match node.kind {
                Kind::Dropout(_) => self.values[node.inputs[0]].undropped,
                _ => node.output,
            };
        }
    }

    /// Removes what the prediction does not depend on.
    fn prune(&mut self) {
        let mut needed = vec![false; self.values.len()];
        needed[self.prediction] = true;
        for node in self.nodes.iter().rev() {
            // Inputs stand before outputs, so a node is decided before its inputs are.
            if needed[node.output] {
                node.inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        self.nodes.retain(|node| needed[node.output]);
        self.weights = self.nodes.iter().flat_map(|node| node.weights.clone()).collect();
    }
}

impl Taps {
    /// Positions of the output.
    pub(super) fn output_length(&self) -> usize {
        match self.padding {
            Padding::Same => self.length,
            Padding::Valid => self.length - self.dilation * (self.kernel - 1),
        }
    }
}

/// The operation of a layer; none if its output is what it reads.
fn kind_of(index: usize, layer: &ResolvedLayer, input: Extent) -> Option<Kind> {
    let (length, width) = (input.length(), input.channels());
    let kernel = layer.weights.start;
    let bias = |wanted: bool| wanted.then_some(kernel + 1);
    let output_width = layer.output.channels();
    Some(match &layer.spec.kind {
        LayerKind::Conv1d { kernel: k, dilation, padding, bias: wanted, .. } => {
            let (kernel_width, dilation, padding) = (*k, *dilation, *padding);
            let taps = taps((length, width, output_width), (kernel_width, dilation), padding);
            Kind::Product(Linear { taps, kernel, bias: bias(*wanted), norm: None })
        }
        LayerKind::DepthwiseConv1d { kernel: k, dilation, padding, bias: wanted, .. } => {
            let taps = taps((length, width, width), (*k, *dilation), *padding);
            Kind::Depthwise { taps, kernel, bias: bias(*wanted) }
        }
        LayerKind::Dense { bias: wanted, .. } => {
            let taps = taps((length, width, output_width), (1, 1), Padding::Valid);
            Kind::Product(Linear { taps, kernel, bias: bias(*wanted), norm: None })
        }
        LayerKind::BatchNorm { momentum, epsilon } => {
            let (momentum, epsilon) = (*momentum as f32, *epsilon as f32);
            Kind::BatchNorm { norm: Norm { width, gamma: kernel, momentum, epsilon } }
        }
        LayerKind::LayerNorm { epsilon } => {
            Kind::LayerNorm { width, gamma: kernel, epsilon: *epsilon as f32 }
        }
        LayerKind::Activation { function: Activation::Linear } | LayerKind::Flatten => return None,
        LayerKind::Activation { function } => Kind::Function { function: *function, width },
        LayerKind::Dropout { rate } if *rate == 0.0 => return None,
        LayerKind::Dropout { rate } => {
            let layer = u32::try_from(index).unwrap_or(u32::MAX);
            Kind::Dropout(Drop { layer, rate: *rate as f32 })
        }
        LayerKind::MaxPool { size: 1 } | LayerKind::AveragePool { size: 1 } => return None,
        LayerKind::MaxPool { size } => Kind::MaxPool { length, width, size: *size },
        LayerKind::AveragePool { size } => Kind::AveragePool { length, width, size: *size },
        LayerKind::GlobalAveragePool => Kind::GlobalAveragePool { length, width },
        LayerKind::Add => Kind::Add,
        LayerKind::Concatenate { axis } => {
            let width = |extent: &Extent| match axis {
                JoinAxis::Length => extent.values(),
                JoinAxis::Channels => extent.channels(),
            };
            Kind::Join { widths: layer.input_extents.iter().map(width).collect() }
        }
        LayerKind::ZeroPad { before, after } => {
            Kind::Pad { before: before * width, values: input.values(), after: after * width }
        }
        LayerKind::SplineWeights { bases, degree } => {
            Kind::Spline { length, width, bases: *bases, degree: *degree, kernel }
        }
    })
}

fn taps(
    (length, input_width, output_width): (usize, usize, usize),
    (kernel, dilation): (usize, usize),
    padding: Padding,
) -> Taps {
    Taps { length, input_width, output_width, kernel, dilation, padding }
}

impl Norm {
    /// Index of beta.
    pub(super) fn beta(&self) -> usize {
        self.gamma + 1
    }

    /// Index of the moving mean.
    pub(super) fn moving_mean(&self) -> usize {
        self.gamma + 2
    }

    /// Index of the moving variance.
    pub(super) fn moving_variance(&self) -> usize {
        self.gamma + 3
    }
}
