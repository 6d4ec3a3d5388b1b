//! Reads how close embeddings in two precisions are.
//!
//! Leaves out: which sets are compared (report). Invariant: the examples looked at depend on their number alone, not on
//! how they were cut into shards.

use crate::report::{Closeness, PairCloseness, PrecisionPair, precision_pairs};
use crate::variants::distances;
use glmeval_common::embedding::EmbeddingShard;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::SetId;
use glmeval_common::plan::Plan;
use glmeval_common::representation::Pooling;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::cover::Piece;
use glmeval_common::store::embeddings::{committed_ranges, cover_of, read_piece_shard};

/// Runs of examples that are read of a data set, and examples of each: every run costs a shard or two of
/// both sets.
const RUNS_MAX: u64 = 4;
const RUN_EXAMPLES: u64 = 64;

/// How close every two sets of `plan` are that differ in precision alone.
///
/// # Errors
/// Store errors; sets whose rows are missing or damaged have no figures.
pub(super) async fn closeness<'a>(store: &Store, plan: &'a Plan) -> Result<Vec<PairCloseness<'a>>> {
    let mut found = Vec::new();
    for pair in precision_pairs(plan) {
        let rows = plan.datasets.iter().find(|one| one.facts.id == pair.fine.dataset);
        let tensors = match of_pair(store, &pair, rows.map_or(0, |one| one.facts.rows)).await {
            Err(error) if [ErrorKind::NotFound, ErrorKind::Corrupt].contains(&error.kind()) => {
                tracing::warn!(error = error.chain(), "precisions are not compared");
                Vec::new()
            }
            other => other?,
        };
        found.push(PairCloseness { pair, tensors });
    }
    Ok(found)
}

/// Examples `start..end` that stand for `rows`.
fn runs(rows: u64) -> Vec<(u64, u64)> {
    if rows <= RUNS_MAX * RUN_EXAMPLES {
        return vec![(0, rows)];
    }
    let start = |run: u64| (u128::from(run) * u128::from(rows) / u128::from(RUNS_MAX)) as u64;
    (0..RUNS_MAX).map(|run| (start(run), start(run) + RUN_EXAMPLES)).collect()
}

/// Sums over the vectors of one layer and pooling.
struct Sums {
    layer: u32,
    pooling: Pooling,
    vectors: u64,
    sum: f64,
    min: f64,
}

async fn of_pair(store: &Store, pair: &PrecisionPair<'_>, rows: u64) -> Result<Vec<Closeness>> {
    let mut all: Vec<Sums> = Vec::new();
    for layer in pair.fine.layers.iter().filter(|layer| pair.coarse.layers.contains(layer)) {
        let both = pair.fine.poolings.iter().filter(|one| pair.coarse.poolings.contains(one));
        all.extend(both.map(|&pooling| Sums {
            layer: *layer,
            pooling,
            vectors: 0,
            sum: 0.0,
            min: f64::INFINITY,
        }));
    }
    let mut shards = (Current::default(), Current::default());
    let fine_ranges = committed_ranges(store, &pair.fine.id).await?;
    let coarse_ranges = committed_ranges(store, &pair.coarse.id).await?;
    for run in runs(rows) {
        let fine = cover_of(store, &pair.fine.id, &fine_ranges, run)?;
        let coarse = cover_of(store, &pair.coarse.id, &coarse_ranges, run)?;
        for (from, to, fine, coarse) in overlaps(&fine, &coarse) {
            let a = shards.0.load(store, &pair.fine.id, fine).await?;
            let b = shards.1.load(store, &pair.coarse.id, coarse).await?;
            tokio::task::block_in_place(|| {
                all.iter_mut().try_for_each(|sums| sums.add((a, b), (from, to)))
            })?;
        }
    }
    let of = |sums: Sums| Closeness {
        layer: sums.layer,
        pooling: sums.pooling,
        vectors: sums.vectors,
        mean: sums.sum / sums.vectors as f64,
        min: sums.min,
    };
    Ok(all.into_iter().filter(|sums| sums.vectors > 0).map(of).collect())
}

