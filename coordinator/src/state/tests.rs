use super::*;
use crate::evidence::Evidence;
use crate::plan::tests as plans;
use glmeval_common::control::{Failure, Outcome, Progress};
use glmeval_common::error::ErrorKind;
use glmeval_common::job::JobSchedule;
use glmeval_common::plan::Plan;
use proptest::prelude::*;
use std::sync::Arc;

mod classes;
mod hosts;
mod liars;
mod orders;
mod recovery;
mod sharing;
mod splits;
mod told;

const CLASS: &str = "f32.cpu.1";

/// A state with one job of eight units: prepare 0, shards 1 to 3, fits 4 to 6, report 7.
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) plan: Arc<Plan>,
    pub(super) now_ms: u64,
}

pub(super) fn worker(name: &str) -> WorkerId {
    WorkerId::new(name)
}

pub(super) fn submission(plan: Arc<Plan>, committed: Vec<bool>) -> Event {
    Event::Submit { plan, committed, ended: Ended::default(), schedule: JobSchedule::default() }
}

impl Bench {
    pub(super) fn new() -> Self {
        let plan = Arc::new(plans::planned(&plans::job(), 250));
        let mut bench = Self { state: State::new(1, Settings::default()), plan, now_ms: 0 };
        let effects = bench.submit(vec![]);
        assert_eq!(effects, [Effect::WorkReady]);
        bench
    }

    fn submit(&mut self, committed: Vec<bool>) -> Vec<Effect> {
        let plan = Arc::clone(&self.plan);
        self.apply(submission(plan, committed))
    }

    pub(super) fn apply(&mut self, event: Event) -> Vec<Effect> {
        self.state.apply(event, self.now_ms)
    }

    pub(super) fn register(&mut self, name: &str, held: Vec<LeaseKey>) -> Vec<Effect> {
        let (worker, host) = (worker(name), format!("host-{name}"));
        let (numeric_classes, device) = (vec![CLASS.into()], "cpu".into());
        self.apply(Event::Register { worker, host, numeric_classes, device, held })
    }

    pub(super) fn ask(&mut self, name: &str, units_max: u32) -> Vec<LeaseKey> {
        let effects = self.apply(Event::Ask { worker: worker(name), units_max });
        let grants = effects.into_iter().filter_map(|effect| match effect {
            Effect::Grant(lease) => Some(lease),
            _ => None,
        });
        grants.collect()
    }

    pub(super) fn ask_one(&mut self, name: &str) -> LeaseKey {
        self.ask(name, 1).pop().expect("a unit is ready")
    }

    pub(super) fn beat(&mut self, name: &str, held: &[LeaseKey]) -> Vec<Effect> {
        let held = held.iter().map(|lease| Progress {
            lease: lease.clone(),
            running: true,
            rows_done: 1,
            rows_per_second: 1.0,
            waiting_for_store: false,
        });
        let held = held.collect();
        self.apply(Event::Heartbeat { worker: worker(name), held, leaving: false })
    }

    pub(super) fn report(&mut self, name: &str, lease: &LeaseKey, outcome: Outcome) -> Vec<Effect> {
        self.report_with(name, lease, outcome, Evidence::Unasked)
    }

    /// A report, and what the store says about it.
    pub(super) fn report_with(
        &mut self,
        name: &str,
        lease: &LeaseKey,
        outcome: Outcome,
        evidence: Evidence,
    ) -> Vec<Effect> {
        let (worker, lease) = (worker(name), lease.clone());
        self.apply(Event::Report { worker, lease, outcome, ran_ms: 1_000, evidence })
    }

    pub(super) fn fail(&mut self, name: &str, lease: &LeaseKey, transient: bool) -> Vec<Effect> {
        let kind = if transient { ErrorKind::Unavailable } else { ErrorKind::Invalid };
        self.report(name, lease, Outcome::Failed(Failure::new(kind, "broken")))
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.apply(Event::Tick);
    }

    pub(super) fn unit(&self, unit: u32) -> UnitState {
        self.state.unit(&self.plan.job, unit).expect("the unit exists")
    }

    pub(super) fn phase(&self) -> JobPhase {
        self.state.phase(&self.plan.job).expect("the job exists")
    }

    /// One worker commits all it gets.
    pub(super) fn finish(&mut self, name: &str) {
        while let Some(lease) = self.ask(name, 1).pop() {
            self.report(name, &lease, Outcome::Committed);
        }
    }
}

#[test]
fn one_worker_runs_the_stages_in_order_to_the_end() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let mut order = Vec::new();
    while let Some(lease) = bench.ask("a", 1).pop() {
        order.push(lease.unit);
        assert!(bench.ask("b", 9).is_empty(), "b is not registered");
        bench.report("a", &lease, Outcome::Committed);
    }
    assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7], "one-hot 6 waits behind shards: stay with a gLM");
    assert_eq!(bench.phase(), JobPhase::Finished);
    assert!(bench.state.finished());
}

