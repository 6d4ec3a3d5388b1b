//! What a tokenizer is: text of a sequence in, token ids of one gLM out.
//!
//! Leaves out: which there are ([`crate::tokenizers`]) and padding (batches are packed).
//! Invariant: every id returned has a row in the embedding table of the gLM.

use glmeval_common::error::Result;
use glmeval_common::plan::TokenRule;

/// What happens to letters that a vocabulary does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownLetters {
    /// They are an error that names letter and column. `N` is the letter for an undefined base:
    /// where a vocabulary has no `N`, it is the unknown token, as in the original tokenizer.
    #[default]
    Refuse,
    /// They become unknown tokens exactly as in the Hugging Face tokenizer of the gLM; special
    /// tokens may be written out in the text.
    Replace,
}

impl UnknownLetters {
    /// `refuse` or `replace`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Replace => "replace",
        }
    }
}

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

    /// Id of the token that fills a sequence up, `None` if the vocabulary has none.
    fn pad_id(&self) -> Option<u32> {
        None
    }

    /// Special tokens added to each sequence.
    fn special_count(&self) -> u32 {
        match self.rule() {
            TokenRule::Blocks { special, .. }
            | TokenRule::Overlapping { special, .. }
            | TokenRule::Pieces { special, .. } => special,
        }
    }

    /// Nucleotides of a full token.
    fn nucleotides_per_token(&self) -> u32 {
        match self.rule() {
            TokenRule::Blocks { length, .. } => length,
            TokenRule::Overlapping { .. } => 1,
            TokenRule::Pieces { mean_length, .. } => mean_length as u32,
        }
    }
}
