//! A seeded virtual world around the unit machine: workers, network, store and clocks that fail.
//!
//! Leaves out: the wire and the real agent (`tests/simulation`). Invariant: a world depends on its
//! seed alone, so one seed always leaves the same trace.
//!
//! `GLMEVAL_SIM_SEED=N` makes `a_seed_named_in_the_environment_is_replayed_with_its_trace` print seed N.

#![expect(
    clippy::print_stderr,
    reason = "a seed that fails is named, one that is replayed is shown"
)]

mod agent;
mod broken;
mod chaos;
mod faults;
mod messages;
mod network;
mod oracle;
mod shapes;
mod store;
mod worker;
mod world;

use world::World;

const SEEDS: u64 = 100_000;
/// Parts the seeds are run in, one test each, so that a runner of tests uses every core.
const PARTS: u64 = 8;

/// Digest of what happened, and its text where someone reads along.
pub(super) struct Trace {
    digest: u64,
    is_shown: bool,
}

impl Trace {
    fn note(&mut self, now_ms: u64, what: &[u64], text: impl FnOnce() -> String) {
        // FNV-1a over whole words: only equality matters.
        for word in std::iter::once(&now_ms).chain(what) {
            self.digest = (self.digest ^ word).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_shown {
            eprintln!("{:>9.3} s  {}", now_ms as f64 / 1_000.0, text());
        }
    }
}

/// Names the seed when a world breaks a rule.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed; replay it with GLMEVAL_SIM_SEED={}", self.0, self.0);
        }
    }
}

/// Runs one seed to its end and returns the digest of its trace.
fn run(seed: u64, is_shown: bool) -> u64 {
    let _named = Named(seed);
    let mut world = World::new(seed, is_shown);
    world.run();
    world.trace.digest
}

fn run_part(part: u64) {
    for seed in SEEDS / PARTS * part..SEEDS / PARTS * (part + 1) {
        run(seed, false);
    }
}

macro_rules! parts {
    ($($name:ident = $part:expr;)*) => {$(
        #[test]
        fn $name() {
            run_part($part);
        }
    )*};
}

parts! {
    every_world_ends_with_every_row_committed_once_part_0 = 0;
    every_world_ends_with_every_row_committed_once_part_1 = 1;
    every_world_ends_with_every_row_committed_once_part_2 = 2;
    every_world_ends_with_every_row_committed_once_part_3 = 3;
    every_world_ends_with_every_row_committed_once_part_4 = 4;
    every_world_ends_with_every_row_committed_once_part_5 = 5;
    every_world_ends_with_every_row_committed_once_part_6 = 6;
    every_world_ends_with_every_row_committed_once_part_7 = 7;
}

#[test]
fn one_seed_always_leaves_one_trace() {
    for seed in 0..200 {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
    }
    assert_ne!(run(1, false), run(2, false));
}

#[test]
fn a_seed_named_in_the_environment_is_replayed_with_its_trace() {
    let named = std::env::var("GLMEVAL_SIM_SEED");
    let seed = named.as_ref().map_or(0, |seed| seed.parse().expect("a number"));
    let digest = run(seed, named.is_ok());
    eprintln!("seed {seed}: trace {digest:016x}");
}
