//! Features and targets of a data set, read once for all fits of a unit.
//!
//! Leaves out: what fits do with them. Invariant: rows of features and examples meet by number and are
//! checked by id; what is read does not depend on how shards were cut.

use super::measured::Measured;
use crate::attempt::lost_input;
use crate::features::{NamedSequences, sequence_features};
use crate::probe::Matrix;
use crate::training::cache::{ExampleCache, RowFormat};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use glmeval_common::dna::BASES;
use glmeval_common::embedding::{EmbeddingShard, tensor_name};
use glmeval_common::error::{Error, ErrorKind, InputError, Result};
use glmeval_common::example::{Example, Split};
use glmeval_common::ids::SetId;
use glmeval_common::network::Extent;
use glmeval_common::representation::{FeatureSource, Pooling, SequenceFeature, StoredDtype};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::cover::{Piece, cover_range};
use glmeval_common::store::embeddings::{committed_ranges, read_piece_shard, token_counts};
use glmeval_common::store::examples::{DatasetManifest, read_examples};
use std::sync::Arc;

/// Examples whose sequences are in memory at a time.
const ROWS_PER_READ: u64 = 8_192;
/// Reads under way beside the one that is decoded.
const READS_IN_FLIGHT_MAX: usize = 3;

/// What the fits of a unit read.
pub(super) struct Examples {
    /// Features, by example.
    pub(super) cache: ExampleCache,
    /// Extent of each sequence's features; they stand side by side in a row.
    pub(super) sides: Vec<Extent>,
    pub(super) measured: Measured,
}

impl Examples {
    /// Features of `rows`, one vector each.
    ///
    /// # Errors
    /// As [`ExampleCache::read`].
    pub(super) fn matrix(&self, rows: &[usize]) -> Result<Matrix> {
        let columns = self.cache.row_values();
        let count = columns.checked_mul(rows.len());
        let count = count.ok_or_else(|| Error::invalid("features do not fit in memory"))?;
        let (mut values, mut scratch) = (vec![0.0; count], Vec::new());
        for (&row, out) in rows.iter().zip(values.chunks_mut(columns.max(1))) {
            self.cache.read(row, &mut scratch, out)?;
        }
        Matrix::new(rows.len(), columns, values)
    }
}

/// Reads a data set's features and targets; `budget_bytes` of the features lie in memory. Examples of
/// `valid` have the pooling `validated_on` instead, if one is given.
///
/// # Errors
/// `Invalid` naming the example whose features differ in extent from the first one's; `Corrupt`; store
/// errors.
pub(super) async fn read(
    store: &Store,
    (source, validated_on): (&FeatureSource, Option<Pooling>),
    manifest: &DatasetManifest,
    budget_bytes: u64,
) -> Result<Examples> {
    let manifest = Arc::new(manifest.clone());
    match source {
        FeatureSource::Embedding { set, layer, pooling } => {
            let measured = measured_of(store, &manifest).await?;
            let tensors = [Some(*pooling), validated_on].map(|one| one.map(|one| (*layer, one)));
            let builder = Builder::new(&manifest, budget_bytes);
            let builder = embeddings(store, (set, tensors), builder, &measured).await?;
            let (cache, sides) = builder.finish(*pooling == Pooling::Full)?;
            Ok(Examples { cache, sides, measured })
        }
        FeatureSource::Sequence(feature) => {
            sequences(store, *feature, &manifest, budget_bytes).await
        }
    }
}

/// What is measured of a data set, without any features.
///
/// # Errors
/// `Corrupt`; store errors.
pub(super) async fn measured(store: &Store, manifest: &DatasetManifest) -> Result<Measured> {
    measured_of(store, &Arc::new(manifest.clone())).await
}

async fn measured_of(store: &Store, manifest: &Arc<DatasetManifest>) -> Result<Measured> {
    let mut measured = Measured::new(manifest.schema.targets.len());
    let mut parts = std::pin::pin!(example_parts(store, manifest));
    while let Some(examples) = parts.next().await {
        measured.extend(&examples?);
    }
    Ok(measured)
}

/// All examples in order, the next ones read while the current ones are used.
fn example_parts(
    store: &Store,
    manifest: &Arc<DatasetManifest>,
) -> impl Stream<Item = Result<Vec<Example>>> {
    let starts = (0..manifest.rows.div_ceil(ROWS_PER_READ)).map(|part| part * ROWS_PER_READ);
    let (store, manifest) = (store.clone(), Arc::clone(manifest));
    let read = move |start: u64| {
        let (store, manifest) = (store.clone(), Arc::clone(&manifest));
        spawned(async move {
            let end = manifest.rows.min(start + ROWS_PER_READ);
            read_examples(&store, &manifest, start, end).await.map_err(lost_input)
        })
    };
    futures::stream::iter(starts).map(read).buffered(READS_IN_FLIGHT_MAX)
}

