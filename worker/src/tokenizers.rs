//! Which tokenizers there are.

mod kmer;
mod vocabulary;

pub use kmer::KmerTokenizer;
pub use vocabulary::Vocabulary;
