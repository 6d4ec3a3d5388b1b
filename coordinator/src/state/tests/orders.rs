//! Any order of events keeps the invariants of the unit machine.

use super::*;
use std::collections::BTreeSet;

const WORKERS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Register(usize, bool),
    Ask(usize, u32),
    Beat(usize),
    Report(usize, usize, u8),
    Leave(usize),
    Pass(u64),
    NewEpoch,
    BeatOfNothing(usize),
    SubmitAgain,
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..WORKERS.len();
    prop_oneof![
        1 => (worker.clone(), any::<bool>()).prop_map(|(w, held)| Step::Register(w, held)),
        6 => (worker.clone(), 1_u32..4).prop_map(|(w, units)| Step::Ask(w, units)),
        2 => worker.clone().prop_map(Step::Beat),
        8 => (worker.clone(), any::<usize>(), 0_u8..10)
            .prop_map(|(w, which, how)| Step::Report(w, which, how)),
        1 => worker.prop_map(Step::Leave),
        3 => (0_u64..40_000).prop_map(Step::Pass),
        1 => Just(Step::NewEpoch),
        1 => (0..WORKERS.len()).prop_map(Step::BeatOfNothing),
        1 => Just(Step::SubmitAgain),
    ]
}

/// The world around the state: what the store holds and what workers believe they hold.
struct World {
    bench: Bench,
    epoch: u64,
    granted: Option<LeaseKey>,
    /// Every lease a worker was ever given, also dead ones, and what its unit writes.
    leases: Vec<Vec<(LeaseKey, Key)>>,
    store: BTreeSet<Key>,
}

/// What a unit writes: rows of the one set, or an object of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Row(u64),
    Rows(u64, u64),
    Unit(u32),
}

impl World {
    fn new() -> Self {
        let bench = Bench::new();
        let (leases, store) = (vec![Vec::new(); 3], BTreeSet::new());
        Self { bench, epoch: 1, granted: None, leases, store }
    }

    fn key(&self, unit: u32) -> Key {
        let rows = self.bench.state.jobs[&self.bench.plan.job].rows(unit);
        rows.map_or(Key::Unit(unit), |(start, end)| Key::Rows(start, end))
    }

    fn holds(&self, key: Key) -> bool {
        match key {
            Key::Rows(start, end) => (start..end).all(|row| self.store.contains(&Key::Row(row))),
            key => self.store.contains(&key),
        }
    }

    fn write(&mut self, key: Key) {
        match key {
            Key::Rows(start, end) => self.store.extend((start..end).map(Key::Row)),
            key => drop(self.store.insert(key)),
        }
    }

    /// Per unit of the plan: whether it is in the store.
    fn committed(&self) -> Vec<bool> {
        (0..self.bench.plan.unit_count()).map(|unit| self.holds(self.key(unit))).collect()
    }

