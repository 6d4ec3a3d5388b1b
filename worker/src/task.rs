//! What a task of the study is: its data sets in the study's archive, how each is read, and their sizes.
//!
//! Leaves out: which tasks there are ([`crate::tasks`]), searching folders (archive), own data sets.
//! Invariant: everything is a constant, so a plan can be made of it where no file is; what a file holds
//! is compared with it and never corrected by it.

use glmeval_common::dataset::{DatasetSource, Hdf5Layout, TaskName};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{InputError, Result};
use glmeval_common::example::{ExampleSchema, Split};
use glmeval_common::ids::DatasetId;
use glmeval_common::plan::DatasetFacts;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub mod archive;
#[cfg(test)]
mod tests;

/// A task of the study.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// As people name it.
    pub title: &'static str,
    /// The statistic its figures show, as score tables name it.
    pub headline: &'static str,
    /// Its data sets.
    pub sets: &'static [Set],
    /// What is asserted of a set beyond its sizes; reads the set once more.
    pub assert: Option<fn(&DatasetSource, TaskName) -> Result<()>>,
}

/// A data set of the study's archive.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name in tables, unique within [`Self::task`].
    pub name: &'static str,
    /// The task it is read as.
    pub task: TaskName,
    /// Forms it may be stored in, the preferred one first.
    pub forms: &'static [Form],
    /// Nucleotides of every sequence.
    pub length: u64,
    /// Names of the sequences of an example.
    pub sequences: &'static [&'static str],
    /// Targets of an example.
    pub targets: Targets,
    /// Examples of each split.
    pub splits: &'static [(Split, Rows)],
}

/// One form of a data set.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The files it is made of, each by the paths below the archive's folder that it may have. `{name}`
    /// stands for the set's name, `{length}` for its length, and a `*` for any letters of a file's name.
    pub files: &'static [&'static [&'static str]],
    /// What reads them: of the set, its files and a genome, if the job gives one. `None` where the genome
    /// is missing that this form needs.
    pub read: fn(&Set, Vec<PathBuf>, Option<&Path>) -> Option<DatasetSource>,
}

/// Targets of an example.
#[derive(Clone, Copy, Debug)]
pub enum Targets {
    /// So many, with these stems and numbers: `("delta", 56)` = `delta_0` … `delta_55`.
    Numbered(&'static [(&'static str, usize)]),
    /// By name.
    Named(&'static [&'static str]),
}

/// How many examples there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// As plans count without the file.
    pub planned: u64,
    /// Least that is believed.
    pub least: u64,
    /// Most that is believed.
    pub most: u64,
}

impl Rows {
    /// Exactly so many.
    pub const fn exactly(rows: u64) -> Self {
        Self { planned: rows, least: rows, most: rows }
    }

    /// From `least` to `most`, as follows from counts of batches; planned as the middle.
    pub const fn within(least: u64, most: u64) -> Self {
        Self { planned: least.midpoint(most), least, most }
    }

    /// A number that was never recorded: planned as `rows`, any is believed.
    pub const fn unrecorded(rows: u64) -> Self {
        Self { planned: rows, least: 1, most: u64::MAX }
    }

    /// Splits of a data set of which a fifth is `test`, as the study draws them: of T examples floor(0.7 T)
    /// train, floor(0.1 T) valid and the rest test. Several T give one `test`; the nearest to five times
    /// as many is planned.
    pub const fn seven_one_two(test: u64) -> [(Split, Self); 3] {
        let mut train = Self { planned: 0, least: u64::MAX, most: 0 };
        let mut valid = train;
        let mut offset = 0;
        while offset <= 10 {
            let mut side = 0;
            while side < 2 {
                let total =
                    if side == 0 { 5 * test + offset } else { (5 * test).saturating_sub(offset) };
                let parts = (total * 7 / 10, total / 10);
                if total - parts.0 - parts.1 == test {
                    train = train.with(parts.0);
                    valid = valid.with(parts.1);
                }
                side += 1;
            }
            offset += 1;
        }
        [(Split::Train, train), (Split::Valid, valid), (Split::Test, Self::exactly(test))]
    }

    /// Widened to `rows`; the first is planned.
    const fn with(self, rows: u64) -> Self {
        Self {
            planned: if self.least == u64::MAX { rows } else { self.planned },
            least: if rows < self.least { rows } else { self.least },
            most: if rows > self.most { rows } else { self.most },
        }
    }

