//! One coordinator and four workers, each in a namespace of its own, and who starts them again.
//!
//! Leaves out: which fault comes when. Invariant: a process that ends is replaced as Slurm would replace it: 0 is
//! done, 75 and signals are started again, anything else fails the test.

use crate::faults::{Fault, WORKERS};
use crate::ledger::Ledger;
use crate::network::{Network, Way};
use glmeval_common::ids::SetId;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::committed_ranges;
use glmeval_tests::glmeval::{binary, prepared, succeeds};
use glmeval_tests::s3::S3;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const HUB: u8 = 1;
const COORDINATOR: u8 = 2;
const FIRST_WORKER: u8 = 11;
const PORT: u16 = 7070;
/// Long enough that short freezes and cuts cost no lease, short enough that a kill costs little time.
const LEASE_TTL_MS: &str = "5000";

/// Certificates of the job, made at the start.
const CERTIFICATES: &str = "certificates";
/// How every process proves who it is.
pub(crate) const TRUST: [&str; 2] = ["--tls", CERTIFICATES];

/// A process and the task that reads its log.
struct Process {
    child: Child,
    log: JoinHandle<()>,
    done: bool,
}

/// The undoing of a fault, and when it is due.
type Mending = (Instant, Undo);

#[derive(Clone, Copy)]
enum Undo {
    Thaw(u32),
    Mend((u8, u8), Way),
    Plug(u8),
}

/// Everything that runs.
pub(crate) struct Cluster<'a> {
    network: &'a Network,
    place: &'a S3,
    store: Store,
    folder: PathBuf,
    coordinator: Process,
    workers: Vec<Process>,
    mending: Vec<Mending>,
    started: Instant,
    ledger: Arc<Mutex<Ledger>>,
}

fn worker_place(worker: usize) -> u8 {
    FIRST_WORKER + u8::try_from(worker).unwrap()
}

impl<'a> Cluster<'a> {
    pub(crate) async fn start(network: &'a Network, place: &'a S3, folder: &Path) -> Self {
        network.add(COORDINATOR);
        (0..WORKERS).for_each(|worker| network.add(worker_place(worker)));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let host = network.of(COORDINATOR).to_string();
        succeeds(folder, &["certs", "new", CERTIFICATES, "--host", &host]).await;
        let arguments = coordinator_arguments(network, place);
        let coordinator = spawn(network, place, folder, (COORDINATOR, arguments), &ledger);
        let store = place.open().unwrap();
        let cluster = Self {
            network,
            place,
            store,
            folder: folder.to_path_buf(),
            coordinator,
            workers: Vec::new(),
            mending: Vec::new(),
            started: Instant::now(),
            ledger: Arc::clone(&ledger),
        };
        // The coordinator listens once its record stands.
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        while tokio::net::TcpStream::connect(cluster.address()).await.is_err() {
            poll.tick().await;
        }
        cluster
    }

    /// Starts the workers; before there is a job they would find nothing left to do.
    pub(crate) fn start_workers(&mut self) {
        let start = |worker| {
            self.spawn((worker_place(worker), worker_arguments(self.network, self.place, worker)))
        };
        self.workers = (0..WORKERS).map(start).collect();
    }

    /// `host:port` of the coordinator.
    pub(crate) fn address(&self) -> String {
        format!("{}:{PORT}", self.network.of(COORDINATOR))
    }

    /// Replaces what has ended, mends what is due.
    fn look_after(&mut self) {
        self.mend(Instant::now());
        if let Some(status) = self.coordinator.child.try_wait().unwrap() {
            self.note_exit("coordinator", status.code());
            // 75: the store was away when it started.
            assert!(matches!(status.code(), None | Some(75)), "the coordinator ended: {status}");
            self.start_coordinator();
        }
        for worker in 0..WORKERS {
            let process = &mut self.workers[worker];
            let Some(status) = process.child.try_wait().unwrap() else { continue };
            if std::mem::replace(&mut process.done, status.code() == Some(0)) {
                continue;
            }
            self.note_exit("worker", status.code());
            match status.code() {
                Some(0) => {}
                None | Some(75) => {
                    let place =
                        (worker_place(worker), worker_arguments(self.network, self.place, worker));
                    self.workers[worker] = self.spawn(place);
                }
                Some(code) => panic!("worker {worker} ended with {code}"),
            }
        }
    }

    fn note_exit(&self, who: &str, code: Option<i32>) {
        self.ledger.lock().unwrap().note_exit(who, code);
    }

    fn spawn(&self, place: (u8, Vec<String>)) -> Process {
        spawn(self.network, self.place, &self.folder, place, &self.ledger)
    }

    fn start_coordinator(&mut self) {
        let arguments = coordinator_arguments(self.network, self.place);
        self.coordinator = self.spawn((COORDINATOR, arguments));
    }

    /// Waits until `count` shards are committed.
    pub(crate) async fn commits_reach(&mut self, count: u64) {
        let mut poll = tokio::time::interval(Duration::from_millis(100));
        loop {
            self.look_after();
            if self.commits().await >= count {
                return;
            }
            poll.tick().await;
        }
    }

