//! Statistics of predictions against targets, in f64, with 95 % bootstrap intervals.
//!
//! Leaves out: which split or probe made the predictions (fit).
//! Invariant: every statistic is a function of examples with counts, so a bootstrap resample and
//! the point value run the same code; `None` where a statistic is undefined, never NaN.

mod bootstrap;
mod correlation;
mod curves;
mod keras;
mod mann_whitney;
mod multiple;
mod normal;
mod paired;
mod ranking;
mod repeats;
mod scores;
mod splicing;

pub use bootstrap::{RESAMPLES, bootstrap_interval};
pub use correlation::{
    NanPolicy, PairSums, mean_squared_error, pearson, r_squared, spearman, spearman_columns,
};
pub use curves::{CurvePoint, precision_recall_curve, roc_curve};
pub use keras::{KERAS_THRESHOLDS, KerasCounts};
pub use mann_whitney::{Alternative, MannWhitney, Method, mann_whitney, mann_whitney_by};
pub use multiple::{benjamini_hochberg, holm};
pub use paired::{PairedDifference, mean_over_repeats, paired_difference};
pub use ranking::{accuracy, auroc, average_precision};
pub use repeats::{RepeatSummary, two_level_interval};
pub use scores::{
    Resampled, ScoreContext, Scored, ScoredVariants, compared_statistic, effect_statistics,
    is_logistic, primary_statistic, resampled, scores,
};
pub use splicing::{splicing_exons, splicing_tissues};
