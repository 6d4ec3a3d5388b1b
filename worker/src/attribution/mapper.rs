//! What makes maps: a network of letters, a masked gLM, a network of its states.
//!
//! Leaves out: files. Invariant: entropies of all sequences are known before the first map is made.

use super::{EmbeddingGradients, Entropies, EntropyReader, MapKind, expand, information, saliency};
use crate::variants::VariantProbe;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};

/// Maps of one sequence, in the order of [`Mapper::kinds`], and what was predicted.
pub struct Mapped {
    /// In the order of [`Mapper::kinds`], one value for each nucleotide.
    pub maps: Vec<(MapKind, Vec<f64>)>,
    /// Output of the network of letters.
    pub output: Option<f32>,
    /// Output of the network of states.
    pub embedding_output: Option<f32>,
}

/// All that makes maps.
pub struct Mapper<'m> {
    wanted: Vec<MapKind>,
    probe: Option<VariantProbe>,
    entropies: Option<Entropies<'m>>,
    gradients: Option<EmbeddingGradients<'m>>,
    /// The largest entropy, and those of all sequences in order.
    known: Option<(f64, EntropyReader)>,
}

impl<'m> Mapper<'m> {
    /// Takes what there is of a gLM, a network of letters, what gives entropies and gradients of states.
    ///
    /// # Errors
    /// `Bug` for gradients without entropies, which they are multiplied with.
    pub fn new(
        probe: Option<VariantProbe>,
        entropies: Option<Entropies<'m>>,
        gradients: Option<EmbeddingGradients<'m>>,
    ) -> Result<Self> {
        if gradients.is_some() && entropies.is_none() {
            return Err(Error::bug("gradients of states without entropies"));
        }
        Ok(Self { wanted: MapKind::ALL.to_vec(), probe, entropies, gradients, known: None })
    }

    /// Keeps maps of these kinds alone.
    #[must_use]
    pub fn with_kinds(mut self, kinds: &[MapKind]) -> Self {
        self.wanted = kinds.to_vec();
        self
    }

    /// What gives entropies.
    pub fn entropies(&self) -> Option<&Entropies<'m>> {
        self.entropies.as_ref()
    }

    /// Takes the entropies of all sequences, in their order.
    pub fn read(&mut self, maximum: f64, reader: EntropyReader) {
        self.known = Some((maximum, reader));
    }

    /// The maps that there will be.
    pub fn kinds(&self) -> Vec<MapKind> {
        let is_made = |kind: &MapKind| match kind {
            MapKind::Saliency => self.probe.is_some(),
            MapKind::Information => self.entropies.is_some(),
            MapKind::InformationGradient => self.gradients.is_some(),
        };
        let wanted = MapKind::ALL.into_iter().filter(|kind| self.wanted.contains(kind));
        wanted.filter(is_made).collect()
    }

    /// Outputs of the network of letters.
    ///
    /// # Errors
    /// `Invalid` for a sequence of another length than it reads; `Bug` without one.
    pub fn outputs(&mut self, sequences: &[&DnaSequence]) -> Result<Vec<f32>> {
        let Some(probe) = &mut self.probe else { return Err(Error::bug("nothing to rank by")) };
        let letters = probe.one_hot(sequences)?;
        probe.predict(&letters)
    }

    /// Refuses a sequence of another length than the network of letters reads.
    ///
    /// # Errors
    /// `Invalid` with both lengths.
    pub fn check_length(&self, sequence: &DnaSequence) -> Result<()> {
        let read = self.probe.as_ref().map(|probe| probe.input().length());
        match read.filter(|&length| length != sequence.len()) {
            None => Ok(()),
            Some(expected) => {
                let found = format!("{} nucleotides", sequence.len());
                let expected = format!("{expected} nucleotides, which the network reads");
                Err(InputError::new("its length", "", expected, found).into())
            }
        }
    }

    /// Refuses a sequence that the gLM or its network cannot take, before any is masked.
    ///
    /// # Errors
    /// As [`Entropies::tokens`] and [`EmbeddingGradients::check`].
    pub fn check(&self, sequence: &DnaSequence) -> Result<()> {
        if let Some(entropies) = &self.entropies {
            entropies.tokens(sequence)?;
        }
        self.gradients.as_ref().map_or(Ok(()), |gradients| gradients.check(sequence))
    }

    /// Maps of the next sequences, in the order in which their entropies were written.
    ///
    /// # Errors
    /// As the parts that make them; I/O errors of the entropies.
    pub fn map(&mut self, sequences: &[&DnaSequence]) -> Result<Vec<Mapped>> {
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
            self.keep(&mut mapped);
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
        self.keep(&mut mapped);
        Ok(mapped)
    }

    fn keep(&self, mapped: &mut [Mapped]) {
        mapped.iter_mut().for_each(|one| one.maps.retain(|(kind, _)| self.wanted.contains(kind)));
    }
}
