//! How fast a job goes and what it costs, as people are told.

use super::*;

async fn pass(world: &World, clock: &ManualClock, seconds: u64) {
    clock.advance(Duration::from_secs(seconds));
    world.coordinator.tick().await.unwrap();
}

#[tokio::test]
async fn the_rate_is_that_of_the_last_seconds_however_short_units_are() {
    let clock = Arc::new(ManualClock::default());
    let mut world = World::new().await;
    world.coordinator = World::coordinator_at(&world.store, Arc::clone(&clock)).await;
    world.register("honest").await.unwrap();
    let rate = async |world: &World| {
        let status = world.coordinator.status(&world.plan.job).await.unwrap();
        assert_eq!(world.coordinator.jobs().await.unwrap(), std::slice::from_ref(&status));
        let shown = world.coordinator.overview().jobs.remove(0).status;
        assert_eq!(shown.rows_per_second, status.rows_per_second);
        status.rows_per_second
    };
    pass(&world, &clock, 1).await;
    assert_eq!(rate(&world).await, 0.0);
    // A hundred rows within two seconds, in a unit that no heartbeat ever tells of.
    let grant = world.ask("honest", 1).await.remove(0);
    work(&world, "honest", &grant).await;
    pass(&world, &clock, 2).await;
    assert_eq!(rate(&world).await, 50.0);
    pass(&world, &clock, 20).await;
    assert_eq!(rate(&world).await, 0.0, "nothing was done lately");
}

#[tokio::test]
async fn seconds_on_the_way_to_the_store_are_no_device_time() {
    let world = World::new().await;
    let grant = world.ask("honest", 1).await.remove(0);
    let attempt = world.attempt("honest", &grant);
    commit_shard(&world.store, &attempt, "true numbers".into()).await.unwrap();
    let (worker, lease) = (WorkerId::new("honest"), grant.lease);
    let outcome = Outcome::Committed;
    let report = Report { worker, lease, outcome, seconds: 60.0, device_seconds: 4.0 };
    world.coordinator.report(report).await.unwrap();
    let cost = world.coordinator.status(&world.plan.job).await.unwrap().cost;
    assert_eq!((cost.useful_seconds, cost.leased_seconds()), (4.0, 4.0));
}

#[tokio::test]
async fn a_store_that_is_away_is_said_in_the_status() {
    let world = World::new().await;
    let notices = async || world.coordinator.status(&world.plan.job).await.unwrap().notices;
    assert_eq!(notices().await, Vec::<String>::new());
    world.coordinator.store_answered(false, "a test");
    assert!(notices().await[0].starts_with("the store does not answer"));
    world.coordinator.store_answered(true, "");
    assert_eq!(notices().await, Vec::<String>::new());
}
