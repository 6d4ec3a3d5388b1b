//! What predicts: a network of letters, or a gLM and a network of its states.
//!
//! Leaves out: experiments. Invariant: a sequence has the same prediction among any others.

use super::Arguments;
use crate::opening::{self, NamedProbe};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_worker::attribution::EmbeddingGradients;
use glmeval_worker::model::Model;
use glmeval_worker::variants::{ProbeReads, VariantProbe, published};

/// A network with all that it reads.
pub(super) enum Network<'m> {
    /// Reads one-hot sequences.
    Letters(VariantProbe),
    /// Reads all states of a layer of a gLM.
    States(EmbeddingGradients<'m>),
}

impl<'m> Network<'m> {
    /// The network of `--probe`, or that of `--embedding-probe` over `model`.
    ///
    /// # Errors
    /// `Invalid` for one that reads something else.
    pub(super) fn new(
        arguments: &Arguments,
        named: NamedProbe,
        model: Option<&'m Model>,
    ) -> Result<Self> {
        if let Some(model) = model {
            let pads = !published(&model.facts().architecture).padded.is_empty();
            let probe = opening::of_states(named, model, arguments.embedding_layer)?;
            return Ok(Self::States(EmbeddingGradients::new(model, probe, pads)?));
        }
        let probe = named.of_letters()?;
        if let ProbeReads::States { name, .. } = probe.reads() {
            let file = arguments.network().map_or(String::new(), |path| path.display().to_string());
            let expected = "a network of one-hot sequences, or --embedding-probe with --model";
            let found = format!("one that reads states of the gLM {name}");
            return Err(InputError::new(file, "", expected, found).into());
        }
        Ok(Self::Letters(probe))
    }

    /// Predictions before a final sigmoid.
    ///
    /// # Errors
    /// `Invalid` for a sequence that gLM or network cannot take.
    pub(super) fn predict(&mut self, sequences: &[DnaSequence]) -> Result<Vec<f64>> {
        let found = match self {
            Self::Letters(probe) => probe.predict_sequences(sequences)?,
            Self::States(states) => states.outputs(sequences)?,
        };
        Ok(found.into_iter().map(f64::from).collect())
    }

    /// Refuses record `id` of `file`, which the network cannot read.
    pub(super) fn check(&self, file: &str, id: &str, sequence: &DnaSequence) -> Result<()> {
        match self {
            Self::States(states) => {
                states.check(sequence).map_err(|e: Error| e.context(format!("{file}: record {id}")))
            }
            Self::Letters(probe) => match probe.window() {
                Some(length) if length != sequence.len() as u64 => {
                    let place = format!("record {id}");
                    let expected = format!("{length} nucleotides, which the network reads");
                    Err(InputError::new(file, place, expected, sequence.len()).into())
                }
                _ => Ok(()),
            },
        }
    }
}
