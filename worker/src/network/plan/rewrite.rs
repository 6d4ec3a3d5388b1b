//! Operations that are computed together: normalisations within products and with what follows.
//!
//! Leaves out: how (operations). Invariant: a rewritten plan computes the same network.

use super::{Kind, NormBlock, Plan, ValueIndex};
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
            let Kind::Product { taps, norm: None, .. } = self.nodes[index].kind else { continue };
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
            if let Kind::Product { norm, .. } = &mut self.nodes[index].kind {
                *norm = Some(found);
            }
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
