//! Workers that lie are refused, and only these.

use super::*;
use crate::evidence::Author;
use glmeval_common::ids::Generation;
use glmeval_common::unit::UnitKind;

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
    bench.look(vec![]);
    bench.finish("b");
    assert_eq!(bench.phase(), JobPhase::Finished);
}

impl Bench {
    /// What `a` committed was looked at.
    fn look(&mut self, wrong: Vec<(u32, u64, u64)>) -> Vec<Effect> {
        let (job, workers) = (self.plan.job.clone(), [worker("a")].into());
        self.apply(Event::Looked { job, workers, wrong })
    }
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
    let author = Some(Author { worker: worker("a"), generation: Some(lease.generation) });
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
    let author = Author { worker: worker("a"), generation: Some(first.generation) };
    let sound = Evidence::Sound(Some(author));
    let told = bench.report_with("a", &second, Outcome::Committed, sound);
    check(bench, &told, "under 1.0, which was not its own");
}

#[test]
fn an_honest_worker_is_believed_late_renamed_doubled_and_across_coordinators() {
    let (mut bench, lease) = bench();
    let sound = |generation| {
        Evidence::Sound(Some(Author { worker: worker("a"), generation: Some(generation) }))
    };
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
    let author = Some(Author { worker: worker("b"), generation: Some(lease.generation) });
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

#[test]
fn what_a_refused_worker_committed_before_is_looked_at_before_the_job_ends() {
    let (mut bench, first) = bench();
    bench.report("a", &first, Outcome::Committed);
    let (second, third) = (bench.ask_one("a"), bench.ask_one("a"));
    bench.report("a", &second, Outcome::Committed);
    bench.report_with("a", &third, Outcome::Committed, Evidence::Absent);
    let job = bench.plan.job.clone();
    assert_eq!(bench.state.suspects(), [(job.clone(), [worker("a")].into())]);
    while let Some(lease) = bench.ask("b", 1).pop() {
        bench.report("b", &lease, Outcome::Committed);
    }
    let kind = |unit| bench.plan.kind(unit);
    let last = bench.plan.unit_count() - 1;
    assert_eq!((kind(last), bench.unit(last)), (Some(UnitKind::Report), UnitState::Ready));
    assert_eq!(bench.phase(), JobPhase::Running);
    let (start, _) = bench.state.jobs[&job].rows(second.unit).expect("a shard");
    let told = bench.look(vec![(second.unit, start, start + 1), (third.unit + 1, 0, 1)]);
    assert!(told.contains(&Effect::WorkReady), "{told:?}");
    assert_eq!((bench.unit(first.unit), bench.unit(second.unit)), {
        (UnitState::Committed, UnitState::Ready)
    });
    bench.finish("b");
    assert_eq!((bench.phase(), bench.state.suspects()), (JobPhase::Finished, vec![]));
}

#[test]
fn a_worker_that_another_coordinator_refused_gets_nothing_and_its_commits_are_looked_at() {
    let (mut bench, lease) = bench();
    bench.report("a", &lease, Outcome::Committed);
    bench.ask_one("a");
    let refuse = Event::Refuse { worker: worker("a"), reason: "lied".into() };
    assert_eq!(bench.apply(refuse.clone()), [Effect::WorkReady], "what it held is free");
    assert_eq!(bench.register("a", vec![]), [Effect::RefuseCaller("lied".into())]);
    assert_eq!(bench.apply(refuse.clone()), []);
    bench.state = State::new(2, Settings::default());
    bench.apply(refuse);
    bench.submit(vec![true]);
    assert_eq!(bench.state.suspects().len(), 1);
    bench.look(vec![]);
    assert_eq!(bench.state.suspects(), []);
    bench.state = State::new(3, Settings::default());
    bench.apply(Event::Refuse { worker: worker("a"), reason: "lied".into() });
    bench.submit(vec![true; 8]);
    assert_eq!(bench.state.suspects(), [], "its report was made after a look");
    assert_eq!(bench.phase(), JobPhase::Finished);
}

#[test]
fn parts_of_a_shard_that_a_refused_worker_committed_are_made_again() {
    let (mut bench, lease) = bench();
    bench.report("a", &lease, Outcome::Committed);
    let id = bench.plan.job.clone();
    assert!(bench.state.jobs.get_mut(&id).expect("known").split(1));
    let parts = bench.state.jobs[&id].children.of(1);
    let half = bench.ask("a", 64).into_iter().find(|lease| lease.unit == parts[0]);
    let half = half.expect("granted");
    bench.report("a", &half, Outcome::Committed);
    let (start, end) = bench.state.jobs[&id].rows(parts[0]).expect("a part");
    bench.apply(Event::Refuse { worker: worker("a"), reason: "lied".into() });
    bench.look(vec![(1, end, end + 1)]);
    assert_eq!(bench.unit(parts[0]), UnitState::Committed, "rows of the other part");
    bench.apply(Event::Refuse { worker: worker("c"), reason: "lied".into() });
    bench.look(vec![(1, start, start + 1)]);
    assert_eq!(bench.unit(parts[0]), UnitState::Ready);
    let (job, workers) = (id, [worker("c")].into());
    bench.apply(Event::Looked { job, workers, wrong: vec![] });
    bench.finish("b");
    assert_eq!(bench.phase(), JobPhase::Finished);
}
