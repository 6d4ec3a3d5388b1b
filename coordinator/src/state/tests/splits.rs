//! Shards that fail are cut down to the rows at fault.

use super::*;
use crate::state::job::{BARREN_SHARDS_MAX, FRUITLESS_CUTS_MAX};

/// Two workers run all there is; shards that hold a row of `poison` fail. Returns what was told.
fn run(bench: &mut Bench, poison: &[u64]) -> Vec<Effect> {
    let mut told = Vec::new();
    for round in 0..10_000 {
        if bench.phase().is_over() {
            return told;
        }
        let name = ["a", "b"][round % 2];
        bench.register(name, vec![]);
        let Some(lease) = bench.ask(name, 1).pop() else { continue };
        let rows = bench.state.jobs[&lease.job].rows(lease.unit);
        let fails =
            rows.is_some_and(|(start, end)| poison.iter().any(|row| (start..end).contains(row)));
        told.extend(if fails {
            bench.fail(name, &lease, false)
        } else {
            bench.report(name, &lease, Outcome::Committed)
        });
    }
    panic!("the job does not end");
}

/// The job of the bench as a coordinator finds it in the store.
fn recovered(bench: &mut Bench, committed: Vec<bool>, ended: Ended) {
    let (plan, schedule) = (Arc::clone(&bench.plan), JobSchedule::default());
    bench.apply(Event::Submit { plan, committed, ended, schedule });
}

fn quarantined(told: &[Effect]) -> Vec<Quarantined> {
    let rows = told.iter().filter_map(|effect| match effect {
        Effect::RecordQuarantined { rows, .. } => Some(rows.clone()),
        _ => None,
    });
    rows.collect()
}

#[test]
fn a_poisoned_row_is_found_and_all_other_rows_are_committed() {
    let mut bench = Bench::new();
    let told = run(&mut bench, &[107]);
    let row = Quarantined { unit: 2, start: 107, end: 108, reason: "broken".into() };
    assert_eq!(quarantined(&told), [row]);
    assert_eq!(bench.phase(), JobPhase::FinishedWithFailures);
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!((status.rows, status.rows_done), (250, 249));
    assert!(status.failures.iter().any(|failure| failure.label == "extract NT 107-108"));
    let set = &bench.plan.sets[0].id;
    let words = format!("examples 107-108 of set {set} by NT are quarantined: broken");
    let why = |unit| status.failures.iter().find(|it| it.unit == unit).expect("failed");
    assert_eq!(why(2).reason, words);
    assert_eq!(why(4).reason, format!("prerequisite 2 failed: {words}"));
    assert_eq!((bench.unit(6), bench.unit(7)), (UnitState::Committed, UnitState::Committed));
    let record = told.iter().any(|it| matches!(it, Effect::RecordFailed { unit: 2, .. }));
    assert!(record, "the whole unit is on record too");
}

#[test]
fn a_shard_whose_parts_all_run_counts_as_committed_with_its_rows_once() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let lease = bench.ask_one("a");
    bench.report("a", &lease, Outcome::Committed);
    for _ in 0..3 {
        let lease = bench.ask("a", 64).into_iter().find(|lease| lease.unit == 1).expect("ready");
        bench.register("a", vec![lease.clone()]);
        let renamed = bench.state.jobs[&lease.job].leases.of_unit(1)[0].generation;
        bench.fail("a", &LeaseKey { generation: renamed, ..lease }, false);
    }
    assert_eq!(bench.unit(1), UnitState::Split);
    assert_eq!(bench.phase(), JobPhase::Running);
    let told = run(&mut bench, &[]);
    assert_eq!((quarantined(&told), bench.phase()), (vec![], JobPhase::Finished));
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!(status.rows_done, 250);
}

#[test]
fn a_failure_of_all_rows_is_never_cut_and_waits_for_no_third_attempt() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let lease = bench.ask_one("a");
    bench.report("a", &lease, Outcome::Committed);
    let failure = |kind| Failure { of_all_rows: true, ..Failure::new(kind, "weights") };
    let broken = |kind| Outcome::Failed(failure(kind));
    let lease = bench.ask_one("a");
    let unit = lease.unit;
    bench.report("a", &lease, broken(ErrorKind::Unavailable));
    assert!(matches!(bench.unit(unit), UnitState::Cooling { .. }));
    let lease = bench.ask_one("a");
    assert_ne!(lease.unit, unit);
    let told = bench.report("a", &lease, broken(ErrorKind::Invalid));
    let why = failure(ErrorKind::Invalid);
    let record = Effect::RecordFailed { job: lease.job.clone(), unit: lease.unit, why };
    assert!(told.contains(&record), "{told:?}");
    assert_eq!(bench.unit(lease.unit), UnitState::Failed);
    assert_eq!(quarantined(&told), []);
}

