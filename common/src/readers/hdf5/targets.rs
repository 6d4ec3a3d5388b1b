//! Target data sets as the values of an example, by the rule of their layout.
//!
//! Leaves out: which data set belongs to which split (`layouts`). Invariant: a value is finite, or
//! NaN where the layout allows a target that was not measured.

use super::array::{Array, words};
use super::file::Hdf5File;
use crate::error::Result;

/// Tissues of the splicing task.
const TISSUES: u64 = 56;
/// Bound on the targets of one example; each needs a name.
const TARGETS_MAX: usize = 65_536;

/// What a target data set must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// (N,) or (N, 1) of 0 and 1.
    Binary,
    /// (N,) or (N, E) of 0 and 1.
    MultiBinary,
    /// (N,) or (N, E) of finite numbers.
    Real,
    /// (N,) or (N, E): ln(column 0 + 1).
    LogOfFirst,
    /// As the binary one, but NaN = not measured.
    BinaryOrMissing,
    /// As the real one, but NaN = not measured.
    RealOrMissing,
    /// (N, 56, 2): difference of logits, then logit of the mean; NaN = not measured. The mean is NaN
    /// only in rows without any measured tissue.
    DeltaLogit,
}

/// A data set of targets.
pub(super) struct Targets {
    pub(super) array: Array,
    rule: Rule,
    row: Vec<f64>,
}

impl Targets {
    /// Opens the data set that the file spells `key`.
    ///
    /// # Errors
    /// `Invalid` for a shape that does not fit the rule.
    pub(super) fn open(file: &Hdf5File, key: &str, rule: Rule) -> Result<Self> {
        let array = Array::open(file, key)?;
        let shape = array.shape();
        let fits = match (rule, shape) {
            (Rule::DeltaLogit, [_, TISSUES, 2]) => true,
            (Rule::DeltaLogit, _) => false,
            (Rule::Binary, [_] | [_, 1]) => true,
            (Rule::Binary, _) => false,
            (_, [_] | [_, _]) => array.values_per_row() <= TARGETS_MAX,
            _ => false,
        };
        if !fits {
            let expected = match rule {
                Rule::Binary => "shape (rows,) or (rows, 1)".to_owned(),
                Rule::DeltaLogit => format!("shape (rows, {TISSUES}, 2)"),
                _ => format!("shape (rows,) or (rows, targets), {TARGETS_MAX} targets at most"),
            };
            return Err(array.shape_defect(expected, format!("shape {}", words(shape))));
        }
        Ok(Self { array, rule, row: Vec::new() })
    }

    /// Names of the targets: `target`, `target_0` …, or `delta_0` … `delta_55`, `mean_0` ….
    pub(super) fn names(&self) -> Vec<String> {
        let numbered = |stem: &str, count: usize| -> Vec<String> {
            (0..count).map(|index| format!("{stem}_{index}")).collect()
        };
        let columns = self.array.values_per_row();
        match self.rule {
            Rule::DeltaLogit => {
                let mut names = numbered("delta", columns / 2);
                names.extend(numbered("mean", columns / 2));
                names
            }
            Rule::LogOfFirst | Rule::Binary => vec!["target".to_owned()],
            _ if columns == 1 => vec!["target".to_owned()],
            _ => numbered("target", columns),
        }
    }

    /// The targets of the next row, which is `row_number`; empty once all were read.
    ///
    /// # Errors
    /// `Invalid` with the row whose value does not fit the rule.
    pub(super) fn next(&mut self, row_number: u64) -> Result<Vec<f32>> {
        if !self.array.read_row(&mut self.row)? {
            return Ok(Vec::new());
        }
        let values: Vec<f64> = match self.rule {
            Rule::DeltaLogit => {
                let (pairs, _) = self.row.as_chunks::<2>();
                let unknown = pairs.iter().position(|[_, mean]| mean.is_nan());
                if let Some(tissue) = unknown.filter(|_| pairs.iter().any(|[d, _]| !d.is_nan())) {
                    let expected = "a mean logit, as tissues of the row are measured";
                    let found = format!("NaN in tissue {tissue}");
                    return Err(self.array.defect(row_number, expected, found));
                }
                pairs.iter().map(|[delta, _]| *delta).chain(pairs.iter().map(|[_, m]| *m)).collect()
            }
            Rule::LogOfFirst => self.row.iter().take(1).copied().collect(),
            _ => self.row.clone(),
        };
        let mut targets = Vec::with_capacity(values.len());
        for (column, &value) in values.iter().enumerate() {
            match self.target(value) {
                Ok(target) => targets.push(target),
                Err((expected, found)) => {
                    let found = if values.len() > 1 {
                        format!("{found} in target {column}")
                    } else {
                        found
                    };
                    return Err(self.array.defect(row_number, expected, found));
                }
            }
        }
        Ok(targets)
    }

    /// The target of one stored value, otherwise what was expected and found.
    fn target(&self, value: f64) -> Result<f32, (&'static str, String)> {
        let finite = |value: f64| {
            let narrow = value as f32;
            if narrow.is_finite() { Ok(narrow) } else { Err(("a finite number", shown(value))) }
        };
        match self.rule {
            Rule::BinaryOrMissing | Rule::RealOrMissing if value.is_nan() => Ok(f32::NAN),
            Rule::Binary | Rule::MultiBinary | Rule::BinaryOrMissing
                if value == 0.0 || value == 1.0 =>
            {
                Ok(value as f32)
            }
            Rule::Binary | Rule::MultiBinary | Rule::BinaryOrMissing => {
                Err(("0 or 1", shown(value)))
            }
            Rule::Real | Rule::RealOrMissing => finite(value),
            Rule::LogOfFirst if value > -1.0 => finite(value.ln_1p()),
            Rule::LogOfFirst => Err(("a number greater than -1 for ln(y + 1)", shown(value))),
            Rule::DeltaLogit if value.is_nan() => Ok(f32::NAN),
            Rule::DeltaLogit => finite(value),
        }
    }
}

/// A value as its author wrote it: most are stored as f32, whose f64 has a tail of digits.
fn shown(value: f64) -> String {
    if f64::from(value as f32) == value { (value as f32).to_string() } else { value.to_string() }
}
