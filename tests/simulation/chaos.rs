//! The schedule of faults of one seed, and when each is mended.
//!
//! Leaves out: what follows from them, and turmoil's own draws of loss and delay: these depend on the order in which
//! one host writes to several others at one instant, which tokio does not promise. Invariant: after `calm_ms` nothing breaks any more and everything that was
//! broken is mended, so that a job that does not end then never would.

use crate::hosts::{PARTITION, Site, coordinator, partition, worker};
use crate::world::{Weather, World, lock};
use glmeval_common::rng::Rng;
use std::collections::BTreeSet;
use std::time::Duration;
use turmoil::Sim;

/// Most workers of one simulation, the one that joins late included.
const WORKERS_MAX: u64 = 5;
/// Six hours and a bit: more than an attempt may grow old.
const JUMP_MS: u64 = 7 * 60 * 60 * 1_000;

/// What mends a fault.
#[derive(Clone, Debug)]
enum Mend {
    Start(String),
    Crash(String),
    Link(String, String),
    Speed(String, String),
    Weather,
    Reach(String),
}

/// The faults of one seed.
pub(crate) struct Chaos {
    site: Site,
    rng: Rng,
    next_ms: u64,
    /// When faults end.
    pub(crate) calm_ms: u64,
    joins_ms: u64,
    is_calm: bool,
    /// One busy link in so many loses all that is under way, each tick; 0 = none.
    loses_one_in: u64,
    hosts: Vec<String>,
    down: BTreeSet<String>,
    broken: BTreeSet<(String, String)>,
    mends: Vec<(u64, Mend)>,
}

impl Chaos {
    pub(crate) fn new(site: Site, sim: &mut Sim<'_>) -> Self {
        let mut rng = Rng::derive(site.world.seed, "chaos");
        let calm_ms = 30_000 + rng.below(70_000);
        let joins_ms = 5_000 + rng.below(25_000);
        let loses_one_in = [0, 2_000, 500, 100][rng.below(4) as usize];
        let workers = 2 + rng.below(WORKERS_MAX - 2);
        let next_ms = 2_000 + rng.below(3_000);
        let mut chaos = Self {
            site,
            rng,
            next_ms,
            calm_ms,
            joins_ms,
            is_calm: false,
            loses_one_in,
            hosts: vec!["op".to_owned()],
            down: BTreeSet::new(),
            broken: BTreeSet::new(),
            mends: Vec::new(),
        };
        chaos.add(sim, "c0");
        for index in 0..workers {
            chaos.add(sim, &format!("w{index}"));
        }
        let partitions = [0, 0, 1, 2][chaos.rng.below(4) as usize];
        for index in 0..partitions {
            chaos.add(sim, &format!("{PARTITION}{index}"));
        }
        chaos
    }

    fn world(&self) -> &World {
        &self.site.world
    }

    fn site(&self, host: &str) -> Site {
        Site { host: host.to_owned(), ..self.site.clone() }
    }

    /// Adds a host and starts its program.
    fn add(&mut self, sim: &mut Sim<'_>, host: &str) {
        self.hosts.push(host.to_owned());
        let site = self.site(host);
        if host.starts_with('c') {
            sim.host(host, move || coordinator(site.clone()));
        } else if host.starts_with(PARTITION) {
            sim.host(host, move || partition(site.clone()));
        } else {
            sim.host(host, move || worker(site.clone()));
        }
        for other in self.hosts.clone() {
            self.set_latency(sim, &other, host, 100);
        }
    }

    /// Draws a new latency for a link, the same for every message until the next draw.
    fn set_latency(&mut self, sim: &mut Sim<'_>, a: &str, b: &str, most_ms: u64) {
        if a != b {
            sim.set_link_latency(a, b, Duration::from_millis(1 + self.rng.below(most_ms)));
        }
    }

    /// Loses what is under way on some links, as a router that restarts.
    fn lose(&mut self, sim: &mut Sim<'_>) {
        let mut busy = Vec::new();
        sim.links(|links| {
            busy.extend(links.map(|link| (link.pair(), link.count())));
        });
        for (pair, _) in busy.into_iter().filter(|(_, messages)| *messages > 0) {
            let (a, b) = sim.reverse_lookup_pair(pair);
            let names = if a < b { (a, b) } else { (b, a) };
            if self.rng.below(self.loses_one_in) == 0 && !self.broken.contains(&names) {
                self.world().count("messages lost");
                sim.partition(pair.0, pair.1);
                sim.repair(pair.0, pair.1);
            }
        }
    }

