//! Pure: who holds which unit of one job, under which generation, and until when.
//!
//! Leaves out: what happens to a unit without a lease (state).
//! Invariant: a unit has two leases at most, of two workers; a lease lives from renewal to renewal
//! on this coordinator's clock alone; the indexes by worker, renewal and start hold every lease.

use glmeval_common::ids::{Generation, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// Permission of one worker to run one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Who.
    pub worker: WorkerId,
    /// Fencing number.
    pub generation: Generation,
    /// When it was granted.
    pub granted_ms: u64,
    /// When it was granted or last named by a heartbeat.
    pub renewed_ms: u64,
    /// When a heartbeat first said that it runs.
    pub started_ms: Option<u64>,
    /// Rows done, as last reported.
    pub rows_done: u64,
    /// Rows per second, as last reported.
    pub rows_per_second: f64,
}

/// The leases of one job.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_unit: BTreeMap<u32, Vec<Lease>>,
    by_worker: BTreeMap<WorkerId, BTreeSet<u32>>,
    /// By the time of the last renewal.
    renewals: BTreeSet<(u64, u32, Generation)>,
    /// Of those that run, by the time they started.
    starts: BTreeSet<(u64, u32, Generation)>,
    /// Units with two leases.
    copies: usize,
    /// Leases that ended before their unit was through.
    ended: BTreeMap<u32, BTreeSet<(Generation, WorkerId)>>,
}

impl Leases {
    /// Grants `unit` to `worker`.
    pub fn grant(&mut self, unit: u32, worker: WorkerId, generation: Generation, now_ms: u64) {
        self.by_worker.entry(worker.clone()).or_default().insert(unit);
        self.renewals.insert((now_ms, unit, generation));
        let leases = self.by_unit.entry(unit).or_insert_with(|| Vec::with_capacity(1));
        leases.push(Lease {
            worker,
            generation,
            granted_ms: now_ms,
            renewed_ms: now_ms,
            started_ms: None,
            rows_done: 0,
            rows_per_second: 0.0,
        });
        self.copies += usize::from(leases.len() == 2);
    }

    /// Leases of `unit`.
    pub fn of_unit(&self, unit: u32) -> &[Lease] {
        self.by_unit.get(&unit).map_or(&[], Vec::as_slice)
    }

