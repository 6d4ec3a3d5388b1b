//! The `split` table of a data set: from keys as written to a rule.
//!
//! Leaves out: dividing examples (readers). Invariant: a key that a kind of rule does not have is
//! refused, never ignored; no value stands in two lists.

use crate::error::InputError;
use crate::split_rule::{SplitRule, SplitValues, plain_value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far the sum of fractions may be from 1.
const SUM_ERROR_MAX: f64 = 1e-6;

/// A `split` table: exactly one of `column`, `chromosome`, `fractions`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitTable {
    /// Column (HDF5: key) whose values decide; without lists it holds `train`, `valid`, `test`.
    pub column: Option<String>,
    /// `true` = the chromosome of the interval, or the column that holds it.
    pub chromosome: Option<ChromosomeChoice>,
    /// Shares of train, valid and test.
    pub fractions: Option<Vec<f64>>,
    /// Decides which examples fractions draw; left out = 0.
    pub seed: Option<u64>,
    /// Whether fractions hold in each class of a binary target; left out = false.
    pub stratify: Option<bool>,
    /// Column whose equal values stay in one split of the fractions.
    pub group: Option<String>,
    /// Values trained on; left out = all that no other list has.
    pub train: Option<Vec<ListedValue>>,
    /// Values watched.
    pub valid: Option<Vec<ListedValue>>,
    /// Values scored on.
    pub test: Option<Vec<ListedValue>>,
    /// Values whose examples are left out of the data set.
    pub leave_out: Option<Vec<ListedValue>>,
}

/// Where the chromosome of an example stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChromosomeChoice {
    /// `true` = in its interval.
    Interval(bool),
    /// In this column.
    Column(String),
}

/// A value in a list: `9` and `"9"` are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListedValue {
    /// A whole number.
    Whole(i64),
    /// Text.
    Text(String),
}

impl ListedValue {
    fn plain(&self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Text(text) => plain_value(text).to_owned(),
        }
    }
}

impl SplitTable {
    /// The rule; `key` is that of the table in `file`.
    ///
    /// # Errors
    /// `Invalid` with the key, what is allowed and what was found.
    pub fn rule(&self, file: &str, key: &str) -> Result<SplitRule, InputError> {
        let wrong = |name: &str, expected: &str, found: String| {
            let place = if name.is_empty() { key.to_owned() } else { format!("{key}.{name}") };
            Err(InputError::new(file, place, expected, found))
        };
        let lists = self.lists();
        let drawn = [
            ("seed", self.seed.is_some()),
            ("stratify", self.stratify.is_some()),
            ("group", self.group.is_some()),
        ];
        match (&self.column, &self.chromosome, &self.fractions) {
            (None, None, Some(fractions)) => {
                if let Some((name, _)) = lists.first() {
                    return wrong(name, "no list of values with fractions", "one".to_owned());
                }
                self.fractions(fractions, &wrong)
            }
            (column, chromosome, None) if column.is_some() != chromosome.is_some() => {
                if let Some((name, _)) = drawn.iter().find(|(_, given)| *given) {
                    return wrong(name, "no such key without fractions", (*name).to_owned());
                }
                let values = self.values(&lists, &wrong)?;
                match (column, chromosome) {
                    (Some(column), _) => Ok(SplitRule::Column { column: column.clone(), values }),
                    (None, Some(ChromosomeChoice::Interval(false))) => {
                        wrong("chromosome", "true or the name of a column", "false".to_owned())
                    }
                    (None, _) if values.are_names() => {
                        wrong("", "lists of chromosomes: valid, test", "none".to_owned())
                    }
                    (None, Some(ChromosomeChoice::Column(column))) => {
                        Ok(SplitRule::Chromosome { column: Some(column.clone()), values })
                    }
                    (None, _) => Ok(SplitRule::Chromosome { column: None, values }),
                }
            }
            (column, chromosome, fractions) => {
                let given = [column.is_some(), chromosome.is_some(), fractions.is_some()];
                let names = ["column", "chromosome", "fractions"].into_iter().zip(given);
                let found: Vec<_> =
                    names.filter(|(_, given)| *given).map(|(name, _)| name).collect();
                let found = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
                wrong("", "exactly one of column, chromosome, fractions", found)
            }
        }
    }

    /// The lists that are given, in the order of their names above.
    fn lists(&self) -> Vec<(&'static str, &[ListedValue])> {
        let all = [
            ("train", &self.train),
            ("valid", &self.valid),
            ("test", &self.test),
            ("leave_out", &self.leave_out),
        ];
        all.into_iter().filter_map(|(name, list)| Some((name, list.as_deref()?))).collect()
    }

