//! What is told of units that were given up.

use super::*;
use glmeval_common::control::FitFailure;
use glmeval_common::ids::FitId;
use glmeval_common::unit::UnitKind;

#[test]
fn rows_parts_and_what_waits_for_them_are_told_as_facts() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let job = bench.plan.job.clone();
    while let Some(lease) = bench.ask("a", 1).pop() {
        let rows = bench.state.jobs[&job].rows(lease.unit);
        if rows.is_some_and(|(start, end)| (start..end).contains(&107)) {
            bench.fail("a", &lease, false);
        } else {
            bench.report("a", &lease, Outcome::Committed);
        }
    }
    assert_eq!(bench.phase(), JobPhase::FinishedWithFailures);
    let failures = bench.state.status(&job, 0).expect("known").failures;
    let mut facts: Vec<_> =
        failures.iter().map(|it| (it.unit, it.rows, it.part_of, it.behind)).collect();
    assert_eq!(facts.remove(0), (2, Some((100, 200)), None, None), "the shard of the plan");
    let (_, rows, part_of, behind) = facts.pop().expect("the row at fault");
    assert_eq!((rows, part_of, behind), (Some((107, 108)), Some(2), None));
    assert!(!facts.is_empty(), "fits wait for all shards");
    let is_behind = |it: &(u32, _, _, _)| (it.1, it.2, it.3) == (None, None, Some(2));
    assert!(facts.iter().all(is_behind), "{facts:?}");
}

#[test]
fn the_fits_that_cannot_be_made_are_recorded_by_name() {
    let mut bench = Bench::new();
    bench.register("a", vec![]);
    let job = bench.plan.job.clone();
    let fits = vec![FitFailure {
        fit: FitId::new("f"),
        label: "ridge on x; of D".into(),
        reason: "no targets".into(),
    }];
    let why = Failure { fits, ..Failure::new(ErrorKind::Bug, "1 of 2 fits cannot be made") };
    let mut told = Vec::new();
    while let Some(lease) = bench.ask("a", 1).pop() {
        let is_fit = bench.plan.kind(lease.unit) == Some(UnitKind::Fit);
        let outcome = if is_fit { Outcome::Failed(why.clone()) } else { Outcome::Committed };
        told.extend(bench.report("a", &lease, outcome));
    }
    let recorded: Vec<_> = told
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::RecordFailed { job: of, why, .. } if of == job => Some(why),
            _ => None,
        })
        .collect();
    assert_eq!(recorded, vec![why; 3]);
}
