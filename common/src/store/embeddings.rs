//! Embedding sets at rest: manifest, shard data, shard commits.
//!
//! Leaves out: the bytes of a shard (`embedding`), which shards a reader needs (`cover`).
//! Invariant: a shard is visible through its commit only; damaged data is replaced by a next revision.

pub mod cover;
pub mod listing;

use super::{Outcome, Store};
use crate::embedding::EmbeddingShard;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Attempt, DatasetId, Generation, ModelId, SetId, WorkerId};
use crate::layout::{self, FORMAT_VERSION, ObjectRecord};
use crate::representation::{Pooling, RepresentationOptions, StoredDtype};
use crate::unit::SetSpec;
use bytes::Bytes;
use cover::{Piece, cover_range};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Shards read at a time; each is in memory whole.
const SHARDS_IN_FLIGHT_MAX: usize = 4;
/// Gaps that an error names.
const GAPS_NAMED_MAX: usize = 8;

pub mod models;

/// What every shard of a set holds (`embeddings/<set-id>/manifest.json`); a pure function of the set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetManifest {
    /// Format version of this record.
    pub version: u32,
    /// The set.
    pub set: SetId,
    /// The gLM.
    pub model: ModelId,
    /// The data set.
    pub dataset: DatasetId,
    /// Layers, sorted.
    pub layers: Vec<u32>,
    /// Poolings, sorted.
    pub poolings: Vec<Pooling>,
    /// Number format.
    pub dtype: StoredDtype,
    /// How states became rows.
    #[serde(default)]
    pub options: RepresentationOptions,
    /// Numeric class.
    pub numeric_class: String,
    /// Names of the columns of scores; empty for states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

impl SetManifest {
    /// The manifest of `set`.
    pub fn of(set: &SetSpec) -> Self {
        Self {
            version: FORMAT_VERSION,
            set: set.id.clone(),
            model: set.model.id.clone(),
            dataset: set.dataset.clone(),
            layers: set.layers.clone(),
            poolings: set.poolings.clone(),
            dtype: set.dtype,
            options: set.options,
            numeric_class: set.numeric_class.clone(),
            columns: set.columns(),
        }
    }
}

/// Makes a shard visible (`embeddings/<set-id>/commit/<start>-<end>.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardCommit {
    /// Format version of this record.
    pub version: u32,
    /// The set.
    pub set: SetId,
    /// First example.
    pub start: u64,
    /// One past the last example.
    pub end: u64,
    /// Examples held; fewer than `end - start` where some were left out.
    pub rows: u64,
    /// The data.
    pub object: ObjectRecord,
    /// Attempt that won.
    pub attempt: Attempt,
    /// Its worker.
    pub worker: WorkerId,
    /// Its lease.
    pub generation: Generation,
    /// Seconds it took.
    pub seconds: f64,
}

/// An attempt at a shard: all that its commit says but the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardAttempt {
    /// The set.
    pub set: SetId,
    /// First example.
    pub start: u64,
    /// One past the last example.
    pub end: u64,
    /// Examples held.
    pub rows: u64,
    /// Random name of this attempt.
    pub attempt: Attempt,
    /// Who.
    pub worker: WorkerId,
    /// Under which lease.
    pub generation: Generation,
    /// Seconds it took.
    pub seconds: f64,
}

/// Writes the manifest of a set unless it is there; an equal one is the own one. One that cannot be
/// read is followed by the next revision.
///
/// # Errors
/// `Corrupt` when another description stands under the set's id; store errors.
pub async fn create_set(store: &Store, manifest: &SetManifest) -> Result<()> {
    let path = layout::set_manifest_path(&manifest.set);
    let standing = store.commit(&path, manifest.clone(), &[], |_| async { Ok(()) }).await?;
    let standing = standing.into_record();
    if standing == *manifest {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{path} in {}: expected the description of this set, found another",
        store.url()
    )))
}

/// Reads the manifest of a set.
///
/// # Errors
/// `NotFound`, `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn read_set(store: &Store, set: &SetId) -> Result<SetManifest> {
    let path = layout::set_manifest_path(set);
    store.find_newest(&path).await?.ok_or_else(|| {
        Error::not_found(format!("{path} in {}: no such embedding set", store.url()))
    })
}

/// Writes a shard's data and commits it; the loser's data is deleted.
///
/// Where a commit stands whose data is gone or damaged, the next revision is committed instead.
///
/// # Errors
/// `Unavailable` when the outcome stayed unknown (call again with the same attempt); store errors.
pub async fn commit_shard(
    store: &Store,
    shard: &ShardAttempt,
    bytes: Bytes,
) -> Result<Outcome<ShardCommit>> {
    let path = layout::shard_data_path(&shard.set, shard.start, shard.end, &shard.attempt);
    let object = store.put_data("shard", &path, bytes).await?;
    let commit = ShardCommit {
        version: FORMAT_VERSION,
        set: shard.set.clone(),
        start: shard.start,
        end: shard.end,
        rows: shard.rows,
        object,
        attempt: shard.attempt.clone(),
        worker: shard.worker.clone(),
        generation: shard.generation,
        seconds: shard.seconds,
    };
    let path = layout::shard_commit_path(&shard.set, shard.start, shard.end);
    let objects = [commit.object.clone()];
    let check = |standing| async move { read_shard(store, &standing).await.map(drop) };
    store.commit(&path, commit, &objects, check).await
}

