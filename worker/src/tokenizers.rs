//! Which tokenizers there are.

mod kmer;
mod nucleotide;
mod vocabulary;

pub use kmer::KmerTokenizer;
pub use nucleotide::NucleotideTokenizer;
pub use vocabulary::Vocabulary;
