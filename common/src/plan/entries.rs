//! What a plan file lists: single units, and runs of shards that are counted instead of listed.
//!
//! ```text
//! number of a shard of a run = number of the run's first + (row - start) / rows_per_unit
//! ```
//!
//! Leaves out: what is planned (coordinator). Invariant: every unit has one number, in the order of the
//! entries; numbers and rows from a file never overflow.

use super::{PlannedUnit, UnitSpec};
use crate::unit::{FitUnit, UnitKind};
use serde::{Deserialize, Serialize};

/// What an entry holds, by index into the plan's tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntrySpec {
    /// One unit: prepare this data set.
    Prepare {
        /// Index into [`super::Plan::datasets`].
        dataset: usize,
    },
    /// One unit: embed examples `start..end`.
    Extract {
        /// Index into [`super::Plan::sets`].
        set: usize,
        /// Index into [`super::Plan::datasets`].
        dataset: usize,
        /// First example.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// One unit: fit probes.
    Fit(Box<FitUnit>),
    /// One unit: write the report.
    Report,
    /// Many units: embed examples `start..end`, `rows_per_unit` at a time; the last may be shorter.
    Shards {
        /// Index into [`super::Plan::sets`].
        set: usize,
        /// Index into [`super::Plan::datasets`].
        dataset: usize,
        /// First example.
        start: u64,
        /// One past the last.
        end: u64,
        /// Examples of one unit.
        rows_per_unit: u64,
    },
}

/// An entry of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// What its units do.
    pub spec: EntrySpec,
    /// Ranges of unit numbers `[first, past)` that must be committed before each of its units.
    pub prerequisites: Vec<(u32, u32)>,
    /// Floating-point operations of the unit, of one example for shards; estimated.
    pub flops: f64,
    /// Bytes written by the unit, by one example for shards; estimated.
    pub bytes: u64,
}

impl PlanEntry {
    /// Units of the entry; 0 for shards of no rows.
    pub fn unit_count(&self) -> u64 {
        match self.spec {
            EntrySpec::Shards { start, end, rows_per_unit, .. } => {
                let rows = end.saturating_sub(start);
                rows.checked_div(rows_per_unit).map_or(0, |_| rows.div_ceil(rows_per_unit))
            }
            _ => 1,
        }
    }

    /// Stage of its units.
    pub fn kind(&self) -> UnitKind {
        match self.spec {
            EntrySpec::Prepare { .. } => UnitKind::Prepare,
            EntrySpec::Extract { .. } | EntrySpec::Shards { .. } => UnitKind::Extract,
            EntrySpec::Fit(_) => UnitKind::Fit,
            EntrySpec::Report => UnitKind::Report,
        }
    }

    /// Adds what the units at `offset..past` of the entry are.
    fn add_to(&self, totals: &mut Totals, offset: u64, past: u64) {
        if offset >= past {
            return;
        }
        let (mut flops, mut bytes) = (self.flops, self.bytes);
        match self.spec {
            EntrySpec::Extract { start, end, .. } => {
                totals.rows = totals.rows.saturating_add(end.saturating_sub(start));
            }
            EntrySpec::Shards { start, end, rows_per_unit, .. } => {
                let at =
                    |unit: u64| start.saturating_add(rows_per_unit.saturating_mul(unit)).min(end);
                let rows = at(past) - at(offset);
                totals.rows = totals.rows.saturating_add(rows);
                (flops, bytes) = (flops * rows as f64, bytes.saturating_mul(rows));
            }
            _ => {}
        }
        totals.flops += flops;
        totals.bytes = totals.bytes.saturating_add(bytes);
    }

