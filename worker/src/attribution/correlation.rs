//! How far the maps of a set agree: correlations of their absolute values, averaged over sequences.
//!
//! Leaves out: what the correlations themselves are (`statistics`). Invariant: a sequence whose
//! correlation is undefined (a constant map) is counted, never averaged.

use super::MapKind;
use crate::statistics::{NanPolicy, pearson, spearman};
use serde::Serialize;

/// Two maps of one sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapCorrelation {
    /// Pearson correlation of |a| and |b|.
    pub pearson: Option<f64>,
    /// Spearman correlation of |a| and |b|.
    pub spearman: Option<f64>,
}

/// Correlations of the absolute values of two maps of one sequence.
pub fn correlate(a: &[f64], b: &[f64]) -> MapCorrelation {
    let absolute = |map: &[f64]| map.iter().map(|value| value.abs()).collect::<Vec<f64>>();
    let (a, b) = (absolute(a), absolute(b));
    MapCorrelation { pearson: pearson(&a, &b), spearman: spearman(&a, &b, NanPolicy::Propagate) }
}

/// Means over the sequences of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairCorrelation {
    /// Name of one map.
    pub map: &'static str,
    /// Name of the other.
    pub other: &'static str,
    /// Sequences whose correlation is defined.
    pub sequences: u64,
    /// Sequences where it is not.
    pub undefined: u64,
    /// Mean Pearson correlation of absolute values; `None` without any.
    pub pearson: Option<f64>,
    /// Mean Spearman correlation of absolute values; `None` without any.
    pub spearman: Option<f64>,
}

/// Sums over the sequences of a set, one for each pair of maps.
#[derive(Clone, Debug, Default)]
pub struct MapCorrelations {
    pairs: Vec<Sums>,
}

#[derive(Clone, Debug)]
struct Sums {
    kinds: (MapKind, MapKind),
    defined: u64,
    undefined: u64,
    pearson: f64,
    spearman: f64,
}

impl MapCorrelations {
    /// Sums for all pairs of `kinds`, the earlier one second: what is explained against saliency.
    pub fn new(kinds: &[MapKind]) -> Self {
        let pairs = kinds.iter().enumerate().flat_map(|(index, &kind)| {
            kinds.iter().take(index).map(move |&earlier| (kind, earlier))
        });
        let empty = |kinds| Sums { kinds, defined: 0, undefined: 0, pearson: 0.0, spearman: 0.0 };
        Self { pairs: pairs.map(empty).collect() }
    }

    /// The pairs, in order.
    pub fn kinds(&self) -> impl Iterator<Item = (MapKind, MapKind)> {
        self.pairs.iter().map(|sums| sums.kinds)
    }

    /// Takes the maps of one sequence in; gives its correlations back, one for each pair.
    pub fn add(&mut self, maps: &[(MapKind, &[f64])]) -> Vec<MapCorrelation> {
        let map = |kind| {
            maps.iter().find(|(known, _)| *known == kind).map_or(&[] as &[f64], |(_, map)| map)
        };
        let mut found = Vec::with_capacity(self.pairs.len());
        for sums in &mut self.pairs {
            let one = correlate(map(sums.kinds.0), map(sums.kinds.1));
            match (one.pearson, one.spearman) {
                (Some(pearson), Some(spearman)) => {
                    sums.defined += 1;
                    sums.pearson += pearson;
                    sums.spearman += spearman;
                }
                _ => sums.undefined += 1,
            }
            found.push(one);
        }
        found
    }

    /// Means of all pairs.
    pub fn means(&self) -> Vec<PairCorrelation> {
        let mean = |sums: &Sums| {
            let over = |sum: f64| (sums.defined > 0).then(|| sum / sums.defined as f64);
            PairCorrelation {
                map: sums.kinds.0.name(),
                other: sums.kinds.1.name(),
                sequences: sums.defined,
                undefined: sums.undefined,
                pearson: over(sums.pearson),
                spearman: over(sums.spearman),
            }
        };
        self.pairs.iter().map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_values_are_compared_and_constant_maps_left_out() {
        let kinds = [MapKind::Saliency, MapKind::Information];
        let mut sums = MapCorrelations::new(&kinds);
        let mut add = |a: &[f64], b: &[f64]| sums.add(&[(kinds[0], a), (kinds[1], b)]);
        assert_eq!(add(&[-3.0, 2.0, 1.0], &[6.0, 4.0, -2.0])[0].spearman, Some(1.0));
        add(&[1.0, 2.0, -3.0], &[3.0, -2.0, 1.0]);
        assert_eq!(add(&[1.0, 2.0, 3.0], &[1.0, -1.0, 1.0])[0].pearson, None);
        let means = sums.means();
        let [pair] = means.as_slice() else { panic!("{means:?}") };
        assert_eq!((pair.map, pair.other), ("information", "saliency"));
        assert_eq!((pair.sequences, pair.undefined), (2, 1));
        assert!(pair.pearson.unwrap().abs() < 1e-15, "{pair:?}");
    }
}