/// A future that runs on its own task once it is first asked for.
async fn spawned<T: Send + 'static>(
    read: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(read).await {
        Ok(result) => result,
        Err(error) => Err(Error::bug("a read panicked").with_source(error)),
    }
}

/// One layer and pooling of some examples, as stored.
#[derive(Default)]
struct StoredRows {
    ids: Vec<String>,
    /// Channels of a position; of a pooled row, those of all sequences together.
    width: usize,
    dtype: StoredDtype,
    values: Bytes,
    /// Tokens of each sequence for `full`; else empty.
    token_counts: Vec<u64>,
}

/// Fills a cache with equal rows.
struct Builder<'a> {
    manifest: &'a DatasetManifest,
    budget_bytes: u64,
    cache: Option<ExampleCache>,
    /// Positions and channels of a row, all sequences together.
    extent: (usize, usize),
}

impl<'a> Builder<'a> {
    fn new(manifest: &'a DatasetManifest, budget_bytes: u64) -> Self {
        Self { manifest, budget_bytes, cache: None, extent: (0, 0) }
    }

    fn sides(&self) -> usize {
        self.manifest.schema.sequences.len().max(1)
    }

    /// Adds the rows of the next examples; the first ones decide the extent.
    fn append(&mut self, rows: &StoredRows) -> Result<()> {
        let Some(first) = rows.ids.first() else { return Ok(()) };
        let sides = if rows.token_counts.is_empty() { 1 } else { self.sides() };
        let tokens = rows.token_counts.first().copied().unwrap_or(1);
        let tokens = usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(sides);
        let cache = match &mut self.cache {
            Some(cache) => cache,
            none => {
                self.extent = (tokens, rows.width);
                let format = RowFormat::Numbers(rows.dtype);
                let count = usize::try_from(self.manifest.rows).unwrap_or(usize::MAX);
                let values = tokens.saturating_mul(rows.width);
                none.insert(ExampleCache::new(format, values, count, self.budget_bytes)?)
            }
        };
        if rows.width != self.extent.1 {
            let (expected, found) = (self.extent.1, rows.width);
            return Err(Error::corrupt(format!(
                "example {first}: expected width {expected}, found {found}"
            )));
        }
        let expected = self.extent.0 / sides;
        let other = |count: &u64| usize::try_from(*count) != Ok(expected);
        if let Some(sequence) = rows.token_counts.iter().position(other) {
            let id = rows.ids.get(sequence / sides).map_or("", String::as_str);
            let place = format!("example {id}");
            let expected =
                format!("{expected} tokens as in the first sequence, as probes need one length");
            let found = rows.token_counts.get(sequence).copied().unwrap_or(0);
            return Err(InputError::new(&self.manifest.name, place, expected, found).into());
        }
        cache.push(&rows.values)
    }

    /// The cache and the extent of each sequence's part of a row.
    fn finish(self, is_sequence: bool) -> Result<(ExampleCache, Vec<Extent>)> {
        let sides = self.sides();
        let (length, channels) = self.extent;
        let dataset = &self.manifest.name;
        let cache = self.cache.ok_or_else(|| {
            Error::invalid(format!("data set {dataset}: expected examples, found none"))
        })?;
        let split = if is_sequence { length } else { channels };
        if !split.is_multiple_of(sides) {
            let expected = format!("features of {sides} sequences of one length side by side");
            return Err(InputError::new(dataset, "", expected, format!("{split} values")).into());
        }
        let side = match is_sequence {
            true => Extent::Sequence { length: length / sides, channels },
            false => Extent::Vector { channels: channels / sides },
        };
        Ok((cache, vec![side; sides]))
    }
}

/// Layer and pooling of all examples, and of those of `valid` where they differ.
type Tensors = [Option<(u32, Pooling)>; 2];

