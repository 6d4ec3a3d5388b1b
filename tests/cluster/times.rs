//! Which seconds of a unit are told as the device's.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::world::{FakeRunner, World, within};
use async_trait::async_trait;
use glmeval_common::clock::ManualClock;
use glmeval_common::control::Control;
use glmeval_common::error::Result;
use glmeval_common::ids::{Attempt, WorkerId};
use glmeval_common::unit::WorkUnit;
use glmeval_coordinator::Recovery;
use glmeval_worker::agent::{
    Agent, AgentExit, AgentSettings, RunContext, UnitOutcome, UnitRunner, stop_pair,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Computes the shard of row 0 in three seconds and is twenty on the way to the store, while the next shard is
/// computed; all else takes no time.
struct SlowStore {
    runner: Arc<FakeRunner>,
    clock: Arc<ManualClock>,
    delivered: watch::Sender<bool>,
}

#[async_trait]
impl UnitRunner for SlowStore {
    async fn run(
        &self,
        unit: &WorkUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<UnitOutcome> {
        let start = if let WorkUnit::Extract(shard) = unit { Some(shard.start) } else { None };
        if start == Some(0) {
            self.clock.advance(Duration::from_secs(3));
            let before = self.runner.runs();
            context.progress.mark_computed();
            // The next one has begun: it has the device.
            self.runner.started(before + 1).await;
            self.clock.advance(Duration::from_secs(20));
            self.delivered.send_replace(true);
            return self.runner.run(unit, attempt, context).await;
        }
        let ended = self.runner.run(unit, attempt, context).await;
        if start.is_some() {
            self.delivered.subscribe().wait_for(|is| *is).await.unwrap();
        }
        ended
    }
}

#[tokio::test]
async fn the_way_to_the_store_is_no_time_of_the_device() {
    within(async {
        let world = World::new();
        let coordinator = Arc::new(world.coordinator("local", Recovery::SubmittedOnly).await);
        let job = coordinator.submit("", world.plan.clone()).await.unwrap();
        let (runner, clock) = (world.runner.clone(), world.clock.clone());
        let slow = SlowStore { runner, clock, delivered: watch::Sender::new(false) };
        let classes = vec![world.numeric_class().to_owned()];
        let settings = AgentSettings {
            until_idle: true,
            call_interval_ms: 10,
            ..AgentSettings::new(WorkerId::new("w"), "host", classes)
        };
        let (control, clock) = (coordinator.clone(), world.clock.clone());
        let agent = Agent::new(control, Arc::new(slow), clock, settings, stop_pair().1);
        assert_eq!(agent.run().await.unwrap(), AgentExit::Finished);
        let cost = coordinator.status(&job).await.unwrap().cost;
        assert_eq!((cost.useful_seconds, cost.lost_seconds()), (23.0, 0.0));
    })
    .await;
}
