//! What every simulated host shares: the seed, the time, the trace, the store's weather and the ledger of oracles.
//!
//! Leaves out: hosts and faults. Invariant: everything random is drawn from the seed, in an order that the
//! simulation alone decides.

use crate::job::SimJob;
use glmeval_common::clock::Clock;
use glmeval_common::ids::JobId;
use glmeval_common::rng::Rng;
use glmeval_worker::agent::StopHandle;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use trace::Trace;

pub(crate) mod trace;

/// A rule of the system that is broken on purpose, to see that the oracles notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Nothing is broken.
    None,
    /// The store's create is not exclusive: both creators win.
    TwoWinners,
    /// Workers report a commit that they never made.
    BlindRunner,
    /// Workers write under a name that another attempt uses.
    SharedData,
    /// The store forgets a commit after it has confirmed it.
    Forgetful,
    /// The store forgets that a job was cancelled.
    LostCancel,
}

impl Sabotage {
    const NAMES: [(&str, Self); 5] = [
        ("two-winners", Self::TwoWinners),
        ("blind-runner", Self::BlindRunner),
        ("shared-data", Self::SharedData),
        ("forgetful", Self::Forgetful),
        ("lost-cancel", Self::LostCancel),
    ];

    /// As `GLMEVAL_SIM_BREAK` names it.
    pub(crate) fn of_environment() -> Self {
        let name = std::env::var("GLMEVAL_SIM_BREAK").unwrap_or_default();
        Self::NAMES.iter().find(|(known, _)| *known == name).map_or(Self::None, |(_, kind)| *kind)
    }
}

/// How the store behaves at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weather {
    /// Milliseconds of latency; one request in fifty fails.
    Fair,
    /// Seconds of latency.
    Slow,
    /// Every other request fails, many of them after they were carried out.
    Failing,
    /// Nothing answers.
    Down,
}

/// What the oracles need to know of what happened.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Rules found broken.
    pub(crate) violations: Vec<String>,
    /// Epochs claimed, with the process that did.
    pub(crate) epochs: Vec<(u64, String)>,
    /// Cancelled jobs: when the operator was told so, and the highest epoch that was claimed by then.
    pub(crate) withdrawn: BTreeMap<JobId, (u64, u64)>,
    /// Attempts that were told that they won, by the commit they made.
    pub(crate) winners: BTreeMap<String, Vec<String>>,
    /// How often what happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// Orders of the fault schedule to the hosts.
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) weather: Option<Weather>,
    /// Hosts that do not reach the store.
    pub(crate) cut_off: BTreeSet<String>,
    /// Hosts that stand still until then.
    pub(crate) frozen_until_ms: BTreeMap<String, u64>,
    /// Milliseconds by which a host's clock has jumped ahead.
    pub(crate) jumps_ms: BTreeMap<String, u64>,
    /// Attempts that compute, by host.
    pub(crate) computing: BTreeMap<String, String>,
    /// Attempts that may not commit any more.
    pub(crate) too_old: BTreeSet<String>,
    /// Stops the worker that runs on a host.
    pub(crate) stops: BTreeMap<String, StopHandle>,
    /// Workers that the operator is to drain.
    pub(crate) drains: Vec<String>,
    /// How often a host was started.
    pub(crate) starts: BTreeMap<String, u64>,
    /// Hosts whose process ended and wants to be replaced.
    pub(crate) ended: BTreeSet<String>,
    /// Hosts whose process was told that no work is left.
    pub(crate) left: BTreeSet<String>,
}

/// The world of one seed.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) sabotage: Sabotage,
    pub(crate) jobs: Vec<SimJob>,
    pub(crate) trace: Mutex<Trace>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) orders: Mutex<Orders>,
    rng: Mutex<Rng>,
    /// Time as the driver of the simulation sees it, between two steps.
    driver_ms: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(seed: u64, jobs: Vec<SimJob>) -> Arc<Self> {
        Arc::new(Self {
            seed,
            sabotage: Sabotage::of_environment(),
            jobs,
            trace: Mutex::new(Trace::new()),
            ledger: Mutex::default(),
            orders: Mutex::default(),
            rng: Mutex::new(Rng::derive(seed, "world")),
            driver_ms: AtomicU64::new(0),
        })
    }

    /// Milliseconds since the simulation began.
    pub(crate) fn now_ms(&self) -> u64 {
        match turmoil::sim_elapsed() {
            Some(elapsed) => elapsed.as_millis() as u64,
            None => self.driver_ms.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_driver_ms(&self, now_ms: u64) {
        self.driver_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Writes a line of the trace.
    pub(crate) fn note(&self, who: &str, what: impl AsRef<str>) {
        let now_ms = self.now_ms();
        lock(&self.trace).note(now_ms, who, what.as_ref());
    }

    pub(crate) fn count(&self, what: &'static str) {
        *lock(&self.ledger).counts.entry(what).or_default() += 1;
    }

    /// Takes note of a rule that was found broken.
    pub(crate) fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        self.note("ORACLE", &text);
        lock(&self.ledger).violations.push(text);
    }

    /// Uniform in `from..to`.
    pub(crate) fn draw(&self, from: u64, to: u64) -> u64 {
        from + lock(&self.rng).below(to.saturating_sub(from).max(1))
    }

    /// Whether an event of probability `share` happens.
    pub(crate) fn chance(&self, share: f64) -> bool {
        lock(&self.rng).uniform() < share
    }

    /// Counts another start of `host` and names the process: `w1.3`.
    pub(crate) fn process(&self, host: &str) -> String {
        let mut orders = lock(&self.orders);
        orders.ended.remove(host);
        orders.left.remove(host);
        let starts = orders.starts.entry(host.to_owned()).or_default();
        *starts += 1;
        format!("{host}.{starts}")
    }

    /// Hosts that were started, of one kind.
    pub(crate) fn hosts_of(&self, prefix: &str) -> Vec<String> {
        let orders = lock(&self.orders);
        orders.starts.keys().filter(|host| host.starts_with(prefix)).cloned().collect()
    }

    /// How long a host still stands still.
    pub(crate) fn frozen_ms(&self, host: &str) -> u64 {
        let until_ms = lock(&self.orders).frozen_until_ms.get(host).copied().unwrap_or(0);
        until_ms.saturating_sub(self.now_ms())
    }
}

/// The clock of one host: its own start, its own rate.
pub(crate) struct HostClock {
    world: Arc<World>,
    host: String,
    start_ms: u64,
    /// Its milliseconds per thousand of the simulation's.
    rate: u64,
}

impl HostClock {
    /// A clock up to a day ahead and up to a tenth too fast or too slow.
    pub(crate) fn of(world: &Arc<World>, host: &str) -> Arc<dyn Clock> {
        let mut rng = Rng::derive(world.seed, &format!("clock of {host}"));
        let (start_ms, rate) = (rng.below(86_400_000), 900 + rng.below(201));
        Arc::new(Self { world: Arc::clone(world), host: host.to_owned(), start_ms, rate })
    }
}

impl Clock for HostClock {
    fn now_ms(&self) -> u64 {
        let jumped_ms = lock(&self.world.orders).jumps_ms.get(&self.host).copied().unwrap_or(0);
        self.start_ms + jumped_ms + self.world.now_ms() * self.rate / 1_000
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.now_ms()
    }
}
