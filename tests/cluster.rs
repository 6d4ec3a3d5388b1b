//! Coordinator and workers together, in one process and over loopback, with a store and a runner
//! that live in memory.

#[path = "cluster/world.rs"]
mod world;

#[path = "cluster/failures.rs"]
mod failures;
#[path = "cluster/times.rs"]
mod times;

use futures::StreamExt;
use glmeval_common::control::{Control, JobPhase};
use glmeval_coordinator::Recovery;
use glmeval_worker::agent::{AgentExit, stop_pair};
use std::sync::Arc;
use world::{Served, World, within};

#[tokio::test]
async fn three_workers_finish_a_job_and_no_unit_runs_twice() {
    within(async {
        let world = World::new();
        let coordinator = world.coordinator("local", Recovery::SubmittedOnly).await;
        let job = coordinator.submit("", world.plan.clone()).await.unwrap();
        let agents = (0..3).map(|i| world.agent(&format!("w{i}"), Arc::new(coordinator.clone())));
        let exits = futures::future::join_all(agents.map(|agent| agent.run())).await;
        assert!(exits.into_iter().all(|exit| exit.unwrap() == AgentExit::Finished));
        let status = coordinator.status(&job).await.unwrap();
        assert_eq!(status.phase, JobPhase::Finished);
        assert_eq!((status.rows, status.rows_done), (1_000, 1_000));
        assert_eq!(world.runner.runs(), world.plan.unit_count() as usize);
        assert_eq!(world.store.commit_count(), world.plan.unit_count() as usize);
    })
    .await;
}

#[tokio::test]
async fn three_workers_finish_a_job_over_grpc_and_a_watcher_sees_the_end() {
    within(async {
        let world = World::new();
        let coordinator = world.coordinator("grpc", Recovery::AllJobs).await;
        let served = Served::start(coordinator, "127.0.0.1:0").await;
        let control = served.client();
        let job = control.submit("name = \"j\"", world.plan.clone()).await.unwrap();
        let mut watch = control.watch(&job).await.unwrap();
        let agents = (0..3).map(|i| world.agent(&format!("w{i}"), served.client()));
        let exits = futures::future::join_all(agents.map(|agent| agent.run())).await;
        assert!(exits.into_iter().all(|exit| exit.unwrap() == AgentExit::Finished));
        let mut last = None;
        while let Some(status) = watch.next().await {
            last = Some(status.unwrap());
        }
        let last = last.expect("a watch begins with the status of the moment");
        assert_eq!(last.phase, JobPhase::Finished);
        assert!(serde_json::to_string(&last).unwrap().contains("\"finished\""));
        assert_eq!(control.jobs().await.unwrap(), [last]);
        assert_eq!(world.runner.runs(), world.plan.unit_count() as usize);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_submitted_again_runs_nothing_but_its_report() {
    within(async {
        let world = World::new();
        for name in ["one", "two"] {
            let coordinator = world.coordinator(name, Recovery::SubmittedOnly).await;
            coordinator.submit("", world.plan.clone()).await.unwrap();
            let exit = world.agent("w", Arc::new(coordinator)).run().await.unwrap();
            assert_eq!(exit, AgentExit::Finished);
        }
        assert_eq!(world.runner.runs(), world.plan.unit_count() as usize + 1);
    })
    .await;
}

#[tokio::test]
async fn a_restarted_coordinator_takes_over_and_the_unit_in_hand_is_not_run_again() {
    within(async {
        let world = World::new();
        let first = world.coordinator("c", Recovery::AllJobs).await;
        let served = Served::start(first, "127.0.0.1:0").await;
        served.client().submit("", world.plan.clone()).await.unwrap();
        world.runner.close_gate();
        let agent = tokio::spawn(world.agent("w", served.client()).run());
        world.runner.started(1).await;
        let address = served.address.clone();
        served.stop().await;
        let second = world.coordinator("c", Recovery::AllJobs).await;
        assert_eq!(second.epoch(), 2);
        let served = Served::start(second, &address).await;
        world.runner.open_gate();
        assert_eq!(agent.await.unwrap().unwrap(), AgentExit::Finished);
        assert_eq!(world.runner.runs(), world.plan.unit_count() as usize);
        assert_eq!(served.client().jobs().await.unwrap()[0].phase, JobPhase::Finished);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_stopped_worker_hands_back_and_another_finishes() {
    within(async {
        let world = World::new();
        let coordinator = Arc::new(world.coordinator("c", Recovery::SubmittedOnly).await);
        let job = coordinator.submit("", world.plan.clone()).await.unwrap();
        world.runner.close_gate();
        let (stop, source) = stop_pair();
        let stopped = tokio::spawn(world.agent_with("a", coordinator.clone(), source).run());
        world.runner.started(1).await;
        stop.stop(0, "SIGTERM");
        let exit = stopped.await.unwrap().unwrap();
        assert_eq!((exit, exit.exit_code()), (AgentExit::WorkLeft, 75));
        let status = coordinator.status(&job).await.unwrap();
        assert_eq!(status.kinds.iter().map(|kind| kind.leased).sum::<u64>(), 0);
        world.runner.open_gate();
        let exit = world.agent("b", coordinator.clone()).run().await.unwrap();
        assert_eq!(exit, AgentExit::Finished);
        assert_eq!(coordinator.status(&job).await.unwrap().phase, JobPhase::Finished);
    })
    .await;
}

#[tokio::test]
async fn a_stopped_worker_finishes_the_unit_in_hand_within_its_grace() {
    within(async {
        let world = World::new();
        let coordinator = Arc::new(world.coordinator("c", Recovery::SubmittedOnly).await);
        coordinator.submit("", world.plan.clone()).await.unwrap();
        world.runner.close_gate();
        let (stop, source) = stop_pair();
        let stopped = tokio::spawn(world.agent_with("a", coordinator.clone(), source).run());
        world.runner.started(1).await;
        stop.stop(60_000, "SIGTERM");
        world.runner.open_gate();
        assert_eq!(stopped.await.unwrap().unwrap(), AgentExit::WorkLeft);
        assert_eq!(world.store.commit_count(), 1);
    })
    .await;
}

#[tokio::test]
async fn partition_workers_finish_a_job_without_a_coordinator() {
    within(async {
        let world = World::new();
        let workers = [0, 1, 2].map(|index| world.partition_worker(index, 3));
        let outcomes = futures::future::join_all(workers).await;
        let committed: u64 = outcomes.iter().map(|outcome| outcome.committed).sum();
        assert_eq!(committed, u64::from(world.plan.unit_count()), "every unit has one winner");
        assert!(outcomes.iter().all(|outcome| outcome.left == 0 && outcome.failed.is_empty()));
    })
    .await;
}

#[tokio::test]
async fn a_partition_worker_leaves_what_fails_and_says_so() {
    within(async {
        let world = World::new();
        world.runner.fail_on(107);
        let outcome = world.partition_worker(0, 1).await;
        assert_eq!(outcome.failed, [(2, "examples 107-108: row 107: not finite".to_owned())]);
        assert_eq!(outcome.left, 4, "the shard, two fits and the report");
        let others = "other units, and all that the rows beside 107 were cut into";
        let done = world.plan.unit_count() as usize - 4;
        assert_eq!(world.store.commit_count(), done + 7, "{others}");
    })
    .await;
}