#[test]
fn a_silent_lease_expires_and_a_renewed_one_does_not() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    bench.register("b", vec![]);
    let lease = bench.ask_one("a");
    bench.pass(29_999);
    bench.beat("a", std::slice::from_ref(&lease));
    bench.pass(29_999);
    assert_eq!(bench.unit(0), UnitState::Leased);
    bench.pass(1);
    assert_eq!(bench.unit(0), UnitState::Ready);
    bench.register("b", vec![]);
    let next = bench.ask_one("b");
    assert!(next.unit == 0 && next.generation > lease.generation);
    bench.report("a", &lease, Outcome::Committed);
    assert_eq!(bench.unit(0), UnitState::Committed, "a late commit is a commit");
    assert_eq!(bench.beat("b", std::slice::from_ref(&next)), [Effect::Revoke(next.clone())]);
    bench.fail("b", &next, false);
    assert_eq!(bench.unit(0), UnitState::Committed);
}

#[test]
fn a_handed_back_unit_is_ready_at_once() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let lease = bench.ask_one("a");
    assert_eq!(bench.report("a", &lease, Outcome::HandedBack), [Effect::WorkReady]);
    assert_eq!(bench.ask_one("a").unit, 0);
}

#[test]
fn a_transient_failure_cools_down_longer_each_time() {
    let mut bench = Bench::new();
    let mut waits = Vec::new();
    for _ in 0..3 {
        bench.register("a", vec![]);
        let lease = bench.ask_one("a");
        bench.fail("a", &lease, true);
        let UnitState::Cooling { until_ms } = bench.unit(0) else { panic!("cooling") };
        waits.push(until_ms - bench.now_ms);
        bench.pass(until_ms - bench.now_ms - 1);
        assert!(bench.ask("a", 1).is_empty());
        bench.pass(1);
    }
    assert_eq!(waits, [5_000, 10_000, 20_000]);
}

#[test]
fn a_unit_that_fails_everywhere_is_given_up_and_the_report_still_runs() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    bench.register("b", vec![]);
    for unit in 0..4 {
        let lease = bench.ask_one("a");
        assert_eq!(lease.unit, unit);
        bench.report("a", &lease, Outcome::Committed);
    }
    let mut gave_up = Vec::new();
    for name in ["a", "b", "a"] {
        let (bad, good): (Vec<_>, Vec<_>) =
            bench.ask(name, 3).into_iter().partition(|lease| lease.unit == 4);
        for lease in good {
            bench.report(name, &lease, Outcome::HandedBack);
        }
        gave_up = bench.fail(name, &bad[0], false);
    }
    let job = bench.plan.job.clone();
    let why = Failure::new(ErrorKind::Invalid, "broken");
    let record = Effect::RecordFailed { job, unit: 4, why };
    assert!(gave_up.contains(&record), "{gave_up:?}");
    bench.finish("b");
    assert_eq!(bench.unit(7), UnitState::Committed);
    assert_eq!(bench.phase(), JobPhase::FinishedWithFailures);
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!(status.failures.len(), 1);
}

#[test]
fn a_lone_worker_is_enough_to_give_a_unit_up() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    for _ in 0..3 {
        let lease = bench.ask_one("a");
        bench.fail("a", &lease, false);
    }
    assert_eq!(bench.unit(0), UnitState::Failed);
    bench.finish("a");
    assert_eq!(bench.phase(), JobPhase::FinishedWithFailures);
}

#[test]
fn a_finished_job_with_failures_is_tried_again_when_submitted_again() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    for _ in 0..3 {
        let lease = bench.ask_one("a");
        bench.fail("a", &lease, false);
    }
    bench.finish("a");
    bench.submit(vec![]);
    assert_eq!((bench.unit(0), bench.phase()), (UnitState::Ready, JobPhase::Running));
}

#[test]
fn recovered_commits_are_not_run_again() {
    let mut bench = Bench::new();
    bench.state = State::new(2, Settings::default());
    bench.submit(vec![true, true, true, false]);
    bench.register("a", vec![]);
    let lease = bench.ask_one("a");
    assert_eq!((lease.unit, lease.generation.epoch), (3, 2));
}

#[test]
fn a_new_epoch_takes_over_held_leases_under_new_generations() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let old = bench.ask_one("a");
    bench.state = State::new(2, Settings::default());
    bench.submit(vec![]);
    let effects = bench.register("a", vec![old.clone()]);
    let [Effect::Rename(renamed)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(renamed.from, old);
    assert!(renamed.to > old.generation);
    bench.register("b", vec![]);
    assert!(bench.ask("b", 1).is_empty(), "nobody else gets the unit");
    bench.report("a", &old, Outcome::Committed);
    assert_eq!(bench.unit(0), UnitState::Committed, "also under the old generation");
}

#[test]
fn a_worker_that_registers_again_frees_what_it_does_not_name() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    bench.ask_one("a");
    bench.register("a", vec![]);
    assert_eq!(bench.unit(0), UnitState::Ready);
}

