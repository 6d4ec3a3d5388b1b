//! The world itself: time, what happens when, coordinators.
//!
//! Leaves out: workers, faults, what must hold. Invariant: what happens at one time happens in the
//! order it was arranged, so that a seed decides everything.

use super::Trace;
use super::faults::{Broken, Faults};
use super::messages::{Message, Reply};
use super::shapes::{self, Shape, SimUnit};
use super::store::{Key, Store};
use super::worker::Worker;
use crate::settings::Settings;
use crate::state::{Effect, Ended, Event, Quarantined, State};
use glmeval_common::control::LeaseKey;
use glmeval_common::ids::{Generation, JobId, WorkerId};
use glmeval_common::job::JobSchedule;
use glmeval_common::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// How often a coordinator looks at its leases.
const TICK_MS: u64 = 2_000;
/// How long a calm world may take to its end.
const END_MS: u64 = 4 * 3_600_000;

/// What can happen.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Call {
        coordinator: usize,
        worker: usize,
        call: u64,
        message: Message,
    },
    Reply {
        worker: usize,
        call: u64,
        reply: Reply,
    },
    Timeout {
        worker: usize,
        call: u64,
    },
    Beat {
        worker: usize,
    },
    Computed {
        worker: usize,
        number: u64,
    },
    Grace {
        worker: usize,
        number: u64,
    },
    /// A worker starts on a host.
    Start {
        host: usize,
    },
    Tick {
        coordinator: usize,
    },
    /// A coordinator starts beside those that live.
    Coordinate,
    Submit {
        job: usize,
    },
    Fault,
}

/// What is to last, on its way to the store.
enum Record {
    Unit(usize, u32, String),
    Rows(usize, Quarantined),
    Refused(WorkerId, String),
}

/// A coordinator and its clock.
pub(super) struct SimCoordinator {
    pub(super) state: State,
    pub(super) epoch: u64,
    pub(super) is_serving: bool,
    /// When it read the store.
    pub(super) began_ms: u64,
    offset_ms: u64,
    /// Its milliseconds in a thousand of the world's.
    rate: u64,
    /// Rounds of the jobs it knows.
    rounds: BTreeMap<usize, u64>,
    /// Failures not written down yet.
    records: Vec<Record>,
    ticks: u64,
}

impl SimCoordinator {
    fn local_ms(&self, now_ms: u64) -> u64 {
        self.offset_ms + now_ms * self.rate / 1_000
    }
}

/// Everything.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    arranged: u64,
    pub(super) store: Store,
    pub(super) coordinators: Vec<SimCoordinator>,
    pub(super) workers: Vec<Worker>,
    pub(super) jobs: BTreeMap<usize, &'static Shape>,
    pub(super) faults: Faults,
    /// Poisoned rows, by data set.
    pub(super) poison: BTreeSet<(usize, u64)>,
    pub(super) generations: BTreeSet<Generation>,
    pub(super) highest: BTreeMap<u64, Generation>,
    /// Parts of shards, by the grants that named them.
    pub(super) parts: BTreeMap<Generation, SimUnit>,
    schedules: BTreeMap<usize, JobSchedule>,
    pub(super) has_lied: bool,
    pub(super) calls: u64,
    pub(super) runs: u64,
    pub(super) broken: Option<Broken>,
}

impl World {
    pub(super) fn new(seed: u64, is_shown: bool) -> Self {
        // Neighbouring seeds begin far apart in the one stream that SplitMix64 is.
        let mut rng = Rng::derive(seed, "simulation");
        let faults = Faults::draw(&mut rng);
        let mut world = Self {
            trace: Trace { digest: 0xcbf2_9ce4_8422_2325, is_shown },
            now_ms: 0,
            queue: BTreeMap::new(),
            arranged: 0,
            store: Store::new(faults.unclear),
            coordinators: Vec::new(),
            workers: Vec::new(),
            jobs: BTreeMap::new(),
            poison: BTreeSet::new(),
            generations: BTreeSet::new(),
            highest: BTreeMap::new(),
            parts: BTreeMap::new(),
            schedules: BTreeMap::new(),
            has_lied: false,
            calls: 0,
            runs: 0,
            broken: None,
            faults,
            rng,
        };
        world.arrange();
        world
    }

