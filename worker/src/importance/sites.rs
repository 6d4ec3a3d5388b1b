//! The systematic variant: which bases of a sequence its map calls important, kept while the rest is
//! shuffled.
//!
//! Leaves out: making maps. Invariant: sites and kept positions ascend and lie in the sequence.

use super::experiment::{Experiment, PlacedMotif};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};

/// Share of positions at or below the threshold.
const QUANTILE: f64 = 0.95;

/// How values of a map are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapForm {
    /// As they are.
    Signed,
    /// By absolute value.
    Absolute,
}

/// Important positions of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportantSites {
    /// Value that the map of a site exceeds.
    pub threshold: f64,
    /// Positions above it.
    pub sites: Vec<usize>,
    /// Positions at most `reach` from a site.
    pub kept: Vec<usize>,
}

/// Positions of `map`, one value for each nucleotide, above its 95th percentile, widened by `reach`.
///
/// ```text
/// threshold = sorted(map)[floor(0.95 L)],  sites = i with map(i) > threshold
/// ```
///
/// # Errors
/// `Invalid` for an empty map, and for values that are no numbers.
pub fn important_sites(map: &[f64], form: MapForm, reach: usize) -> Result<ImportantSites> {
    let values = map.iter().map(|value| match form {
        MapForm::Signed => *value,
        MapForm::Absolute => value.abs(),
    });
    let values: Vec<f64> = values.collect();
    if let Some(place) = values.iter().position(|value| value.is_nan()) {
        let place = format!("position {place}");
        return Err(InputError::new("map", place, "a number", "NaN").into());
    }
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let rank = (QUANTILE * sorted.len() as f64) as usize;
    let Some(&threshold) = sorted.get(rank) else {
        return Err(Error::invalid("map: expected a value for each nucleotide, found none"));
    };
    let ranked = values.iter().enumerate().filter(|(_, value)| **value > threshold);
    let sites: Vec<usize> = ranked.map(|(position, _)| position).collect();
    let mut is_kept = vec![false; values.len()];
    for &site in &sites {
        let end = site.saturating_add(reach).saturating_add(1).min(values.len());
        if let Some(around) = is_kept.get_mut(site.saturating_sub(reach)..end) {
            around.fill(true);
        }
    }
    let kept = is_kept.iter().enumerate().filter(|(_, kept)| **kept).map(|(place, _)| place);
    Ok(ImportantSites { threshold, sites, kept: kept.collect() })
}

/// The experiment that embeds the bases of `sequence` at `positions`, ascending, into shuffles of it.
///
/// The rest is shuffled as part of the whole sequence: what is kept is written over a shuffle of all
/// its letters, as a motif is.
pub fn kept(name: &str, sequence: &DnaSequence, positions: &[usize]) -> Experiment {
    let mut motifs: Vec<(usize, Vec<u8>)> = Vec::new();
    for &position in positions {
        let Some(&letter) = sequence.as_bytes().get(position) else { continue };
        match motifs.last_mut() {
            Some((start, letters)) if *start + letters.len() == position => letters.push(letter),
            _ => motifs.push((position, vec![letter])),
        }
    }
    let motifs = motifs.into_iter().filter_map(|(start, letters)| {
        Some(PlacedMotif { letters: DnaSequence::new(letters).ok()?, start })
    });
    Experiment { name: name.to_owned(), motifs: motifs.collect() }
}
