//! Pure: who holds which unit of one job, under which generation, and until when.
//!
//! Leaves out: what happens to a unit without a lease (state).
//! Invariant: a unit has two leases at most, of two workers; a lease lives from renewal to renewal
//! on this coordinator's clock alone.

use glmeval_common::ids::{Generation, WorkerId};
use std::collections::BTreeMap;

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
}

impl Leases {
    /// Grants `unit` to `worker`.
    pub fn grant(&mut self, unit: u32, worker: WorkerId, generation: Generation, now_ms: u64) {
        self.by_unit.entry(unit).or_default().push(Lease {
            worker,
            generation,
            granted_ms: now_ms,
            renewed_ms: now_ms,
            started_ms: None,
            rows_done: 0,
            rows_per_second: 0.0,
        });
    }

    /// Leases of `unit`.
    pub fn of_unit(&self, unit: u32) -> &[Lease] {
        self.by_unit.get(&unit).map_or(&[], Vec::as_slice)
    }

    /// The lease of that unit, worker and generation.
    pub fn get_mut(
        &mut self,
        unit: u32,
        worker: &WorkerId,
        generation: Generation,
    ) -> Option<&mut Lease> {
        let leases = self.by_unit.get_mut(&unit)?;
        leases.iter_mut().find(|lease| lease.generation == generation && lease.worker == *worker)
    }

    /// Ends one lease; `None` if there is no such lease.
    pub fn end(&mut self, unit: u32, worker: &WorkerId, generation: Generation) -> Option<Lease> {
        let leases = self.by_unit.get_mut(&unit)?;
        let found = leases
            .iter()
            .position(|lease| lease.generation == generation && lease.worker == *worker)?;
        let lease = leases.remove(found);
        if leases.is_empty() {
            self.by_unit.remove(&unit);
        }
        Some(lease)
    }

    /// Ends every lease of `unit`.
    pub fn end_unit(&mut self, unit: u32) {
        self.by_unit.remove(&unit);
    }

    /// Ends every lease that `ends` picks and returns the units left without one.
    pub fn end_where(&mut self, ends: impl Fn(&Lease) -> bool) -> Vec<u32> {
        let mut freed = Vec::new();
        self.by_unit.retain(|unit, leases| {
            leases.retain(|lease| !ends(lease));
            if leases.is_empty() {
                freed.push(*unit);
            }
            !leases.is_empty()
        });
        freed
    }

    /// Every unit with its leases, in unit order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[Lease])> {
        self.by_unit.iter().map(|(unit, leases)| (*unit, leases.as_slice()))
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
