//! What makes a worker stop: clouds' notices, a file, an operator, a signal; and what does not.
//!
//! Leaves out: real clouds. Invariant: a service that is absent, slow or talks nonsense stops nobody.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fakes;
mod processes;

use fakes::{Fake, Mood, absent};
use glmeval_worker::agent::{StopHandle, StopSource, stop_pair};
use glmeval_worker::notice::{Cloud, Endpoints, PreemptionNotice, StopOrders};
use std::time::Duration;

const TIME_MAX: Duration = Duration::from_secs(60);

fn nowhere() -> Endpoints {
    Endpoints { aws: absent(), gcp: absent(), azure: absent() }
}

fn listen(orders: StopOrders) -> (StopHandle, StopSource) {
    let (handle, source) = stop_pair();
    let limited = handle.clone().with_grace_max(orders.grace_ms_max);
    orders.listen_to_notices(&limited, &source).unwrap();
    (handle, source)
}

fn orders(notice: PreemptionNotice, endpoints: Endpoints) -> StopOrders {
    StopOrders { notice, endpoints, ..StopOrders::default() }
}

async fn reason(source: &StopSource) -> String {
    tokio::time::timeout(TIME_MAX, source.stopped()).await.unwrap().reason
}

#[tokio::test]
async fn a_spot_machine_of_amazon_is_told_although_its_token_ran_out() {
    let fake = Fake::aws(Mood::Quiet).await;
    let endpoints = Endpoints { aws: fake.url.clone(), ..nowhere() };
    let (_handle, source) = listen(orders(PreemptionNotice::Of(Cloud::Aws), endpoints));
    // Token and action; the hint that comes with them stops nobody.
    fake.asked(2).await;
    assert!(!source.is_stopped());
    fake.revoke_tokens();
    fake.turn(Mood::Notice);
    assert_eq!(reason(&source).await, "AWS spot notice: terminate");
    let grace_ms = source.order().unwrap().grace_ms;
    assert!((60_000..120_000).contains(&grace_ms), "of two minutes: {grace_ms}");
}

#[tokio::test]
async fn a_machine_of_google_hears_the_change_while_it_waits_for_it() {
    let fake = Fake::gcp(Mood::Quiet).await;
    let endpoints = Endpoints { gcp: fake.url.clone(), ..nowhere() };
    let (_handle, source) = listen(orders(PreemptionNotice::Of(Cloud::Gcp), endpoints));
    // Once what it is, then for the change.
    fake.asked(2).await;
    assert!(!source.is_stopped());
    fake.turn(Mood::Notice);
    assert_eq!(reason(&source).await, "GCP pre-emption notice");
    assert!(source.order().unwrap().grace_ms < 30_000);
}

#[tokio::test]
async fn a_machine_of_azure_is_told_of_its_own_event_and_not_of_its_neighbours() {
    let fake = Fake::azure(Mood::Quiet).await;
    let endpoints = Endpoints { azure: fake.url.clone(), ..nowhere() };
    let (_handle, source) = listen(orders(PreemptionNotice::Of(Cloud::Azure), endpoints));
    fake.asked(3).await;
    assert!(!source.is_stopped(), "the neighbour is pre-empted, this machine is only frozen");
    fake.turn(Mood::Notice);
    assert_eq!(reason(&source).await, "Azure scheduled event: Preempt");
}

