//! How often a peer may ask: one token bucket per peer.
//!
//! Leaves out: time (given), who a peer is. Invariant: memory is bounded by the peers seen within the
//! time a bucket takes to fill.

use crate::limits::Rate;
use std::collections::BTreeMap;

/// Buckets below which none is looked for that could be dropped.
const SWEEP_AT_MIN: usize = 1_024;

/// Thousandths of calls that are left, and when that was.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    at_ms: u64,
}

/// Buckets of all peers.
#[derive(Debug)]
pub struct RateLimit<P> {
    rate: Rate,
    buckets: BTreeMap<P, Bucket>,
    sweep_at: usize,
}

fn full(rate: Rate) -> u64 {
    rate.burst.saturating_mul(1_000)
}

fn refilled(rate: Rate, bucket: Bucket, now_ms: u64) -> u64 {
    let gained = now_ms.saturating_sub(bucket.at_ms).saturating_mul(rate.per_second);
    bucket.left.saturating_add(gained).min(full(rate))
}

impl<P: Ord> RateLimit<P> {
    /// Every peer starts with a full bucket.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: BTreeMap::new(), sweep_at: SWEEP_AT_MIN }
    }

    /// Whether `peer` may ask now; a refusal costs it nothing.
    pub fn admits(&mut self, peer: P, now_ms: u64) -> bool {
        if self.buckets.len() >= self.sweep_at {
            let rate = self.rate;
            self.buckets.retain(|_, bucket| refilled(rate, *bucket, now_ms) < full(rate));
            self.sweep_at = (2 * self.buckets.len()).max(SWEEP_AT_MIN);
        }
        let fresh = Bucket { left: full(self.rate), at_ms: now_ms };
        let bucket = self.buckets.entry(peer).or_insert(fresh);
        let left = refilled(self.rate, *bucket, now_ms);
        let rest = left.checked_sub(1_000);
        *bucket = Bucket { left: rest.unwrap_or(left), at_ms: now_ms };
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limit: &mut RateLimit<u32>, peer: u32, calls: u32, now_ms: u64) -> u32 {
        (0..calls).map(|_| u32::from(limit.admits(peer, now_ms))).sum()
    }

    #[test]
    fn a_peer_gets_its_burst_then_its_rate_and_takes_nothing_from_others() {
        let mut limit = RateLimit::new(Rate { per_second: 10, burst: 20 });
        assert_eq!(admitted(&mut limit, 1, 100, 0), 20);
        assert_eq!(admitted(&mut limit, 2, 100, 0), 20);
        assert_eq!(admitted(&mut limit, 1, 100, 99), 0);
        assert_eq!(admitted(&mut limit, 1, 100, 1_000), 10);
        assert_eq!(admitted(&mut limit, 1, 100, 1_000_000), 20);
    }

    #[test]
    fn impatience_does_not_slow_a_bucket_down() {
        let mut limit = RateLimit::new(Rate { per_second: 1, burst: 1 });
        let calls = (0..10_000).filter(|now_ms| limit.admits(7, *now_ms)).count();
        assert_eq!(calls, 10);
    }

    #[test]
    fn peers_that_went_are_forgotten() {
        let mut limit = RateLimit::new(Rate { per_second: 1_000, burst: 10 });
        for peer in 0..100_000_u64 {
            assert!(limit.admits(peer, peer));
        }
        assert!(limit.buckets.len() <= 2 * SWEEP_AT_MIN, "{}", limit.buckets.len());
    }
}