/// Appends every example's rows of one tensor; a damaged shard is passed over where others hold its
/// examples as well.
async fn embeddings<'a>(
    store: &Store,
    (set, tensors): (&SetId, Tensors),
    mut builder: Builder<'a>,
    Measured { ids, splits, .. }: &Measured,
) -> Result<Builder<'a>> {
    let total = builder.manifest.rows;
    let mut ranges = committed_ranges(store, set).await?;
    let (mut position, mut rows_read) = (0, 0_usize);
    'cover: while position < total {
        let pieces =
            cover_range(&ranges, position, total).map_err(|gaps| gap(store, set, &gaps))?;
        let read = |piece: Piece| {
            let (store, set) = (store.clone(), set.clone());
            async move {
                let read = spawned(async move { read_piece(&store, &set, tensors, piece).await });
                (piece, read.await.map_err(lost_input))
            }
        };
        let mut reads = futures::stream::iter(pieces).map(read).buffered(READS_IN_FLIGHT_MAX);
        while let Some((piece, read)) = reads.next().await {
            let [rows, of_valid] = match read {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    ranges.retain(|range| *range != piece.commit);
                    if cover_range(&ranges, position, total).is_err() {
                        return Err(error);
                    }
                    tracing::warn!(error = error.chain(), "a damaged shard is passed over");
                    continue 'cover;
                }
                read => read?,
            };
            let mut rows = rows.unwrap_or_default();
            if let Some(of_valid) = of_valid {
                let splits = splits.get(rows_read..).unwrap_or_default();
                rows.values = with_valid(&rows, &of_valid, splits)?;
            }
            check_ids(set, ids, rows_read, &rows.ids)?;
            tokio::task::block_in_place(|| builder.append(&rows))?;
            rows_read += rows.ids.len();
            position = piece.take.1;
        }
    }
    if rows_read != ids.len() {
        let expected = ids.len();
        return Err(Error::corrupt(format!(
            "embedding set {set}: expected {expected} examples, found {rows_read}"
        )));
    }
    Ok(builder)
}

fn gap(store: &Store, set: &SetId, gaps: &[(u64, u64)]) -> Error {
    let gaps: Vec<String> = gaps.iter().take(8).map(|(a, b)| format!("{a}-{b}")).collect();
    let (gaps, url) = (gaps.join(", "), store.url());
    // What an earlier unit committed cannot be missing.
    Error::corrupt(format!("embedding set {set} in {url}: no shard for examples {gaps}"))
}

fn check_ids(set: &SetId, ids: &[String], start: usize, found: &[String]) -> Result<()> {
    for (row, found) in (start..).zip(found) {
        let expected = ids.get(row);
        if expected != Some(found) {
            return Err(Error::corrupt(format!(
                "embedding set {set}: row {row}: expected example {expected:?}, found {found:?}"
            )));
        }
    }
    Ok(())
}

/// The values of `rows`, those of examples of `valid` from `of_valid`.
fn with_valid(rows: &StoredRows, of_valid: &StoredRows, splits: &[Option<Split>]) -> Result<Bytes> {
    let count = rows.ids.len();
    let row_bytes = rows.values.len() / count.max(1);
    if of_valid.values.len() != rows.values.len() {
        return Err(Error::bug("two poolings of different widths"));
    }
    let mut values = rows.values.to_vec();
    let others = of_valid.values.chunks_exact(row_bytes.max(1));
    for ((row, other), split) in values.chunks_exact_mut(row_bytes.max(1)).zip(others).zip(splits) {
        if *split == Some(Split::Valid) {
            row.copy_from_slice(other);
        }
    }
    Ok(values.into())
}

async fn read_piece(
    store: &Store,
    set: &SetId,
    tensors: Tensors,
    piece: Piece,
) -> Result<[Option<StoredRows>; 2]> {
    let shard = read_piece_shard(store, set, &piece).await?;
    let [first, second] = tensors.map(|one| one.map(|one| rows_of(&shard, one, piece)).transpose());
    Ok([first?, second?])
}

fn rows_of(
    shard: &EmbeddingShard,
    (layer, pooling): (u32, Pooling),
    piece: Piece,
) -> Result<StoredRows> {
    let (start, end) = piece.commit;
    let range = shard.rows_of(piece.take.0, piece.take.1);
    let name = tensor_name(layer, pooling);
    let tensor = shard.tensor(layer, pooling);
    let tensor =
        tensor.ok_or_else(|| Error::not_found(format!("{name} in shard {start}-{end}")))?;
    let (mut rows, mut counts) = (range.start as u64..range.end as u64, Vec::new());
    let mut width = tensor.width.saturating_mul(u64::from(shard.sequences));
    if pooling == Pooling::Full && shard.token_offsets.is_some() {
        let bounds = shard.token_bounds(&range);
        counts = token_counts(bounds);
        rows = bounds.first().copied().unwrap_or(0)..bounds.last().copied().unwrap_or(0);
        width = tensor.width;
    }
    let dtype = shard.identity.dtype;
    let row_bytes = width.saturating_mul(dtype.bytes());
    let at = |row: u64| usize::try_from(row.saturating_mul(row_bytes)).unwrap_or(usize::MAX);
    let (from, to) = (at(rows.start), at(rows.end));
    if from > to || to > tensor.values.len() {
        return Err(Error::corrupt(format!("{name} in shard {start}-{end}: too few rows")));
    }
    Ok(StoredRows {
        ids: shard.row_ids.get(range).unwrap_or_default().to_vec(),
        width: usize::try_from(width).unwrap_or(usize::MAX),
        dtype,
        values: tensor.values.slice(from..to),
        token_counts: counts,
    })
}