#[test]
fn after_too_many_fruitless_cuts_parts_that_fail_are_given_up_whole() {
    let mut bench = Bench::new();
    let job = bench.plan.job.clone();
    let poison: Vec<u64> = (100..200).collect();
    let rows = quarantined(&run(&mut bench, &poison));
    assert_eq!(rows.len(), 100, "few enough to find them all");
    let fruitless = bench.state.jobs[&job].splits.fruitless[&2];
    assert!(fruitless > 0 && fruitless < 100, "{fruitless}");

    let mut bench = Bench::new();
    let state = bench.state.jobs.get_mut(&job).expect("known");
    state.splits.fruitless.insert(2, FRUITLESS_CUTS_MAX - 3);
    let mut rows = quarantined(&run(&mut bench, &poison));
    rows.sort_by_key(|rows| rows.start);
    assert!(rows.len() < 50, "{rows:?}");
    let mut next = 100;
    for Quarantined { start, end, .. } in rows {
        assert_eq!(start, next, "no row is lost, none given up twice");
        next = end;
    }
    assert_eq!(next, 200);
    let status = bench.state.status(&job, 0).expect("known");
    assert_eq!((status.rows, status.rows_done), (250, 150));
}

#[test]
fn a_set_that_fails_in_all_rows_of_many_shards_costs_no_good_row_of_another_shard() {
    let mut bench = Bench::new();
    let job = bench.plan.job.clone();
    let state = bench.state.jobs.get_mut(&job).expect("known");
    let set = state.group_set(1);
    state.splits.fruitless.insert(2, FRUITLESS_CUTS_MAX);
    state.splits.barren.insert(set, BARREN_SHARDS_MAX - 1);
    let poison: Vec<u64> = [7].into_iter().chain(100..200).collect();
    let rows = quarantined(&run(&mut bench, &poison));
    let row = Quarantined { unit: 1, start: 7, end: 8, reason: "broken".into() };
    assert!(rows.contains(&row), "{rows:?}");
    let status = bench.state.status(&job, 0).expect("known");
    assert_eq!((status.rows, status.rows_done), (250, 149));
    let splits = &bench.state.jobs[&job].splits;
    assert!(!splits.fruitless.contains_key(&1), "a part of it ran");
}

#[test]
fn shards_behind_many_barren_ones_are_cut_in_vain_no_more_until_a_part_runs() {
    let mut bench = Bench::new();
    let job = bench.plan.job.clone();
    let state = bench.state.jobs.get_mut(&job).expect("known");
    let set = state.group_set(1);
    state.splits.barren.insert(set, BARREN_SHARDS_MAX);
    let all: Vec<u64> = (0..250).collect();
    let rows = quarantined(&run(&mut bench, &all));
    assert!(rows.len() < 3 * 2 * 7, "a path through each shard: {rows:?}");
    assert_eq!(rows.iter().map(|rows| rows.end - rows.start).sum::<u64>(), 250);
    assert_eq!(bench.state.jobs[&job].splits.barren[&set], BARREN_SHARDS_MAX);
}

#[test]
fn levels_of_a_cut_between_a_unit_and_its_rows_at_fault_are_not_told() {
    let mut bench = Bench::new();
    run(&mut bench, &[107, 180]);
    let failures = bench.state.status(&bench.plan.job, 0).expect("known").failures;
    let parts: Vec<&str> = failures.iter().map(|failure| &*failure.label).collect();
    let parts: Vec<&str> = parts.into_iter().filter(|label| label.starts_with("extract")).collect();
    assert_eq!(parts.len(), 3, "the unit and two rows: {parts:?}");
}

#[test]
fn a_new_coordinator_goes_on_with_the_rows_between_those_that_were_given_up() {
    let mut bench = Bench::new();
    bench.state = State::new(2, Settings::default());
    let row = |start| Quarantined { unit: 2, start, end: start + 1, reason: "nan".into() };
    let ended = Ended { quarantined: vec![row(107), row(150)], ..Ended::default() };
    recovered(&mut bench, vec![true, true], ended);
    assert_eq!(bench.unit(2), UnitState::Split);
    let told = run(&mut bench, &[107, 150]);
    assert_eq!(self::quarantined(&told), [], "nothing is found twice");
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!((status.rows_done, bench.phase()), (248, JobPhase::FinishedWithFailures));
    bench.submit(vec![true, true, false, true]);
    run(&mut bench, &[]);
    assert_eq!(bench.phase(), JobPhase::Finished, "tried again, and mended");
}

