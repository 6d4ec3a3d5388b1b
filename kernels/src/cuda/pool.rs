//! Which freed blocks of a device's memory serve again, how much may be held, and what a copy under way is.
//!
//! Leaves out: getting memory (`nvidia`, `emulator`). Invariant: pure; a block is either used or free, never both, and what is
//! held never goes above the budget.

use crate::error::Result;
use std::collections::BTreeMap;

/// Smallest block in bytes.
const BLOCK_BYTES_MIN: usize = 512;

/// Sizes between two powers of two: a block is at most an eighth larger than what was asked for.
const STEPS: usize = 8;

/// What a device's memory is used for, in bytes and numbers of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStatistics {
    /// Bytes of blocks in use.
    pub used: u64,
    /// Bytes of blocks that were freed and wait to serve again.
    pub idle: u64,
    /// The largest sum of both so far.
    pub peak: u64,
    /// Blocks that served again.
    pub reused: u64,
    /// Blocks that the driver was asked for.
    pub fetched: u64,
    /// How often idle blocks were given back for want of room.
    pub trimmed: u64,
}

/// Blocks of one device.
#[derive(Debug, Default)]
pub(super) struct Pool {
    used: BTreeMap<u64, usize>,
    idle: BTreeMap<usize, Vec<u64>>,
    statistics: MemoryStatistics,
    bytes_max: Option<u64>,
}

/// The size of block that `bytes` are served with; `None` if there is no such size.
pub(super) fn block_bytes(bytes: usize) -> Option<usize> {
    let bytes = bytes.max(BLOCK_BYTES_MIN);
    let step = (bytes.checked_next_power_of_two()? / 2 / STEPS).max(1);
    bytes.checked_next_multiple_of(step.max(BLOCK_BYTES_MIN / STEPS))
}

impl Pool {
    /// Without blocks; holds `bytes_max` bytes at most.
    pub(super) fn new(bytes_max: Option<u64>) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// An idle block of exactly that size, in use from now on.
    pub(super) fn take(&mut self, block: usize) -> Option<u64> {
        let address = self.idle.get_mut(&block)?.pop()?;
        self.used.insert(address, block);
        self.statistics.idle -= block as u64;
        self.statistics.used += block as u64;
        self.statistics.reused += 1;
        Some(address)
    }

    /// Whether the budget lets a further block of that size be fetched.
    pub(super) fn has_room(&self, block: usize) -> bool {
        let held = self.statistics.used + self.statistics.idle;
        self.bytes_max.is_none_or(|most| held.saturating_add(block as u64) <= most)
    }

    /// Takes note of a block that was fetched and is in use.
    pub(super) fn add(&mut self, address: u64, block: usize) {
        self.used.insert(address, block);
        self.statistics.used += block as u64;
        self.statistics.fetched += 1;
        let held = self.statistics.used + self.statistics.idle;
        self.statistics.peak = self.statistics.peak.max(held);
    }

    /// A block is in use no more; it may serve again. Returns its size, `None` for an address of no block.
    pub(super) fn free(&mut self, address: u64) -> Option<usize> {
        let block = self.used.remove(&address)?;
        self.statistics.used -= block as u64;
        self.statistics.idle += block as u64;
        self.idle.entry(block).or_default().push(address);
        Some(block)
    }

    /// Lets go of all idle blocks: their addresses, for the driver.
    pub(super) fn trim(&mut self) -> Vec<u64> {
        let blocks: Vec<u64> = std::mem::take(&mut self.idle).into_values().flatten().collect();
        self.statistics.idle = 0;
        self.statistics.trimmed += u64::from(!blocks.is_empty());
        blocks
    }

    /// What it holds.
    pub(super) fn statistics(&self) -> MemoryStatistics {
        self.statistics
    }

    /// Bytes that may still be fetched or taken, of `free` that the device has.
    pub(super) fn room(&self, free: u64) -> u64 {
        let free = free + self.statistics.idle;
        self.bytes_max.map_or(free, |most| most.saturating_sub(self.statistics.used).min(free))
    }
}

/// A copy from the device that was begun.
pub(super) trait Pending: Send {
    /// Waits for it; `into` is as long as what was begun.
    fn finish(self: Box<Self>, into: &mut [u8]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_is_at_most_an_eighth_too_large() {
        assert_eq!(block_bytes(1), Some(512));
        assert_eq!(block_bytes(512), Some(512));
        assert_eq!(block_bytes(513), Some(576));
        assert_eq!(block_bytes(1 << 20), Some(1 << 20));
        assert_eq!(block_bytes((1 << 20) + 1), Some((1 << 20) + (1 << 17)));
        assert_eq!(block_bytes(usize::MAX), None);
    }

    #[test]
    fn freed_blocks_serve_again_until_they_are_trimmed() {
        let mut pool = Pool::new(Some(2048));
        pool.add(1, 1024);
        pool.add(2, 1024);
        assert!(!pool.has_room(512));
        assert_eq!(pool.free(1), Some(1024));
        assert_eq!(pool.free(1), None);
        assert_eq!(pool.take(512), None);
        assert_eq!(pool.take(1024), Some(1));
        assert_eq!(pool.free(1), Some(1024));
        assert!(!pool.has_room(512));
        assert_eq!(pool.room(100), 1024);
        assert_eq!(pool.trim(), [1]);
        assert!(pool.has_room(1024));
        let expected =
            MemoryStatistics { used: 1024, idle: 0, peak: 2048, reused: 1, fetched: 2, trimmed: 1 };
        assert_eq!(pool.statistics(), expected);
    }

    proptest! {
        #[test]
        fn blocks_hold_what_was_asked_for(bytes in 1_usize..1 << 40) {
            let block = block_bytes(bytes).unwrap();
            prop_assert!(block >= bytes);
            prop_assert!(bytes <= 4096 || (block - bytes) * STEPS <= bytes);
            prop_assert_eq!(block_bytes(block), Some(block));
        }
    }
}
