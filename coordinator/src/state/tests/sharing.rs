//! Several jobs: weights, caps, cancellation; stragglers by kind of device.

use super::*;

/// A bench whose one job is replaced by two of 40 shards each.
fn two_jobs(schedules: [JobSchedule; 2]) -> (Bench, [Arc<Plan>; 2]) {
    let mut bench = Bench::new();
    bench.state = State::new(1, Settings::default());
    let plans = [0, 1].map(|number| {
        let mut job = plans::job();
        job.name = format!("job {number}");
        Arc::new(plans::planned_over(&job, &format!("d{number}"), 4_000))
    });
    for (plan, schedule) in plans.iter().zip(schedules) {
        let Event::Submit { plan, committed, ended, .. } = submission(Arc::clone(plan), vec![true])
        else {
            panic!("a submission")
        };
        bench.apply(Event::Submit { plan, committed, ended, schedule });
    }
    (bench, plans)
}

fn weighing(weight: f64) -> JobSchedule {
    JobSchedule { weight, workers_max: None }
}

#[test]
fn jobs_get_units_by_weight_and_a_worker_changes_its_job_seldom() {
    let (mut bench, plans) = two_jobs([weighing(3.0), weighing(1.0)]);
    bench.state.settings.turn_ms = 14_000;
    bench.register("a", vec![]);
    let (mut served, mut changes, mut last) = ([0; 2], 0, None);
    for _ in 0..40 {
        let lease = bench.ask_one("a");
        let job = usize::from(lease.job == plans[1].job);
        served[job] += 1;
        changes += usize::from(last.is_some_and(|last| last != job));
        last = Some(job);
        bench.report("a", &lease, Outcome::Committed);
    }
    // The first unit of each job counts ten seconds and all others the one they take, so that 14 s of slack are six or seven
    // units of the lighter job, whichever is first.
    assert!(served[1] >= 5 && served[0] >= 20, "{served:?}");
    assert!(changes <= 6, "{changes} changes");
}

#[test]
fn a_job_never_has_more_workers_than_it_wants_and_its_own_go_on() {
    let capped = JobSchedule { weight: 100.0, workers_max: Some(2) };
    let (mut bench, plans) = two_jobs([capped, weighing(1.0)]);
    for name in ["a", "b", "c", "d"] {
        bench.register(name, vec![]);
        assert_eq!(bench.ask(name, 2).len(), 2, "{name}");
        let job = &bench.state.jobs[&plans[0].job];
        assert!(job.leases.worker_count() <= 2, "{name}");
    }
    assert_eq!(bench.state.jobs[&plans[0].job].leases.worker_count(), 2);
}

#[test]
fn workers_of_a_cancelled_job_are_free_for_others_at_once_and_told_at_the_next_beat() {
    let (mut bench, plans) = two_jobs([weighing(1.0), weighing(1.0)]);
    bench.register("a", vec![]);
    let held = bench.ask("a", 3);
    let job = held[0].job.clone();
    assert!(held.iter().all(|lease| lease.job == job));
    let effects = bench.apply(Event::Cancel { job: job.clone() });
    assert!(effects.contains(&Effect::JobOver(job.clone())), "those who wait look again");
    let told = bench.beat("a", &held);
    assert_eq!(told, held.iter().cloned().map(Effect::Revoke).collect::<Vec<_>>());
    let other = plans.iter().find(|plan| plan.job != job).expect("two").job.clone();
    assert_eq!(bench.ask_one("a").job, other);
}

fn register_on(bench: &mut Bench, name: &str, device: &str) {
    let (worker, host) = (worker(name), format!("host-{name}"));
    let (numeric_classes, device, held) = (vec![CLASS.into()], device.into(), vec![]);
    bench.apply(Event::Register { worker, host, numeric_classes, device, held });
}

#[test]
fn a_slow_kind_of_device_is_no_straggler_and_a_late_one_is_copied_once_in_the_whole_cluster() {
    let (mut bench, _) = two_jobs([weighing(1.0), weighing(1.0)]);
    bench.state.settings.straggler_units_min = 3;
    for (name, device) in [("fast", "gpu"), ("slow", "cpu"), ("late", "gpu"), ("idle", "gpu")] {
        register_on(&mut bench, name, device);
    }
    let slow = bench.ask_one("slow");
    let late = [bench.ask_one("late"), bench.ask_one("late")];
    bench.beat("slow", std::slice::from_ref(&slow));
    bench.beat("late", &late);
    bench.finish("fast");
    bench.now_ms += 20_000;
    bench.beat("slow", std::slice::from_ref(&slow));
    bench.beat("late", &late);
    bench.beat("idle", &[]);
    let copies = bench.ask("idle", 3);
    assert_eq!(copies.len(), 1, "one copy at a time");
    assert!(late.iter().any(|lease| lease.unit == copies[0].unit && lease.job == copies[0].job));
    bench.beat("fast", &[]);
    assert!(bench.ask("fast", 3).is_empty(), "and one in the whole cluster");
    bench.report("idle", &copies[0], Outcome::Committed);
    bench.beat("idle", &[]);
    let copies = bench.ask("idle", 3);
    assert_eq!(copies.len(), 1, "the other late one");
    assert_ne!((copies[0].unit, &copies[0].job), (slow.unit, &slow.job));
}
