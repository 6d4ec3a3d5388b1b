//! Networks that need nothing but a name: which there are, and what one is.
//!
//! A network is one file below `named/` and two lines here. Leaves out: those with numbers of their own
//! ([`Architecture`](super::Architecture)), training. Invariant: plans and jobs know a network by its name
//! alone, so its layers never change under it.

use super::{Extent, NetworkSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

pub mod mprann;
pub mod resnet;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiny_cnn;

/// Every network of this kind.
pub static ALL: &[&NamedNetwork] = &[
    &resnet::NETWORK,
    &mprann::NETWORK,
    #[cfg(test)]
    &tiny_cnn::NETWORK,
];

/// What a network reads where a job does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// One vector of an example.
    Vectors,
    /// Sequences of positions: one-hot or every token.
    Sequences,
    /// One-hot sequences.
    OneHot,
}

/// A network as its file describes it.
pub struct NamedNetwork {
    /// Name in job files, plans and reports; never changes.
    pub name: &'static str,
    /// What it reads.
    pub reads: Reads,
    /// Its layers on an example of these extents, ending in so many values.
    pub layers: fn(&[Extent], usize) -> NetworkSpec,
}

/// The network of that name.
pub fn find(name: &str) -> Option<&'static NamedNetwork> {
    ALL.iter().copied().find(|network| network.name == name)
}

impl PartialEq for NamedNetwork {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for NamedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

pub(super) fn serialize<S: Serializer>(
    network: &&'static NamedNetwork,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    network.name.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<&'static NamedNetwork, D::Error> {
    let name = String::deserialize(deserializer)?;
    find(&name).ok_or_else(|| serde::de::Error::custom(format!("no network is called {name:?}")))
}