/// Every committed shard of a set: `(start, end)` to the newest revision, sorted. One LIST.
///
/// # Errors
/// Store errors.
pub async fn committed_revisions(store: &Store, set: &SetId) -> Result<BTreeMap<(u64, u64), u32>> {
    let mut newest = BTreeMap::new();
    for entry in store.list(&layout::shard_commits_prefix(set)).await? {
        if let Some((start, end, revision)) = layout::parse_shard_revision(&entry.path) {
            let known = newest.entry((start, end)).or_insert(revision);
            *known = revision.max(*known);
        }
    }
    Ok(newest)
}

/// Ranges `(start, end)` of the committed shards of a set, sorted.
///
/// # Errors
/// Store errors.
pub async fn committed_ranges(store: &Store, set: &SetId) -> Result<Vec<(u64, u64)>> {
    Ok(committed_revisions(store, set).await?.into_keys().collect())
}

/// Reads the newest readable commit of the shard `start..end`, `None` if there is none.
///
/// # Errors
/// `Corrupt` when no revision can be read, `Invalid` for a newer version; store errors.
pub async fn find_commit(
    store: &Store,
    set: &SetId,
    start: u64,
    end: u64,
) -> Result<Option<ShardCommit>> {
    store.find_newest(&layout::shard_commit_path(set, start, end)).await
}

/// Reads the shard that a commit names.
///
/// # Errors
/// `Corrupt` when the data is not what the commit says; store errors.
pub async fn read_shard(store: &Store, commit: &ShardCommit) -> Result<EmbeddingShard> {
    let bytes = store.get_verified(&commit.object).await?;
    let place = format!("{} in {}", commit.object.path, store.url());
    let shard = EmbeddingShard::decode(&bytes, &place)?;
    let found = (shard.start, shard.end, shard.row_ids.len() as u64, &shard.identity.set);
    if found != (commit.start, commit.end, commit.rows, &commit.set) {
        return Err(Error::corrupt(format!(
            "{place}: expected examples {}-{} of set {} in {} rows, found {}-{} of set {} in {}",
            commit.start, commit.end, commit.set, commit.rows, found.0, found.1, found.3, found.2
        )));
    }
    Ok(shard)
}

/// One layer and pooling of a range of examples, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Ids, E of them.
    pub ids: Vec<String>,
    /// S, sequences of each example; 0 where no shard was read.
    pub sequences: usize,
    /// D.
    pub width: usize,
    /// `[E, S, D]`, or `[N, D]` for `full`, the sequences of an example one after the other.
    pub values: Vec<f32>,
    /// Tokens of each sequence for `full`, `[E, S]`; else empty.
    pub token_counts: Vec<u64>,
}

/// Reads one layer and pooling of the examples `start..end`, from shards of whatever sizes.
///
/// A damaged shard is passed over where others hold its examples as well.
///
/// # Errors
/// As [`pieces`] and [`read_piece`].
pub async fn read_rows(
    store: &Store,
    set: &SetId,
    (layer, pooling): (u32, Pooling),
    (start, end): (u64, u64),
) -> Result<Rows> {
    let mut ranges = committed_ranges(store, set).await?;
    read_rows_among(store, set, (layer, pooling), &mut ranges, (start, end)).await
}

/// As [`read_rows`], of `ranges` that [`committed_ranges`] gave, from which damaged ones are taken out: who reads
/// a set part by part lists it once.
///
/// # Errors
/// As [`cover_of`] and [`read_piece`].
pub async fn read_rows_among(
    store: &Store,
    set: &SetId,
    (layer, pooling): (u32, Pooling),
    ranges: &mut Vec<(u64, u64)>,
    (start, end): (u64, u64),
) -> Result<Rows> {
    let mut rows = Rows::default();
    let mut rest = VecDeque::from(cover_of(store, set, ranges, (start, end))?);
    while !rest.is_empty() {
        let count = rest.len().min(SHARDS_IN_FLIGHT_MAX);
        let pieces: Vec<Piece> = rest.drain(..count).collect();
        let reads = pieces.iter().map(|piece| read_piece(store, set, (layer, pooling), *piece));
        for (piece, read) in pieces.iter().zip(futures::future::join_all(reads).await) {
            match read {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    ranges.retain(|range| *range != piece.commit);
                    let others = cover_range(ranges, piece.take.0, end);
                    let Ok(others) = others else { return Err(error) };
                    tracing::warn!(error = error.chain(), "a damaged shard is passed over");
                    rest = others.into();
                    break;
                }
                next => rows.append(next?, &format!("embedding set {set} in {}", store.url()))?,
            }
        }
    }
    Ok(rows)
}

