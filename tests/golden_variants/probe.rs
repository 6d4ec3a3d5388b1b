//! Effects that a trained network of one-hot windows predicts.
//!
//! Leaves out: its training. Invariant: an effect has the same bits alone and among others.

use super::Case;
use glmeval_worker::variants::{PROBE_COLUMNS, ScoreForm, VariantProbe, Window};
use std::path::Path;

/// Compares the differences of an analysis' probe with the fixture's.
pub(super) fn check(path: &Path, case: &Case) {
    let weights = path.with_file_name(case.description["arrays"].as_str().unwrap());
    let mut probe = VariantProbe::open(path, &weights).unwrap_or_else(|e| panic!("{}", e.chain()));
    let windows: Vec<&Window> = case.windows.iter().collect();
    let found = probe.effects(&windows).unwrap();
    for (column, name) in PROBE_COLUMNS.iter().enumerate() {
        let values: Vec<f64> = found.iter().map(|row| row[column]).collect();
        case.compare(name, ScoreForm::Signed, &values);
    }
    for (window, together) in windows.iter().zip(&found) {
        let alone = probe.effects(&[window]).unwrap();
        assert_eq!(alone, [*together], "{}: alone and among others", case.name);
    }
}
