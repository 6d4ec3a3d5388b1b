//! A caller with a good identity that sends hostile names: none becomes part of a path, a log or a label.

use crate::world::World;
use glmeval_common::control::{
    Ask, Control, Health, Heartbeat, LeaseKey, Outcome, Registration, Report, WorkerFacts,
};
use glmeval_common::error::{Error, ErrorKind};
use glmeval_common::ids::{Generation, JobId, WorkerId};
use glmeval_common::wire::GrpcControl;
use glmeval_tests::glmeval::glmeval;

const HOSTILE: [&str; 8] =
    ["", "..", "../../etc", "a/b", "a\nlevel=error forged", "\u{1b}[2J", "a\"b", "x y"];

fn refused<T>(answer: Result<T, Error>, what: &str) {
    let Err(error) = answer else { panic!("{what:?} was taken") };
    assert_eq!(error.kind(), ErrorKind::Invalid, "{what:?}: {}", error.chain());
    assert!(!error.chain().contains(char::is_control), "{what:?}: {}", error.chain());
}

fn registration(worker: &str, host: &str, class: &str) -> Registration {
    Registration {
        worker: WorkerId::new(worker),
        host: host.to_owned(),
        numeric_classes: vec![class.to_owned()],
        held: Vec::new(),
        facts: WorkerFacts::default(),
    }
}

#[tokio::test]
async fn hostile_names_are_refused_by_every_method() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder, &[]).await;
    let client = GrpcControl::connect(world.address()).unwrap();
    client.register(registration("w", "node-1.lab", "f32.cpu.1")).await.unwrap();
    for text in HOSTILE {
        let (job, worker) = (JobId::new(text), WorkerId::new(text));
        refused(client.status(&job).await, text);
        refused(client.cancel(&job).await, text);
        refused(client.watch(&job).await.map(drop), text);
        refused(client.drain(&worker).await, text);
        let ask = Ask { worker: worker.clone(), units_max: 1, wait_ms: 0, or_finished: false };
        refused(client.ask(ask).await, text);
        let health = Health::default();
        let beat = Heartbeat { worker, held: Vec::new(), leaving: false, health };
        refused(client.heartbeat(beat).await, text);
        for (worker, host, class) in [(text, "h", "c"), ("w", text, "c"), ("w", "h", text)] {
            refused(client.register(registration(worker, host, class)).await, text);
        }
        if !text.is_empty() {
            let mut of_a_kind = registration("w", "h", "c");
            of_a_kind.facts.device_kind = text.to_owned();
            refused(client.register(of_a_kind).await, text);
        }
        let lease = LeaseKey { job, unit: 0, generation: Generation::default() };
        let mut held = registration("w", "h", "c");
        held.held = vec![lease.clone()];
        refused(client.register(held).await, text);
        let outcome = Outcome::Committed;
        let report = Report {
            worker: WorkerId::new("w"),
            lease,
            outcome,
            seconds: 1.0,
            device_seconds: 1.0,
        };
        refused(client.report(report).await, text);
    }
    client.jobs().await.unwrap();
    let lines = world.coordinator.process.lines_so_far();
    assert!(!lines.iter().any(|line| line.starts_with("level=error")), "{lines:?}");
    let jobs = world.folder.join("store/jobs");
    assert!(!jobs.exists() || std::fs::read_dir(jobs).unwrap().next().is_none());
}

#[tokio::test]
async fn lists_and_names_have_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder, &[]).await;
    let client = GrpcControl::connect(world.address()).unwrap();
    let mut many = registration("w", "h", "c");
    many.numeric_classes = vec!["c".to_owned(); 1_000];
    refused(client.register(many).await, "classes");
    let lease = LeaseKey { job: JobId::new("j"), unit: 0, generation: Generation::default() };
    let mut many = registration("w", "h", "c");
    many.held = vec![lease; 100_000];
    refused(client.register(many).await, "leases");
    let long = "w".repeat(10_000);
    refused(client.register(registration(&long, "h", "c")).await, "worker");
}

#[tokio::test]
async fn hostile_ids_of_the_command_line_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("store")).unwrap();
    for words in [
        &["report", "../../etc", "--store", "store"][..],
        &["export", "store", "--set", "../x", "--format", "npy", "--out", "o"],
        &["status", "../x", "--coordinator", "127.0.0.1:1"],
        &["drain", "../x", "--coordinator", "127.0.0.1:1"],
    ] {
        let ended = glmeval(folder, words).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("expected 1 to"), "{ended:?}");
    }
    let name = ["coordinator", "--store", "store", "--listen", "127.0.0.1:0", "--name", "../x"];
    let ended = glmeval(folder, &name).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