    /// Draws jobs, hosts and poison, and when they come.
    fn arrange(&mut self) {
        let count = 1 + self.rng.below(3);
        for _ in 0..count {
            let job = self.rng.below(shapes::ALL.len() as u64) as usize;
            self.jobs.insert(job, &shapes::ALL[job]);
            let weight = [0.5, 1.0, 1.0, 4.0][self.rng.below(4) as usize];
            let workers_max = [None, None, None, Some(1), Some(2)][self.rng.below(5) as usize];
            self.schedules.insert(job, JobSchedule { weight, workers_max });
            let at_ms = self.rng.below(60_000);
            self.at(at_ms, Happening::Submit { job });
        }
        if self.rng.below(3) == 0 {
            for _ in 0..1 + self.rng.below(3) {
                let dataset = self.rng.below(shapes::DATASET_ROWS.len() as u64) as usize;
                let row = self.rng.below(shapes::DATASET_ROWS[dataset]);
                self.poison.insert((dataset, row));
            }
        }
        self.at(0, Happening::Coordinate);
        let hosts = 2 + self.rng.below(3) as usize;
        for _ in 0..hosts + self.rng.below(3) as usize {
            let at_ms = self.rng.below(30_000);
            let host = self.workers.len() + self.rng.below(hosts as u64) as usize;
            self.at(at_ms, Happening::Start { host });
        }
        // Host 1 computes every class, so that no job waits for ever.
        self.at(1, Happening::Start { host: 1 });
        self.at(20_000, Happening::Fault);
    }

    pub(super) fn at(&mut self, ms: u64, happening: Happening) {
        self.arranged += 1;
        self.queue.insert((ms.max(self.now_ms), self.arranged), happening);
    }

    pub(super) fn after(&mut self, ms: u64, happening: Happening) {
        self.at(self.now_ms.saturating_add(ms), happening);
    }

    /// True `of_thousand` times in a thousand while faults go on, never afterwards.
    pub(super) fn chance(&mut self, of_thousand: u64) -> bool {
        self.rng.below(1_000) < of_thousand && !self.is_calm()
    }

    /// Whether this world breaks a rule on purpose.
    pub(super) fn breaks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    /// Whether the faults are over.
    pub(super) fn is_calm(&self) -> bool {
        self.now_ms >= self.faults.until_ms
    }

    pub(super) fn run(&mut self) {
        while let Some(((ms, _), happening)) = self.queue.pop_first() {
            self.now_ms = ms;
            assert!(
                ms < self.faults.until_ms + END_MS,
                "jobs do not end: {}",
                self.where_jobs_stand()
            );
            if matches!(happening, Happening::Tick { .. }) && self.is_over() {
                break;
            }
            self.happen(happening);
        }
        self.check_end();
    }

    fn happen(&mut self, happening: Happening) {
        if let Happening::Reply { worker, .. }
        | Happening::Timeout { worker, .. }
        | Happening::Beat { worker }
        | Happening::Computed { worker, .. }
        | Happening::Grace { worker, .. } = happening
            && !self.is_awake(worker, &happening)
        {
            return;
        }
        let code = match &happening {
            Happening::Call { coordinator, worker, call, .. } => {
                [1, *coordinator as u64, *worker as u64, *call]
            }
            Happening::Reply { worker, call, reply } => {
                [2, *worker as u64, *call, reply.grants.len() as u64]
            }
            Happening::Timeout { worker, call } => [3, *worker as u64, *call, 0],
            Happening::Beat { worker } => [4, *worker as u64, 0, 0],
            Happening::Computed { worker, number } => [5, *worker as u64, *number, 0],
            Happening::Grace { worker, number } => [6, *worker as u64, *number, 0],
            Happening::Start { host } => [7, *host as u64, 0, 0],
            Happening::Tick { coordinator } => [8, *coordinator as u64, 0, 0],
            Happening::Coordinate => [9, 0, 0, 0],
            Happening::Submit { job } => [10, *job as u64, 0, 0],
            Happening::Fault => [11, 0, 0, 0],
        };
        let is_dull = matches!(happening, Happening::Timeout { .. } | Happening::Tick { .. });
        if self.trace.is_shown && is_dull {
            self.trace.is_shown = false;
            self.trace.note(self.now_ms, &code, String::new);
            self.trace.is_shown = true;
        } else {
            self.trace.note(self.now_ms, &code, || format!("{happening:?}"));
        }
        match happening {
            Happening::Call { coordinator, worker, call, message } => {
                self.take_call(coordinator, worker, call, message);
            }
            Happening::Reply { worker, call, reply } => self.take_reply(worker, call, reply),
            Happening::Timeout { worker, call } => self.timeout(worker, call),
            Happening::Beat { worker } => self.beat(worker),
            Happening::Computed { worker, number } => self.computed(worker, number),
            Happening::Grace { worker, number } => self.grace(worker, number),
            Happening::Start { host } => self.start_worker(host),
            Happening::Tick { coordinator } => self.tick(coordinator),
            Happening::Coordinate => self.start_coordinator(),
            Happening::Submit { job } => self.submit(job),
            Happening::Fault => self.fault(),
        }
    }

