//! Windows with their alternatives, as tokens: what is run together.
//!
//! Leaves out: running it. Invariant: an alternative belongs to exactly the window it was made of;
//! windows are equal only if every letter is.

use super::Window;
use crate::batching::check_length;
use crate::model::Model;
use glmeval_common::dna::{BASES, DnaSequence};
use glmeval_common::error::{ErrorKind, Result};
use std::collections::BTreeMap;

/// One strand of a window: the reference's tokens and those of each alternative.
#[derive(Clone, Debug)]
pub(super) struct Strand {
    /// Token ids, reference first.
    pub(super) ids: Vec<Vec<u32>>,
    /// Nucleotides that each token of the reference stands for; empty where the gLM does not say.
    pub(super) lengths: Vec<u32>,
    /// The token that holds the variant; `None` where the gLM does not say.
    pub(super) token: Option<usize>,
}

impl Strand {
    /// Tokens of the reference that stand for nucleotides.
    pub(super) fn nucleotides(&self) -> impl Iterator<Item = usize> {
        let lengths = self.lengths.iter().enumerate();
        lengths.filter(|(_, length)| **length > 0).map(|(token, _)| token)
    }
}

/// A window and the bases that variants put in its middle.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) strands: Vec<Strand>,
}

impl Group {
    /// Tokens of all sequences.
    pub(super) fn token_count(&self) -> usize {
        self.strands.iter().flat_map(|strand| &strand.ids).map(Vec::len).sum()
    }
}

/// Windows by their letters, and where each variant is found.
pub(super) struct Groups<'w> {
    /// The windows and their bases, in the order in which they came first.
    windows: Vec<(&'w DnaSequence, Vec<u8>)>,
    /// Group and alternative of each variant.
    pub(super) places: Vec<(usize, usize)>,
}

impl<'w> Groups<'w> {
    /// Puts together what shares a reference.
    pub(super) fn new(windows: &[&'w Window]) -> Self {
        let mut known: BTreeMap<&DnaSequence, usize> = BTreeMap::new();
        let mut groups = Self { windows: Vec::new(), places: Vec::with_capacity(windows.len()) };
        for window in windows {
            let next = groups.windows.len();
            let group = *known.entry(&window.reference).or_insert(next);
            if group == next {
                groups.windows.push((&window.reference, Vec::with_capacity(BASES.len())));
            }
            let Some((_, bases)) = groups.windows.get_mut(group) else { continue };
            let place = bases.iter().position(|&base| base == window.alternative);
            if place.is_none() {
                bases.push(window.alternative);
            }
            groups.places.push((group, place.unwrap_or(bases.len() - 1)));
        }
        groups
    }

    /// Where the first window of `group` starts; `windows` are those it was made of.
    pub(super) fn start(&self, group: usize, windows: &[&Window]) -> u64 {
        let first = self.places.iter().position(|(of, _)| *of == group);
        first.and_then(|first| windows.get(first)).map_or(0, |window| window.start)
    }

    /// The tokens of every window; a reason where the gLM cannot take one.
    ///
    /// # Errors
    /// Other errors than those of a single sequence.
    pub(super) fn tokenize(
        &self,
        model: &Model,
        both_strands: bool,
        pad_to: Option<usize>,
    ) -> Result<Vec<Result<Group, String>>> {
        let groups = self.windows.iter().map(|(reference, bases)| {
            match group(model, reference, bases, (both_strands, pad_to)) {
                Ok(group) => Ok(Ok(group)),
                Err(error) if error.kind() == ErrorKind::Invalid => Ok(Err(error.chain())),
                Err(error) => Err(error),
            }
        });
        groups.collect()
    }
}

fn group(
    model: &Model,
    reference: &DnaSequence,
    bases: &[u8],
    (both_strands, pad_to): (bool, Option<usize>),
) -> Result<Group> {
    let windows = bases.iter().map(|&alternative| {
        Window { start: 0, reference: reference.clone(), alternative }.alternative_sequence()
    });
    let sequences: Vec<DnaSequence> = std::iter::once(reference.clone()).chain(windows).collect();
    let index = (reference.len() / 2).saturating_sub(1);
    let mut strands = vec![strand(model, &sequences, index, pad_to)?];
    if both_strands {
        let turned: Vec<_> = sequences.iter().map(DnaSequence::reverse_complement).collect();
        strands.push(strand(model, &turned, reference.len() - 1 - index, pad_to)?);
    }
    Ok(Group { strands })
}

fn strand(
    model: &Model,
    sequences: &[DnaSequence],
    index: usize,
    pad_to: Option<usize>,
) -> Result<Strand> {
    let mut ids = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let mut tokens = model.tokenize(sequence)?;
        if let (Some(count), Some(pad)) = (pad_to, model.tokenizer().pad_id()) {
            tokens.resize(tokens.len().max(count), pad);
        }
        check_length("of the variant", tokens.len(), model.facts().tokens_max)?;
        ids.push(tokens);
    }
    let first = sequences.first().map_or("", DnaSequence::as_str);
    let mut lengths = model.tokenizer().lengths(first).unwrap_or_default();
    if model.facts().states_fixed.is_some() {
        lengths.clear();
    }
    let mut end = 0;
    let token = lengths.iter().position(|&length| {
        end += length as usize;
        end > index
    });
    lengths.resize(if lengths.is_empty() { 0 } else { ids.first().map_or(0, Vec::len) }, 0);
    Ok(Strand { ids, lengths, token })
}
