//! Padding that a gLM does not see: taken away before its layers, given back as zeros behind them.
//!
//! Leaves out: adding it ([`crate::tokenizers::Padded`]). Invariant: states of all other tokens are
//! those of the sequence without padding, bit for bit.
//!
//! Source: `unpad_input` and `pad_input` of DNABERT-2's published `bert_padding.py`.

use super::{LayerRequest, LogitsSink, Network, Sink, States, TokenBatch};
use crate::device::device_error;
use crate::layers::zeros;
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{DeviceArray, View};
use glmeval_kernels::error::KernelError;
use std::ops::Range;

/// A gLM whose attention mask leaves out the padding that ends a sequence.
///
/// Where other published code leaves states of masked positions undefined, they are zeros here too.
pub struct MaskedPadding {
    network: Box<dyn Network>,
    pad_id: u32,
}

impl MaskedPadding {
    /// Hides tokens `pad_id` behind the last other token of each sequence from `network`, which gives
    /// a state for each token.
    pub fn new(network: Box<dyn Network>, pad_id: u32) -> Self {
        Self { network, pad_id }
    }

    /// The sequence up to its last token that is no padding, but for one of padding alone: its first.
    fn seen<'a>(&self, sequence: &'a [u32]) -> &'a [u32] {
        let last = sequence.iter().rposition(|&id| id != self.pad_id);
        sequence.get(..=last.unwrap_or(0)).unwrap_or(sequence)
    }
}

/// Where the states of each sequence of `seen` are, and where they belong in states `[N, D]`.
fn places<'a>(
    seen: &'a TokenBatch,
    batch: &'a TokenBatch,
    width: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
    seen.offsets.windows(2).zip(&batch.offsets).map(move |(from, &to)| {
        let length = (from[1] - from[0]) * width;
        (from[0] * width..from[1] * width, to * width..to * width + length)
    })
}

/// States `[N, D]` with those of `seen` `[M, D]` in the place of their tokens, and zeros elsewhere.
fn fill_up(states: &[f32], seen: &TokenBatch, batch: &TokenBatch) -> Result<Vec<f32>> {
    let width = states.len() / seen.token_count().max(1);
    let mut padded = zeros(batch.token_count(), width)?;
    for (from, to) in places(seen, batch, width) {
        let rows = states.get(from).unwrap_or_default();
        let place = padded.get_mut(to);
        place.ok_or_else(|| Error::bug("states past their batch"))?.copy_from_slice(rows);
    }
    Ok(padded)
}

/// As [`fill_up`], where the states are.
fn fill_up_there(
    states: View<'_, f32>,
    seen: &TokenBatch,
    batch: &TokenBatch,
) -> Result<DeviceArray<f32>, KernelError> {
    let width = states.len() / seen.token_count().max(1);
    let mut padded = DeviceArray::zeros(states.gpu(), batch.token_count() * width)?;
    for (from, to) in places(seen, batch, width) {
        padded.view_mut().part(to).copy_from(states.part(from))?;
    }
    Ok(padded)
}

impl Network for MaskedPadding {
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let seen = TokenBatch::pack(batch.sequences().map(|sequence| self.seen(sequence)));
        if seen.token_count() == batch.token_count() {
            return self.network.forward(batch, request, sink);
        }
        self.network.forward(&seen, request, &mut |layer, states| match states {
            States::Host(states) => sink(layer, States::Host(&fill_up(states, &seen, batch)?)),
            States::Device(states) => {
                let padded = fill_up_there(states, &seen, batch).map_err(device_error)?;
                sink(layer, States::Device(padded.view()))
            }
        })
    }

    fn vocabulary_size(&self) -> usize {
        self.network.vocabulary_size()
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        self.network.head(states)
    }

    fn head_of(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        self.network.head_of(states, sink)
    }

    fn pooler(&self, first: &[f32]) -> Result<Option<Vec<f32>>> {
        self.network.pooler(first)
    }

    fn mean_skips_first(&self) -> bool {
        self.network.mean_skips_first()
    }

    fn is_causal(&self) -> bool {
        self.network.is_causal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_kernels::cuda::Gpu;

    /// States `[N, 2]`: each token's id, and its negative.
    struct Echo(Option<Gpu>);

    impl Network for Echo {
        fn forward(&self, batch: &TokenBatch, _: &LayerRequest, sink: &mut Sink<'_>) -> Result<()> {
            let of_id = |&id: &u32| [id as f32, -(id as f32)];
            let states: Vec<f32> = batch.sequences().flatten().flat_map(of_id).collect();
            match &self.0 {
                None => sink(1, States::Host(&states)),
                Some(gpu) => {
                    let states = DeviceArray::from_slice(gpu, &states).map_err(device_error)?;
                    sink(1, States::Device(states.view()))
                }
            }
        }

        fn vocabulary_size(&self) -> usize {
            9
        }
    }

    #[test]
    fn states_come_back_filled_up_where_they_are() {
        const PAD: u32 = 9;
        let sequences: [&[u32]; 4] = [&[1, PAD, 2, PAD], &[3, PAD, PAD, PAD], &[PAD, PAD], &[4, 5]];
        let batch = TokenBatch::pack(sequences);
        let rows = [1, 9, 2, 0, 3, 0, 0, 0, 9, 0, 4, 5];
        let expected: Vec<f32> = rows.iter().flat_map(|&id| [id as f32, -(id as f32)]).collect();
        for gpu in [None, Some(Gpu::emulated().unwrap())] {
            let is_on_device = gpu.is_some();
            let network = MaskedPadding::new(Box::new(Echo(gpu)), PAD);
            let mut found = Vec::new();
            let request = LayerRequest::new(&[1], 1).unwrap();
            let mut sink = |_: u32, states: States<'_>| {
                assert_eq!(matches!(states, States::Device(_)), is_on_device);
                found = states.on_host()?.into_owned();
                Ok(())
            };
            network.forward(&batch, &request, &mut sink).unwrap();
            assert_eq!(found, expected);
        }
    }
}