#[tokio::test]
async fn nonsense_from_a_service_stops_nobody_and_it_is_asked_again() {
    let page = b"<html>Please sign in</html>".to_vec();
    for garbage in [page, vec![0xff; 300], b"{}".to_vec(), vec![b'x'; 3 << 20]] {
        let aws = Fake::aws(Mood::Quiet).await;
        let gcp = Fake::gcp(Mood::Garbage(garbage.clone())).await;
        let azure = Fake::azure(Mood::Garbage(garbage.clone())).await;
        for (cloud, fake) in [(Cloud::Aws, &aws), (Cloud::Gcp, &gcp), (Cloud::Azure, &azure)] {
            let endpoints =
                Endpoints { aws: aws.url.clone(), gcp: gcp.url.clone(), azure: azure.url.clone() };
            if cloud == Cloud::Aws {
                fake.turn(Mood::Garbage(garbage.clone()));
            }
            let (_handle, source) = listen(orders(PreemptionNotice::Of(cloud), endpoints));
            fake.asked(2).await;
            assert!(!source.is_stopped(), "{cloud:?}");
        }
    }
    let fake = Fake::azure(Mood::Garbage(b"{\"Events\":[{}]}".to_vec())).await;
    let endpoints = Endpoints { azure: fake.url.clone(), ..nowhere() };
    let (_handle, source) = listen(orders(PreemptionNotice::Of(Cloud::Azure), endpoints));
    fake.asked(2).await;
    fake.turn(Mood::Notice);
    assert_eq!(reason(&source).await, "Azure scheduled event: Preempt");
}

#[tokio::test]
async fn errors_and_silence_of_a_service_stop_nobody_and_hide_no_other_order() {
    for mood in [Mood::Silent, Mood::Status(500), Mood::Status(404), Mood::Status(403)] {
        let (aws, gcp) = (Fake::aws(mood.clone()).await, Fake::gcp(mood.clone()).await);
        let azure = Fake::azure(mood.clone()).await;
        let endpoints =
            Endpoints { aws: aws.url.clone(), gcp: gcp.url.clone(), azure: azure.url.clone() };
        for (cloud, fake) in [(Cloud::Aws, &aws), (Cloud::Gcp, &gcp), (Cloud::Azure, &azure)] {
            let notice = PreemptionNotice::Of(cloud);
            let (handle, source) = listen(orders(notice, endpoints.clone()));
            fake.asked(1).await;
            assert!(!source.is_stopped(), "{mood:?}");
            handle.stop(7, "SIGTERM");
            assert_eq!(source.stopped().await.grace_ms, 7);
        }
    }
}

#[tokio::test]
async fn of_three_clouds_the_one_that_answers_is_listened_to() {
    let fake = Fake::gcp(Mood::Notice).await;
    // A service of Google's that is asked as Amazon's or Azure's answers 404.
    let gcp = fake.url.clone();
    let endpoints = Endpoints { aws: gcp.clone(), azure: gcp.clone(), gcp };
    let (_handle, source) = listen(orders(PreemptionNotice::Auto, endpoints));
    assert_eq!(reason(&source).await, "GCP pre-emption notice");
}

#[tokio::test]
async fn a_drain_file_stops_and_says_how_much_grace_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, grace_ms) in
        [("a", "", u64::from(u32::MAX)), ("b", "25\n", 25_000), ("c", "soon", u64::from(u32::MAX))]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let drain_file = Some(path.clone());
        let (_handle, source) = listen(StopOrders { drain_file, ..StopOrders::default() });
        assert_eq!(reason(&source).await, format!("drain file {}", path.display()));
        assert_eq!(source.order().unwrap().grace_ms, grace_ms);
    }
    let later = folder.path().join("later");
    let orders = StopOrders {
        drain_file: Some(later.clone()),
        grace_ms_max: Some(3_000),
        ..StopOrders::default()
    };
    let (_handle, source) = listen(orders);
    assert!(!source.is_stopped());
    std::fs::write(&later, "").unwrap();
    reason(&source).await;
    assert_eq!(source.order().unwrap().grace_ms, 3_000, "the user's limit holds for every order");
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_named() {
    let endpoints = Endpoints { aws: "169.254.169.254".to_owned(), ..nowhere() };
    let (handle, source) = stop_pair();
    let listening = orders(PreemptionNotice::Auto, endpoints).listen_to_notices(&handle, &source);
    let chain = listening.unwrap_err().chain();
    assert!(chain.contains("169.254.169.254") && chain.contains("METADATA"), "{chain}");
}
