//! Rules broken on purpose, to see that the oracles notice.
//!
//! Leaves out: the oracles. Invariant: a world that is not told to break a rule keeps all of them.

use super::faults::Broken;
use super::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds a broken rule is looked for in.
const SEEDS: u64 = 2_000;

/// What the first seed says in which the oracles notice.
fn noticed(rule: Broken) -> Option<String> {
    (0..SEEDS).find_map(|seed| {
        let mut world = World::new(seed, false);
        world.broken = Some(rule);
        let told = catch_unwind(AssertUnwindSafe(|| world.run())).err()?;
        let text = told.downcast_ref::<String>().cloned();
        text.or_else(|| told.downcast_ref::<&str>().map(|text| (*text).to_owned()))
    })
}

#[test]
fn every_broken_rule_is_noticed() {
    let rules = [
        (Broken::LiarsBelieved, "a liar's"),
        (Broken::RefusalsForgotten, "was refused before"),
        (Broken::CommitLost, "not in the store"),
        (Broken::NothingGranted, "idles while"),
        (Broken::EpochTakenTwice, "was given twice"),
        (Broken::QuarantineForgotten, "is lost"),
        (Broken::CommitReplaced, "replaced without need"),
    ];
    for (rule, words) in rules {
        let told = noticed(rule);
        assert!(told.as_ref().is_some_and(|told| told.contains(words)), "{rule:?}: {told:?}");
    }
}
