//! How often what goes wrong in a world; every world draws its own mixture.
//!
//! Leaves out: what happens then (chaos). Invariant: a seed decides all of it.

use glmeval_common::rng::Rng;

/// Rates in a thousand.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    pub(super) until_ms: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) slow: u64,
    pub(super) unclear: u64,
    pub(super) transient: u64,
    pub(super) straggles: u64,
    /// Half of all that runs there fails.
    pub(super) sick_host: Option<usize>,
    /// This worker does not always do what it says.
    pub(super) liar: Option<usize>,
    /// Mean time between two blows.
    pub(super) blow_ms: u64,
    /// Kinds of blows this world knows.
    pub(super) blows: u64,
    pub(super) damages: u64,
}

impl Faults {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut rate = |most: u64| if rng.below(2) == 0 { 0 } else { rng.below(most) };
        let (lost, doubled, slow) = (rate(100), rate(100), rate(60));
        let (unclear, transient, straggles) = (rate(200), rate(200), rate(100));
        Self {
            until_ms: 60_000 + rng.below(180_000),
            lost,
            doubled,
            slow,
            unclear,
            transient,
            straggles,
            sick_host: (rng.below(4) == 0).then(|| rng.below(4) as usize),
            liar: (rng.below(4) == 0).then(|| rng.below(4) as usize),
            blow_ms: 2_000 + rng.below(20_000),
            blows: rng.next_u64(),
            damages: 0,
        }
    }
}

/// A rule, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Commits of refused workers are believed without a look.
    LiarsBelieved,
    /// A new coordinator does not know who was refused.
    RefusalsForgotten,
    /// The store loses what it held.
    CommitLost,
    /// A worker that asks gets nothing.
    NothingGranted,
    /// A new coordinator takes the epoch of the one before.
    EpochTakenTwice,
    /// Rows that are given up are not written down.
    QuarantineForgotten,
    /// A sound commit is replaced.
    CommitReplaced,
}
