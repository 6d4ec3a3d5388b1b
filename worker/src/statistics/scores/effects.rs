//! Statistics of scores of variants: Pearson's r by element, and its mean by cell line.
//!
//! Leaves out: which scores are compared with which effects (fit). Invariant: an element counts with the
//! variants that have both values; a mean is undefined where one of its members is.

use crate::statistics::bootstrap::{RESAMPLES, percentiles, resample};
use crate::statistics::correlation::{PairSums, mean};
use glmeval_common::effect::published_cell;
use glmeval_common::example::Split;
use glmeval_common::score::Statistic;

/// Scores of variants beside what was measured.
#[derive(Clone, Copy, Debug)]
pub struct ScoredVariants<'a> {
    /// Names of the elements.
    pub elements: &'a [String],
    /// One vector for each element, one value for each variant; NaN = of another element, or not
    /// measured.
    pub effects: &'a [Vec<f64>],
    /// One value for each variant.
    pub scores: &'a [f64],
}

/// One element: its variants by number, their effects and scores.
struct Element<'a> {
    name: &'a str,
    rows: Vec<usize>,
    effects: Vec<f64>,
    scores: Vec<f64>,
}

impl Element<'_> {
    /// Pearson's r where variant i counts `counts[i]` times.
    fn pearson(&self, counts: &[u32]) -> Option<f64> {
        let mut sums = PairSums::new((mean(&self.scores), mean(&self.effects)));
        for ((&row, &effect), &score) in self.rows.iter().zip(&self.effects).zip(&self.scores) {
            sums.add(f64::from(counts.get(row).copied().unwrap_or(0)), score, effect);
        }
        sums.pearson()
    }
}

/// `pearson_mean` of each cell line of the study that an element belongs to, with `reports_absolute`
/// `r_reported`, its absolute value, and `pearson` of each element.
///
/// Intervals resample variants, all elements together.
pub fn effect_statistics(
    scored: &ScoredVariants<'_>,
    seed: u64,
    reports_absolute: bool,
) -> Vec<Statistic> {
    let count = scored.scores.len();
    let columns = scored.elements.iter().zip(scored.effects);
    let elements: Vec<Element<'_>> = columns
        .map(|(name, effects)| {
            let pairs = effects.iter().zip(scored.scores).enumerate();
            let kept = pairs.filter(|(_, (effect, score))| effect.is_finite() && score.is_finite());
            let mut element =
                Element { name, rows: Vec::new(), effects: Vec::new(), scores: Vec::new() };
            for (row, (&effect, &score)) in kept {
                element.rows.push(row);
                element.effects.push(effect);
                element.scores.push(score);
            }
            element
        })
        .collect();
    let of_counts = |counts: &[u32]| elements.iter().map(|e| e.pearson(counts)).collect::<Vec<_>>();
    let once = of_counts(&vec![1; count]);
    let series = resample((count, RESAMPLES), seed, of_counts);
    let row = |name: &str, target: &str, variants: usize, of: &Function<'_>| {
        let values: Vec<f64> = series.iter().filter_map(|values| of(values)).collect();
        let interval = if variants < 2 { None } else { percentiles(values, RESAMPLES) };
        let value = of(&once);
        let interval = value.and(interval);
        Statistic {
            name: name.to_owned(),
            split: Split::Test.name().to_owned(),
            target: target.to_owned(),
            value,
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
            examples: variants as u64,
        }
    };
    let mut rows = Vec::new();
    for (cell, members) in cells(&elements) {
        let variants = members.iter().map(|&member| elements[member].rows.len()).sum();
        let mean = |values: &[Option<f64>]| mean_of(values, &members);
        rows.push(row("pearson_mean", cell, variants, &mean));
        if reports_absolute {
            let absolute = |values: &[Option<f64>]| mean(values).map(f64::abs);
            rows.push(row("r_reported", cell, variants, &absolute));
        }
    }
    for (index, element) in elements.iter().enumerate() {
        let own = |values: &[Option<f64>]| values.get(index).copied().flatten();
        rows.push(row("pearson", element.name, element.rows.len(), &own));
    }
    rows
}

/// A statistic of the elements' r.
type Function<'a> = dyn Fn(&[Option<f64>]) -> Option<f64> + 'a;

/// Cell lines in the order in which an element of theirs came first, with their elements.
fn cells(elements: &[Element<'_>]) -> Vec<(&'static str, Vec<usize>)> {
    let mut cells: Vec<(&'static str, Vec<usize>)> = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let Some(cell) = published_cell(element.name) else { continue };
        match cells.iter_mut().find(|(known, _)| *known == cell) {
            Some((_, members)) => members.push(index),
            None => cells.push((cell, vec![index])),
        }
    }
    cells
}

fn mean_of(values: &[Option<f64>], members: &[usize]) -> Option<f64> {
    let values = members.iter().map(|&member| values.get(member).copied().flatten());
    let values: Option<Vec<f64>> = values.collect();
    values.filter(|values| !values.is_empty()).map(|values| mean(&values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::pearson;

    #[test]
    fn a_cell_is_the_mean_of_its_elements_and_others_form_none() {
        let elements = ["LDLR", "alpha", "F9", "PKLR"].map(str::to_owned);
        let scores: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        let effect = |element: usize, i: usize| match i % 4 == element {
            true => (i * (element + 3) % 11) as f64,
            false => f64::NAN,
        };
        let effects: Vec<Vec<f64>> =
            (0..4).map(|e| (0..40).map(|i| effect(e, i)).collect()).collect();
        let scored = ScoredVariants { elements: &elements, effects: &effects, scores: &scores };
        let rows = effect_statistics(&scored, 3, true);
        let names: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.target.as_str())).collect();
        let expected = [
            ("pearson_mean", "HepG2"),
            ("r_reported", "HepG2"),
            ("pearson_mean", "K562"),
            ("r_reported", "K562"),
            ("pearson", "LDLR"),
            ("pearson", "alpha"),
            ("pearson", "F9"),
            ("pearson", "PKLR"),
        ];
        assert_eq!(names, expected);
        let of = |element: usize| {
            let rows = (0..40).filter(|i| i % 4 == element);
            let pairs: Vec<_> = rows.map(|i| (scores[i], effects[element][i])).collect();
            let (x, y): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            pearson(&x, &y).unwrap()
        };
        let mean = (of(0) + of(2)) / 2.0;
        assert!((rows[0].value.unwrap() - mean).abs() < 1e-12);
        assert_eq!((rows[1].value.unwrap(), rows[0].examples), (rows[0].value.unwrap().abs(), 20));
        assert!((rows[7].value.unwrap() - of(3)).abs() < 1e-12);
        assert!(rows.iter().all(|row| row.low <= row.value && row.value <= row.high));
        assert_eq!(effect_statistics(&scored, 3, false).len(), 6);
    }

    #[test]
    fn a_cell_with_an_undefined_element_is_undefined() {
        let elements = ["LDLR", "F9"].map(str::to_owned);
        let effects = [vec![1.0, 2.0, 3.0, f64::NAN], vec![f64::NAN, f64::NAN, f64::NAN, 1.0]];
        let scores = [1.0, 3.0, 2.0, 0.0];
        let scored = ScoredVariants { elements: &elements, effects: &effects, scores: &scores };
        let values: Vec<_> =
            effect_statistics(&scored, 0, false).iter().map(|row| row.value.is_some()).collect();
        assert_eq!(values, [false, true, false]);
    }
}
