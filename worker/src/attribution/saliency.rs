//! Gradient of a network's output with respect to its one-hot input, and the map made of it.
//!
//! Leaves out: the backward pass (`network`). Invariant: f32 gradients as the network gives them; the
//! correction is f64.

use crate::variants::VariantProbe;
use glmeval_common::dna::{BASES, DnaSequence};
use glmeval_common::error::Result;
use std::borrow::Borrow;

/// What a network of one-hot sequences says of one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Saliency {
    /// f: the output, before a final sigmoid.
    pub output: f32,
    /// df/dx, `[L, 4]` in the order A, C, G, T; not corrected.
    pub gradient: Vec<f32>,
    /// The corrected gradient at the base that is there, `[L]`; 0 at any other letter than A, C, G, T.
    pub map: Vec<f64>,
}

/// Output, gradient and map of each of `sequences`.
///
/// ```text
/// G'[i, c] = G[i, c] - (G[i, A] + G[i, C] + G[i, G] + G[i, T]) / 4
/// map[i]   = G'[i, x_i]
/// ```
///
/// Source: Majdandzic, Rajesh and Koo 2023, "Correcting gradient-based interpretations of deep neural
/// networks for genomics".
///
/// # Errors
/// `Invalid` for a sequence of another length than the network reads; `Bug` for a network of states.
pub fn saliency<S: Borrow<DnaSequence>>(
    probe: &mut VariantProbe,
    sequences: &[S],
) -> Result<Vec<Saliency>> {
    let input = probe.one_hot(sequences)?;
    let outputs = probe.predict(&input)?;
    let gradients = probe.gradients(&input)?;
    let rows = gradients.chunks_exact(probe.input().values().max(1));
    let each = sequences.iter().zip(outputs).zip(rows);
    let found = each.map(|((sequence, output), gradient)| {
        let map = corrected(gradient, sequence.borrow());
        Saliency { output, gradient: gradient.to_vec(), map }
    });
    Ok(found.collect())
}

/// The corrected gradient at each observed base.
fn corrected(gradient: &[f32], sequence: &DnaSequence) -> Vec<f64> {
    let cells = sequence.as_bytes().iter().zip(gradient.as_chunks::<4>().0);
    let at = |(letter, cell): (&u8, &[f32; 4])| {
        let mean = cell.iter().map(|&value| f64::from(value)).sum::<f64>() / 4.0;
        let mut bases = BASES.iter().zip(cell);
        bases.find(|(base, _)| *base == letter).map_or(0.0, |(_, &value)| f64::from(value) - mean)
    };
    cells.map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_is_corrected_by_its_mean_and_undefined_letters_have_none() {
        let sequence = DnaSequence::new("CNT").unwrap();
        let gradient = [1.0, 5.0, 2.0, 0.0, 9.0, 9.0, 9.0, 9.0, -1.0, 0.0, 0.0, 3.0];
        assert_eq!(corrected(&gradient, &sequence), [3.0, 0.0, 2.5]);
    }
}
