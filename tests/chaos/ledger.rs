//! What the workers of all lives did, read from their logs, and what the store holds in the end.
//!
//! Leaves out: judging bytes (`results`).

use glmeval_common::ids::SetId;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::committed_revisions;
use std::collections::BTreeMap;

/// Counts of one run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    faults: BTreeMap<&'static str, u64>,
    exits: BTreeMap<String, u64>,
    /// Shards that were computed to their end, by any attempt.
    computed: u64,
    /// Of these, shards that another attempt had committed: computed in vain.
    lost: u64,
    spooled: u64,
    messages: Vec<String>,
    /// What was logged of each shard, by its first example, and by whom.
    shards: BTreeMap<String, Vec<String>>,
    /// Faults in order, as lines of the log.
    story: Vec<String>,
}

/// The value of `name=` in a line of a log.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

impl Ledger {
    pub(crate) fn note_fault(&mut self, name: &'static str, story: String) {
        *self.faults.entry(name).or_default() += 1;
        self.story.push(story);
    }

    pub(crate) fn note_exit(&mut self, who: &str, code: Option<i32>) {
        let how = code.map_or("signal".to_owned(), |code| code.to_string());
        *self.exits.entry(format!("{who} {how}")).or_default() += 1;
    }

    /// Takes note of one line of the log of the process in `place`.
    pub(crate) fn note_line(&mut self, place: u8, line: &str) {
        if let Some(start) = field(line, "start") {
            let told = self.shards.entry(start.to_owned()).or_default();
            told.push(format!("{place}: {line}"));
        }
        if line.contains("shard computed") {
            self.computed += 1;
        }
        if line.contains("shard delivered") && line.contains("won=false") {
            self.lost += 1;
        }
        if line.contains("a shard goes to the spool") {
            self.spooled += 1;
        }
        if line.contains("error:") || line.contains("panicked") || line.contains("given up") {
            self.messages.push(line.to_owned());
        }
    }

    /// Shards computed again although they were committed.
    pub(crate) fn recomputed(&self) -> u64 {
        self.lost
    }

    /// Shards that are committed, each in one revision.
    pub(crate) async fn committed(&self, store: &Store) -> usize {
        let sets = store.list_folders("embeddings").await.unwrap();
        assert_eq!(sets.len(), 1);
        let committed = committed_revisions(store, &SetId::new(&sets[0])).await.unwrap();
        assert!(committed.values().all(|revision| *revision == 0), "nothing was found damaged");
        committed.len()
    }

    #[expect(clippy::print_stderr, reason = "figures of a run are what the long form is for")]
    pub(crate) fn print(&self, shards: usize, seed: u64) {
        eprintln!("seed {seed}: {shards} shards, faults {:?}", self.faults);
        eprintln!("exits {:?}", self.exits);
        eprintln!(
            "computed {}, of which {} in vain; spooled {}; messages {:#?}",
            self.computed, self.lost, self.spooled, self.messages
        );
        let in_vain = self.shards.values().filter(|lines| {
            lines.iter().filter(|line| line.contains("shard computed")).count() > 1
        });
        for lines in in_vain {
            eprintln!("computed twice: {lines:#?}");
        }
        eprintln!("{:#?}", self.story);
    }
}