    fn start_worker(&mut self, host: usize) {
        let slowness = [60, 100, 100, 250][self.rng.below(4) as usize];
        let number = self.workers.len();
        let coordinator = self.coordinators.len() - 1;
        self.workers.push(Worker::new(number, host, coordinator, slowness));
        self.after(0, Happening::Beat { worker: number });
    }

    /// Claims the next epoch and reads what the store holds.
    fn start_coordinator(&mut self) {
        if self.store.is_away(self.now_ms) {
            return self.after(1_000, Happening::Coordinate);
        }
        if self.store.epoch == 0 || !self.breaks(Broken::EpochTakenTwice) {
            self.store.epoch += 1;
        }
        let epoch = self.store.epoch;
        let mut state = State::new(epoch, Settings::default());
        let offset_ms = self.rng.below(1 << 40);
        let rate = 950 + self.rng.below(100);
        let local_ms = offset_ms + self.now_ms * rate / 1_000;
        if !self.breaks(Broken::RefusalsForgotten) {
            for (worker, (reason, _)) in self.store.refused.clone() {
                state.apply(Event::Refuse { worker, reason }, local_ms);
            }
        }
        for (job, cancelled) in self.store.jobs.clone() {
            state.apply(self.submission(job, cancelled, false), local_ms);
        }
        let (is_serving, records, ticks) = (true, Vec::new(), 0);
        self.coordinators.push(SimCoordinator {
            state,
            epoch,
            is_serving,
            began_ms: self.now_ms,
            offset_ms,
            rate,
            rounds: self.store.rounds.clone(),
            records,
            ticks,
        });
        let coordinator = self.coordinators.len() - 1;
        self.after(TICK_MS, Happening::Tick { coordinator });
    }

    /// A job as the store has it; `anew` = what failed before is tried again.
    fn submission(&self, job: usize, cancelled: bool, anew: bool) -> Event {
        let shape = &shapes::ALL[job];
        let committed = shape.units.iter().map(|unit| self.store.holds(unit.key).0);
        let failed = self.store.failed.iter().filter(|((of, _), _)| *of == job && !anew);
        Event::Submit {
            plan: shape.plan.clone(),
            committed: committed.collect(),
            ended: Ended {
                failed: failed.map(|((_, unit), reason)| (*unit, reason.clone())).collect(),
                kept: self.kept(job),
                quarantined: if anew { Vec::new() } else { self.quarantined(job) },
                cancelled,
            },
            schedule: self.schedules[&job],
        }
    }

    /// The user submits a job, again if nobody takes it.
    fn submit(&mut self, job: usize) {
        let newest = self.coordinators.len().checked_sub(1);
        let serving = newest.filter(|newest| self.coordinators[*newest].is_serving);
        let Some(newest) = serving.filter(|_| !self.store.is_away(self.now_ms)) else {
            return self.after(3_000, Happening::Submit { job });
        };
        self.store.jobs.insert(job, false);
        *self.store.rounds.entry(job).or_default() += 1;
        self.coordinators[newest].rounds = self.store.rounds.clone();
        self.store.failed.retain(|(of, _), _| *of != job);
        self.store.quarantined.retain(|(of, ..), _| *of != job);
        self.coordinators[newest].records.retain(|record| match record {
            Record::Unit(of, ..) | Record::Rows(of, _) => *of != job,
            Record::Refused(..) => true,
        });
        let event = self.submission(job, false, true);
        self.apply(newest, event);
    }

    /// The user ends a job and may want it after all later.
    pub(super) fn cancel(&mut self, job: usize) {
        let Some(newest) = self.coordinators.len().checked_sub(1) else { return };
        let is_heard = self.coordinators[newest].is_serving && self.store.jobs.contains_key(&job);
        if self.store.is_away(self.now_ms) || !is_heard {
            return;
        }
        let id = self.jobs[&job].plan.job.clone();
        let is_running = self.coordinators[newest].state.phase(&id).is_some_and(|p| !p.is_over());
        if is_running {
            self.store.jobs.insert(job, true);
            self.apply(newest, Event::Cancel { job: id });
            if self.rng.below(2) == 0 {
                let ms = self.rng.below(60_000);
                self.after(ms, Happening::Submit { job });
            }
        }
    }

    /// One event at one coordinator; failures it gives up on are queued for the store.
    pub(super) fn apply(&mut self, coordinator: usize, event: Event) -> Vec<Effect> {
        let local_ms = self.coordinators[coordinator].local_ms(self.now_ms);
        let effects = self.coordinators[coordinator].state.apply(event, local_ms);
        for effect in &effects {
            let record = match effect {
                Effect::RecordFailed { job, unit, why } => {
                    Record::Unit(self.job_of(job), *unit, why.chain.clone())
                }
                Effect::RecordQuarantined { job, rows, .. } => {
                    Record::Rows(self.job_of(job), rows.clone())
                }
                Effect::Refused { worker, reason } => {
                    Record::Refused(worker.clone(), reason.clone())
                }
                _ => continue,
            };
            self.coordinators[coordinator].records.push(record);
        }
        self.write_records(coordinator);
        effects
    }