    /// Unit `offset` of the entry; the caller keeps `offset` below [`Self::unit_count`].
    fn unit(&self, offset: u64) -> PlannedUnit<'_> {
        let (mut flops, mut bytes) = (self.flops, self.bytes);
        let spec = match self.spec {
            EntrySpec::Prepare { dataset } => UnitSpec::Prepare { dataset },
            EntrySpec::Extract { set, dataset, start, end } => {
                UnitSpec::Extract { set, dataset, start, end }
            }
            EntrySpec::Fit(ref unit) => UnitSpec::Fit(unit),
            EntrySpec::Report => UnitSpec::Report,
            EntrySpec::Shards { set, dataset, start: first, end: past, rows_per_unit } => {
                let start = first.saturating_add(rows_per_unit.saturating_mul(offset)).min(past);
                let end = start.saturating_add(rows_per_unit).min(past);
                flops *= (end - start) as f64;
                bytes = bytes.saturating_mul(end - start);
                UnitSpec::Extract { set, dataset, start, end }
            }
        };
        PlannedUnit { spec, prerequisites: &self.prerequisites, flops, bytes }
    }
}

/// What many units are together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Examples of their shards.
    pub rows: u64,
    /// Floating-point operations, estimated.
    pub flops: f64,
    /// Bytes written, estimated.
    pub bytes: u64,
}

/// The entries of a plan, by the numbers of their units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<PlanEntry>", into = "Vec<PlanEntry>")]
pub struct Entries {
    entries: Vec<PlanEntry>,
    /// Number of the first unit behind each entry.
    past: Vec<u32>,
}

impl From<Vec<PlanEntry>> for Entries {
    fn from(entries: Vec<PlanEntry>) -> Self {
        let mut all = Self::default();
        entries.into_iter().for_each(|entry| all.push(entry));
        all
    }
}

impl From<Entries> for Vec<PlanEntry> {
    fn from(entries: Entries) -> Self {
        entries.entries
    }
}

impl Entries {
    /// Adds an entry behind the others. Numbers end at the highest that there is: units beyond have none.
    pub fn push(&mut self, entry: PlanEntry) {
        let past = u64::from(self.unit_count()).saturating_add(entry.unit_count());
        self.past.push(u32::try_from(past).unwrap_or(u32::MAX));
        self.entries.push(entry);
    }

    /// Units of all entries.
    pub fn unit_count(&self) -> u32 {
        self.past.last().copied().unwrap_or(0)
    }

    /// Units of all entries as they say it themselves, also if these are more than can be numbered.
    pub fn unit_count_asked(&self) -> u64 {
        self.entries.iter().map(PlanEntry::unit_count).fold(0, u64::saturating_add)
    }

