//! Ids of a file that come again.
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

/// Ids that came again where that is no error, as names of many files are no ids; told in one note.
#[derive(Default)]
pub(in crate::readers) struct RepeatedIds {
    ids: UniqueIds,
    count: u64,
    /// The first of them, where it stood before and where again.
    first: Option<(String, u64, u64)>,
}

impl RepeatedIds {
    /// Takes note of `id` at `place`.
    pub(in crate::readers) fn look(&mut self, id: &str, place: u64) {
        let Some(before) = self.ids.insert(id, place) else { return };
        self.count += 1;
        self.first.get_or_insert_with(|| (id.to_owned(), before, place));
    }

    /// What readers of `file` should know; `places` are lines or rows.
    pub(in crate::readers) fn notes(&self, file: &str, places: &str) -> Vec<String> {
        let Some((id, before, again)) = &self.first else { return Vec::new() };
        let count = self.count;
        vec![format!(
            "{file}: {count} rows have the id of an earlier row, such as {id} of {places} {before} and {again}; \
             their order tells them apart"
        )]
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