    /// The leases of `worker` with their units, in unit order.
    pub fn of_worker<'a>(&'a self, worker: &'a WorkerId) -> impl Iterator<Item = (u32, &'a Lease)> {
        let units = self.by_worker.get(worker).into_iter().flatten().copied();
        units.filter_map(move |unit| {
            let lease = self.of_unit(unit).iter().find(|lease| lease.worker == *worker)?;
            Some((unit, lease))
        })
    }

    /// The lease of that unit, worker and generation.
    fn get_mut(
        &mut self,
        unit: u32,
        worker: &WorkerId,
        generation: Generation,
    ) -> Option<&mut Lease> {
        let leases = self.by_unit.get_mut(&unit)?;
        leases.iter_mut().find(|lease| lease.generation == generation && lease.worker == *worker)
    }

    /// A lease lives on from `now_ms`; nothing happens if there is no such lease.
    pub fn renew(&mut self, unit: u32, worker: &WorkerId, generation: Generation, now_ms: u64) {
        let Some(lease) = self.get_mut(unit, worker, generation) else { return };
        let before = std::mem::replace(&mut lease.renewed_ms, now_ms);
        self.renewals.remove(&(before, unit, generation));
        self.renewals.insert((now_ms, unit, generation));
    }

    /// The holder of a lease says that its unit runs.
    pub fn start(&mut self, unit: u32, worker: &WorkerId, generation: Generation, now_ms: u64) {
        let Some(lease) = self.get_mut(unit, worker, generation) else { return };
        let started_ms = *lease.started_ms.get_or_insert(now_ms);
        self.starts.insert((started_ms, unit, generation));
    }

    /// The holder of a lease says that its unit waits for something else than its own work.
    pub fn pause(&mut self, unit: u32, worker: &WorkerId, generation: Generation) {
        let Some(lease) = self.get_mut(unit, worker, generation) else { return };
        if let Some(started_ms) = lease.started_ms.take() {
            self.starts.remove(&(started_ms, unit, generation));
        }
    }

    /// The holder of a lease says how far it is: rows done, and rows per second.
    pub fn progress(
        &mut self,
        unit: u32,
        worker: &WorkerId,
        generation: Generation,
        (rows_done, rows_per_second): (u64, f64),
    ) {
        if let Some(lease) = self.get_mut(unit, worker, generation) {
            lease.rows_done = rows_done;
            lease.rows_per_second = Some(rows_per_second)
                .filter(|rate| rate.is_finite() && *rate >= 0.0)
                .unwrap_or(0.0);
        }
    }

    /// Ends one lease; `None` if there is no such lease.
    pub fn end(&mut self, unit: u32, worker: &WorkerId, generation: Generation) -> Option<Lease> {
        let leases = self.by_unit.get_mut(&unit)?;
        let found = leases
            .iter()
            .position(|lease| lease.generation == generation && lease.worker == *worker)?;
        let lease = leases.remove(found);
        self.copies -= usize::from(leases.len() == 1);
        if leases.is_empty() {
            self.by_unit.remove(&unit);
        }
        self.forget(unit, &lease);
        self.note_held(unit, &lease.worker, lease.generation);
        Some(lease)
    }

    /// A worker held a lease of a unit that is not through.
    pub fn note_held(&mut self, unit: u32, worker: &WorkerId, generation: Generation) {
        self.ended.entry(unit).or_default().insert((generation, worker.clone()));
    }

    /// Whether a worker held that lease of a unit that is not through.
    pub fn was_held(&self, unit: u32, worker: &WorkerId, generation: Generation) -> bool {
        let ended = self.ended.get(&unit);
        ended.is_some_and(|ended| ended.contains(&(generation, worker.clone())))
    }

    /// Takes an ended lease out of the indexes.
    fn forget(&mut self, unit: u32, lease: &Lease) {
        if let Some(units) = self.by_worker.get_mut(&lease.worker) {
            units.remove(&unit);
            if units.is_empty() {
                self.by_worker.remove(&lease.worker);
            }
        }
        self.renewals.remove(&(lease.renewed_ms, unit, lease.generation));
        if let Some(started_ms) = lease.started_ms {
            self.starts.remove(&(started_ms, unit, lease.generation));
        }
    }

    /// Ends every lease of `unit`, which is through, and forgets those that ended before.
    pub fn end_unit(&mut self, unit: u32) {
        self.ended.remove(&unit);
        let Some(leases) = self.by_unit.remove(&unit) else { return };
        self.copies -= usize::from(leases.len() > 1);
        leases.iter().for_each(|lease| self.forget(unit, lease));
    }

    /// Ends every lease of `unit`, which is not through.
    pub fn take_back(&mut self, unit: u32) {
        let held = self.of_unit(unit).iter().map(|lease| (lease.worker.clone(), lease.generation));
        let held: Vec<_> = held.collect();
        held.iter().for_each(|(worker, generation)| drop(self.end(unit, worker, *generation)));
    }

    /// Ends every lease and returns the units.
    pub fn end_all(&mut self) -> Vec<u32> {
        std::mem::take(self).by_unit.into_keys().collect()
    }

    /// Ends every lease of `worker` and returns the units left without one.
    pub fn end_worker(&mut self, worker: &WorkerId) -> Vec<u32> {
        let held: Vec<_> =
            self.of_worker(worker).map(|(unit, lease)| (unit, lease.generation)).collect();
        held.iter().for_each(|(unit, generation)| drop(self.end(*unit, worker, *generation)));
        let units = held.into_iter().map(|(unit, _)| unit);
        units.filter(|unit| self.of_unit(*unit).is_empty()).collect()
    }

    /// Ends every lease that was last renewed at `until_ms` or before and returns the units left
    /// without one.
    pub fn end_silent(&mut self, until_ms: u64) -> Vec<u32> {
        let mut freed = Vec::new();
        while let Some((renewed_ms, unit, generation)) = self.renewals.first().copied() {
            if renewed_ms > until_ms {
                break;
            }
            let holder = self.of_unit(unit).iter().find(|lease| lease.generation == generation);
            let Some(worker) = holder.map(|lease| lease.worker.clone()) else {
                self.renewals.pop_first();
                continue;
            };
            self.end(unit, &worker, generation);
            if self.of_unit(unit).is_empty() {
                freed.push(unit);
            }
        }
        freed
    }

    /// Every unit with its leases, in unit order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[Lease])> {
        self.by_unit.iter().map(|(unit, leases)| (*unit, leases.as_slice()))
    }

    /// Units with one lease that runs, longest running first, with when it started.
    pub fn longest_running(&self) -> impl Iterator<Item = (u64, u32, &Lease)> {
        self.starts.iter().filter_map(|(started_ms, unit, _)| match self.of_unit(*unit) {
            [lease] => Some((*started_ms, *unit, lease)),
            _ => None,
        })
    }

    /// Workers that hold a lease.
    pub fn worker_count(&self) -> usize {
        self.by_worker.len()
    }

    /// Units with two leases.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Units with a lease.
    pub fn len(&self) -> usize {
        self.by_unit.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.by_unit.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Leases {
        fn check(&self) {
            let all = || self.iter().flat_map(|(unit, all)| all.iter().map(move |it| (unit, it)));
            let renewals = all().map(|(unit, lease)| (lease.renewed_ms, unit, lease.generation));
            assert_eq!(renewals.collect::<BTreeSet<_>>(), self.renewals);
            let starts = all().filter_map(|(unit, it)| Some((it.started_ms?, unit, it.generation)));
            assert_eq!(starts.collect::<BTreeSet<_>>(), self.starts);
            let by_worker: BTreeSet<_> = all().map(|(unit, it)| (&it.worker, unit)).collect();
            let indexed =
                self.by_worker.iter().flat_map(|(w, units)| units.iter().map(move |u| (w, *u)));
            assert_eq!(indexed.collect::<BTreeSet<_>>(), by_worker);
            assert!(self.by_worker.values().all(|units| !units.is_empty()));
            assert_eq!(self.copies, self.iter().filter(|(_, leases)| leases.len() > 1).count());
        }
    }

    proptest! {
        #[test]
        fn every_index_holds_every_lease_after_any_history(
            steps in prop::collection::vec((0_u8..8, 0_u32..4, 0_usize..3, 0_u64..50), 0..80)
        ) {
            let workers = ["a", "b", "c"].map(WorkerId::new);
            let mut leases = Leases::default();
            let mut now_ms = 0;
            for (counter, (what, unit, w, ms)) in (0_u64..).zip(steps) {
                now_ms += ms;
                let worker = &workers[w];
                let known = leases.of_unit(unit).iter().find(|it| it.worker == *worker);
                let known = known.map(|lease| lease.generation);
                match (what, known) {
                    (0..=2, None) if leases.of_unit(unit).len() < 2 => {
                        let generation = Generation { epoch: 1, counter };
                        leases.grant(unit, worker.clone(), generation, now_ms);
                    }
                    (3, Some(generation)) => leases.renew(unit, worker, generation, now_ms),
                    (4, Some(generation)) => leases.start(unit, worker, generation, now_ms),
                    (5, Some(generation)) => drop(leases.end(unit, worker, generation)),
                    (6, _) => {
                        let before = leases.len();
                        prop_assert_eq!(leases.end_worker(worker).len(), before - leases.len());
                    }
                    (7, _) => {
                        leases.end_silent(now_ms.saturating_sub(100));
                        let oldest = leases.renewals.first().map(|first| first.0);
                        prop_assert!(oldest.is_none_or(|oldest| oldest + 100 > now_ms || now_ms < 100));
                    }
                    _ => leases.end_unit(unit),
                }
                leases.check();
            }
        }
    }
}
