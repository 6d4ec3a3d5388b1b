//! Things that take long to open, each opened once.
//!
//! Invariant: whoever waits waits for the one thing it asked for.

use glmeval_common::error::Result;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

type Slot<V> = Arc<Mutex<Option<Arc<V>>>>;

/// Opened things by key.
pub(super) struct Opened<K, V: ?Sized>(Mutex<BTreeMap<K, Slot<V>>>);

impl<K, V: ?Sized> Default for Opened<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, V: ?Sized> Opened<K, V> {
    /// The thing under `key`, opened by the first who asks; the next one tries again after an error.
    ///
    /// # Errors
    /// As `open`.
    pub(super) fn get(&self, key: K, open: impl FnOnce() -> Result<Arc<V>>) -> Result<Arc<V>> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(key).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*slot {
            return Ok(Arc::clone(opened));
        }
        let opened = open()?;
        *slot = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::error::Error;

    #[test]
    fn opening_one_thing_does_not_keep_others_waiting_and_an_error_is_not_kept() {
        let opened: Opened<&str, u32> = Opened::default();
        let slow = opened.get("slow", || {
            let other = opened.get("other", || Ok(Arc::new(2)))?;
            Ok(Arc::new(*other + 1))
        });
        assert_eq!(*slow.unwrap(), 3);
        assert!(opened.get("bad", || Err(Error::unavailable("away"))).is_err());
        assert_eq!(*opened.get("bad", || Ok(Arc::new(4))).unwrap(), 4);
        assert_eq!(*opened.get("bad", || Ok(Arc::new(5))).unwrap(), 4);
    }
}
