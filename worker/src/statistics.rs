//! Statistics of predictions against targets, in f64, with 95 % bootstrap intervals.
//!
//! Leaves out: which split or probe made the predictions (fit).
//! Invariant: every statistic is a function of examples with counts, so a bootstrap resample and
//! the point value run the same code; `None` where a statistic is undefined, never NaN.

mod bootstrap;
mod correlation;
mod curves;
mod keras;
mod ranking;
mod scores;

pub use bootstrap::{RESAMPLES, bootstrap_interval};
pub use correlation::{
    NanPolicy, PairSums, mean_squared_error, pearson, r_squared, spearman, spearman_columns,
};
pub use curves::{CurvePoint, precision_recall_curve, roc_curve};
pub use keras::KerasCounts;
pub use ranking::{accuracy, auroc, average_precision};
pub use scores::{ScoreContext, primary_statistic, scores};