#[test]
fn a_leaving_worker_frees_its_units_at_once() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    bench.ask_one("a");
    bench.apply(Event::Heartbeat { worker: worker("a"), held: vec![], leaving: true });
    assert_eq!(bench.unit(0), UnitState::Ready);
    assert_eq!(bench.beat("a", &[]), [Effect::UnknownCaller]);
}

#[test]
fn a_cancelled_job_grants_nothing_and_revokes_what_runs() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let lease = bench.ask_one("a");
    let job = bench.plan.job.clone();
    assert!(bench.apply(Event::Cancel { job: job.clone() }).contains(&Effect::JobOver(job)));
    assert_eq!(bench.beat("a", std::slice::from_ref(&lease)), [Effect::Revoke(lease)]);
    assert!(bench.ask("a", 1).is_empty());
    assert!(bench.state.finished());
}

#[test]
fn a_job_that_was_complete_when_its_cancellation_was_written_down_is_finished_for_every_coordinator()
 {
    for (left, phase) in [(0, JobPhase::Finished), (1, JobPhase::Cancelled)] {
        let mut bench = Bench::new();
        bench.state = State::new(2, Settings::default());
        let units = bench.plan.unit_count() as usize;
        bench.apply(Event::Submit {
            plan: bench.plan.clone(),
            committed: vec![true; units - left],
            ended: Ended { cancelled: true, ..Ended::default() },
            schedule: Default::default(),
        });
        assert_eq!(bench.phase(), phase);
    }
}

#[test]
fn a_draining_worker_is_told_and_gets_nothing() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    bench.apply(Event::Drain { worker: worker("a") });
    assert_eq!(bench.beat("a", &[]), [Effect::DrainCaller]);
    assert!(bench.ask("a", 1).is_empty());
}

#[test]
fn a_host_is_drained_by_its_name_and_an_unknown_name_is_said() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let host = bench.state.workers[&worker("a")].host.clone();
    assert_eq!(bench.apply(Event::Drain { worker: worker("nobody") }), [Effect::UnknownCaller]);
    assert!(bench.apply(Event::Drain { worker: worker(&host) }).is_empty());
    assert_eq!(bench.beat("a", &[]), [Effect::DrainCaller]);
}

#[test]
fn a_worker_of_another_numeric_class_never_gets_a_shard() {
    let mut bench = Bench::new();
    let (host, numeric_classes) = ("h".to_owned(), vec!["bf16.cuda.1".to_owned()]);
    let (device, held) = ("gpu".into(), vec![]);
    bench.apply(Event::Register { worker: worker("gpu"), host, numeric_classes, device, held });
    let lease = bench.ask_one("gpu");
    bench.report("gpu", &lease, Outcome::Committed);
    let units: Vec<_> = bench.ask("gpu", 9).iter().map(|lease| lease.unit).collect();
    assert_eq!(units, [6], "the one-hot fit alone");
}

#[test]
fn a_straggler_is_copied_once_to_another_host_and_the_first_commit_wins() {
    let mut bench = Bench::new();
    bench.state.settings.straggler_units_min = 2;
    bench.register("a", vec![]);
    bench.register("b", vec![]);
    bench.register("c", vec![]);
    for unit in [0, 1, 2] {
        let lease = bench.ask_one("a");
        assert_eq!(lease.unit, unit);
        bench.report("a", &lease, Outcome::Committed);
    }
    let slow = bench.ask_one("a");
    let one_hot = bench.ask_one("b");
    bench.report("b", &one_hot, Outcome::Committed);
    bench.beat("a", std::slice::from_ref(&slow));
    assert!(bench.ask("b", 1).is_empty(), "not late yet");
    for _ in 0..3 {
        bench.now_ms += 1_000;
        bench.beat("a", std::slice::from_ref(&slow));
    }
    let copy = bench.ask_one("b");
    assert_eq!(copy.unit, slow.unit);
    assert!(bench.ask("c", 1).is_empty(), "one copy at most");
    bench.report("b", &copy, Outcome::Committed);
    assert_eq!(bench.beat("a", std::slice::from_ref(&slow)), [Effect::Revoke(slow.clone())]);
    bench.report("a", &slow, Outcome::Lost);
    bench.finish("b");
    assert_eq!(bench.phase(), JobPhase::Finished);
}

#[test]
fn jobs_share_workers_and_a_worker_stays_with_its_job() {
    let mut bench = Bench::new();
    let mut other = plans::job();
    other.name = "other".into();
    let other = Arc::new(plans::planned(&other, 250));
    bench.state.jobs.clear();
    for plan in [Arc::clone(&bench.plan), other] {
        bench.apply(submission(plan, vec![true]));
    }
    bench.register("a", vec![]);
    bench.register("b", vec![]);
    let (one, two) = (bench.ask_one("a"), bench.ask_one("b"));
    assert_ne!(one.job, two.job);
    assert_eq!(bench.ask_one("a").job, one.job);
    assert_eq!(bench.ask_one("b").job, two.job);
}
