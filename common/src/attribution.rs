//! Attribution maps as jobs, plans and files name them.
//!
//! Leaves out: what one unit maps (unit), computing maps (worker). Invariant: a kind has one name
//! everywhere.

use serde::{Deserialize, Serialize};

/// Sequences that are mapped where a network ranks them, as in the published study.
pub const TOP: u32 = 500;
/// What fits of maps are called where others name what their probe read.
pub const REPRESENTATION: &str = "attribution";

/// A kind of map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapKind {
    /// Gradient of a network of one-hot sequences at the base that is there.
    Saliency,
    /// How much less uncertain than at worst a language model is of a masked token.
    Information,
    /// Information times how far a network of the gLM's states heeds the token's state.
    InformationGradient,
}

impl MapKind {
    /// All of them, in the order of their columns.
    pub const ALL: [Self; 3] = [Self::Saliency, Self::Information, Self::InformationGradient];

    /// Name of its tensor and of its column, and its word in job files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saliency => "saliency",
            Self::Information => "information",
            Self::InformationGradient => "information_gradient",
        }
    }

    /// The kind of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_word_everywhere() {
        for kind in MapKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
            assert_eq!(MapKind::find(kind.name()), Some(kind));
        }
        assert_eq!(MapKind::find("gradient"), None);
    }
}
