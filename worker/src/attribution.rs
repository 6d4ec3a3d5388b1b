//! Which bases a prediction or a language model rests on: one number for each nucleotide of a sequence.
//!
//! Leaves out: peaks, motifs and logos made of maps, and the command that writes them. Invariant: the
//! map of a sequence depends on the sequence alone, to the bit, but for the maximum entropy, which is
//! that of the whole set.

mod correlation;
mod entropy;
mod file;
mod gradient;
mod saliency;
mod selection;
mod spool;
#[cfg(test)]
mod tests;

pub use correlation::{MapCorrelation, MapCorrelations, PairCorrelation, correlate};
pub use entropy::{Entropies, EntropyMaximum, TokenEntropies, expand, information};
pub use file::MapFile;
pub use gradient::{EmbeddingGradient, EmbeddingGradients};
pub use saliency::{Saliency, saliency};
pub use selection::Highest;
pub use spool::{EntropyReader, EntropySpool};

/// A kind of map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// Name of its tensor and of its column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saliency => "saliency",
            Self::Information => "information",
            Self::InformationGradient => "information_gradient",
        }
    }
}
