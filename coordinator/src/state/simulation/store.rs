//! The store of a world: create-only commits, answers that get lost, outages.
//!
//! Leaves out: bytes. Invariant: a commit, once there, is never changed; a damaged one is followed
//! by its next revision. What is committed of a set is kept as bits, one a row, in step with the commits.

use crate::evidence::{Author, Evidence};
use glmeval_common::ids::{Generation, WorkerId};
use glmeval_common::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// What a commit stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Dataset { dataset: usize },
    Shard { set: usize, start: u64, end: u64 },
    Unit { job: usize, unit: usize },
}

/// One revision of a commit.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) attempt: u64,
    pub(super) worker: usize,
    pub(super) generation: Generation,
    pub(super) is_damaged: bool,
    /// Its data was never what it says.
    pub(super) is_lie: bool,
}

/// Answer to a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Won,
    Lost,
    /// Read back to know.
    Unclear,
    /// The store is away.
    Away,
}

/// All that lasts.
pub(super) struct Store {
    pub(super) commits: BTreeMap<Key, Vec<Commit>>,
    /// Jobs submitted, and whether they are cancelled.
    pub(super) jobs: BTreeMap<usize, bool>,
    /// Rounds of jobs.
    pub(super) rounds: BTreeMap<usize, u64>,
    /// Units given up, by job and unit.
    pub(super) failed: BTreeMap<(usize, u32), String>,
    /// Rows given up, by job, unit and range.
    pub(super) quarantined: BTreeMap<(usize, u32, u64, u64), String>,
    /// Workers that lied, how, and when that was written down.
    pub(super) refused: BTreeMap<WorkerId, (String, u64)>,
    pub(super) epoch: u64,
    pub(super) away_until_ms: u64,
    /// Creates in a thousand whose answer is lost.
    pub(super) unclear: u64,
    /// By set: rows that some commit holds, and rows that a sound one holds.
    rows: BTreeMap<usize, (u128, u128)>,
}

/// Rows `start..end` as bits.
fn bits(start: u64, end: u64) -> u128 {
    assert!(start < end && end < 128, "sets of a world are small");
    (1 << end) - (1 << start)
}

impl Store {
    pub(super) fn new(unclear: u64) -> Self {
        Self {
            commits: BTreeMap::new(),
            jobs: BTreeMap::new(),
            rounds: BTreeMap::new(),
            failed: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            refused: BTreeMap::new(),
            epoch: 0,
            away_until_ms: 0,
            unclear,
            rows: BTreeMap::new(),
        }
    }

    pub(super) fn is_away(&self, now_ms: u64) -> bool {
        now_ms < self.away_until_ms
    }

    /// Creates the next revision of `key`, if the newest is damaged or there is none.
    pub(super) fn create(&mut self, key: Key, commit: Commit, now_ms: u64, rng: &mut Rng) -> Put {
        if self.is_away(now_ms) {
            return Put::Away;
        }
        let is_unclear = rng.below(1_000) < self.unclear;
        if is_unclear && rng.below(2) == 0 {
            return Put::Unclear;
        }
        let revisions = self.commits.entry(key).or_default();
        if revisions.last().is_some_and(|newest| !newest.is_damaged) {
            return Put::Lost;
        }
        revisions.push(commit);
        self.note_rows(key);
        if is_unclear { Put::Unclear } else { Put::Won }
    }

    /// Whose revision stands newest; read by those who do not know.
    pub(super) fn newest(&self, key: Key) -> Option<&Commit> {
        self.commits.get(&key)?.last()
    }

    /// Whether something stands for `key`, and whether all of it is sound.
    pub(super) fn holds(&self, key: Key) -> (bool, bool) {
        if !matches!(key, Key::Shard { .. }) {
            return self.newest(key).map_or((false, false), |newest| (true, !newest.is_damaged));
        }
        let Key::Shard { set, start, end } = key else { return (false, false) };
        let (all, sound) = self.rows.get(&set).copied().unwrap_or_default();
        let wanted = bits(start, end);
        (all & wanted == wanted, sound & wanted == wanted)
    }

    /// Brings the rows of the set of `key` in step with its commits.
    pub(super) fn note_rows(&mut self, key: Key) {
        let Key::Shard { set, .. } = key else { return };
        let (mut all, mut sound) = (0, 0);
        for ((start, end), is_sound) in self.shards(set) {
            all |= bits(start, end);
            sound |= if is_sound { bits(start, end) } else { 0 };
        }
        self.rows.insert(set, (all, sound));
    }

    /// What a coordinator finds when it looks: lengths, not digests of what was damaged later.
    pub(super) fn evidence(&self, key: Key, worker: impl Fn(usize) -> WorkerId) -> Evidence {
        let Some(newest) = self.newest(key) else {
            return if self.holds(key).0 { Evidence::Sound(None) } else { Evidence::Absent };
        };
        let author = Author { worker: worker(newest.worker), generation: Some(newest.generation) };
        if newest.is_lie {
            let (author, reason) = (Some(author), "too short".to_owned());
            return Evidence::Bad { author, reason, is_covered: self.holds(key).1 };
        }
        Evidence::Sound(Some(author))
    }

    /// Committed ranges of a set, and whether each is sound.
    pub(super) fn shards(&self, set: usize) -> BTreeMap<(u64, u64), bool> {
        let first = Key::Shard { set, start: 0, end: 0 };
        let past = Key::Shard { set: set + 1, start: 0, end: 0 };
        let shards = self.commits.range(first..past).filter_map(|(key, revisions)| {
            let Key::Shard { start, end, .. } = key else { return None };
            Some(((*start, *end), !revisions.last()?.is_damaged))
        });
        shards.collect()
    }

    /// Damages the data of one committed shard.
    pub(super) fn damage(&mut self, rng: &mut Rng) -> Option<Key> {
        let shards = self.commits.iter_mut().filter(|(key, _)| matches!(key, Key::Shard { .. }));
        let mut shards: Vec<_> = shards.collect();
        if shards.is_empty() {
            return None;
        }
        let chosen = rng.below(shards.len() as u64) as usize;
        let (key, revisions) = &mut shards[chosen];
        revisions.last_mut()?.is_damaged = true;
        let key = **key;
        self.note_rows(key);
        Some(key)
    }

    /// Attempts that won, to see that none won twice.
    pub(super) fn attempts(&self) -> BTreeSet<u64> {
        self.commits.values().flatten().map(|commit| commit.attempt).collect()
    }
}