    fn held(&self, w: usize) -> Vec<LeaseKey> {
        self.leases[w].iter().map(|(lease, _)| lease.clone()).collect()
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Register(w, holds) => {
                let held = if holds { self.held(w) } else { Vec::new() };
                let effects = self.bench.register(WORKERS[w], held);
                self.note(w, effects);
            }
            Step::Ask(w, units_max) => {
                let event = Event::Ask { worker: worker(WORKERS[w]), units_max };
                let effects = self.bench.apply(event);
                self.note(w, effects);
            }
            Step::Beat(w) => {
                let effects = self.bench.beat(WORKERS[w], &self.held(w));
                self.note(w, effects);
            }
            Step::BeatOfNothing(w) => {
                let effects = self.bench.beat(WORKERS[w], &[]);
                self.note(w, effects);
            }
            Step::SubmitAgain => {
                self.bench.submit(self.committed());
            }
            Step::Report(w, which, how) => self.report(w, which, how),
            Step::Leave(w) => {
                let worker = worker(WORKERS[w]);
                self.bench.apply(Event::Heartbeat { worker, held: vec![], leaving: true });
            }
            Step::Pass(ms) => self.bench.pass(ms),
            Step::NewEpoch => {
                self.epoch += 1;
                let committed = self.committed();
                self.bench.state = State::new(self.epoch, Settings::default());
                self.bench.submit(committed);
            }
        }
    }

    fn report(&mut self, w: usize, which: usize, how: u8) {
        if self.leases[w].is_empty() {
            return;
        }
        let (lease, key) = self.leases[w][which % self.leases[w].len()].clone();
        let failed = |kind| Outcome::Failed(Failure::new(kind, "broken"));
        let outcome = match how {
            0 => failed(ErrorKind::Unavailable),
            1 => failed(ErrorKind::Invalid),
            3 => failed(ErrorKind::Corrupt),
            2 => Outcome::HandedBack,
            _ if self.holds(key) => Outcome::Lost,
            _ => Outcome::Committed,
        };
        if outcome == Outcome::Committed {
            self.write(key);
        }
        let effects = self.bench.report(WORKERS[w], &lease, outcome);
        self.note(w, effects);
    }

    /// Checks grants and keeps them.
    fn note(&mut self, w: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Grant(lease) => {
                    self.rises(&lease);
                    let inputs = self.bench.state.jobs[&lease.job].inputs(lease.unit);
                    for (first, past) in inputs {
                        for unit in first..past {
                            let state = self.bench.unit(unit);
                            let report = lease.unit == 7 && state == UnitState::Failed;
                            assert!(report || state == UnitState::Committed, "{unit}: {state:?}");
                        }
                    }
                    let key = self.key(lease.unit);
                    self.leases[w].push((lease, key));
                }
                Effect::Rename(renamed) => {
                    let lease = LeaseKey { generation: renamed.to, ..renamed.from.clone() };
                    let known = |lease: &LeaseKey| {
                        self.leases[w].iter().find(|(known, _)| known == lease).map(|it| it.1)
                    };
                    if known(&lease).is_none() {
                        let key = known(&renamed.from).expect("it was given");
                        self.rises(&lease);
                        self.leases[w].push((lease, key));
                    }
                }
                Effect::Refused { worker, reason } => panic!("{worker} is honest: {reason}"),
                _ => {}
            }
        }
    }

    fn rises(&mut self, lease: &LeaseKey) {
        if let Some(last) = &self.granted {
            assert!(lease.generation > last.generation, "{lease:?} after {last:?}");
        }
        self.granted = Some(lease.clone());
    }

    fn states(&self) -> Vec<UnitState> {
        let units = self.bench.state.jobs[&self.bench.plan.job].unit_count();
        (0..units).map(|unit| self.bench.unit(unit)).collect()
    }

    fn check(&self, before: Option<&[UnitState]>) {
        let states = self.states();
        for (unit, state) in (0_u32..).zip(&states) {
            let job = &self.bench.state.jobs[&self.bench.plan.job];
            let leased = *state == UnitState::Leased;
            assert_eq!(leased, !job.leases.of_unit(unit).is_empty(), "unit {unit} {state:?}");
            assert!(job.leases.of_unit(unit).len() <= 2);
            let stored = self.holds(self.key(unit));
            assert!(*state != UnitState::Committed || stored, "unit {unit} is not in the store");
            if let Some(old) = before.and_then(|before| before.get(unit as usize).copied()) {
                let doubted = old == UnitState::Committed && job.doubts.is_open(unit);
                assert!(!old.is_terminal() || old == *state || doubted, "unit {unit} left {old:?}");
            }
        }
        let (_, committed) = self.bench.state.committed_units(&self.bench.plan.job).expect("known");
        for (unit, state) in (0_u32..).zip(&states) {
            assert_eq!(committed.contains(unit), *state == UnitState::Committed, "unit {unit}");
        }
        let status = self.bench.state.status(&self.bench.plan.job, 0).expect("known");
        let uncut = states.iter().filter(|state| **state != UnitState::Split).count() as u64;
        assert_eq!(status.kinds.iter().map(|kind| kind.total()).sum::<u64>(), uncut);
        let column = |of: fn(&glmeval_common::control::KindCounts) -> u64| {
            status.kinds.iter().map(of).sum::<u64>() as usize
        };
        let count = |is: fn(&UnitState) -> bool| states.iter().filter(|state| is(state)).count();
        assert_eq!(column(|kind| kind.leased), count(|s| *s == UnitState::Leased));
        assert_eq!(column(|kind| kind.ready), count(|s| *s == UnitState::Ready));
        assert_eq!(column(|kind| kind.committed), count(|s| *s == UnitState::Committed));
        if self.bench.phase().is_over() {
            assert!(states.iter().all(|state| state.is_terminal()), "{states:?}");
        }
    }

    /// A healthy worker takes over; whatever happened before, the job ends.
    fn end(&mut self) {
        for _ in 0..100 {
            self.bench.pass(400_000);
            self.bench.register("healthy", vec![]);
            while let Some(lease) = self.bench.ask("healthy", 1).pop() {
                self.write(self.key(lease.unit));
                self.bench.report("healthy", &lease, Outcome::Committed);
            }
            if self.bench.phase().is_over() {
                return;
            }
        }
        panic!("units were lost: {:?}", self.states());
    }
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_invariants(
        steps in prop::collection::vec(step(), 0..120)
    ) {
        let mut world = World::new();
        for step in steps {
            let begins_anew = matches!(step, Step::NewEpoch | Step::SubmitAgain);
            let before = (!begins_anew).then(|| world.states());
            world.run(step);
            world.check(before.as_deref());
        }
        world.end();
        world.check(None);
    }
}
