//! What makes maps: a network of letters, a masked gLM, a network of its states.
//!
//! Leaves out: files. Invariant: entropies of all sequences are known before the first map is made.

use crate::opening::NamedProbe;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::representation::Pooling;
use glmeval_worker::attribution::{
    EmbeddingGradients, Entropies, EntropyReader, MapKind, expand, information, saliency,
};
use glmeval_worker::model::Model;
use glmeval_worker::variants::{ProbeReads, VariantProbe, published};

/// Maps of one sequence, in the order of [`Mapper::kinds`], and what was predicted.
pub(super) struct Mapped {
    pub(super) maps: Vec<(MapKind, Vec<f64>)>,
    /// Output of the network of letters.
    pub(super) output: Option<f32>,
    /// Output of the network of states.
    pub(super) embedding_output: Option<f32>,
}

/// All that makes maps.
pub(super) struct Mapper<'m> {
    model: Option<&'m Model>,
    probe: Option<VariantProbe>,
    entropies: Option<Entropies<'m>>,
    gradients: Option<EmbeddingGradients<'m>>,
    /// The largest entropy, and those of all sequences in order.
    known: Option<(f64, EntropyReader)>,
}

impl<'m> Mapper<'m> {
    /// Checks that each part can give its map.
    pub(super) fn new(
        model: Option<&'m Model>,
        probe: Option<NamedProbe>,
        (embedding_probe, layer): (Option<NamedProbe>, Option<u32>),
    ) -> Result<Self> {
        let probe = probe.map(NamedProbe::of_letters).transpose()?;
        if let Some(ProbeReads::States { name, layer, .. }) = probe.as_ref().map(|p| p.reads()) {
            let expected = "a network of one-hot sequences";
            let found = format!("one of layer {layer} of {name}, which --embedding-probe takes");
            return Err(InputError::new("command line", "--probe", expected, found).into());
        }
        let entropies = model.map(Entropies::new).transpose()?;
        let gradients = match (model, embedding_probe) {
            (Some(model), Some(named)) => {
                let pads = !published(&model.facts().architecture).padded.is_empty();
                let probe = of_states(named, model, layer)?;
                Some(EmbeddingGradients::new(model, probe, pads)?)
            }
            _ => None,
        };
        Ok(Self { model, probe, entropies, gradients, known: None })
    }

    /// The gLM.
    pub(super) fn model(&self) -> Option<&'m Model> {
        self.model
    }

    /// What gives entropies.
    pub(super) fn entropies(&self) -> Option<&Entropies<'m>> {
        self.entropies.as_ref()
    }

    /// Takes the entropies of all sequences, in their order.
    pub(super) fn read(&mut self, maximum: f64, reader: EntropyReader) {
        self.known = Some((maximum, reader));
    }

    /// The maps that there will be.
    pub(super) fn kinds(&self) -> Vec<MapKind> {
        let is_made = |kind: &MapKind| match kind {
            MapKind::Saliency => self.probe.is_some(),
            MapKind::Information => self.entropies.is_some(),
            MapKind::InformationGradient => self.gradients.is_some(),
        };
        MapKind::ALL.into_iter().filter(is_made).collect()
    }

    /// Outputs of the network of letters.
    pub(super) fn outputs(&mut self, sequences: &[&DnaSequence]) -> Result<Vec<f32>> {
        let Some(probe) = &mut self.probe else { return Err(Error::bug("nothing to rank by")) };
        let letters = probe.one_hot(sequences)?;
        probe.predict(&letters)
    }

    /// Refuses a sequence of another length than the network of letters reads.
    pub(super) fn check_length(&self, sequence: &DnaSequence) -> Result<()> {
        let read = self.probe.as_ref().map(|probe| probe.input().length());
        match read.filter(|&length| length != sequence.len()) {
            None => Ok(()),
            Some(expected) => {
                let found = format!("{} nucleotides", sequence.len());
                let expected = format!("{expected} nucleotides, which --probe reads");
                Err(InputError::new("its length", "", expected, found).into())
            }
        }
    }

    /// Refuses a sequence that the gLM or its network cannot take, before any is masked.
    pub(super) fn check(&self, sequence: &DnaSequence) -> Result<()> {
        if let Some(entropies) = &self.entropies {
            entropies.tokens(sequence)?;
        }
        self.gradients.as_ref().map_or(Ok(()), |gradients| gradients.check(sequence))
    }

    /// Maps of the next sequences.
    pub(super) fn map(&mut self, sequences: &[&DnaSequence]) -> Result<Vec<Mapped>> {
        let empty = || Mapped { maps: Vec::new(), output: None, embedding_output: None };
        let mut mapped: Vec<Mapped> = sequences.iter().map(|_| empty()).collect();
        if let Some(probe) = &mut self.probe {
            let found = saliency(probe, sequences)?;
            for (one, found) in mapped.iter_mut().zip(found) {
                one.output = Some(found.output);
                one.maps.push((MapKind::Saliency, found.map));
            }
        }
        let mut norms = vec![None; sequences.len()];
        if let Some(gradients) = &mut self.gradients {
            let found = gradients.of(sequences)?;
            for ((one, norms), found) in mapped.iter_mut().zip(&mut norms).zip(found) {
                one.embedding_output = Some(found.output);
                *norms = Some(found.norms);
            }
        }
        let (Some(entropies), Some((maximum, reader))) = (&self.entropies, &mut self.known) else {
            return Ok(mapped);
        };
        for ((one, sequence), norms) in mapped.iter_mut().zip(sequences).zip(norms) {
            let (ids, lengths) = entropies.tokens(sequence)?;
            let per_token = information(&reader.next(ids.len())?, *maximum);
            one.maps.push((MapKind::Information, expand(&per_token, &lengths)?));
            if let Some(norms) = norms {
                let product = per_token.iter().zip(norms).map(|(a, b)| a * b);
                let product = expand(&product.collect::<Vec<f64>>(), &lengths)?;
                one.maps.push((MapKind::InformationGradient, product));
            }
        }
        Ok(mapped)
    }
}

/// The network of states; a description says nothing of the gLM, so the user does.
fn of_states(named: NamedProbe, model: &Model, layer: Option<u32>) -> Result<VariantProbe> {
    match named {
        NamedProbe::Fit(_) if layer.is_some() => {
            let found = "a fit, which names its layer";
            Err(InputError::new("command line", "--embedding-layer", "a JSON file", found).into())
        }
        NamedProbe::Fit(probe) => Ok(*probe),
        NamedProbe::Described(description, weights) => {
            let facts = model.facts();
            let reads = ProbeReads::States {
                model: facts.id.clone(),
                name: "--model".to_owned(),
                layer: layer.unwrap_or(facts.layer_count),
                pooling: Pooling::Full,
            };
            VariantProbe::open_reading(&description, &weights, reads)
        }
    }
}
