//! What goes wrong in a world.
//!
//! Leaves out: what must hold all the same. Invariant: after `until_ms` nothing goes wrong any
//! more but what is wrong for good (poisoned rows, a sick host).

use super::faults::Broken;
use super::worker::Life;
use super::world::{Happening, World};
use crate::state::Event;

impl World {
    /// One blow, and the next one after it.
    pub(super) fn fault(&mut self) {
        if self.is_calm() {
            return;
        }
        let ms = 1 + self.rng.below(2 * self.faults.blow_ms);
        self.after(ms, Happening::Fault);
        let blow = self.rng.below(16);
        if self.faults.blows >> blow & 1 == 0 {
            return;
        }
        let alive: Vec<usize> = (0..self.workers.len())
            .filter(|worker| self.workers[*worker].life != Life::Gone)
            .collect();
        if alive.is_empty() {
            return;
        }
        let worker = alive[self.rng.below(alive.len() as u64) as usize];
        let Some(newest) = self.coordinators.len().checked_sub(1) else { return };
        let until_ms = self.now_ms + self.rng.below(90_000);
        match blow {
            0..=2 => self.leave(worker),
            3 | 4 => {
                let grace_ms = self.rng.below(30_000);
                self.stop(worker, grace_ms);
            }
            5..=7 => self.workers[worker].life = Life::Frozen { until_ms },
            8 | 9 => self.workers[worker].cut_until_ms = until_ms,
            10 => {
                self.coordinators[newest].is_serving = false;
                let ms = self.rng.below(20_000);
                self.after(ms, Happening::Coordinate);
            }
            11 => self.after(0, Happening::Coordinate),
            12 => self.store.away_until_ms = self.now_ms + self.rng.below(60_000),
            13 => {
                let id = self.workers[worker].id.clone();
                if self.coordinators[newest].is_serving {
                    self.apply(newest, Event::Drain { worker: id });
                }
            }
            14 => {
                let jobs: Vec<usize> = self.jobs.keys().copied().collect();
                let job = jobs[self.rng.below(jobs.len() as u64) as usize];
                if self.rng.below(4) == 0 {
                    self.cancel(job);
                }
            }
            _ => self.damage(),
        }
    }

    /// Few, since a unit that finds damage again and again is given up.
    fn damage(&mut self) {
        if self.faults.damages < 2 {
            self.faults.damages += 1;
            let key = self.store.damage(&mut self.rng);
            if let Some(key) = key.filter(|_| self.breaks(Broken::CommitLost)) {
                self.store.commits.remove(&key);
                self.store.note_rows(key);
            }
            self.trace.note(self.now_ms, &[12], || format!("damaged: {key:?}"));
        }
    }
}
