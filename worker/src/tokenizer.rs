//! What a tokenizer is: text of a sequence in, token ids of one gLM out.
//!
//! Leaves out: which there are ([`crate::tokenizers`]) and padding (batches are packed).
//! Invariant: every id returned has a row in the embedding table of the gLM.

use glmeval_common::error::{Error, Result};

pub use glmeval_common::model::{TokenRule, UnknownLetters};

/// Turns text into the token ids of one gLM.
pub trait Tokenizer: Send + Sync {
    /// Token ids of `text`, special tokens included; case is kept as it is.
    ///
    /// # Errors
    /// `Invalid` with letter and column (from 1) where the text cannot be expressed.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// Digest of everything that decides the ids.
    fn digest(&self) -> String;

    /// How many tokens a sequence becomes.
    fn rule(&self) -> TokenRule;

    /// Nucleotides that each token of [`Tokenizer::encode`] stands for; 0 for special tokens. Where
    /// tokens overlap, one stands for its first nucleotide, and the last one for its rest as well.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; `Invalid` if tokens of this gLM cannot be matched with nucleotides.
    fn lengths(&self, _text: &str) -> Result<Vec<u32>> {
        Err(Error::invalid("tokens of this gLM cannot be matched with nucleotides"))
    }

    /// Id of the mask token; `None` if the vocabulary has none.
    fn mask_id(&self) -> Option<u32> {
        None
    }

    /// Id of the padding token; `None` if the vocabulary has none.
    fn pad_id(&self) -> Option<u32> {
        None
    }
}
