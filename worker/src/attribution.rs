//! Which bases a prediction or a language model rests on: one number for each nucleotide of a sequence.
//!
//! Leaves out: peaks, motifs and logos made of maps, and the command that writes files of them. Invariant: the
//! map of a sequence depends on the sequence alone, to the bit, but for the maximum entropy, which is
//! that of the whole set.

mod correlation;
mod entropy;
mod file;
mod gradient;
mod mapper;
mod mapping;
mod saliency;
mod selection;
mod spool;
mod stored;
#[cfg(test)]
mod tests;
pub(crate) mod unit;

pub use correlation::{MapCorrelation, MapCorrelations, PairCorrelation, correlate};
pub use entropy::{Entropies, EntropyMaximum, TokenEntropies, expand, information};
pub use file::MapFile;
pub use glmeval_common::attribution::MapKind;
pub use gradient::{EmbeddingGradient, EmbeddingGradients};
pub use mapper::{Mapped, Mapper};
pub use mapping::{
    MAP_IDS_BYTES_MAX, MapStage, MapTables, Named, Ranking, Sequences, TakeMaps, letters, map_all,
};
pub use saliency::{Saliency, saliency};
pub use selection::Highest;
pub use spool::{EntropyReader, EntropySpool};
pub use stored::StoredMaps;
