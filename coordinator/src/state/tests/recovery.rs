//! Damaged data, silent workers, lost answers, outages.

use super::*;

fn corrupt() -> Outcome {
    Outcome::Failed(Failure::new(ErrorKind::Corrupt, "sha256"))
}

/// A bench whose shards are done, and the grant of fit 4.
fn at_fits() -> (Bench, LeaseKey) {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    for _ in 0..4 {
        let lease = bench.ask_one("a");
        bench.report("a", &lease, Outcome::Committed);
    }
    let fit = bench.ask_one("a");
    assert_eq!(fit.unit, 4);
    (bench, fit)
}

#[test]
fn damage_found_by_a_fit_has_its_inputs_looked_at_and_then_the_fit_runs_again() {
    let (mut bench, fit) = at_fits();
    bench.report("a", &fit, corrupt());
    let inputs = bench.plan.unit(4).expect("the unit exists").prerequisites.to_vec();
    for (first, past) in &inputs {
        assert!((*first..*past).all(|unit| bench.unit(unit) != UnitState::Committed));
    }
    assert!(matches!(bench.unit(4), UnitState::Waiting { .. }));
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!(status.rows_done, 0, "doubted rows are not done");
    bench.finish("a");
    assert_eq!((bench.unit(4), bench.phase()), (UnitState::Committed, JobPhase::Finished));
}

#[test]
fn a_late_word_of_an_ended_attempt_settles_no_doubt() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let mut old = None;
    for _ in 0..4 {
        let lease = bench.ask_one("a");
        bench.report("a", &lease, Outcome::Committed);
        old = Some(lease);
    }
    let old = old.expect("four were granted");
    let fit = bench.ask_one("a");
    bench.report("a", &fit, corrupt());
    bench.report("a", &old, Outcome::Committed);
    assert_ne!(bench.unit(old.unit), UnitState::Committed);
}

#[test]
fn what_was_looked_at_since_an_attempt_began_is_not_looked_at_again_on_its_word() {
    let (mut bench, first) = at_fits();
    bench.register("b", vec![]);
    let second = bench.ask_one("b");
    assert_eq!(second.unit, 5);
    bench.report("a", &first, corrupt());
    for _ in 0..4 {
        let look = bench.ask_one("a");
        assert!(look.unit < 4, "{look:?}");
        bench.report("a", &look, Outcome::Lost);
    }
    bench.report("b", &second, corrupt());
    assert!((0..4).all(|unit| bench.unit(unit) == UnitState::Committed));
    assert_eq!(bench.unit(5), UnitState::Ready);
}

#[test]
fn a_unit_that_finds_damage_for_ever_is_given_up() {
    let (mut bench, mut fit) = at_fits();
    for _ in 0..100 {
        bench.report("a", &fit, corrupt());
        if bench.unit(4).is_terminal() {
            break;
        }
        bench.now_ms += 400_000;
        bench.register("a", vec![]);
        bench.apply(Event::Tick);
        fit = loop {
            let lease = bench.ask_one("a");
            if lease.unit == 4 {
                break lease;
            }
            bench.report("a", &lease, Outcome::Lost);
        };
    }
    assert_eq!(bench.unit(4), UnitState::Failed);
    bench.finish("a");
    assert_eq!(bench.phase(), JobPhase::FinishedWithFailures);
}

#[test]
fn a_unit_that_silences_every_worker_is_given_up_and_its_neighbours_are_not_blamed() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let prepare = bench.ask_one("a");
    bench.report("a", &prepare, Outcome::Committed);
    for round in 0..10 {
        let name = format!("worker-{round}");
        bench.register(&name, vec![]);
        let held = bench.ask(&name, 3);
        assert_eq!(held[0].unit, 1, "in round {round}");
        bench.beat(&name, &held);
        bench.pass(30_000);
    }
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!(bench.unit(1), UnitState::Failed);
    assert_eq!(status.failures[0].reason, "10 workers fell silent while they ran it");
    assert_eq!((bench.unit(2), bench.unit(3)), (UnitState::Ready, UnitState::Ready));
}

