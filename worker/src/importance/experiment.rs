//! Motifs at places, and the families of experiments made of them.
//!
//! Leaves out: predictions. Invariant: places count from 0; a later motif overwrites an earlier one;
//! an embedded sequence has the length of its background.

use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use std::fmt;

/// A motif and where its first letter goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedMotif {
    /// Its letters.
    pub letters: DnaSequence,
    /// Offset in the sequence, from 0.
    pub start: usize,
}

/// Motifs that are embedded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiment {
    /// What tables call it.
    pub name: String,
    /// Embedded in this order.
    pub motifs: Vec<PlacedMotif>,
}

impl fmt::Display for PlacedMotif {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.letters.as_str(), self.start)
    }
}

impl PlacedMotif {
    /// Reads `LETTERS@START`.
    ///
    /// # Errors
    /// In words, what was expected and found.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected LETTERS@START such as ACTTCCGCC@19, found {text:?}");
        let (letters, start) = text.trim().split_once('@').ok_or_else(wrong)?;
        let start = start.parse().map_err(|_| wrong())?;
        let letters = DnaSequence::new(letters)
            .map_err(|bad| format!("expected letters of DNA before {start}, found {bad}"))?;
        if letters.is_empty() {
            return Err(wrong());
        }
        Ok(Self { letters, start })
    }

    /// The motif of `center` with the letters of `left` before it and those of `right` after it.
    ///
    /// # Errors
    /// `Invalid` if there is no room on the left.
    pub fn flanked(&self, left: &DnaSequence, right: &DnaSequence) -> Result<Self> {
        let start = self.start.checked_sub(left.len()).ok_or_else(|| {
            let expected = format!("at least {} letters before the motif", left.len());
            Error::from(InputError::new("motif", self, expected, self.start))
        })?;
        let letters = [left.as_bytes(), self.letters.as_bytes(), right.as_bytes()].concat();
        let letters = DnaSequence::new(letters).map_err(|bad| Error::bug(bad.to_string()))?;
        Ok(Self { letters, start })
    }
}

impl Experiment {
    /// Reads `NAME=LETTERS@START,LETTERS@START…`; without a name, the motifs are the name.
    ///
    /// # Errors
    /// In words, what was expected and found.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, motifs) = text.split_once('=').unwrap_or((text, text));
        if name.trim().is_empty() {
            return Err(format!("expected NAME=LETTERS@START,…, found {text:?}"));
        }
        let motifs = motifs.split(',').map(PlacedMotif::parse).collect::<Result<_, _>>()?;
        Ok(Self { name: name.trim().to_owned(), motifs })
    }

    /// `background` with the motifs written over it.
    ///
    /// # Errors
    /// `Invalid` for a motif that ends behind the background.
    pub fn embed(&self, background: &DnaSequence) -> Result<DnaSequence> {
        let mut letters = background.as_bytes().to_vec();
        for motif in &self.motifs {
            let end = motif.start.saturating_add(motif.letters.len());
            let place = letters.get_mut(motif.start..end).ok_or_else(|| {
                let place = format!("{}: {motif}", self.name);
                let expected = format!("a motif that ends within {} nt", background.len());
                Error::from(InputError::new("motifs", place, expected, format!("its end at {end}")))
            })?;
            place.copy_from_slice(motif.letters.as_bytes());
        }
        DnaSequence::new(letters).map_err(|bad| Error::bug(bad.to_string()))
    }
}

/// `motif` at each of `starts`, one experiment each: `NAME@START`.
pub fn position_scan(name: &str, motif: &DnaSequence, starts: &[usize]) -> Vec<Experiment> {
    let experiment = |&start: &usize| Experiment {
        name: format!("{name}@{start}"),
        motifs: vec![PlacedMotif { letters: motif.clone(), start }],
    };
    starts.iter().map(experiment).collect()
}

/// `motif` between each of `flanks`, one experiment each: `NAME LEFT|RIGHT`.
///
/// # Errors
/// `Invalid` for a flank that begins before the sequence.
pub fn flanks(
    name: &str,
    motif: &PlacedMotif,
    flanks: &[(DnaSequence, DnaSequence)],
) -> Result<Vec<Experiment>> {
    let experiment = |(left, right): &(DnaSequence, DnaSequence)| {
        let name = format!("{name} {}|{}", left.as_str(), right.as_str());
        Ok(Experiment { name, motifs: vec![motif.flanked(left, right)?] })
    };
    flanks.iter().map(experiment).collect()
}

/// `first`, then `second` each of `gaps` letters behind its end, one experiment each: `NAME+GAP`.
pub fn spacings(
    name: &str,
    first: &PlacedMotif,
    second: &DnaSequence,
    gaps: &[usize],
) -> Vec<Experiment> {
    let experiment = |&gap: &usize| {
        let start = first.start.saturating_add(first.letters.len()).saturating_add(gap);
        let second = PlacedMotif { letters: second.clone(), start };
        Experiment { name: format!("{name}+{gap}"), motifs: vec![first.clone(), second] }
    };
    gaps.iter().map(experiment).collect()
}
