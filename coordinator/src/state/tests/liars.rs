//! Workers that lie are refused, and only these.

use super::*;
use crate::evidence::Author;
use glmeval_common::ids::Generation;

fn refused(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::Refused { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

/// A bench with workers `a` and `b`, and a lease of `a`.
fn bench() -> (Bench, LeaseKey) {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    bench.register("b", vec![]);
    let lease = bench.ask_one("a");
    (bench, lease)
}

/// `a` is refused with those words, gets nothing any more, and `b` does the unit.
fn check(mut bench: Bench, told: &[Effect], words: &str) {
    let reason = refused(told).unwrap_or_else(|| panic!("{told:?}"));
    assert!(reason.contains(words), "{reason}");
    assert!(told.contains(&Effect::RefuseCaller(reason.clone())));
    assert_eq!(bench.ask("a", 1), []);
    assert_eq!(bench.register("a", vec![]), [Effect::RefuseCaller(reason.clone())]);
    assert_eq!(bench.beat("a", &[]), [Effect::RefuseCaller(reason.clone())]);
    let notices = bench.state.status(&bench.plan.job, 0).expect("known").notices;
    assert_eq!(notices, [format!("worker a is refused: it {reason}")]);
    bench.finish("b");
    assert_eq!(bench.phase(), JobPhase::Finished);
}

#[test]
fn who_says_it_committed_what_the_store_lacks_is_refused() {
    for outcome in [Outcome::Committed, Outcome::Lost] {
        let (mut bench, lease) = bench();
        let told = bench.report_with("a", &lease, outcome, Evidence::Absent);
        check(bench, &told, "no commit of it stands");
    }
}

#[test]
fn who_commits_wrong_data_is_refused_and_the_unit_runs_elsewhere() {
    let (mut bench, lease) = bench();
    let author = Some(Author { worker: worker("a"), generation: lease.generation });
    let evidence =
        Evidence::Bad { author, reason: "expected 9 bytes, found 8".into(), is_covered: false };
    let told = bench.report_with("a", &lease, Outcome::Committed, evidence);
    assert_eq!(bench.unit(0), UnitState::Ready);
    check(bench, &told, "expected 9 bytes, found 8");
}

#[test]
fn who_names_a_lease_of_another_is_refused() {
    let (mut bench, lease) = bench();
    bench.report("a", &lease, Outcome::Committed);
    let foreign = bench.ask_one("b");
    let told = bench.report("a", &foreign, Outcome::Committed);
    bench.report("b", &foreign, Outcome::Committed);
    check(bench, &told, "which was not its own");
}

#[test]
fn who_names_a_generation_or_a_unit_that_never_was_is_refused() {
    let (mut bench, lease) = bench();
    let later = Generation { counter: 99, ..lease.generation };
    let lease = LeaseKey { generation: later, ..lease };
    let told = bench.report("a", &lease, Outcome::Committed);
    check(bench, &told, "which nobody was given");
    let (mut bench, lease) = self::bench();
    let told = bench.report("a", &LeaseKey { unit: 1_000, ..lease }, Outcome::Committed);
    check(bench, &told, "which there is not");
}

#[test]
fn who_commits_under_an_old_generation_is_refused() {
    let (mut bench, first) = bench();
    bench.report("a", &first, Outcome::Committed);
    let second = bench.ask_one("a");
    let author = Author { worker: worker("a"), generation: first.generation };
    let sound = Evidence::Sound(Some(author));
    let told = bench.report_with("a", &second, Outcome::Committed, sound);
    check(bench, &told, "under 1.0, which was not its own");
}

#[test]
fn an_honest_worker_is_believed_late_renamed_doubled_and_across_coordinators() {
    let (mut bench, lease) = bench();
    let sound = |generation| Evidence::Sound(Some(Author { worker: worker("a"), generation }));
    bench.pass(30_000);
    bench.register("a", vec![lease.clone()]);
    let told = bench.report_with("a", &lease, Outcome::Committed, sound(lease.generation));
    assert_eq!((refused(&told), bench.unit(0)), (None, UnitState::Committed));
    let told = bench.report_with("a", &lease, Outcome::Committed, sound(lease.generation));
    assert_eq!(refused(&told), None, "the same word twice");
    let old = bench.ask_one("a");
    bench.state = State::new(2, Settings::default());
    bench.submit(vec![true]);
    let told = bench.report_with("a", &old, Outcome::Committed, sound(old.generation));
    assert_eq!((refused(&told), bench.unit(old.unit)), (None, UnitState::Committed));
}

#[test]
fn damage_to_the_commit_of_another_is_not_held_against_who_reports_it() {
    let (mut bench, lease) = bench();
    let author = Some(Author { worker: worker("b"), generation: lease.generation });
    let evidence = Evidence::Bad { author, reason: "gone".into(), is_covered: false };
    let told = bench.report_with("a", &lease, Outcome::Lost, evidence);
    assert_eq!((refused(&told), bench.unit(0)), (None, UnitState::Ready));
}

#[test]
fn a_host_whose_second_worker_lies_is_drained() {
    let mut bench = Bench::new();
    for name in ["a", "b", "c"] {
        let (worker, host) = (worker(name), if name == "c" { "good" } else { "bad" }.to_owned());
        let (numeric_classes, device, held) = (vec![CLASS.into()], "cpu".into(), vec![]);
        bench.apply(Event::Register { worker, host, numeric_classes, device, held });
    }
    let mut told = Vec::new();
    for name in ["a", "b"] {
        let lease = bench.ask_one(name);
        told = bench.report_with(name, &lease, Outcome::Committed, Evidence::Absent);
    }
    let reason = "2 of its workers lied".to_owned();
    assert!(told.contains(&Effect::HostDrained { host: "bad".into(), reason }), "{told:?}");
}