    /// Lets happen what is due now.
    pub(crate) fn act(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        let (due, later) = self.mends.drain(..).partition(|(at_ms, _)| *at_ms <= now_ms);
        self.mends = later;
        let due: Vec<(u64, Mend)> = due;
        for (_, mend) in due {
            self.mend(sim, mend);
        }
        self.replace_ended(now_ms);
        if self.joins_ms <= now_ms {
            self.joins_ms = u64::MAX;
            self.note("w9 joins");
            self.add(sim, "w9");
        }
        if self.is_calm {
            return;
        }
        if self.loses_one_in > 0 {
            self.lose(sim);
        }
        if self.rng.below(10) == 0 {
            let (a, b) = (self.pick(""), self.pick(""));
            self.set_latency(sim, &a, &b, 100);
        }
        if now_ms >= self.calm_ms {
            self.calm(sim);
        } else if now_ms >= self.next_ms {
            self.next_ms = now_ms + 300 + self.rng.below(4_500);
            self.fault(sim, now_ms);
        }
    }

    fn note(&self, text: &str) {
        self.world().note("CHAOS", text);
    }

    /// The engine starts workers again that ended with work left.
    fn replace_ended(&mut self, now_ms: u64) {
        let ended = std::mem::take(&mut lock(&self.site.world.orders).ended);
        for host in ended {
            let at_ms = now_ms + 200 + self.rng.below(3_000);
            self.mends.push((at_ms, Mend::Start(host)));
        }
    }

    fn mend(&mut self, sim: &mut Sim<'_>, mend: Mend) {
        self.note(&format!("{mend:?}"));
        match mend {
            Mend::Start(host) => {
                self.down.remove(&host);
                sim.bounce(host);
            }
            Mend::Crash(host) => self.crash(sim, &host, 1_000),
            Mend::Link(a, b) => {
                sim.repair(a.as_str(), b.as_str());
                sim.release(a.as_str(), b.as_str());
                self.broken.remove(&(a, b));
            }
            Mend::Speed(a, b) => self.set_latency(sim, &a, &b, 100),
            Mend::Weather => lock(&self.site.world.orders).weather = None,
            Mend::Reach(host) => {
                lock(&self.site.world.orders).cut_off.remove(&host);
            }
        }
    }

    /// Nothing breaks any more, everything is mended.
    fn calm(&mut self, sim: &mut Sim<'_>) {
        self.is_calm = true;
        self.note("calm");
        let mends = std::mem::take(&mut self.mends);
        for (_, mend) in mends {
            if !matches!(mend, Mend::Crash(_)) {
                self.mend(sim, mend);
            }
        }
        for a in self.hosts.clone() {
            for b in self.hosts.iter().filter(|b| **b < a) {
                sim.repair(a.as_str(), b.as_str());
                sim.release(a.as_str(), b.as_str());
            }
        }
        // A coordinator that was fenced is gone for good; one must be left.
        let coordinators = self.hosts.iter().filter(|host| host.starts_with('c'));
        let running: Vec<_> =
            coordinators.filter(|host| sim.is_host_running(host.as_str())).collect();
        if running.is_empty() {
            self.mend(sim, Mend::Start("c0".to_owned()));
        }
    }

    fn pick(&mut self, prefix: &str) -> String {
        let of_kind: Vec<_> =
            self.hosts.iter().filter(|host| host.starts_with(prefix)).cloned().collect();
        let index = self.rng.below(of_kind.len() as u64) as usize;
        of_kind.get(index).cloned().unwrap_or_default()
    }

    fn pair(&mut self) -> Option<(String, String)> {
        let a = if self.rng.below(4) == 0 { self.pick("") } else { self.pick("c") };
        let b = self.pick("");
        let pair = if a < b { (a, b) } else { (b, a) };
        (pair.0 != pair.1 && self.broken.insert(pair.clone())).then_some(pair)
    }

    fn crash(&mut self, sim: &mut Sim<'_>, host: &str, down_ms_min: u64) {
        if !self.down.insert(host.to_owned()) {
            return;
        }
        self.note(&format!("crash {host}"));
        self.world().count("crashes");
        sim.crash(host);
        let at_ms = self.world().now_ms() + down_ms_min + self.rng.below(8_000);
        self.mends.push((at_ms, Mend::Start(host.to_owned())));
    }

    fn fault(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        let until_ms = now_ms + 500 + self.rng.below(12_000);
        match self.rng.below(14) {
            0 | 1 => {
                let host = self.pick("w");
                self.crash(sim, &host, 300);
            }
            2 => {
                let host = self.pick("c");
                self.crash(sim, &host, 300);
            }
            3 | 4 => self.preempt(now_ms),
            5 => self.partition(sim, until_ms),
            6 => self.hold(sim, until_ms),
            7 => self.slow_down(sim, until_ms),
            8 => self.worsen(until_ms),
            9 => {
                let host = self.pick("");
                self.cut_off(host, until_ms);
            }
            10 => self.split_brain(sim, until_ms),
            11 => self.freeze(sim, now_ms, until_ms),
            12 => self.jump(),
            _ => self.drain(),
        }
    }

    fn cut_off(&mut self, host: String, until_ms: u64) {
        self.note(&format!("{host} does not reach the store"));
        self.world().count("store partitions");
        lock(&self.site.world.orders).cut_off.insert(host.clone());
        self.mends.push((until_ms, Mend::Reach(host)));
    }

