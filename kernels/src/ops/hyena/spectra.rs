//! The filter's spectra that an operator keeps, by number of points.
//!
//! Leaves out: how a spectrum is computed. Invariant: those kept never take more bytes than
//! allowed; the least recently used go first.

use crate::ops::fft::vector::Point;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The spectra of all blocks of sixteen channels, one after the other.
pub(super) type Spectra = Arc<Vec<Vec<Point>>>;

/// Spectra of several numbers of points within a number of bytes.
pub(super) struct Cache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By number of points: when last used, and the spectra.
    spectra: BTreeMap<usize, (u64, Spectra)>,
    uses: u64,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    /// Whether spectra of so many bytes may be kept at all.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        bytes <= self.bytes_max
    }

    /// Those of a number of points, if they are kept.
    pub(super) fn get(&self, points: usize) -> Option<Spectra> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let uses = kept.uses;
        let (used, spectra) = kept.spectra.get_mut(&points)?;
        *used = uses;
        Some(Arc::clone(spectra))
    }

    /// Keeps those of a number of points, unless they take more than all may.
    pub(super) fn put(&self, points: usize, spectra: &Spectra) {
        let bytes = bytes_of(spectra);
        if !self.holds(bytes) {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(points);
        while kept.bytes > self.bytes_max - bytes {
            let oldest = kept.spectra.iter().min_by_key(|(_, (used, _))| *used);
            let Some(points) = oldest.map(|(points, _)| *points) else { break };
            kept.remove(points);
        }
        kept.uses += 1;
        let uses = kept.uses;
        kept.bytes += bytes;
        kept.spectra.insert(points, (uses, Arc::clone(spectra)));
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

impl Kept {
    fn remove(&mut self, points: usize) {
        if let Some((_, spectra)) = self.spectra.remove(&points) {
            self.bytes -= bytes_of(&spectra);
        }
    }
}

fn bytes_of(spectra: &Spectra) -> usize {
    spectra.iter().map(|block| size_of_val(block.as_slice())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spectra(points: usize) -> Spectra {
        Arc::new(vec![vec![Point::ZERO; points]])
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let point = size_of::<Point>();
        let cache = Cache::new(10 * point);
        cache.put(4, &spectra(4));
        cache.put(5, &spectra(5));
        assert!(cache.get(4).is_some());
        cache.put(6, &spectra(6));
        assert!(cache.get(5).is_none());
        assert!(cache.get(4).is_some() && cache.get(6).is_some());
        assert_eq!(cache.bytes(), 10 * point);
        cache.put(11, &spectra(11));
        assert!(cache.get(11).is_none() && cache.get(4).is_some());
    }

    #[test]
    fn the_same_points_are_kept_once() {
        let cache = Cache::new(10 * size_of::<Point>());
        cache.put(4, &spectra(4));
        cache.put(4, &spectra(4));
        assert_eq!(cache.bytes(), 4 * size_of::<Point>());
    }
}
