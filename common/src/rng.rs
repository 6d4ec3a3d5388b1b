//! Seeded randomness, derived per purpose from one root seed; and random tokens for names.
//!
//! Invariant: a stream depends only on (root seed, purpose), never on who draws first.

use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// SplitMix64 stream (Steele, Lea, Flood 2014): small, seekable, the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of `purpose` under `root_seed`.
    pub fn derive(root_seed: u64, purpose: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(root_seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        let digest = hasher.finalize();
        let mut seed = [0_u8; 8];
        seed.copy_from_slice(&digest[..8]);
        Self { state: u64::from_le_bytes(seed) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in 0..bound without bias; `bound` must be positive.
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "an empty range has no member");
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.next_u64();
            if draw < limit {
                return draw % bound;
            }
        }
    }

    /// Standard normal by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = usize::try_from(self.below(i as u64 + 1)).expect("below a usize");
            items.swap(i, j);
        }
    }
}

/// Where a simulation draws its tokens from.
static SEEDED_TOKENS: Mutex<Option<Rng>> = Mutex::new(None);

/// Draws every later token of this process from `seed`, so that a simulated cluster repeats itself.
///
/// Another process of the same seed draws the same tokens: never where a real store is written to.
pub fn seed_tokens(seed: u64) {
    let mut seeded = SEEDED_TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    *seeded = Some(Rng::derive(seed, "tokens"));
}

/// A name that no other process will draw: 128 bits from the system's randomness, in hexadecimal.
pub fn random_token() -> String {
    if let Some(rng) = SEEDED_TOKENS.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        return format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    }
    use std::hash::{BuildHasher, Hasher};
    static DRAWS: AtomicU64 = AtomicU64::new(0);
    let word = |salt: u64| {
        // RandomState is keyed by the operating system's random source.
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(DRAWS.fetch_add(1, Ordering::Relaxed));
        hasher.write_u64(salt);
        hasher.write_u32(std::process::id());
        hasher.finish()
    };
    format!("{:016x}{:016x}", word(1), word(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_two_purposes_differ_and_repeat() {
        let draw = |purpose| Rng::derive(7, purpose).next_u64();
        assert_eq!(draw("split"), draw("split"));
        assert_ne!(draw("split"), draw("init"));
    }

    #[test]
    fn normal_has_zero_mean_and_unit_variance() {
        let mut rng = Rng::derive(1, "test");
        let draws: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