/// Features computed from sequences, and targets, in one reading.
async fn sequences(
    store: &Store,
    feature: SequenceFeature,
    manifest: &Arc<DatasetManifest>,
    budget_bytes: u64,
) -> Result<Examples> {
    let mut measured = Measured::new(manifest.schema.targets.len());
    let mut letters = Letters { manifest, budget_bytes, cache: None, lengths: Vec::new() };
    let mut numbers = Builder::new(manifest, budget_bytes);
    let mut parts = std::pin::pin!(example_parts(store, manifest));
    while let Some(examples) = parts.next().await {
        let examples = examples?;
        measured.extend(&examples);
        tokio::task::block_in_place(|| match feature {
            SequenceFeature::OneHot => letters.append(&examples),
            _ => numbers.append(&feature_rows(feature, &manifest.name, &examples)?),
        })?;
    }
    let (cache, sides) = match feature {
        SequenceFeature::OneHot => letters.finish()?,
        _ => numbers.finish(false)?,
    };
    Ok(Examples { cache, sides, measured })
}

fn feature_rows(
    feature: SequenceFeature,
    dataset: &str,
    examples: &[Example],
) -> Result<StoredRows> {
    let named: Vec<NamedSequences<'_>> = examples
        .iter()
        .map(|example| (example.id.as_str(), example.sequences.as_slice()))
        .collect();
    let matrix = sequence_features(feature, dataset, &named)?;
    let bytes: Vec<u8> = matrix.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(StoredRows {
        ids: examples.iter().map(|example| example.id.clone()).collect(),
        width: matrix.columns(),
        dtype: StoredDtype::F32,
        values: bytes.into(),
        token_counts: Vec::new(),
    })
}

/// One-hot sequences, a byte per nucleotide.
struct Letters<'a> {
    manifest: &'a DatasetManifest,
    budget_bytes: u64,
    cache: Option<ExampleCache>,
    /// Of each sequence of the first example.
    lengths: Vec<usize>,
}

impl Letters<'_> {
    fn append(&mut self, examples: &[Example]) -> Result<()> {
        let Some(first) = examples.first() else { return Ok(()) };
        let cache = match &mut self.cache {
            Some(cache) => cache,
            none => {
                self.lengths = first.sequences.iter().map(|sequence| sequence.len()).collect();
                let values = self.lengths.iter().sum::<usize>().saturating_mul(4);
                let count = usize::try_from(self.manifest.rows).unwrap_or(usize::MAX);
                let cache =
                    ExampleCache::new(RowFormat::Letters, values, count, self.budget_bytes)?;
                none.insert(cache)
            }
        };
        let mut codes = Vec::new();
        for example in examples {
            if example.sequences.len() != self.lengths.len() {
                let (expected, found) = (self.lengths.len(), example.sequences.len());
                let expected = format!("{expected} sequences");
                return Err(misfit(self.manifest, example, &expected, found));
            }
            for (sequence, &length) in example.sequences.iter().zip(&self.lengths) {
                if sequence.len() != length {
                    let expected =
                        format!("a sequence of {length} nucleotides for one-hot features");
                    return Err(misfit(self.manifest, example, &expected, sequence.len()));
                }
                codes.extend(sequence.as_bytes().iter().map(|letter| {
                    let base = BASES.iter().position(|base| base == letter);
                    base.and_then(|base| u8::try_from(base).ok()).unwrap_or(u8::MAX)
                }));
            }
        }
        cache.push(&codes)
    }

    fn finish(self) -> Result<(ExampleCache, Vec<Extent>)> {
        let dataset = &self.manifest.name;
        let cache = self.cache.ok_or_else(|| {
            Error::invalid(format!("data set {dataset}: expected examples, found none"))
        })?;
        let side = |&length: &usize| Extent::Sequence { length, channels: 4 };
        Ok((cache, self.lengths.iter().map(side).collect()))
    }
}

fn misfit(manifest: &DatasetManifest, example: &Example, expected: &str, found: usize) -> Error {
    InputError::new(&manifest.name, format!("example {}", example.id), expected, found).into()
}

#[cfg(test)]
mod tests;
