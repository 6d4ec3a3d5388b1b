//! Ids of a file, none of which may come twice.
//!
//! Leaves out: what an id is. Invariant: ids of any length take the same few bytes.

use sha2::{Digest, Sha256};
use std::collections::btree_map::{BTreeMap, Entry};

/// What a good file has where an id comes again.
pub(in crate::readers) const EXPECTED: &str = "unique ids";

/// The ids read so far, each with the line or row that it stands on.
#[derive(Default)]
pub(in crate::readers) struct UniqueIds(BTreeMap<u128, u64>);

impl UniqueIds {
    /// Whether there is no id yet.
    pub(in crate::readers) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes note of `id` at `place`; the place that has the same id already, if there is one.
    pub(in crate::readers) fn insert(&mut self, id: &str, place: u64) -> Option<u64> {
        match self.0.entry(fingerprint(id)) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(free) => {
                free.insert(place);
                None
            }
        }
    }
}

/// 128 bits of the id's sha256: no two ids ever meet.
fn fingerprint(id: &str) -> u128 {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(16).fold(0, |bits, &byte| (bits << 8) | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_comes_again_is_told_with_its_first_place() {
        let mut ids = UniqueIds::default();
        let found = ["a", "b", "a", "A", "a"].iter().zip(1..).map(|(id, at)| ids.insert(id, at));
        assert_eq!(found.collect::<Vec<_>>(), [None, None, Some(1), None, Some(1)]);
    }
}
