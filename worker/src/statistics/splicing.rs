//! Which targets and examples of the splicing task are scored.
//!
//! Leaves out: the correlation. Invariant: the filter sees measured values only, so every probe
//! is scored on the same exons.

use crate::probe::logistic;

/// Fewest tissues an exon must be observed in.
const OBSERVED_MIN: usize = 10;
/// Least change of the share spliced in against the exon's mean, in some tissue.
const CHANGE_MIN: f64 = 0.2;

/// How many of `target_names` are differences of logits; `None` unless they are followed by as
/// many means: `delta_0` …, then `mean_0` ….
pub fn splicing_tissues(target_names: &[String]) -> Option<usize> {
    let tissues = target_names.len() / 2;
    let numbered = |names: &[String], stem: &str| {
        names.iter().enumerate().all(|(i, name)| *name == format!("{stem}_{i}"))
    };
    let (differences, means) = target_names.split_at(tissues);
    let is_paired = differences.len() == means.len() && tissues > 0;
    (is_paired && numbered(differences, "delta") && numbered(means, "mean")).then_some(tissues)
}

/// Numbers of the exons that are scored.
///
/// `differences` and `means` have one vector per tissue: logit(psi) - logit(mean psi), NaN where
/// not observed, and logit(mean psi). An exon counts if it is observed in at least ten tissues
/// and, with s the logistic function,
///
/// ```text
/// max over observed tissues of |s(mean) - s(difference + mean)| >= 0.2
/// ```
///
/// Source: the published test filter of ASCOT exons (Cheng et al. 2021, MTSplice).
pub fn splicing_exons(differences: &[Vec<f64>], means: &[Vec<f64>]) -> Vec<usize> {
    let exons = differences.first().map_or(0, Vec::len);
    let is_scored = |exon: &usize| {
        let value = |column: &Vec<f64>| column.get(*exon).copied().unwrap_or(f64::NAN);
        let (mut observed, mut change) = (0, 0.0_f64);
        for (difference, mean) in differences.iter().zip(means) {
            let (difference, mean) = (value(difference), value(mean));
            if !difference.is_nan() {
                observed += 1;
                // `max` passes over NaN, which a missing mean would give.
                change = change.max((logistic(mean) - logistic(difference + mean)).abs());
            }
        }
        observed >= OBSERVED_MIN && change >= CHANGE_MIN
    };
    (0..exons).filter(is_scored).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logit(p: f64) -> f64 {
        (p / (1.0 - p)).ln()
    }

    #[test]
    fn exons_need_ten_tissues_and_a_change_of_a_fifth() {
        let nan = f64::NAN;
        // Per exon: shares in tissue 0 and in the others, and how many tissues are observed.
        let exons = [(0.71, 10), (0.69, 12), (0.71, 9), (0.29, 11)];
        let column = |tissue: usize| -> Vec<f64> {
            let value = |&(share, observed): &(f64, usize)| match tissue {
                0 => logit(share) - logit(0.5),
                t if t < observed => 0.0,
                _ => nan,
            };
            exons.iter().map(value).collect()
        };
        let differences: Vec<Vec<f64>> = (0..12).map(column).collect();
        let means = vec![vec![0.0; 4]; 12];
        assert_eq!(splicing_exons(&differences, &means), [0, 3]);
    }

    #[test]
    fn names_of_the_layout_are_told_from_others() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(splicing_tissues(&names(&["delta_0", "delta_1", "mean_0", "mean_1"])), Some(2));
        assert_eq!(splicing_tissues(&names(&["delta_0", "delta_1", "mean_0"])), None);
        assert_eq!(splicing_tissues(&names(&["liver", "lung"])), None);
        assert_eq!(splicing_tissues(&[]), None);
    }
}
