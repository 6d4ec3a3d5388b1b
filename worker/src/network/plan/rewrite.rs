//! Operations that are computed together: normalisations within products and with what follows,
//! products of products.
//!
//! Leaves out: how (operations). Invariant: a rewritten plan computes the same network.

use super::{Kind, Linear, NormBlock, Plan, ValueIndex};
use glmeval_common::network::Activation;

impl Plan {
    /// Operations that read `value`.
    fn readers(&self, value: ValueIndex) -> usize {
        let reads = self.nodes.iter().flat_map(|node| &node.inputs);
        let answers = [self.logits, self.prediction];
        reads.chain(&answers).filter(|&&read| read == value).count()
    }

    /// Lets a product of one tap read its input through the normalisation before it, where nobody
    /// asks for the gradient of what is normalised: no normalised copy is formed.
    pub(super) fn fold_normalisations(&mut self) {
        for index in 0..self.nodes.len() {
            let Kind::Product(Linear { taps, norm: None, .. }) = self.nodes[index].kind else {
                continue;
            };
            let read = self.nodes[index].inputs[0];
            let Some(before) = self.nodes.iter().position(|node| node.output == read) else {
                continue;
            };
            let Kind::BatchNorm { norm: found } = self.nodes[before].kind else { continue };
            let source = self.nodes[before].inputs[0];
            let fits = taps.kernel == 1 && taps.input_width == found.width;
            if !fits || self.values[source].needs_gradient || self.readers(read) != 1 {
                continue;
            }
            if let Kind::Product(Linear { norm, .. }) = &mut self.nodes[index].kind {
                *norm = Some(found);
            }
            self.nodes[index].inputs[0] = source;
            // What nobody reads is removed below.
            self.nodes[before].inputs.clear();
        }
        self.nodes.retain(|node| !node.inputs.is_empty());
    }

    /// Makes one product of two where the first alone stands between the second and a value whose
    /// gradient nobody asks for: what the first gives is never formed.
    pub(super) fn compose_products(&mut self) {
        for index in 0..self.nodes.len() {
            let Kind::Product(outer) = self.nodes[index].kind else { continue };
            let read = self.nodes[index].inputs[0];
            let Some(before) = self.nodes.iter().position(|node| node.output == read) else {
                continue;
            };
            let Kind::Product(inner) = self.nodes[before].kind else { continue };
            let source = self.nodes[before].inputs[0];
            let is_seen = self.values[source].needs_gradient || self.readers(read) != 1;
            if is_seen || !inner.is_cheaper_within(&outer) {
                continue;
            }
            self.nodes[index].kind = Kind::Composed(inner, outer);
            self.nodes[index].inputs[0] = source;
            // What nobody reads is removed below.
            self.nodes[before].inputs.clear();
        }
        self.nodes.retain(|node| !node.inputs.is_empty());
    }

    /// The only operation that reads `value`, if it does nothing else and nobody is told the value.
    fn only_reader(&self, value: ValueIndex) -> Option<usize> {
        let reader = self.nodes.iter().position(|node| node.inputs == [value])?;
        (self.readers(value) == 1).then_some(reader)
    }

    /// Joins each normalisation with the function, dropouts and pool that alone follow it.
    pub(super) fn join_blocks(&mut self) {
        for index in 0..self.nodes.len() {
            let Kind::BatchNorm { norm } = self.nodes[index].kind else { continue };
            let function = Activation::Linear;
            let empty = NormBlock { norm, function, before: None, pool: None, after: None };
            let (mut block, mut last) = (empty, index);
            let mut joined = Vec::new();
            while let Some(next) = self.only_reader(self.nodes[last].output) {
                let Some(longer) = block.followed_by(&self.nodes[next].kind, joined.is_empty())
                else {
                    break;
                };
                (block, last) = (longer, next);
                joined.push(next);
            }
            if block == empty {
                continue;
            }
            self.nodes[index].kind = Kind::NormBlock(block);
            self.nodes[index].output = self.nodes[last].output;
            joined.into_iter().for_each(|joined| self.nodes[joined].inputs.clear());
        }
        self.nodes.retain(|node| !node.inputs.is_empty());
    }
}

impl Linear {
    /// Whether `outer` of this product costs less than half as one product, and so much less that
    /// a single example makes up for composing the weights.
    ///
    /// Only one of a single tap is the same map wherever `outer` reads it. Shapes alone decide, so
    /// that a network is computed one way, whatever the batch.
    fn is_cheaper_within(&self, outer: &Self) -> bool {
        let (inner, outer) = (&self.taps, &outer.taps);
        // Flattened positions are other channels than those the first gives.
        if inner.kernel != 1 || inner.output_width != outer.input_width {
            return false;
        }
        // In floating point, since extents may be past counting; exact for all that fit in memory.
        let count =
            |extents: &[usize]| extents.iter().map(|&extent| extent as f64).product::<f64>();
        let first = count(&[inner.input_width, inner.output_width]);
        let apart = first + count(&[outer.kernel, outer.input_width, outer.output_width]);
        let together = count(&[inner.input_width + 1, outer.kernel, outer.output_width]);
        let composing = together * count(&[inner.output_width]);
        let spared = (apart - together) * count(&[outer.output_length()]);
        2.0 * together < apart && composing < spared
    }
}

impl NormBlock {
    /// The block with one more operation after it, if it has a place for it.
    fn followed_by(mut self, next: &Kind, is_first: bool) -> Option<Self> {
        match *next {
            Kind::Function { function, .. } if is_first && function != Activation::Softmax => {
                self.function = function;
            }
            Kind::Dropout(drop) if self.pool.is_none() && self.before.is_none() => {
                self.before = Some(drop);
            }
            Kind::MaxPool { length, size, .. } if self.pool.is_none() => {
                self.pool = Some((length, size));
            }
            Kind::Dropout(drop) if self.pool.is_some() && self.after.is_none() => {
                self.after = Some(drop);
            }
            _ => return None,
        }
        Some(self)
    }
}
