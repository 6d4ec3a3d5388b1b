//! Sequences filled up with padding tokens.
//!
//! Leaves out: hiding them from the gLM ([`crate::model::MaskedPadding`]).
//! Invariant: every sequence has the same number of tokens.

use crate::tokenizer::Tokenizer;
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::TokenRule;

/// Appends padding tokens up to a fixed number of tokens.
///
/// A quirk of published evaluations, not of any gLM: their inputs were padded to the longest
/// sequence of a data set, and padding took part in means; without a mask, in attention too.
pub struct Padded {
    tokenizer: Box<dyn Tokenizer>,
    pad_id: u32,
    /// Tokens of every sequence, special and padding tokens included.
    length: u32,
    /// Whether the gLM hides them.
    is_masked: bool,
}

impl Padded {
    /// Pads what `tokenizer` makes to `length` tokens.
    ///
    /// # Errors
    /// `Invalid` if its vocabulary has no padding token.
    pub fn new(tokenizer: Box<dyn Tokenizer>, length: u32) -> Result<Self> {
        let pad_id = tokenizer.pad_id().ok_or_else(|| {
            let found = "a vocabulary without one";
            Error::invalid(format!(
                "pad to {length} tokens: expected a padding token, found {found}"
            ))
        })?;
        Ok(Self { tokenizer, pad_id, length, is_masked: false })
    }

    /// The same for a gLM that hides its padding; only the digest differs.
    #[must_use]
    pub fn masked(self, is_masked: bool) -> Self {
        Self { is_masked, ..self }
    }
}

impl Tokenizer for Padded {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text)?;
        let length = self.length as usize;
        if ids.len() > length {
            let found = ids.len();
            return Err(Error::invalid(format!(
                "pad to {length} tokens: expected at most {length} tokens, found {found}"
            )));
        }
        ids.resize(length, self.pad_id);
        Ok(ids)
    }

    fn lengths(&self, text: &str) -> Result<Vec<u32>> {
        let mut lengths = self.tokenizer.lengths(text)?;
        lengths.resize(lengths.len().max(self.length as usize), 0);
        Ok(lengths)
    }

    fn mask_id(&self) -> Option<u32> {
        self.tokenizer.mask_id()
    }

    fn digest(&self) -> String {
        let digest = ContentDigest::new("tokenizer/padded/1")
            .field("tokenizer", self.tokenizer.digest())
            .field("pad_id", self.pad_id.to_le_bytes())
            .field("length", self.length.to_le_bytes());
        // Ids of gLMs that see their padding are as they were before there was a choice.
        if self.is_masked { digest.field("padding", "masked") } else { digest }.finish()
    }

    /// No sequence fills a window of that length, so its length changes nothing.
    fn rule(&self) -> TokenRule {
        TokenRule::Fixed { tokens: self.length }
    }

    fn pad_id(&self) -> Option<u32> {
        Some(self.pad_id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::NucleotideTokenizer;
    use super::*;

    fn padded(length: u32) -> Padded {
        Padded::new(Box::<NucleotideTokenizer>::default(), length).unwrap()
    }

    #[test]
    fn padding_follows_the_sequence_up_to_the_length() {
        assert_eq!(padded(4).encode("AC").unwrap(), [0, 1, 4, 4]);
        assert_eq!(padded(2).encode("AC").unwrap(), [0, 1]);
        assert_eq!(padded(4).rule().tokens(0), 4);
        assert_eq!(padded(4).rule().tokens(1 << 24), 4);
        assert_eq!(padded(4).lengths("AC").unwrap(), [1, 1, 0, 0]);
        assert_ne!(padded(4).digest(), padded(5).digest());
        assert_ne!(padded(4).digest(), padded(4).masked(true).digest());
    }

    #[test]
    fn a_longer_sequence_is_refused() {
        let message = padded(1).encode("AC").unwrap_err().to_string();
        assert_eq!(message, "pad to 1 tokens: expected at most 1 tokens, found 2");
    }
}
