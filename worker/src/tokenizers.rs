//! Which tokenizers there are.

mod bpe;
mod character;
mod definition;
mod gpn;
mod kmer;
mod letters;
mod nucleotide;
mod overlapping;
mod padded;
mod vocabulary;

pub use bpe::BpeTokenizer;
pub use character::{CharacterTokenizer, SpecialStyle};
pub use gpn::GpnTokenizer;
pub use kmer::KmerTokenizer;
pub use nucleotide::NucleotideTokenizer;
pub use overlapping::OverlappingKmerTokenizer;
pub use padded::Padded;
pub use vocabulary::Vocabulary;
