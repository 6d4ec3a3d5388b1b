//! What tests of kernels share: devices to run on, values to run with, comparison.
//!
//! Leaves out: golden fixtures. Invariant: every test runs in the emulator, and on a real device where there is one.

use super::Gpu;
use crate::error::Result;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Runs `test` in the emulator, and on the first NVIDIA device if there is one; on that alone where one is required, as a
/// machine with a device may have no C++ compiler.
pub(crate) fn for_each_device(test: impl Fn(&Gpu) -> Result<()>) {
    let run = |gpu: Gpu| test(&gpu).unwrap_or_else(|error| panic!("{gpu:?}: {error}"));
    let wanted = std::env::var_os("GLMEVAL_REQUIRE_GPU").is_some();
    if !wanted {
        run(Gpu::emulated().unwrap());
    }
    match REAL.get_or_init(Gpu::first_for_tests) {
        Ok(gpu) => {
            // What another test tells the device would become part of what this one records.
            let _alone = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            run(gpu.clone());
        }
        Err(error) => assert!(!wanted, "GLMEVAL_REQUIRE_GPU is set, and {error}"),
    }
}

/// Runs `test` in the emulator of a device whose blocks have little shared memory; not where a real device is required.
pub(crate) fn for_small_device(test: impl Fn(&Gpu) -> Result<()>) {
    if std::env::var_os("GLMEVAL_REQUIRE_GPU").is_none() {
        let gpu = Gpu::emulated_small().unwrap();
        test(&gpu).unwrap_or_else(|error| panic!("{gpu:?}: {error}"));
    }
}

/// The first NVIDIA device, opened once for all tests of a process: opening takes longer than most of them.
static REAL: OnceLock<Result<Gpu>> = OnceLock::new();
/// Held by the test that uses it.
static TURN: Mutex<()> = Mutex::new(());

/// Moves every seed; 0 unless `GLMEVAL_TEST_SEED` says otherwise.
fn seed_offset() -> u64 {
    std::env::var("GLMEVAL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0)
}

/// `count` values in -1..1, the same for the same seed in one process.
pub(crate) fn draw(seed: u64, count: usize) -> Vec<f32> {
    let seed = seed.wrapping_add(seed_offset());
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let next = |_| {
        // Steele et al. 2014, SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// Refuses values farther from `expected` than `tolerance` times the largest expected magnitude.
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance * scale,
            "value {index}: expected {expected}, found {found}, {difference} > {tolerance} x {scale}"
        );
    }
}
