//! Effects of variants as a frozen gLM sees them, or a network trained on its states: windows, scores,
//! correlations.
//!
//! Leaves out: reading files of variants (common) and writing tables of scores (`table` aside, the
//! command line). Invariant: a variant's scores have the same bits alone, in any order, beside any
//! others and on any number of threads; alternatives at one place share the pass over the reference.

mod evaluation;
mod groups;
mod likelihood;
mod probe;
mod probe_states;
mod score;
mod scorer;
mod table;
#[cfg(test)]
mod tests;

pub use glmeval_common::effect::{
    PROBE_WINDOW, Published, Score, TokenSet, published, published_cell,
};
pub use glmeval_common::readers::variants::windows::{Window, WindowCutter};
pub use glmeval_kernels::ops::state_distance::{Distances, distances};

pub use crate::row_table::TableFormat;
pub use evaluation::{CellCorrelation, Correlation, Correlations, Evaluation, ScoreForm};
pub(crate) use likelihood::base_ids;
pub use probe::{PROBE_COLUMNS, ProbeReads, VariantProbe};
pub use probe_states::StatesProbe;
pub use score::missing;
pub use scorer::{Outcome, Scorer, ScorerOptions};
pub use table::VariantTable;