/// The shard that is being read.
#[derive(Default)]
struct Current(Option<((u64, u64), EmbeddingShard)>);

impl Current {
    async fn load(&mut self, store: &Store, set: &SetId, piece: &Piece) -> Result<&EmbeddingShard> {
        if self.0.as_ref().is_none_or(|(commit, _)| *commit != piece.commit) {
            // The one before goes before the next comes.
            self.0 = None;
            self.0 = Some((piece.commit, read_piece_shard(store, set, piece).await?));
        }
        self.0.as_ref().map(|(_, shard)| shard).ok_or_else(|| Error::bug("no shard was read"))
    }
}

/// The examples that a piece of each list holds, with the pieces.
fn overlaps<'p>(a: &'p [Piece], b: &'p [Piece]) -> Vec<(u64, u64, &'p Piece, &'p Piece)> {
    let both = a.iter().flat_map(|one| b.iter().map(move |other| (one, other)));
    let overlap = |(one, other): (&'p Piece, &'p Piece)| {
        let (from, to) = (one.take.0.max(other.take.0), one.take.1.min(other.take.1));
        (from < to).then_some((from, to, one, other))
    };
    both.filter_map(overlap).collect()
}

impl Sums {
    /// Adds the vectors of the examples `from..to`.
    fn add(
        &mut self,
        (a, b): (&EmbeddingShard, &EmbeddingShard),
        (from, to): (u64, u64),
    ) -> Result<()> {
        let values = |shard: &EmbeddingShard| {
            shard.values_f32(self.layer, self.pooling, shard.rows_of(from, to))
        };
        let (fine, coarse) = (values(a)?, values(b)?);
        let width = a.tensor(self.layer, self.pooling).map_or(0, |tensor| tensor.width);
        let width = usize::try_from(width).unwrap_or(usize::MAX).max(1);
        if fine.len() != coarse.len() {
            let (layer, pooling) = (self.layer, self.pooling);
            return Err(Error::corrupt(format!(
                "layer {layer}, {pooling} of examples {from}-{to} in two precisions: {} and {} values",
                fine.len(),
                coarse.len()
            )));
        }
        for (fine, coarse) in fine.chunks(width).zip(coarse.chunks(width)) {
            let cosine = cosine(fine, coarse);
            self.vectors += 1;
            self.sum += cosine;
            self.min = self.min.min(cosine);
        }
        Ok(())
    }
}

/// Cosine of the angle between two vectors; 1 for equal ones, be they zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a == b {
        return 1.0;
    }
    let cos = distances(a.iter().copied().zip(b.iter().copied())).cos;
    // One of them is zero.
    if cos.is_nan() { 0.0 } else { cos.min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_spread_over_all_examples() {
        assert_eq!(runs(0), [(0, 0)]);
        assert_eq!(runs(256), [(0, 256)]);
        assert_eq!(runs(257), [(0, 64), (64, 128), (128, 192), (192, 256)]);
        assert_eq!(runs(4_000), [(0, 64), (1_000, 1_064), (2_000, 2_064), (3_000, 3_064)]);
    }

    #[test]
    fn a_cosine_of_zeros_is_that_of_equals_or_none() {
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 0.0]), 1.0);
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(cosine(&[3.0, 4.0], &[4.0, 3.0]), 24.0 / 25.0);
    }

    #[test]
    fn shards_of_two_sizes_overlap_in_order() {
        let piece = |from, to| Piece { commit: (from, to), take: (from, to) };
        let (a, b) = ([piece(0, 5), piece(5, 9)], [piece(0, 3), piece(3, 9)]);
        let found: Vec<(u64, u64)> =
            overlaps(&a, &b).into_iter().map(|(from, to, ..)| (from, to)).collect();
        assert_eq!(found, [(0, 3), (3, 5), (5, 9)]);
    }
}
