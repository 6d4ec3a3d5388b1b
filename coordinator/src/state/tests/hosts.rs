//! Machines on which units fail that run elsewhere.

use super::*;

fn on(bench: &mut Bench, name: &str, host: &str) -> Vec<Effect> {
    let (worker, host) = (worker(name), host.to_owned());
    let (numeric_classes, device, held) = (vec![CLASS.into()], "cpu".into(), vec![]);
    bench.apply(Event::Register { worker, host, numeric_classes, device, held })
}

/// A bench of 20 shards whose prepare is done.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.plan = Arc::new(plans::planned(&plans::job(), 2_000));
    bench.state = State::new(1, Settings::default());
    bench.submit(vec![true]);
    bench
}

#[test]
fn a_host_on_which_three_units_fail_that_run_elsewhere_is_drained_and_named() {
    let mut bench = bench();
    on(&mut bench, "ill", "sick");
    on(&mut bench, "well", "sound");
    let mut told = Vec::new();
    for _ in 0..3 {
        let lease = bench.ask_one("ill");
        bench.fail("ill", &lease, false);
        let again = bench.ask("well", 64);
        let (bad, good): (Vec<_>, Vec<_>) = again.iter().partition(|it| it.unit == lease.unit);
        good.iter().for_each(|lease| drop(bench.report("well", lease, Outcome::HandedBack)));
        told = bench.report("well", bad[0], Outcome::Committed);
    }
    let reason = "3 units failed there and ran elsewhere".to_owned();
    assert!(told.contains(&Effect::HostDrained { host: "sick".into(), reason }), "{told:?}");
    assert_eq!(bench.beat("ill", &[]), [Effect::DrainCaller]);
    let notices = bench.state.status(&bench.plan.job, 0).expect("known").notices;
    assert_eq!(notices, ["host sick is drained: 3 units failed there and ran elsewhere"]);
    on(&mut bench, "ill too", "sick");
    assert!(bench.ask("ill too", 1).is_empty(), "while the other can go on");
    bench.finish("well");
    assert_eq!(bench.phase(), JobPhase::Finished);
}

#[test]
fn the_last_host_is_never_drained_and_a_drained_one_is_welcome_when_it_is_the_last() {
    let mut bench = bench();
    on(&mut bench, "ill", "sick");
    bench.state.hosts.drain("sick", "a test".into());
    assert_eq!(bench.ask("ill", 1).len(), 1);
    on(&mut bench, "ill", "sick");
    assert_eq!(bench.ask("ill", 1).len(), 1, "nobody else is there");
}

#[test]
fn two_workers_of_one_host_do_not_cut_a_shard_that_another_host_can_run() {
    let mut bench = bench();
    on(&mut bench, "a", "sick");
    on(&mut bench, "b", "sick");
    let lease = bench.ask_one("a");
    on(&mut bench, "c", "sound");
    bench.fail("a", &lease, false);
    assert!(bench.ask("b", 64).iter().all(|it| it.unit != lease.unit), "its host failed it");
    let held = bench.ask("c", 64);
    assert_eq!(held.iter().map(|it| it.unit).collect::<Vec<_>>(), [lease.unit], "c can run it");
}

#[test]
fn what_a_worker_is_unfit_for_is_free_at_once_and_counts_against_nothing() {
    let mut bench = bench();
    // Behind the one that prepares.
    let unit = 1;
    for number in 0..20 {
        let name = format!("bad{number}");
        on(&mut bench, &name, "poor");
        let lease = bench.ask_one(&name);
        let told = bench.report(&name, &lease, Outcome::Unfit { chain: "read-only".into() });
        assert_eq!(told, [Effect::WorkReady], "nothing is recorded");
        assert_eq!((lease.unit, bench.unit(lease.unit)), (unit, UnitState::Ready));
        assert!(bench.ask(&name, 1).is_empty(), "it gets no more");
    }
    let status = bench.state.status(&bench.plan.job, 0).expect("known");
    assert!(status.failures.is_empty());
    let unfit = "20 workers of host poor are unfit and left: read-only";
    assert_eq!(status.notices, ["21 units wait for a worker: none is connected", unfit]);
    on(&mut bench, "late", "poor");
    let held = bench.ask("late", 2);
    bench.report("late", &held[0], Outcome::Unfit { chain: "other files".into() });
    bench.report("late", &held[1], Outcome::Committed);
    let notices = bench.state.status(&bench.plan.job, 0).expect("known").notices;
    let last = notices.last().map(String::as_str);
    assert_eq!(last, Some("21 workers of host poor are unfit and left: other files"));
    on(&mut bench, "good", "poor");
    let lease = bench.ask_one("good");
    assert_eq!(lease.unit, unit, "no machine is avoided");
    bench.report("good", &lease, Outcome::Committed);
    let notices = bench.state.status(&bench.plan.job, 0).expect("known").notices;
    assert!(notices.is_empty(), "{notices:?}");
    bench.finish("good");
    assert_eq!(bench.phase(), JobPhase::Finished);
}
