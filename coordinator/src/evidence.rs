//! What the store holds of a unit that a worker says is committed.
//!
//! Leaves out: what follows from it (state), rows and numbers of a shard: those are checked by every
//! reader. Checked here, for shards: range, set and rows of the commit, that it names the object of its
//! own attempt, that object's length, and its sha256 where asked; other units: `evidence/records.rs`.
//! Invariant: a store that is away is an error, never evidence.

use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::{Generation, SetId, WorkerId};
use glmeval_common::layout::{self, ObjectRecord};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::cover::cover_range;
use glmeval_common::store::embeddings::{ShardCommit, committed_ranges, find_commit};
use glmeval_common::unit::{ExtractUnit, WorkUnit};

mod records;
mod suspects;
pub use suspects::wrong_rows;

/// Largest object whose digest a coordinator computes; larger ones are left to their readers.
const DIGEST_BYTES_MAX: u64 = 64 << 20;

/// Whose commit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Its worker.
    pub worker: WorkerId,
    /// The lease its attempt began under; `None` where the commit does not say.
    pub generation: Option<Generation>,
}

/// What the store says of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Evidence {
    /// Nobody looked: the worker's word counts.
    #[default]
    Unasked,
    /// No commit stands.
    Absent,
    /// A commit stands and nothing speaks against it.
    Sound(Option<Author>),
    /// The commit that stands is wrong.
    Bad {
        /// Whose it is, if it says so.
        author: Option<Author>,
        /// What is wrong: expected and found.
        reason: String,
        /// Whether other shards hold its examples, so that readers do without it.
        is_covered: bool,
    },
}

impl Evidence {
    /// Whether a commit stands that is wrong.
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Bad { .. })
    }
}

/// Looks at what `unit` should have left in the store; `digest` = also compare the sha256.
///
/// # Errors
/// Store errors but damage, which is evidence.
pub async fn look(store: &Store, unit: &WorkUnit, digest: bool) -> Result<Evidence> {
    match unit {
        WorkUnit::Extract(shard) => look_at_shard(store, shard, digest).await,
        WorkUnit::Prepare(unit) => records::look_at_dataset(store, unit, digest).await,
        WorkUnit::Fit(unit) => records::look_at_fits(store, unit, digest).await,
        WorkUnit::Report(unit) => records::look_at_report(store, unit, digest).await,
    }
}

async fn look_at_shard(store: &Store, shard: &ExtractUnit, digest: bool) -> Result<Evidence> {
    let set = &shard.set.id;
    let commit = match find_commit(store, set, shard.start, shard.end).await {
        Ok(Some(commit)) => commit,
        Ok(None) => {
            let is_covered = is_covered(store, shard).await?;
            return Ok(if is_covered { Evidence::Sound(None) } else { Evidence::Absent });
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let is_covered = is_covered(store, shard).await?;
            return Ok(Evidence::Bad { author: None, reason: error.chain(), is_covered });
        }
        Err(error) => return Err(error),
    };
    let author = Author { worker: commit.worker.clone(), generation: Some(commit.generation) };
    let wrong = match wrong_words(&commit, &shard.set.id, (shard.start, shard.end)) {
        Some(wrong) => Some(wrong),
        None => wrong_object(store, &commit.object, digest).await?,
    };
    Ok(match wrong {
        Some(reason) => {
            let is_covered = is_covered(store, shard).await?;
            Evidence::Bad { author: Some(author), reason, is_covered }
        }
        None => Evidence::Sound(Some(author)),
    })
}

/// Whether shards of other ranges hold all examples of the unit.
async fn is_covered(store: &Store, shard: &ExtractUnit) -> Result<bool> {
    let mut ranges = committed_ranges(store, &shard.set.id).await?;
    ranges.retain(|range| *range != (shard.start, shard.end));
    Ok(cover_range(&ranges, shard.start, shard.end).is_ok())
}

/// What of a commit does not belong to the unit.
fn wrong_words(
    commit: &ShardCommit,
    expected_set: &SetId,
    (first, past): (u64, u64),
) -> Option<String> {
    let ShardCommit { set, start, end, rows, object, attempt, .. } = commit;
    let differs = |what: &str, expected: String, found: String| {
        (expected != found).then(|| format!("{what}: expected {expected}, found {found}"))
    };
    let path = layout::shard_data_path(expected_set, first, past, attempt);
    let length = past.saturating_sub(first);
    differs("set", expected_set.to_string(), set.to_string())
        .or_else(|| {
            let expected = format!("{first}-{past}");
            differs("examples", expected, format!("{start}-{end}"))
        })
        .or_else(|| (*rows > length).then(|| format!("rows: expected {length}, found {rows}")))
        .or_else(|| differs("data object", path, object.path.clone()))
}

/// What of the data a commit names is not as it says.
async fn wrong_object(
    store: &Store,
    object: &ObjectRecord,
    digest: bool,
) -> Result<Option<String>> {
    let Some(entry) = store.entry(&object.path).await? else {
        return Ok(Some(format!("{}: the data object is not there", object.path)));
    };
    if entry.size != object.bytes {
        let (expected, found) = (object.bytes, entry.size);
        let path = &object.path;
        return Ok(Some(format!("{path}: expected {expected} bytes, found {found}")));
    }
    if !digest || object.bytes > DIGEST_BYTES_MAX {
        return Ok(None);
    }
    // Twice, as a bit may be turned on the way here: a worker is refused for good by what this says.
    let mut wrong = None;
    for _ in 0..2 {
        match store.get_verified(object).await {
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Corrupt => wrong = Some(error.chain()),
            Err(error) => return Err(error),
        }
    }
    Ok(wrong)
}