    async fn commits(&self) -> u64 {
        let sets = self.store.list_folders("embeddings").await.unwrap();
        let Some(set) = sets.first() else { return 0 };
        committed_ranges(&self.store, &SetId::new(set)).await.unwrap().len() as u64
    }

    /// Lets something go wrong.
    pub(crate) fn strike(&mut self, fault: Fault) {
        let story = format!("{:?} {fault:?}", self.started.elapsed());
        self.ledger.lock().unwrap().note_fault(fault.name(), story);
        let cut = |this: &mut Self, ends: (u8, u8), way: Way, time: Duration| {
            this.network.cut(ends, way, true);
            this.mending.push((Instant::now() + time, Undo::Mend(ends, way)));
        };
        match fault {
            Fault::KillWorker(worker) => self.signal(worker, "KILL"),
            Fault::TerminateWorker(worker) => self.signal(worker, "TERM"),
            Fault::FreezeWorker(worker, time) => {
                self.signal(worker, "STOP");
                if let Some(process) = self.workers[worker].child.id() {
                    self.mending.push((Instant::now() + time, Undo::Thaw(process)));
                }
            }
            Fault::CutWorkerCoordinator(worker, time) => {
                cut(self, (worker_place(worker), COORDINATOR), Way::Blocked, time);
            }
            Fault::CutWorkerStore(worker, time) => {
                cut(self, (worker_place(worker), HUB), Way::Blocked, time);
            }
            Fault::LoseStoreAnswers(worker, time) => {
                cut(self, (worker_place(worker), HUB), Way::Answerless, time);
            }
            Fault::CutCoordinatorStore(time) => cut(self, (COORDINATOR, HUB), Way::Blocked, time),
            Fault::UnplugWorker(worker, time) => {
                let place = worker_place(worker);
                self.network.unplug(place, true);
                self.mending.push((Instant::now() + time, Undo::Plug(place)));
            }
            Fault::KillCoordinator => {
                if let Some(process) = self.coordinator.child.id() {
                    send(process, "KILL");
                }
            }
        }
    }

    fn signal(&self, worker: usize, name: &str) {
        if let Some(process) = self.workers[worker].child.id() {
            send(process, name);
        }
    }

    /// Undoes the faults that are due at `now`.
    fn mend(&mut self, now: Instant) {
        let (due, later) =
            std::mem::take(&mut self.mending).into_iter().partition(|(at, _)| *at <= now);
        self.mending = later;
        let due: Vec<Mending> = due;
        for (_, undo) in due {
            match undo {
                Undo::Thaw(process) => send(process, "CONT"),
                Undo::Mend(ends, way) => self.network.cut(ends, way, false),
                Undo::Plug(place) => self.network.unplug(place, false),
            }
        }
    }

    /// Ends every fault that goes on.
    pub(crate) async fn heal(&mut self) {
        let last = self.mending.iter().map(|(at, _)| *at).max();
        if let Some(last) = last {
            self.mend(last);
        }
    }

    /// Waits until every worker has found nothing left to do.
    pub(crate) async fn workers_finish(&mut self) {
        let mut poll = tokio::time::interval(Duration::from_millis(100));
        while !self.workers.iter().all(|process| process.done) {
            self.look_after();
            poll.tick().await;
        }
    }

    /// Ends the coordinator; what all processes did.
    pub(crate) async fn end(mut self) -> Ledger {
        self.coordinator.child.kill().await.unwrap();
        for process in self.workers {
            process.log.await.unwrap();
        }
        std::mem::take(&mut self.ledger.lock().unwrap())
    }
}

fn send(process: u32, signal: &str) {
    let mut kill = std::process::Command::new("kill");
    kill.args([&format!("-{signal}"), &process.to_string()]).stderr(Stdio::null());
    // It may have ended a moment ago.
    let _ = kill.status();
}

fn coordinator_arguments(network: &Network, place: &S3) -> Vec<String> {
    let listen = format!("{}:{PORT}", network.of(COORDINATOR));
    let arguments = ["coordinator", "--listen", &listen, "--store", &place.url];
    [&arguments[..], &["--lease-ttl-ms", LEASE_TTL_MS], &TRUST]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn worker_arguments(network: &Network, place: &S3, worker: usize) -> Vec<String> {
    let address = format!("{}:{PORT}", network.of(COORDINATOR));
    let spool = format!("spool-{worker}");
    let mut arguments = vec!["worker", "--store", &place.url, "--threads", "1", "--until-idle"];
    arguments.extend(["--spool", &spool, "--grace-seconds", "5", "--coordinator", &address]);
    arguments.extend(TRUST);
    arguments.into_iter().map(str::to_owned).collect()
}

fn spawn(
    network: &Network,
    place: &S3,
    folder: &Path,
    (number, arguments): (u8, Vec<String>),
    ledger: &Arc<Mutex<Ledger>>,
) -> Process {
    let mut command: Command = prepared(network.command(number, &binary()), folder);
    command.args(arguments).env("RUST_LOG", "warn,glmeval_worker=debug");
    command.env("NO_COLOR", "1").envs(place.variables.iter().map(|(name, value)| (*name, value)));
    command.stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ledger = Arc::clone(ledger);
    let log = tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            ledger.lock().unwrap().note_line(number, &line);
        }
    });
    Process { child, log, done: false }
}