#[test]
fn a_job_that_ended_with_rows_given_up_has_ended_for_the_next_coordinator_too() {
    let mut bench = Bench::new();
    let told = run(&mut bench, &[107, 150]);
    let before = bench.state.status(&bench.plan.job, 0).expect("known");
    // Parts have other numbers.
    let words = |status: &JobStatus| {
        let words = status.failures.iter().map(|it| (it.label.clone(), it.reason.clone()));
        words.collect::<BTreeSet<_>>()
    };
    let failed = told.iter().filter_map(|effect| match effect {
        Effect::RecordFailed { unit, why, .. } => Some((*unit, why.chain.clone())),
        _ => None,
    });
    let kept = vec![(2, 100, 107), (2, 108, 150), (2, 151, 200)];
    let ended =
        Ended { failed: failed.collect(), quarantined: quarantined(&told), kept, cancelled: false };
    let committed = (0..8).map(|unit| bench.unit(unit) == UnitState::Committed).collect();
    bench.state = State::new(2, Settings::default());
    recovered(&mut bench, committed, ended.clone());
    assert_eq!(bench.phase(), JobPhase::FinishedWithFailures);
    let after = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!((after.rows_done, words(&after)), (248, words(&before)));

    // What vanished from the store is given up with its unit: nothing is open, nobody has to come.
    bench.state = State::new(3, Settings::default());
    recovered(&mut bench, vec![true; 2], Ended { kept: Vec::new(), ..ended });
    assert_eq!((bench.unit(2), bench.unit(3)), (UnitState::Failed, UnitState::Ready));
    run(&mut bench, &[]);
    assert_eq!(bench.phase(), JobPhase::FinishedWithFailures);
}

#[test]
fn rows_that_a_coordinator_before_committed_around_a_bad_one_are_not_computed_again() {
    let mut bench = Bench::new();
    bench.state = State::new(2, Settings::default());
    let row = Quarantined { unit: 2, start: 107, end: 108, reason: "nan".into() };
    let kept = vec![(2, 90, 107), (2, 108, 150), (2, 160, 300)];
    let ended = Ended { quarantined: vec![row], kept, ..Ended::default() };
    recovered(&mut bench, vec![true, true, false, true], ended);
    bench.register("a", vec![]);
    let rows = |lease: &LeaseKey, bench: &Bench| bench.state.jobs[&lease.job].rows(lease.unit);
    let lease = bench.ask_one("a");
    assert_eq!(rows(&lease, &bench), Some((150, 160)), "all that is open");
    bench.report("a", &lease, Outcome::Committed);
    run(&mut bench, &[]);
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!((status.rows_done, bench.phase()), (249, JobPhase::FinishedWithFailures));
}

#[test]
fn a_late_commit_of_a_whole_shard_that_was_cut_ends_its_parts_and_counts_its_rows_once() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        bench.register(name, vec![]);
    }
    let lease = bench.ask_one("a");
    bench.report("a", &lease, Outcome::Committed);
    let late = bench.ask_one("a");
    bench.pass(30_000);
    for name in ["b", "c", "b"] {
        bench.register(name, vec![]);
        let all = bench.ask(name, 64);
        let lease = all.iter().find(|lease| lease.unit == late.unit).expect("ready");
        bench.fail(name, lease, false);
        all.iter().for_each(|it| drop(bench.report(name, it, Outcome::HandedBack)));
    }
    assert_eq!(bench.unit(late.unit), UnitState::Split);
    let told = bench.report("a", &late, Outcome::Committed);
    assert!(!told.iter().any(|it| matches!(it, Effect::Refused { .. })), "{told:?}");
    assert_eq!(bench.unit(late.unit), UnitState::Committed);
    assert_eq!(bench.state.status(&bench.plan.job, 0).expect("known").rows_done, 100);
    run(&mut bench, &[]);
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert_eq!((status.rows_done, bench.phase()), (250, JobPhase::Finished));
}

#[test]
fn a_part_that_an_earlier_coordinator_cut_is_no_part_of_this_one() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let lease = bench.ask_one("a");
    let foreign = LeaseKey { unit: 9, ..lease };
    bench.state = State::new(2, Settings::default());
    bench.submit(vec![true]);
    assert_eq!(bench.register("a", vec![foreign.clone()]), [Effect::Revoke(foreign.clone())]);
    assert_eq!(bench.report("a", &foreign, Outcome::Committed), []);
}