    /// Entries with the number of their first unit.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &PlanEntry)> {
        let firsts = std::iter::once(0).chain(self.past.iter().copied());
        firsts.zip(&self.entries)
    }

    /// Unit `index`; `None` past the end.
    pub fn unit(&self, index: u32) -> Option<PlannedUnit<'_>> {
        let at = self.past.partition_point(|past| *past <= index);
        let first = at.checked_sub(1).and_then(|before| self.past.get(before)).copied();
        let offset = index.checked_sub(first.unwrap_or(0))?;
        Some(self.entries.get(at)?.unit(u64::from(offset)))
    }

    /// What units `first..past` are together, as far as they exist.
    pub fn totals(&self, first: u32, past: u32) -> Totals {
        let mut totals = Totals::default();
        let from = self.past.partition_point(|past| *past <= first);
        for (entry, behind) in self.entries.iter().zip(&self.past).skip(from) {
            let before = u64::from(*behind).saturating_sub(entry.unit_count());
            if u64::from(past) <= before {
                break;
            }
            let (a, b) = (u64::from(first).max(before) - before, u64::from(past.min(*behind)));
            entry.add_to(&mut totals, a, b.saturating_sub(before));
        }
        totals
    }

    /// Every unit, in order.
    pub fn units(&self) -> impl Iterator<Item = PlannedUnit<'_>> {
        self.entries
            .iter()
            .flat_map(|entry| (0..entry.unit_count()).map(move |offset| entry.unit(offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shards(start: u64, end: u64, rows_per_unit: u64) -> PlanEntry {
        PlanEntry {
            spec: EntrySpec::Shards { set: 1, dataset: 2, start, end, rows_per_unit },
            prerequisites: vec![(0, 1)],
            flops: 0.1,
            bytes: 3,
        }
    }

    fn single(spec: EntrySpec) -> PlanEntry {
        PlanEntry { spec, prerequisites: Vec::new(), flops: 7.0, bytes: 5 }
    }

    /// The same units, one entry each, as plans of version 1 list them.
    fn listed(entries: &Entries) -> Entries {
        let units = entries.units().map(|unit| PlanEntry {
            spec: match unit.spec {
                UnitSpec::Prepare { dataset } => EntrySpec::Prepare { dataset },
                UnitSpec::Extract { set, dataset, start, end } => {
                    EntrySpec::Extract { set, dataset, start, end }
                }
                UnitSpec::Fit(unit) => EntrySpec::Fit(Box::new(unit.clone())),
                UnitSpec::Report => EntrySpec::Report,
            },
            prerequisites: unit.prerequisites.to_vec(),
            flops: unit.flops,
            bytes: unit.bytes,
        });
        units.collect::<Vec<_>>().into()
    }

    #[test]
    fn shards_of_a_run_tile_its_rows_and_cost_by_row() {
        let entries = Entries::from(vec![
            single(EntrySpec::Prepare { dataset: 2 }),
            shards(10, 260, 100),
            single(EntrySpec::Report),
        ]);
        assert_eq!(entries.unit_count(), 5);
        let extract = |start, end| PlannedUnit {
            spec: UnitSpec::Extract { set: 1, dataset: 2, start, end },
            prerequisites: &[(0, 1)],
            flops: 0.1 * (end - start) as f64,
            bytes: 3 * (end - start),
        };
        let found: Vec<_> = (1..4).filter_map(|unit| entries.unit(unit)).collect();
        assert_eq!(found, [extract(10, 110), extract(110, 210), extract(210, 260)]);
        assert_eq!(entries.unit(4).map(|unit| unit.spec), Some(UnitSpec::Report));
        assert_eq!(entries.unit(5), None);
    }

    #[test]
    fn numbers_in_a_file_never_overflow() {
        for entry in [shards(0, u64::MAX, 1), shards(5, 1, 1), shards(0, 9, 0)] {
            let entries = Entries::from(vec![entry.clone(), entry]);
            let last = entries.unit_count().checked_sub(1).and_then(|last| entries.unit(last));
            assert_eq!(last.is_some(), entries.unit_count() > 0);
            assert_eq!(entries.unit(entries.unit_count()), None);
        }
        let all = Entries::from(vec![shards(0, u64::MAX, 1)]);
        assert_eq!((all.unit_count(), all.unit_count_asked()), (u32::MAX, u64::MAX));
    }

    fn entry() -> impl Strategy<Value = PlanEntry> {
        prop_oneof![
            (0..9_usize).prop_map(|dataset| single(EntrySpec::Prepare { dataset })),
            (0..50_u64, 0..400_u64, 1..90_u64).prop_map(|(start, rows, step)| shards(
                start,
                start + rows,
                step
            )),
            Just(single(EntrySpec::Report)),
        ]
    }

    proptest! {
        #[test]
        fn a_run_is_the_same_as_its_shards_listed_one_by_one(
            entries in prop::collection::vec(entry(), 0..9)
        ) {
            let entries = Entries::from(entries);
            let listed = listed(&entries);
            prop_assert_eq!(entries.unit_count(), listed.unit_count());
            prop_assert_eq!(entries.units().count(), entries.unit_count() as usize);
            for (index, unit) in (0..).zip(entries.units()) {
                prop_assert_eq!(entries.unit(index), Some(unit));
                prop_assert_eq!(listed.unit(index), Some(unit));
            }
            let count = entries.unit_count();
            let (first, past) = (count / 3, count - count / 4);
            for form in [&entries, &listed] {
                let totals = form.totals(first, past);
                let units = || form.units().skip(first as usize).take((past - first) as usize);
                let rows = units().map(|unit| match unit.spec {
                    UnitSpec::Extract { start, end, .. } => end - start,
                    _ => 0,
                });
                prop_assert_eq!(totals.rows, rows.sum::<u64>());
                prop_assert_eq!(totals.bytes, units().map(|unit| unit.bytes).sum::<u64>());
                let flops = units().map(|unit| unit.flops).sum::<f64>();
                prop_assert!((totals.flops - flops).abs() <= 1e-9 * flops);
                let text = serde_json::to_string(form).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Entries>(&text).unwrap(), form);
            }
        }
    }
}