    fn words(self) -> String {
        match (self.least, self.most) {
            (least, most) if least == most => format!("{least} examples"),
            (least, u64::MAX) => format!("at least {least} examples"),
            (least, most) => format!("{least} to {most} examples"),
        }
    }
}

/// An HDF5 file of `layout` whose sequences have the set's length.
pub fn hdf5(set: &Set, files: Vec<PathBuf>, layout: Hdf5Layout) -> Option<DatasetSource> {
    let path = files.into_iter().next()?;
    Some(DatasetSource::Hdf5 { path, layout, length: Some(set.length) })
}

impl Targets {
    fn names(self) -> Vec<String> {
        match self {
            Self::Named(names) => names.iter().map(|&name| name.to_owned()).collect(),
            Self::Numbered(stems) => {
                let numbered = |&(stem, count): &(&str, usize)| {
                    (0..count).map(move |index| format!("{stem}_{index}")).collect::<Vec<_>>()
                };
                stems.iter().flat_map(numbered).collect()
            }
        }
    }
}

impl Set {
    /// What is planned with where the file is not: the protocol's numbers, and an id of their own.
    pub fn facts(&self) -> DatasetFacts {
        let rows = self.splits.iter().map(|(_, rows)| rows.planned).sum::<u64>();
        let id = ContentDigest::new("archive-set/1")
            .field("task", self.task.name())
            .field("name", self.name);
        let sides = self.sequences.len() as u64;
        DatasetFacts {
            id: DatasetId::new(id.finish()),
            schema: ExampleSchema {
                sequences: self.sequences.iter().map(|&name| name.to_owned()).collect(),
                targets: self.targets.names(),
                has_intervals: false,
                has_splits: true,
            },
            rows,
            nucleotides: rows.saturating_mul(self.length).saturating_mul(sides),
            length_min: self.length,
            length_max: self.length,
            split_rows: self
                .splits
                .iter()
                .map(|(split, rows)| (split.name().to_owned(), rows.planned))
                .collect(),
            notes: Vec::new(),
            leakage: Vec::new(),
            target_titles: Vec::new(),
        }
    }

    /// Compares what was found in `file` with the protocol's sizes.
    ///
    /// # Errors
    /// `Invalid` with the file, the split or what else differs, the protocol's number and that found.
    pub fn check(&self, file: &Path, facts: &DatasetFacts) -> Result<()> {
        let wrong = |place: String, expected: String, found: String| {
            Err(InputError::new(file.display(), place, expected, found).into())
        };
        let of = |what: &str| format!("{what} of {} {}", self.task.name(), self.name);
        let lengths = (facts.length_min, facts.length_max);
        if lengths != (self.length, self.length) {
            let expected = format!("{} nucleotides", self.length);
            return wrong(of("length"), expected, format!("{} to {}", lengths.0, lengths.1));
        }
        let counts = (facts.schema.sequences.len(), facts.schema.targets.len());
        let expected = (self.sequences.len(), self.targets.names().len());
        if counts.0 != expected.0 {
            return wrong(of("sequences"), expected.0.to_string(), counts.0.to_string());
        }
        if counts.1 != expected.1 {
            return wrong(of("targets"), expected.1.to_string(), counts.1.to_string());
        }
        // A set of one split may be stored without naming it.
        let whole = BTreeMap::from([(
            self.splits.first().map_or("", |(split, _)| split.name()).to_owned(),
            facts.rows,
        )]);
        let has_one = self.splits.len() == 1 && facts.split_rows.is_empty();
        let found = if has_one { &whole } else { &facts.split_rows };
        for (split, rows) in self.splits {
            let count = found.get(split.name()).copied().unwrap_or(0);
            if !(rows.least..=rows.most).contains(&count) {
                let place = of(&format!("split {split}"));
                return wrong(place, rows.words(), count.to_string());
            }
        }
        let known = |name: &&String| self.splits.iter().any(|(split, _)| split.name() == **name);
        match found.keys().find(|name| !known(name)) {
            Some(extra) => wrong(of("splits"), "those of the study".into(), format!("{extra} too")),
            None => Ok(()),
        }
    }
}
