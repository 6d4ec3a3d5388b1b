//! Networks that were planned for devices run on workers of their class; all else runs on any worker.

use super::*;
use crate::plan::{NumericClasses, TrainingClass, plan_in};
use glmeval_common::job::{JobProbe, NetworkChoice, NetworkKind, ProbeChoice};
use glmeval_common::network::{ResolvedNetwork, TrainingSpec};
use glmeval_common::unit::ProbeSpec;

const DEVICE_CLASS: &str = "f32.cuda-sm90.1";

/// A job of one-hot sequences: prepare 0, a ridge fit 1, a network for devices 2, report 3.
fn bench() -> Bench {
    let mut job = plans::job();
    job.embeddings.clear();
    let choice = ProbeChoice::Network(NetworkChoice::of(NetworkKind::RepCnn));
    let ridge = JobProbe::linear(ProbeSpec::Ridge { alpha: 1.0 }, vec![0]);
    job.probes = vec![JobProbe { choice, ..ridge.clone() }, ridge];
    let mut facts = plans::dataset_facts("d", 250);
    facts.split_rows = ["train", "valid", "test"].map(|name| (name.to_owned(), 80)).into();
    let embeddings = |_| DEVICE_CLASS.to_owned();
    let training =
        |_: &ResolvedNetwork, _: &TrainingSpec| TrainingClass::OnDevice(DEVICE_CLASS.to_owned());
    let classes = NumericClasses { embeddings: &embeddings, training: &training };
    let plan = plan_in(&job, &[facts], &[plans::model_facts("m")], &classes).unwrap();
    let (plan, state) = (Arc::new(plan), State::new(1, Settings::default()));
    let mut bench = Bench { state, plan, now_ms: 0 };
    bench.submit(vec![]);
    bench
}

fn register(bench: &mut Bench, name: &str, class: &str) {
    let (worker, host, held) = (worker(name), format!("host-{name}"), vec![]);
    let (numeric_classes, device) = (vec![class.to_owned()], class.to_owned());
    bench.apply(Event::Register { worker, host, numeric_classes, device, held });
}

fn numbers(leases: &[LeaseKey]) -> Vec<u32> {
    leases.iter().map(|lease| lease.unit).collect()
}

#[test]
fn a_worker_without_the_device_never_gets_its_network() {
    let mut bench = bench();
    register(&mut bench, "cpu", CLASS);
    register(&mut bench, "other", "f32.cuda-sm80.1");
    let prepare = bench.ask_one("cpu");
    bench.report("cpu", &prepare, Outcome::Committed);
    let ridge = bench.ask("cpu", 9);
    assert_eq!(numbers(&ridge), [1]);
    bench.report("cpu", &ridge[0], Outcome::Committed);
    assert!(bench.ask("cpu", 9).is_empty() && bench.ask("other", 9).is_empty());
    register(&mut bench, "gpu", DEVICE_CLASS);
    let network = bench.ask("gpu", 9);
    assert_eq!(numbers(&network), [2]);
    bench.fail("gpu", &network[0], true);
    bench.pass(600_000);
    register(&mut bench, "cpu", CLASS);
    assert!(bench.ask("cpu", 9).is_empty(), "nobody else stands in");
}

#[test]
fn a_worker_with_the_device_runs_what_anyone_runs() {
    let mut bench = bench();
    register(&mut bench, "gpu", DEVICE_CLASS);
    bench.finish("gpu");
    assert_eq!(bench.phase(), JobPhase::Finished);
}

#[test]
fn units_that_no_connected_worker_can_run_are_counted_and_told() {
    let mut bench = bench();
    let told = |bench: &Bench| {
        let status = bench.state.status(&bench.plan.job, bench.now_ms).expect("known");
        (status.units_without_worker, status.notices)
    };
    let nobody = "1 unit waits for a worker: none is connected".to_owned();
    assert_eq!(told(&bench), (1, vec![nobody]));
    register(&mut bench, "cpu", CLASS);
    assert_eq!(told(&bench), (0, vec![]), "anyone prepares");
    let prepare = bench.ask_one("cpu");
    bench.report("cpu", &prepare, Outcome::Committed);
    let others = format!(
        "1 unit waits for a worker of class {DEVICE_CLASS}: those connected are of {CLASS}"
    );
    assert_eq!(told(&bench), (1, vec![others.clone()]));
    register(&mut bench, "gpu", DEVICE_CLASS);
    assert_eq!(told(&bench), (0, vec![]));
    bench.apply(Event::Drain { worker: worker("gpu") });
    assert_eq!(told(&bench), (1, vec![others]), "one that leaves gets nothing");
    bench.apply(Event::Cancel { job: bench.plan.job.clone() });
    assert_eq!(told(&bench), (0, vec![]), "nobody waits for a job that is over");
}
