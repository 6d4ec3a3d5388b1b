//! Network namespaces on one machine: a hub, where the store is, and one place for each process.
//!
//! ```text
//! hub 10.a.b.1 (bridge) --- 10.a.b.2 coordinator, 10.a.b.11 … workers
//! ```
//!
//! Leaves out: what runs there. Invariant: everything here is named after this process, and what a process that
//! is gone has left is swept by the next.

use glmeval_tests::real;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Prefix of every namespace.
const PREFIX: &str = "glmeval";

/// A bridge and its namespaces, removed when dropped.
pub(crate) struct Network {
    ip: PathBuf,
    process: u32,
}

/// A way between two places that can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// What `place` sends to `to` is refused at once.
    Blocked,
    /// What `place` sends arrives, answers do not.
    Answerless,
}

impl Network {
    /// The bridge; without root it says aloud that `what` is skipped.
    pub(crate) fn new(what: &str) -> Option<Self> {
        let ip = real::program("ip", what)?;
        let network = Self { ip, process: std::process::id() };
        network.sweep_stale();
        if !network.try_ip(&["link", "add", &network.bridge(), "type", "bridge"]) {
            real::skip(what, "no network namespaces: they take root");
            return None;
        }
        let address = format!("{}/24", network.hub());
        network.ip(&["link", "set", &network.bridge(), "up"]);
        network.ip(&["addr", "add", &address, "dev", &network.bridge()]);
        Some(network)
    }

    fn bridge(&self) -> String {
        format!("glm{}", self.process)
    }

    fn address(&self, last: u8) -> IpAddr {
        let [_, _, high, low] = self.process.to_be_bytes();
        Ipv4Addr::new(10, high | 0x80, low, last).into()
    }

    /// Address of the hub.
    pub(crate) fn hub(&self) -> IpAddr {
        self.address(1)
    }

    /// Address of a place.
    pub(crate) fn of(&self, place: u8) -> IpAddr {
        self.address(place)
    }

    fn name(&self, place: u8) -> String {
        format!("{PREFIX}-{}-{place}", self.process)
    }

    fn link(&self, place: u8) -> String {
        format!("g{}v{place}", self.process)
    }

    /// Makes a place with an address.
    pub(crate) fn add(&self, place: u8) {
        let (name, link) = (self.name(place), self.link(place));
        self.ip(&["netns", "add", &name]);
        self.ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name]);
        self.ip(&["link", "set", &link, "master", &self.bridge(), "up"]);
        self.ip(&["-n", &name, "link", "set", "lo", "up"]);
        self.ip(&["-n", &name, "link", "set", "eth0", "up"]);
        let address = format!("{}/24", self.of(place));
        self.ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"]);
    }

    /// A command that runs `program` in a place and dies with this process.
    pub(crate) fn command(&self, place: u8, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.ip);
        command.args(["netns", "exec", &self.name(place), "setpriv", "--pdeathsig", "KILL"]);
        command.arg(program);
        command
    }

    /// Cuts (or mends) the way from one place to another; place 1 is the hub.
    pub(crate) fn cut(&self, (from, to): (u8, u8), way: Way, cut: bool) {
        let (at, towards) = match way {
            Way::Blocked => (from, to),
            Way::Answerless => (to, from),
        };
        let verb = if cut { "add" } else { "del" };
        let target = format!("{}/32", self.address(towards));
        let route = ["route", verb, "blackhole", &target];
        // Two cuts of one way overlap: the second changes nothing, and neither does its end.
        if at == 1 {
            self.try_ip(&route);
        } else {
            self.try_ip(&[&["-n", &self.name(at)], &route[..]].concat());
        }
    }

    /// Takes a place off the network (or back): its peers wait in vain.
    pub(crate) fn unplug(&self, place: u8, off: bool) {
        self.ip(&["link", "set", &self.link(place), if off { "down" } else { "up" }]);
    }

    fn try_ip(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(&self.ip);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn ip(&self, arguments: &[&str]) {
        assert!(self.try_ip(arguments), "ip {}", arguments.join(" "));
    }

    /// Removes what tests left that were killed.
    fn sweep_stale(&self) {
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let mut parts = name.split('-');
            let (prefix, process) = (parts.next(), parts.next().unwrap_or_default());
            let lives = Path::new("/proc").join(process).exists();
            if prefix == Some(PREFIX) && !process.is_empty() && !lives {
                self.try_ip(&["netns", "del", &name]);
                self.try_ip(&["link", "del", &format!("glm{process}")]);
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.starts_with(&format!("{PREFIX}-{}-", self.process)) {
                self.try_ip(&["netns", "del", &name]);
            }
        }
        self.try_ip(&["link", "del", &self.bridge()]);
    }
}