    fn values(
        &self,
        lists: &[(&str, &[ListedValue])],
        wrong: &dyn Fn(&str, &str, String) -> Result<SplitRule, InputError>,
    ) -> Result<SplitValues, InputError> {
        let mut seen = BTreeMap::new();
        for (name, list) in lists {
            for value in list.iter().map(ListedValue::plain) {
                if let Some(before) = seen.insert(value.clone(), *name) {
                    let found = format!("{value:?} in {before} and {name}");
                    wrong(name, "a value in one list, once", found)?;
                }
            }
            if list.is_empty() && matches!(*name, "train" | "test") {
                wrong(name, "at least one value", "none".to_owned())?;
            }
        }
        if !lists.is_empty() && self.test.is_none() {
            wrong("test", "a list of values to score on", "nothing".to_owned())?;
        }
        let plain = |list: &Option<Vec<ListedValue>>| -> Vec<String> {
            list.iter().flatten().map(ListedValue::plain).collect()
        };
        Ok(SplitValues {
            train: self.train.is_some().then(|| plain(&self.train)),
            valid: plain(&self.valid),
            test: plain(&self.test),
            leave_out: plain(&self.leave_out),
        })
    }

    fn fractions(
        &self,
        fractions: &[f64],
        wrong: &dyn Fn(&str, &str, String) -> Result<SplitRule, InputError>,
    ) -> Result<SplitRule, InputError> {
        let &[train, valid, test] = fractions else {
            let found = format!("{} numbers", fractions.len());
            return wrong("fractions", "three shares: train, valid, test", found);
        };
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        let sum = train + valid + test;
        if !fractions.iter().all(is_share) || (sum - 1.0).abs() > SUM_ERROR_MAX {
            let found = format!("{fractions:?} with the sum {sum}");
            return wrong("fractions", "shares of 0 to 1 with the sum 1", found);
        }
        if train == 0.0 || test == 0.0 {
            let expected = "shares above 0 of train and test";
            return wrong("fractions", expected, format!("{fractions:?}"));
        }
        let stratify = self.stratify.unwrap_or(false);
        if stratify && self.group.is_some() {
            let expected = "stratify or group, not both";
            return wrong("stratify", expected, "both".to_owned());
        }
        Ok(SplitRule::Fractions {
            shares: [train, valid, test],
            seed: self.seed.unwrap_or(0),
            stratify,
            group: self.group.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<SplitRule, String> {
        let table: SplitTable = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        table.rule("job.toml", "dataset[0].split").map_err(|e| e.to_string())
    }

    #[test]
    fn every_kind_of_rule_is_read_as_written() {
        let folds = rule("column = \"fold\"\nvalid = [9]\ntest = [\"10\"]\n").unwrap();
        let values = SplitValues {
            valid: vec!["9".to_owned()],
            test: vec!["10".to_owned()],
            ..SplitValues::default()
        };
        let column = "fold".to_owned();
        assert_eq!(folds, SplitRule::Column { column, values: values.clone() });
        let chromosome = rule("chromosome = true\nvalid = [9]\ntest = [10]\n").unwrap();
        assert_eq!(chromosome, SplitRule::Chromosome { column: None, values });
        let drawn = rule("fractions = [0.7, 0.1, 0.2]\nseed = 1\ngroup = \"gene\"\n").unwrap();
        let group = Some("gene".to_owned());
        let shares = [0.7, 0.1, 0.2];
        assert_eq!(drawn, SplitRule::Fractions { shares, seed: 1, stratify: false, group });
        assert!(matches!(rule("column = \"set\"\n"), Ok(SplitRule::Column { .. })));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_key() {
        let cases = [
            ("", "exactly one of column, chromosome, fractions, found none"),
            ("column = \"a\"\nfractions = [1, 0, 0]\n", "found column and fractions"),
            ("column = \"a\"\nvalid = [1]\n", "split.test: expected a list"),
            ("column = \"a\"\ntest = []\n", "split.test: expected at least one value"),
            ("column = \"a\"\ntest = [1]\nvalid = [\"1\"]\n", "\"1\" in valid and test"),
            ("column = \"a\"\ntest = [1]\nseed = 3\n", "split.seed: expected no such key"),
            ("chromosome = true\n", "lists of chromosomes"),
            ("chromosome = false\ntest = [1]\n", "true or the name of a column"),
            ("fractions = [0.5, 0.5]\n", "three shares"),
            ("fractions = [0.7, 0.2, 0.2]\n", "the sum 1"),
            ("fractions = [1, 0, 0]\n", "above 0 of train and test"),
            ("fractions = [0.5, 0, 0.5]\ntest = [1]\n", "no list of values"),
            ("fractions = [0.5, 0, 0.5]\nstratify = true\ngroup = \"g\"\n", "not both"),
            ("folds = 3\n", "unknown field `folds`"),
        ];
        for (text, expected) in cases {
            let error = rule(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
