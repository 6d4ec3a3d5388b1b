//! How the examples of the user's own data are divided into splits, as plain values.
//!
//! Leaves out: how a job file says it (job), dividing (`readers::divided`).
//! Invariant: a rule holds everything that decides which example falls into which split.

use crate::example::Split;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rule that gives each example its split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitRule {
    /// By the value that an example has in a column.
    Column {
        /// Name of the column; an HDF5 key for HDF5.
        column: String,
        /// Which values make which split.
        values: SplitValues,
    },
    /// By chromosome.
    Chromosome {
        /// Column that holds it; `None` = the chromosome of the interval that was cut.
        column: Option<String>,
        /// Which chromosomes make which split.
        values: SplitValues,
    },
    /// By shares of the examples, drawn at random whatever their order.
    Fractions {
        /// Shares of train, valid and test; their sum is 1.
        shares: [f64; 3],
        /// Decides the draw.
        seed: u64,
        /// Whether both classes of a binary target are shared out by themselves.
        stratify: bool,
        /// Column whose equal values stay together; `None` = each example by itself.
        group: Option<String>,
    },
}

/// Which values of a column make which split; compared as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitValues {
    /// Values trained on; `None` = all that no other list has.
    pub train: Option<Vec<String>>,
    /// Values watched.
    pub valid: Vec<String>,
    /// Values scored on.
    pub test: Vec<String>,
    /// Values whose examples are left out.
    pub leave_out: Vec<String>,
}

/// What a rule makes of one example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It belongs to this split.
    In(Split),
    /// It is no part of the data set.
    LeftOut,
}

impl SplitValues {
    /// Whether the values themselves are names of splits.
    pub fn are_names(&self) -> bool {
        *self == Self::default()
    }

    /// Every value that some list has, with what it means; the first list that has it counts.
    pub fn places(&self) -> BTreeMap<&str, Place> {
        let lists = [
            (self.train.as_deref().unwrap_or_default(), Place::In(Split::Train)),
            (&self.valid, Place::In(Split::Valid)),
            (&self.test, Place::In(Split::Test)),
            (&self.leave_out, Place::LeftOut),
        ];
        let mut places = BTreeMap::new();
        for (values, place) in lists {
            for value in values {
                places.entry(value.as_str()).or_insert(place);
            }
        }
        places
    }

    /// What `value` means; `None` where the rule does not say.
    pub fn place(&self, value: &str) -> Option<Place> {
        if self.are_names() {
            return Split::parse(value).map(Place::In);
        }
        let lists = [
            (self.train.as_ref(), Place::In(Split::Train)),
            (Some(&self.valid), Place::In(Split::Valid)),
            (Some(&self.test), Place::In(Split::Test)),
            (Some(&self.leave_out), Place::LeftOut),
        ];
        let has = |list: &Option<&Vec<String>>| {
            list.is_some_and(|values| values.iter().any(|known| known == value))
        };
        let listed = lists.into_iter().find(|(list, _)| has(list)).map(|(_, place)| place);
        listed.or_else(|| self.train.is_none().then_some(Place::In(Split::Train)))
    }
}

impl SplitRule {
    /// The column that decides, where one does.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Column { column, .. } => Some(column),
            Self::Chromosome { column, .. } => column.as_deref(),
            Self::Fractions { group, .. } => group.as_deref(),
        }
    }

    /// Splits that must not be empty.
    pub fn needed(&self) -> Vec<Split> {
        let is_needed = |split: &Split| match (self, split) {
            (Self::Column { values, .. } | Self::Chromosome { values, .. }, Split::Valid) => {
                !values.valid.is_empty()
            }
            (Self::Fractions { shares, .. }, split) => {
                Split::ALL.iter().zip(shares).any(|(known, share)| known == split && *share > 0.0)
            }
            _ => true,
        };
        Split::ALL.into_iter().filter(is_needed).collect()
    }
}

/// A value as lists and columns are compared: a whole number that was stored as a float loses its `.0`.
pub fn plain_value(text: &str) -> &str {
    let text = text.trim();
    match text.strip_suffix(".0") {
        Some(whole) if whole.parse::<i64>().is_ok() => whole,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &[&str]) -> Vec<String> {
        text.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn what_no_list_has_trains_unless_train_has_a_list() {
        let rest = SplitValues { test: values(&["10"]), ..SplitValues::default() };
        assert_eq!(rest.place("10"), Some(Place::In(Split::Test)));
        assert_eq!(rest.place("3"), Some(Place::In(Split::Train)));
        let listed = SplitValues { train: Some(values(&["1"])), ..rest };
        assert_eq!(listed.place("1"), Some(Place::In(Split::Train)));
        assert_eq!(listed.place("3"), None);
    }

    #[test]
    fn without_lists_values_are_names_of_splits() {
        let names = SplitValues::default();
        assert_eq!(names.place("dev"), Some(Place::In(Split::Valid)));
        assert_eq!(names.place("9"), None);
    }

    #[test]
    fn whole_numbers_stored_as_floats_are_compared_as_whole_numbers() {
        let shown = ["9.0", " 9 ", "9.05", "chr9.0", "-1.0"].map(plain_value);
        assert_eq!(shown, ["9", "9", "9.05", "chr9.0", "-1"]);
    }
}