impl Rows {
    /// Adds the rows of the next examples; `place` names where they come from.
    fn append(&mut self, next: Self, place: &str) -> Result<()> {
        if !self.ids.is_empty() && !next.ids.is_empty() {
            let pairs = [
                ("width", self.width, next.width),
                ("number of sequences", self.sequences, next.sequences),
            ];
            if let Some((what, expected, found)) = pairs.into_iter().find(|(_, a, b)| a != b) {
                let first = next.ids.first().map_or("", String::as_str);
                return Err(Error::corrupt(format!(
                    "{place}: example {first}: expected {what} {expected}, found {found}"
                )));
            }
        }
        (self.width, self.sequences) = (next.width, next.sequences);
        self.ids.extend(next.ids);
        self.values.extend(next.values);
        self.token_counts.extend(next.token_counts);
        Ok(())
    }
}

/// Which committed shards hold the examples `start..end`.
///
/// # Errors
/// `NotFound` naming the first gaps when examples are not committed; store errors.
pub async fn pieces(store: &Store, set: &SetId, (start, end): (u64, u64)) -> Result<Vec<Piece>> {
    cover_of(store, set, &committed_ranges(store, set).await?, (start, end))
}

/// As [`pieces`], of `ranges` that [`committed_ranges`] gave.
///
/// # Errors
/// `NotFound` naming the first gaps and the number of others when examples are not among them.
pub fn cover_of(
    store: &Store,
    set: &SetId,
    ranges: &[(u64, u64)],
    (start, end): (u64, u64),
) -> Result<Vec<Piece>> {
    cover_range(ranges, start, end).map_err(|gaps| {
        let named: Vec<String> =
            gaps.iter().take(GAPS_NAMED_MAX).map(|(a, b)| format!("{a}-{b}")).collect();
        let more = match gaps.len().saturating_sub(GAPS_NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (named, url) = (named.join(", "), store.url());
        Error::not_found(format!(
            "embedding set {set} in {url}: no shard for examples {named}{more}"
        ))
    })
}

/// Reads the shard that a piece is part of.
///
/// # Errors
/// `NotFound` when its commit is gone; `Corrupt`; store errors.
pub async fn read_piece_shard(store: &Store, set: &SetId, piece: &Piece) -> Result<EmbeddingShard> {
    let (start, end) = piece.commit;
    let commit = find_commit(store, set, start, end).await?.ok_or_else(|| {
        Error::not_found(format!("commit of shard {start}-{end} of embedding set {set}"))
    })?;
    read_shard(store, &commit).await
}

/// Tokens of each sequence between bounds that [`EmbeddingShard::token_bounds`] gave.
pub fn token_counts(bounds: &[u64]) -> Vec<u64> {
    let counts = bounds.iter().zip(bounds.iter().skip(1));
    counts.map(|(from, to)| to.saturating_sub(*from)).collect()
}

/// Reads one layer and pooling of one piece.
///
/// # Errors
/// `NotFound` when the set lacks the tensor; `Corrupt`; store errors.
pub async fn read_piece(
    store: &Store,
    set: &SetId,
    (layer, pooling): (u32, Pooling),
    piece: Piece,
) -> Result<Rows> {
    let shard = read_piece_shard(store, set, &piece).await?;
    let range = shard.rows_of(piece.take.0, piece.take.1);
    let values = shard.values_f32(layer, pooling, range.clone())?;
    let width = shard.tensor(layer, pooling).map_or(0, |tensor| tensor.width);
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    let sequences = usize::try_from(shard.sequences).unwrap_or(usize::MAX);
    let token_counts = match pooling {
        Pooling::Full => token_counts(shard.token_bounds(&range)),
        Pooling::Cls | Pooling::Mean | Pooling::AfterCls | Pooling::Effect => Vec::new(),
    };
    let ids = shard.row_ids.get(range).unwrap_or_default().to_vec();
    Ok(Rows { ids, sequences, width, values, token_counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_eight_gaps_and_counts_the_others() {
        let gaps_of = |ranges: &[(u64, u64)], end| {
            let error = cover_of(&Store::memory(), &SetId::new("s"), ranges, (0, end)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            error.to_string().rsplit_once("examples ").unwrap().1.to_owned()
        };
        assert_eq!(gaps_of(&[(0, 880)], 3_000), "880-3000");
        let shards = |count: u64| (0..count).map(|n| (2 * n + 1, 2 * n + 2)).collect::<Vec<_>>();
        assert_eq!(gaps_of(&shards(8), 16), "0-1, 2-3, 4-5, 6-7, 8-9, 10-11, 12-13, 14-15");
        let ten = "0-1, 2-3, 4-5, 6-7, 8-9, 10-11, 12-13, 14-15 and 2 more";
        assert_eq!(gaps_of(&shards(10), 20), ten);
    }
}
