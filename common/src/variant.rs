//! A variant as a file names it: place, alleles, and what was measured of it.
//!
//! Leaves out: reading files (readers) and scoring (worker). Invariant: positions count from 1, as in
//! VCF; alleles are upper case.

use crate::dna::{BASES, DnaSequence};
use serde::{Deserialize, Serialize};

/// One alternative of one row of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// Chromosome, as the file spells it.
    pub chromosome: String,
    /// Position of the first reference base, from 1.
    pub position: u64,
    /// Reference allele.
    pub reference: String,
    /// Alternative allele.
    pub alternative: String,
    /// Name of the variant.
    pub id: Option<String>,
    /// Regulatory element it was measured in.
    pub element: Option<String>,
    /// Cell line it was measured in.
    pub cell: Option<String>,
    /// Part of a challenge it belongs to.
    pub part: Option<String>,
    /// Confidence of the measurement.
    pub confidence: Option<f64>,
    /// Measured effect, signed.
    pub effect: Option<f64>,
    /// Line of the file, from 1; of a file without lines the row, from 0.
    pub line: u64,
    /// Windows that the file itself holds, reference first.
    pub stored: Option<Box<[DnaSequence; 2]>>,
}

impl Variant {
    /// Reference and alternative base; `None` for all but exchanges of one base.
    pub fn substitution(&self) -> Option<(u8, u8)> {
        base(&self.reference).zip(base(&self.alternative)).filter(|(from, to)| from != to)
    }
}

/// The base that an allele is; `None` for all but A, C, G and T.
pub fn base(allele: &str) -> Option<u8> {
    match allele.as_bytes() {
        &[letter] if BASES.contains(&letter) => Some(letter),
        _ => None,
    }
}

/// Which of the optional values a file gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VariantFields {
    /// Names of variants.
    pub id: bool,
    /// Regulatory elements.
    pub element: bool,
    /// Cell lines.
    pub cell: bool,
    /// Parts of a challenge.
    pub part: bool,
    /// Confidences.
    pub confidence: bool,
    /// Measured effects.
    pub effect: bool,
}

impl VariantFields {
    /// What any of two files gives.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            id: self.id || other.id,
            element: self.element || other.element,
            cell: self.cell || other.cell,
            part: self.part || other.part,
            confidence: self.confidence || other.confidence,
            effect: self.effect || other.effect,
        }
    }
}

/// What happens to variants that are no exchange of one base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Indels {
    /// They are an error with file and line.
    #[default]
    Refuse,
    /// They are read, and left without a score.
    Skip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exchange_of_one_base_is_a_substitution() {
        let variant = |reference: &str, alternative: &str| Variant {
            reference: reference.to_owned(),
            alternative: alternative.to_owned(),
            ..Variant::default()
        };
        assert_eq!(variant("A", "T").substitution(), Some((b'A', b'T')));
        for (reference, alternative) in
            [("A", "A"), ("AC", "A"), ("A", "<DEL>"), ("N", "A"), ("A", ".")]
        {
            assert_eq!(variant(reference, alternative).substitution(), None);
        }
    }
}
