//! Sequences of tokens that are run together, and the layers asked of them.
//!
//! Leaves out: which sequences share a batch ([`crate::batching`]). Invariant: nothing is padded.

use glmeval_common::error::{Error, Result};

/// Tokens of several sequences, one after the other, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// Token ids `[N]`.
    pub ids: Vec<u32>,
    /// Sequence b is `ids[offsets[b]..offsets[b + 1]]`; B + 1 numbers, the first is 0.
    pub offsets: Vec<usize>,
}

impl TokenBatch {
    /// Packs the ids of several sequences.
    pub fn pack<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self { ids: Vec::new(), offsets: vec![0] };
        for sequence in sequences {
            batch.ids.extend_from_slice(sequence);
            batch.offsets.push(batch.ids.len());
        }
        batch
    }

    /// Sequences B.
    pub fn sequence_count(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Tokens N.
    pub fn token_count(&self) -> usize {
        self.ids.len()
    }

    /// Ids of each sequence.
    pub fn sequences(&self) -> impl Iterator<Item = &[u32]> {
        self.offsets.windows(2).map(|pair| self.ids.get(pair[0]..pair[1]).unwrap_or_default())
    }

    /// Checks what a forward pass relies on.
    ///
    /// # Errors
    /// `Bug` for offsets that do not cut `ids`; `Invalid` for a sequence without a token or with
    /// more than `tokens_max`, or an id that is not below `vocabulary_size`.
    pub fn check(&self, tokens_max: u64, vocabulary_size: usize) -> Result<()> {
        let ends_right = self.offsets.last() == Some(&self.ids.len());
        if self.offsets.first() != Some(&0) || !ends_right || !self.offsets.is_sorted() {
            return Err(Error::bug("offsets of a token batch do not cut its ids"));
        }
        for (index, sequence) in self.sequences().enumerate() {
            if sequence.is_empty() {
                return Err(Error::invalid(format!("sequence {index} of the batch has no token")));
            }
            crate::batching::check_length(
                &format!("{index} of the batch"),
                sequence.len(),
                tokens_max,
            )?;
            if let Some(id) = sequence.iter().find(|&&id| id as usize >= vocabulary_size) {
                return Err(Error::invalid(format!(
                    "sequence {index} of the batch: expected token ids below {vocabulary_size}, \
                     found {id}"
                )));
            }
        }
        Ok(())
    }
}

/// Which layers a forward pass hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRequest {
    layers: Vec<u32>,
}

impl LayerRequest {
    /// Asks for `layers`: 0 = input of the first block, n = output of block n.
    ///
    /// # Errors
    /// `Invalid` for a layer above `layer_count`, or none at all.
    pub fn new(layers: &[u32], layer_count: u32) -> Result<Self> {
        let mut layers = layers.to_vec();
        layers.sort_unstable();
        layers.dedup();
        match layers.last() {
            Some(&deepest) if deepest <= layer_count => Ok(Self { layers }),
            Some(deepest) => Err(Error::invalid(format!(
                "expected layers from 0 to {layer_count}, found {deepest}"
            ))),
            None => Err(Error::invalid("expected at least one layer, found none")),
        }
    }

    /// The layers, ascending.
    pub fn layers(&self) -> &[u32] {
        &self.layers
    }

    /// Whether `layer` is asked for.
    pub fn wants(&self, layer: u32) -> bool {
        self.layers.binary_search(&layer).is_ok()
    }

    /// The last layer to compute.
    pub fn deepest(&self) -> u32 {
        self.layers.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_sorted_and_bounded() {
        let request = LayerRequest::new(&[3, 0, 3], 3).unwrap();
        assert_eq!(request.layers(), [0, 3]);
        assert_eq!(request.deepest(), 3);
        assert!(request.wants(0) && !request.wants(1));
        assert!(LayerRequest::new(&[4], 3).unwrap_err().to_string().contains("0 to 3, found 4"));
        LayerRequest::new(&[], 3).unwrap_err();
    }

    #[test]
    fn a_batch_is_checked_before_it_is_run() {
        let batch = TokenBatch::pack([[3, 4].as_slice(), &[3]]);
        assert_eq!(batch.offsets, [0, 2, 3]);
        batch.check(2, 5).unwrap();
        let message = |tokens_max, size| batch.check(tokens_max, size).unwrap_err().to_string();
        assert!(message(1, 5).contains("at most 1 tokens, found 2"));
        assert!(message(2, 4).contains("sequence 0 of the batch: expected token ids below 4"));
        TokenBatch::pack([[].as_slice()]).check(9, 9).unwrap_err();
        for offsets in [vec![], vec![0], vec![1, 3], vec![0, 3, 2, 3]] {
            let batch = TokenBatch { ids: vec![3, 4, 3], offsets };
            batch.check(9, 9).unwrap_err();
        }
    }
}