    fn preempt(&mut self, now_ms: u64) {
        let host = self.pick("w");
        let grace_ms = self.rng.below(4) * 1_500;
        let Some(stop) = lock(&self.site.world.orders).stops.get(&host).cloned() else { return };
        self.note(&format!("pre-empt {host} with {grace_ms} ms"));
        self.world().count("pre-emptions with notice");
        stop.stop(grace_ms, "SIGTERM");
        // The engine does not wait for ever.
        self.mends.push((now_ms + grace_ms + 4_000, Mend::Crash(host)));
    }

    fn partition(&mut self, sim: &mut Sim<'_>, until_ms: u64) {
        let Some((a, b)) = self.pair() else { return };
        self.world().count("partitions");
        if self.rng.below(3) == 0 {
            self.note(&format!("partition from {a} to {b}"));
            sim.partition_oneway(a.as_str(), b.as_str());
        } else {
            self.note(&format!("partition {a} {b}"));
            sim.partition(a.as_str(), b.as_str());
        }
        self.mends.push((until_ms, Mend::Link(a, b)));
    }

    fn hold(&mut self, sim: &mut Sim<'_>, until_ms: u64) {
        let Some((a, b)) = self.pair() else { return };
        self.note(&format!("hold {a} {b}"));
        self.world().count("held links");
        sim.hold(a.as_str(), b.as_str());
        self.mends.push((until_ms, Mend::Link(a, b)));
    }

    fn slow_down(&mut self, sim: &mut Sim<'_>, until_ms: u64) {
        let (a, b) = (self.pick("c"), self.pick("w"));
        self.note(&format!("slow {a} {b}"));
        self.world().count("slow links");
        self.set_latency(sim, &a, &b, 4_000);
        self.mends.push((until_ms, Mend::Speed(a, b)));
    }

    fn worsen(&mut self, until_ms: u64) {
        let kinds = [Weather::Slow, Weather::Failing, Weather::Failing, Weather::Down];
        let weather = kinds[self.rng.below(4) as usize];
        self.note(&format!("the store is {weather:?}"));
        self.world().count("store outages");
        lock(&self.site.world.orders).weather = Some(weather);
        self.mends.push((until_ms, Mend::Weather));
    }

    /// A second coordinator of the name, while the first still runs, and often cannot know.
    fn split_brain(&mut self, sim: &mut Sim<'_>, until_ms: u64) {
        let host =
            if self.hosts.iter().any(|host| host == "c1") { self.pick("c") } else { "c1".into() };
        if sim_runs(sim, &self.hosts, &host) || self.down.contains(&host) {
            return;
        }
        self.note(&format!("a rival starts on {host}"));
        self.world().count("rival coordinators");
        if self.rng.below(2) == 0 {
            let older = if host == "c0" { "c1" } else { "c0" };
            self.cut_off(older.to_owned(), until_ms + 5_000);
        }
        if self.hosts.contains(&host) {
            sim.bounce(host);
        } else {
            self.add(sim, &host);
        }
    }

    /// A process stands still, as one that is swapped out or stopped: its lease expires, it goes on later.
    fn freeze(&mut self, sim: &mut Sim<'_>, now_ms: u64, until_ms: u64) {
        let host = self.pick("w");
        let until_ms = until_ms.max(now_ms + 4_000);
        self.note(&format!("freeze {host} until {until_ms}"));
        self.world().count("frozen workers");
        lock(&self.site.world.orders).frozen_until_ms.insert(host.clone(), until_ms);
        for other in self.hosts.clone() {
            let (a, b) = if other < host { (other, host.clone()) } else { (host.clone(), other) };
            if a != b && self.broken.insert((a.clone(), b.clone())) {
                sim.hold(a.as_str(), b.as_str());
                self.mends.push((until_ms, Mend::Link(a, b)));
            }
        }
    }

    /// The clock of a worker leaps over the age at which an attempt may not commit any more.
    fn jump(&mut self) {
        let host = self.pick("w");
        self.note(&format!("the clock of {host} jumps"));
        self.world().count("clock jumps");
        let mut orders = lock(&self.site.world.orders);
        *orders.jumps_ms.entry(host.clone()).or_default() += JUMP_MS;
        if let Some(attempt) = orders.computing.get(&host).cloned() {
            orders.too_old.insert(attempt);
        }
    }

    fn drain(&mut self) {
        let host = self.pick("w");
        let mut orders = lock(&self.site.world.orders);
        let starts = orders.starts.get(&host).copied().unwrap_or(0);
        orders.drains.push(format!("{host}.{starts}"));
        drop(orders);
        self.note(&format!("drain {host}"));
        self.world().count("drains");
    }
}

fn sim_runs(sim: &mut Sim<'_>, hosts: &[String], host: &str) -> bool {
    hosts.iter().any(|known| known == host) && sim.is_host_running(host)
}