#[test]
fn a_worker_that_comes_back_was_not_silenced_by_its_unit() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.register("a", vec![]);
        let lease = bench.ask_one("a");
        bench.pass(30_000);
        bench.register("a", vec![lease]);
        assert_eq!(bench.unit(0), UnitState::Leased);
    }
}

#[test]
fn a_grant_whose_answer_was_lost_is_free_after_one_heartbeat_interval() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    bench.ask_one("a");
    bench.now_ms += 5_000;
    bench.beat("a", &[]);
    assert_eq!(bench.unit(0), UnitState::Leased, "the answer may be under way");
    bench.now_ms += 1;
    assert!(bench.beat("a", &[]).contains(&Effect::WorkReady));
    assert_eq!(bench.unit(0), UnitState::Ready);
}

#[test]
fn an_outage_of_the_store_gives_no_unit_up_within_half_an_hour() {
    let mut bench = Bench::new();
    let start_ms = bench.now_ms;
    let mut tries = 0;
    loop {
        bench.register("a", vec![]);
        let lease = bench.ask_one("a");
        bench.fail("a", &lease, true);
        tries += 1;
        let UnitState::Cooling { until_ms } = bench.unit(0) else { break };
        bench.pass(until_ms - bench.now_ms);
    }
    assert_eq!(bench.unit(0), UnitState::Failed);
    assert!(bench.now_ms - start_ms >= 30 * 60_000 && tries >= 10, "{tries} tries");
}

#[test]
fn a_report_counts_as_done_only_once_all_it_tells_of_is_through() {
    let mut bench = Bench::new();
    bench.state = State::new(2, Settings::default());
    bench.submit(vec![true, true, true, true, true, false, true, true]);
    assert!(matches!(bench.unit(7), UnitState::Waiting { .. }));
    bench.state = State::new(3, Settings::default());
    bench.submit(vec![true; 8]);
    assert_eq!(bench.phase(), JobPhase::Finished);
}

#[test]
fn an_object_a_fit_misses_is_damage_and_is_made_again() {
    let (mut bench, fit) = at_fits();
    let missing = Outcome::Failed(Failure::new(ErrorKind::NotFound, "no shard"));
    bench.report("a", &fit, missing);
    assert!((0..4).all(|unit| bench.unit(unit) != UnitState::Committed));
    bench.finish("a");
    assert_eq!(bench.phase(), JobPhase::Finished);
}

#[test]
fn a_part_of_a_shard_is_a_unit_behind_the_plan() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    for _ in 0..2 {
        let lease = bench.ask_one("a");
        bench.report("a", &lease, Outcome::Committed);
    }
    let id = bench.plan.job.clone();
    let job = bench.state.jobs.get_mut(&id).expect("known");
    assert_eq!(job.rows(2), Some((100, 200)));
    assert_eq!(job.add_child(2, 90, 120), None, "rows of another shard");
    let left = job.add_child(2, 100, 150).expect("within");
    let right = job.add_child(left, 125, 150).expect("within");
    assert_eq!((left, right, job.children.past()), (8, 9, 10));
    assert_eq!((job.children.root(right), job.unit(10)), (2, None));
    assert_eq!((job.rows(right), job.unit(right)), (Some((125, 150)), Some(UnitState::Ready)));
    assert!((job.work(left) - job.work(right) - (job.work(2) - job.work(left)) / 2.0).abs() < 1.0);
    let Some(WorkUnit::Extract(work)) = job.work_unit(right) else { panic!("a shard") };
    assert_eq!((work.start, work.end), (125, 150));
    let mut ran = Vec::new();
    while let Some(lease) = bench.ask("a", 1).pop() {
        ran.push(lease.unit);
        bench.report("a", &lease, Outcome::Committed);
        if ran.len() == 4 {
            break;
        }
    }
    assert_eq!(ran, [2, 3, 8, 9]);
}
