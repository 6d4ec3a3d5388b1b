//! Layers that follow one another, with the habits the published networks share.
//!
//! Leaves out: which layers (the networks). Invariant: a layer reads the one before it unless told
//! otherwise; names are those of the published code.

use crate::network::{
    Activation, Initializer, JoinAxis, LayerKind, LayerSpec, NetworkSpec, Padding,
};

/// Keras' defaults of a batch normalisation.
pub(in crate::network) const BATCH_NORM: LayerKind =
    LayerKind::BatchNorm { momentum: 0.99, epsilon: 1e-3 };

/// A convolution as the published networks use it.
#[derive(Clone, Copy)]
pub(in crate::network) struct Conv {
    pub(in crate::network) filters: usize,
    pub(in crate::network) kernel: usize,
    pub(in crate::network) dilation: usize,
    pub(in crate::network) padding: Padding,
    pub(in crate::network) bias: bool,
    pub(in crate::network) activation: Activation,
    pub(in crate::network) l2: f64,
}

impl Conv {
    /// As long as its input, with a bias.
    pub(in crate::network) fn same(filters: usize, kernel: usize) -> Self {
        Self {
            filters,
            kernel,
            dilation: 1,
            padding: Padding::Same,
            bias: true,
            activation: Activation::Linear,
            l2: 0.0,
        }
    }

    /// Inside its input only.
    pub(in crate::network) fn valid(filters: usize, kernel: usize) -> Self {
        Self { padding: Padding::Valid, ..Self::same(filters, kernel) }
    }
}

/// A network as it grows.
pub(in crate::network) struct Chain {
    network: NetworkSpec,
    last: String,
    /// How kernels are drawn from here on.
    pub(in crate::network) initializer: Initializer,
}

impl Chain {
    /// Begins at the first of `inputs`.
    pub(in crate::network) fn new(inputs: &[&str], initializer: Initializer) -> Self {
        let inputs: Vec<String> = inputs.iter().map(|name| (*name).to_owned()).collect();
        let last = inputs.first().cloned().unwrap_or_default();
        Self { network: NetworkSpec { inputs, layers: Vec::new() }, last, initializer }
    }

    /// Name of the layer or input that the next layer reads.
    pub(in crate::network) fn last(&self) -> String {
        self.last.clone()
    }

    /// The next layer reads `name`.
    pub(in crate::network) fn read(&mut self, name: &str) -> &mut Self {
        name.clone_into(&mut self.last);
        self
    }

    /// Adds a layer that reads the last.
    pub(in crate::network) fn then(&mut self, name: &str, kind: LayerKind) -> &mut Self {
        let inputs = vec![self.last.clone()];
        self.add(name, inputs, kind)
    }

    fn add(&mut self, name: &str, inputs: Vec<String>, kind: LayerKind) -> &mut Self {
        self.network.layers.push(LayerSpec { name: name.to_owned(), inputs, kind });
        self.read(name)
    }

    /// Adds the sum of `first` and the last layer.
    pub(in crate::network) fn sum(&mut self, name: &str, first: &str) -> &mut Self {
        let inputs = vec![first.to_owned(), self.last.clone()];
        self.add(name, inputs, LayerKind::Add)
    }

    /// Adds a join of layers or inputs.
    pub(in crate::network) fn join(
        &mut self,
        name: &str,
        inputs: Vec<String>,
        axis: JoinAxis,
    ) -> &mut Self {
        self.add(name, inputs, LayerKind::Concatenate { axis })
    }

    pub(in crate::network) fn conv(&mut self, name: &str, conv: Conv) -> &mut Self {
        let Conv { filters, kernel, dilation, padding, bias, activation, l2 } = conv;
        let initializer = self.initializer;
        self.then(
            name,
            LayerKind::Conv1d {
                filters,
                kernel,
                dilation,
                padding,
                bias,
                activation,
                initializer,
                l2,
            },
        )
    }

    pub(in crate::network) fn dense(
        &mut self,
        name: &str,
        units: usize,
        activation: Activation,
    ) -> &mut Self {
        let initializer = self.initializer;
        self.then(name, LayerKind::Dense { units, bias: true, activation, initializer, l2: 0.0 })
    }

    /// Batch normalisation named after what it normalises: `conv1_bn`.
    pub(in crate::network) fn norm(&mut self) -> &mut Self {
        let name = format!("{}_bn", self.last);
        self.then(&name, BATCH_NORM)
    }

    pub(in crate::network) fn activation(&mut self, name: &str, function: Activation) -> &mut Self {
        self.then(name, LayerKind::Activation { function })
    }

    pub(in crate::network) fn dropout(&mut self, name: &str, rate: f64) -> &mut Self {
        self.then(name, LayerKind::Dropout { rate })
    }

    pub(in crate::network) fn max_pool(&mut self, name: &str, size: usize) -> &mut Self {
        self.then(name, LayerKind::MaxPool { size })
    }

    pub(in crate::network) fn flatten(&mut self) -> &mut Self {
        self.then("flatten", LayerKind::Flatten)
    }

    /// Dense, batch normalisation, `function`, dropout of one half.
    pub(in crate::network) fn dense_block(
        &mut self,
        name: &str,
        units: usize,
        function: Activation,
    ) -> &mut Self {
        self.dense(name, units, Activation::Linear)
            .norm()
            .activation(&format!("{name}_act"), function)
            .dropout(&format!("{name}_drop"), 0.5)
    }

    /// Convolution, batch normalisation, relu, pool, dropout of a fifth: `conv1`, `pool1`, ….
    pub(in crate::network) fn pooled_block(
        &mut self,
        conv: (&str, Conv),
        pool: (&str, usize),
        dropout: &str,
    ) -> &mut Self {
        self.conv(conv.0, conv.1)
            .norm()
            .activation(&format!("{}_act", conv.0), Activation::Relu)
            .max_pool(pool.0, pool.1)
            .dropout(dropout, 0.2)
    }

    pub(in crate::network) fn finish(self) -> NetworkSpec {
        self.network
    }
}
