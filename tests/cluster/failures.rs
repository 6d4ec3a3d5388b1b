//! What goes wrong in a cluster, and what comes of it.

use super::world::{Served, World, within};
use glmeval_common::control::{Ask, Control, JobPhase, Registration, WorkerFacts};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_coordinator::Recovery;
use glmeval_worker::agent::AgentExit;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn the_lease_of_a_silent_worker_expires_and_others_finish() {
    within(async {
        let world = World::new();
        let coordinator = Arc::new(world.coordinator("c", Recovery::SubmittedOnly).await);
        coordinator.submit("", world.plan.clone()).await.unwrap();
        let worker = WorkerId::new("silent");
        let registration = Registration {
            worker: worker.clone(),
            host: "h".into(),
            numeric_classes: vec![world.numeric_class().into()],
            held: vec![],
            facts: WorkerFacts::default(),
        };
        coordinator.register(registration).await.unwrap();
        let ask = Ask { worker, units_max: 1, wait_ms: 0, or_finished: false };
        assert_eq!(coordinator.ask(ask).await.unwrap().grants.len(), 1);
        let agent = tokio::spawn(world.agent("w", coordinator.clone()).run());
        world.clock.advance(Duration::from_millis(29_999));
        coordinator.tick().await.unwrap();
        assert_eq!(world.runner.runs(), 0, "everything waits for the one unit");
        world.clock.advance(Duration::from_millis(1));
        coordinator.tick().await.unwrap();
        assert_eq!(agent.await.unwrap().unwrap(), AgentExit::Finished);
        assert_eq!(world.store.commit_count(), world.plan.unit_count() as usize);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_job_stops_its_workers_and_runs_when_submitted_again() {
    within(async {
        let world = World::new();
        let coordinator = world.coordinator("c", Recovery::AllJobs).await;
        let served = Served::start(coordinator, "127.0.0.1:0").await;
        let control = served.client();
        let job = control.submit("", world.plan.clone()).await.unwrap();
        world.runner.close_gate();
        let agent = tokio::spawn(world.agent("w", served.client()).run());
        world.runner.started(1).await;
        control.cancel(&job).await.unwrap();
        assert_eq!(agent.await.unwrap().unwrap(), AgentExit::Finished);
        assert_eq!(control.status(&job).await.unwrap().phase, JobPhase::Cancelled);
        assert_eq!(world.store.commit_count(), 0);
        world.runner.open_gate();
        control.submit("", world.plan.clone()).await.unwrap();
        let exit = world.agent("v", served.client()).run().await.unwrap();
        assert_eq!(exit, AgentExit::Finished);
        assert_eq!(control.status(&job).await.unwrap().phase, JobPhase::Finished);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_failing_unit_is_recorded_and_the_rest_of_the_job_is_done() {
    within(async {
        let world = World::new();
        world.runner.fail_on(107);
        let coordinator = Arc::new(world.coordinator("c", Recovery::AllJobs).await);
        let job = coordinator.submit("", world.plan.clone()).await.unwrap();
        let agents = ["a", "b"].map(|name| world.agent(name, coordinator.clone()).run());
        for exit in futures::future::join_all(agents).await {
            assert_eq!(exit.unwrap(), AgentExit::Finished);
        }
        let status = coordinator.status(&job).await.unwrap();
        assert_eq!((status.phase, status.phase.exit_code()), (JobPhase::FinishedWithFailures, 3));
        let reasons: Vec<_> = status.failures.iter().map(|failure| &failure.reason).collect();
        assert!(reasons.iter().any(|reason| reason.contains("row 107: not finite")), "{reasons:?}");
        let recovered = Arc::new(world.coordinator("d", Recovery::AllJobs).await);
        let again = recovered.status(&job).await.unwrap();
        assert_eq!((again.phase, again.rows_done), (status.phase, status.rows_done), "{again:?}");
        let exit = world.agent("c", recovered.clone()).run().await.unwrap();
        assert_eq!(exit, AgentExit::Finished, "nothing is open");
    })
    .await;
}

#[tokio::test]
async fn a_job_with_failed_units_is_finished_when_submitted_again_after_the_cause_is_mended() {
    within(async {
        let world = World::new();
        world.runner.fail_on(107);
        let coordinator = Arc::new(world.coordinator("c", Recovery::AllJobs).await);
        let job = coordinator.submit("", world.plan.clone()).await.unwrap();
        world.agent("a", coordinator.clone()).run().await.unwrap();
        let failed = coordinator.status(&job).await.unwrap();
        assert_eq!(failed.phase, JobPhase::FinishedWithFailures);
        world.runner.heal();
        coordinator.submit("", world.plan.clone()).await.unwrap();
        let resumed = world.coordinator("d", Recovery::AllJobs).await;
        let open = resumed.status(&job).await.unwrap();
        assert_eq!((open.phase, open.failures.len()), (JobPhase::Running, 0));
        world.agent("b", coordinator.clone()).run().await.unwrap();
        let status = coordinator.status(&job).await.unwrap();
        assert_eq!((status.phase.exit_code(), status.failures.len()), (0, 0));
        let recovered = world.coordinator("e", Recovery::AllJobs).await;
        assert_eq!(recovered.status(&job).await.unwrap().phase, JobPhase::Finished);
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_at_fault_itself_leaves_with_the_reason_and_others_do_its_units() {
    within(async {
        let world = World::new();
        world.runner.disable("a");
        let coordinator = world.coordinator("c", Recovery::AllJobs).await;
        let served = Served::start(coordinator, "127.0.0.1:0").await;
        let control = served.client();
        let job = control.submit("", world.plan.clone()).await.unwrap();
        let error = world.agent("a", served.client()).run().await.unwrap_err();
        assert!(error.is_of_place(), "{}", error.chain());
        assert!(error.chain().ends_with("model: expected a, found b"), "{}", error.chain());
        let status = control.status(&job).await.unwrap();
        assert_eq!((status.phase, status.failures.len()), (JobPhase::Running, 0));
        let cooling = status.kinds.iter().map(|kind| kind.leased + kind.cooling).sum::<u64>();
        assert_eq!((status.workers, cooling), (0, 0), "its unit is free at once");
        let notices = status.notices;
        let told = notices.iter().any(|it| it.contains("host-a") && it.contains("found b"));
        assert!(told, "{notices:?}");
        let exit = world.agent("b", served.client()).run().await.unwrap();
        assert_eq!(exit, AgentExit::Finished);
        let status = control.status(&job).await.unwrap();
        assert_eq!((status.phase, status.rows_done), (JobPhase::Finished, 1_000));
        assert_eq!(world.store.commit_count(), world.plan.unit_count() as usize, "none was cut");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_partition_worker_that_is_at_fault_itself_ends_and_another_finishes() {
    within(async {
        let world = World::new();
        world.runner.disable("p0");
        let error = world.try_partition(0, 2).await.unwrap_err();
        assert!(error.is_of_place(), "{}", error.chain());
        assert_eq!(world.partition_worker(1, 2).await.left, 0);
        assert_eq!(world.store.commit_count(), world.plan.unit_count() as usize, "none was cut");
    })
    .await;
}

#[tokio::test]
async fn a_panic_in_a_unit_is_the_units_failure_and_not_the_workers() {
    within(async {
        let world = World::new();
        world.runner.panic_on("report");
        let coordinator = Arc::new(world.coordinator("c", Recovery::AllJobs).await);
        let job = coordinator.submit("", world.plan.clone()).await.unwrap();
        let exit = world.agent("a", coordinator.clone()).run().await.unwrap();
        assert_eq!(exit, AgentExit::Finished);
        let status = coordinator.status(&job).await.unwrap();
        assert!(status.failures[0].reason.contains("panicked"), "{:?}", status.failures);
    })
    .await;
}

#[tokio::test]
async fn an_older_coordinator_is_fenced_by_a_newer_one() {
    within(async {
        let world = World::new();
        let older = world.coordinator("c", Recovery::AllJobs).await;
        let newer = world.coordinator("c", Recovery::AllJobs).await;
        world.clock.advance(Duration::from_millis(5_000));
        assert_eq!(older.tick().await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(older.jobs().await.unwrap_err().kind(), ErrorKind::Fenced);
        newer.tick().await.unwrap();
        assert_eq!(newer.epoch(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_worker_gives_up_on_a_coordinator_that_stays_away() {
    within(async {
        let world = World::new();
        let coordinator = Arc::new(world.coordinator("c", Recovery::AllJobs).await);
        coordinator.close();
        let agent = tokio::spawn(world.agent("w", coordinator).run());
        while !agent.is_finished() {
            world.clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
        assert_eq!(agent.await.unwrap().unwrap(), AgentExit::WorkLeft);
    })
    .await;
}

#[tokio::test]
async fn refusals_keep_their_kind_and_their_words_over_the_wire() {
    within(async {
        let world = World::new();
        let coordinator = world.coordinator("c", Recovery::AllJobs).await;
        let served = Served::start(coordinator, "127.0.0.1:0").await;
        let control = served.client();
        let unknown = control.status(&JobId::new("nope")).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        assert!(unknown.chain().contains("job nope"), "{}", unknown.chain());
        let mut forged = world.plan.clone();
        forged.seed += 1;
        let forged = control.submit("", forged).await.unwrap_err();
        assert_eq!(forged.kind(), ErrorKind::Invalid);
        served.stop().await;
    })
    .await;
}