    fn write_records(&mut self, coordinator: usize) {
        if self.store.is_away(self.now_ms) {
            return;
        }
        for record in std::mem::take(&mut self.coordinators[coordinator].records) {
            let known = &self.coordinators[coordinator].rounds;
            match record {
                // Written down for a round that nobody reads any more.
                Record::Unit(job, ..) | Record::Rows(job, _)
                    if known.get(&job) != self.store.rounds.get(&job) => {}
                Record::Refused(worker, reason) => {
                    self.store.refused.entry(worker).or_insert((reason, self.now_ms));
                }
                Record::Unit(job, unit, reason) => {
                    self.store.failed.entry((job, unit)).or_insert(reason);
                }
                Record::Rows(..) if self.breaks(Broken::QuarantineForgotten) => {}
                Record::Rows(job, rows) => {
                    let key = (job, rows.unit, rows.start, rows.end);
                    self.store.quarantined.entry(key).or_insert(rows.reason);
                }
            }
        }
    }

    /// Rows of a job that were given up.
    pub(super) fn quarantined(&self, job: usize) -> Vec<Quarantined> {
        let rows = self.store.quarantined.iter().filter(|((of, ..), _)| *of == job);
        let rows = rows.map(|(&(_, unit, start, end), reason)| {
            let reason = reason.clone();
            Quarantined { unit, start, end, reason }
        });
        rows.collect()
    }

    /// Rows of shards of a job, some of which were given up, that the store holds.
    fn kept(&self, job: usize) -> Vec<(u32, u64, u64)> {
        let cut: BTreeSet<u32> = self.quarantined(job).iter().map(|rows| rows.unit).collect();
        let units = cut.into_iter().map(|unit| (unit, shapes::ALL[job].units[unit as usize].key));
        let rows = units.flat_map(|(unit, key)| {
            let (set, start, end) = match key {
                Key::Shard { set, start, end } => (set, start, end),
                _ => (0, 0, 0),
            };
            let row = move |row| Key::Shard { set, start: row, end: row + 1 };
            (start..end)
                .filter(move |at| self.store.holds(row(*at)).0)
                .map(move |at| (unit, at, at + 1))
        });
        rows.collect()
    }

    fn tick(&mut self, coordinator: usize) {
        if !self.coordinators[coordinator].is_serving {
            return;
        }
        self.apply(coordinator, Event::Tick);
        self.check_state(coordinator);
        let this = &mut self.coordinators[coordinator];
        this.ticks += 1;
        if this.ticks.is_multiple_of(3) && !self.store.is_away(self.now_ms) {
            this.is_serving = self.store.epoch <= this.epoch;
            self.look_at_liars(coordinator);
        }
        self.after(TICK_MS, Happening::Tick { coordinator });
    }

    /// What a driver does about workers that lied: hears of those that others refused, and looks at what
    /// they all committed.
    fn look_at_liars(&mut self, coordinator: usize) {
        for (worker, (reason, _)) in self.store.refused.clone() {
            self.apply(coordinator, Event::Refuse { worker, reason });
        }
        for (job, workers) in self.coordinators[coordinator].state.suspects() {
            let shape = &shapes::ALL[self.job_of(&job)];
            let mut wrong = Vec::new();
            for (unit, known) in (0..).zip(&shape.units) {
                let Some((_, start, end)) = known.rows else { continue };
                if self.breaks(Broken::LiarsBelieved) {
                    continue;
                }
                let rows = (start..end).filter(|row| self.is_lied(known.key, *row));
                wrong.extend(rows.map(|row| (unit, row, row + 1)));
            }
            self.apply(coordinator, Event::Looked { job, workers, wrong });
        }
    }

    pub(super) fn job_of(&self, id: &JobId) -> usize {
        let found = shapes::ALL.iter().position(|shape| shape.plan.job == *id);
        found.expect("a job of this world")
    }

    /// The unit that a lease names.
    pub(super) fn unit(&self, lease: &LeaseKey) -> Option<&SimUnit> {
        let planned = shapes::ALL[self.job_of(&lease.job)].units.get(lease.unit as usize);
        planned.or_else(|| self.parts.get(&lease.generation))
    }

    pub(super) fn newest(&self) -> &SimCoordinator {
        self.coordinators.last().expect("a world begins with one")
    }
}
