//! How the published study scored variants, by architecture.
//!
//! Leaves out: its probes. Invariant: one table; an architecture that the study did not have gets the
//! longest window that the table's rule for others allows.
//!
//! Source: Tang et al. 2025, Genome Biology 26:203, and its code.

use super::Score;
use crate::model::ModelFacts;

/// Nucleotides of a lentiMPRA oligo, which the study's probes were trained on.
pub const PROBE_WINDOW: u64 = 230;

/// Windows, tokens and scores of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Length of windows in nucleotides.
    pub window: u64,
    /// Whether token 0 is left out of comparisons of states.
    pub skips_first: bool,
    /// Scores, the one of its table first.
    pub scores: &'static [Score],
    /// Tokens that windows of some lengths were padded to, without a mask; a longer one decides where
    /// it is longer. Empty = nothing is padded.
    pub padded: &'static [(u64, usize)],
    /// Whether [`Score::MaskedLlr`] is compared with effects by its absolute value.
    pub masked_is_absolute: bool,
}

const STATES: &[Score] = &[Score::Cosine, Score::Dot, Score::L1, Score::L2];

const OTHER: Published = Published {
    window: 512,
    skips_first: false,
    scores: &[Score::Cosine],
    padded: &[],
    masked_is_absolute: false,
};

/// The study's way with gLMs of `architecture`.
pub fn published(architecture: &str) -> Published {
    match architecture {
        "nucleotide-transformer-v1" | "nucleotide-transformer-v2" => {
            Published { window: 5_994, skips_first: true, ..OTHER }
        }
        "hyenadna" => Published { window: 998, scores: STATES, ..OTHER },
        "dnabert-2" => Published {
            window: 998,
            scores: STATES,
            padded: &[(173, 46), (200, 57), (230, 59), (400, 270), (998, 226)],
            ..OTHER
        },
        "gpn" => Published { scores: &[Score::MaskedLlr], masked_is_absolute: true, ..OTHER },
        "sei" => Published { window: 4_096, scores: STATES, ..OTHER },
        "rbp-cnn" => Published { window: 1_000, ..OTHER },
        _ => OTHER,
    }
}

impl Published {
    /// Windows of a gLM: the published ones, or the longest that fit its tokens.
    pub fn window_of(&self, facts: &ModelFacts) -> u64 {
        let fits = |window: &u64| facts.tokens(*window) <= facts.tokens_max;
        let shorter = (2..=self.window).rev().step_by(2);
        std::iter::once(self.window).chain(shorter).find(fits).unwrap_or(self.window)
    }

    /// Tokens that windows of `window` nucleotides are padded to, `longest` being the longest of them.
    pub fn pad_to(&self, window: u64, longest: usize) -> Option<usize> {
        let listed = self.padded.iter().find(|(length, _)| *length == window);
        (!self.padded.is_empty()).then(|| listed.map_or(longest, |&(_, to)| to.max(longest)))
    }
}

/// The cell line whose elements the study evaluated; `None` for elements that it left out.
pub fn published_cell(element: &str) -> Option<&'static str> {
    match element {
        "LDLR" | "SORT1" | "F9" => Some("HepG2"),
        "PKLR" => Some("K562"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_padded_to_the_table_or_to_the_longest() {
        let known = published("dnabert-2");
        assert_eq!(known.pad_to(998, 200), Some(226));
        assert_eq!(known.pad_to(998, 230), Some(230));
        assert_eq!(known.pad_to(600, 130), Some(130));
        assert_eq!(published("hyenadna").pad_to(998, 1_000), None);
    }
}
