//! Identifiers: distinct types that never convert into each other.
//!
//! Content ids are digests (equal work has equal ids, across jobs); worker ids and attempts are names.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps text that is already such an id.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The id as text, fit for one segment of an object path.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_id! {
    /// Digest of a plan: the same job file over the same inputs is the same job.
    JobId;
    /// Digest of a gLM: architecture, tensors, tokenizer.
    ModelId;
    /// Digest of a data set: source bytes, reader options, format version.
    DatasetId;
    /// Digest of an embedding set: model x data set x layers x pooling x dtype x numeric class.
    SetId;
    /// Digest of a fit: everything that decides its score.
    FitId;
    /// Name of a worker process.
    WorkerId;
    /// Random token of one attempt at a unit; names that attempt's private objects.
    Attempt;
}

/// Fencing number of a lease: epoch of the coordinator, then its count of grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation {
    /// Epoch of the coordinator that granted the lease.
    pub epoch: u64,
    /// Grants made in that epoch before this one.
    pub counter: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}
