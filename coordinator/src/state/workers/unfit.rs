//! Pure: machines whose workers said that they cannot do what they were given, and why.
//!
//! Leaves out: the units (reports). Invariant: so many machines are kept at most, and one whose next worker
//! commits is none of them.

use std::collections::BTreeMap;

/// Machines that are told of.
const HOSTS_MAX: usize = 16;

/// Machines with workers that left as unfit.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct Unfit {
    /// Workers that left, and what the last one said.
    by_host: BTreeMap<String, (u64, String)>,
}

impl Unfit {
    /// A worker of `host` cannot do a unit, for `reason`.
    pub(in crate::state) fn note(&mut self, host: &str, reason: String) {
        let is_known = self.by_host.contains_key(host);
        if is_known || self.by_host.len() < HOSTS_MAX {
            let (workers, last) = self.by_host.entry(host.to_owned()).or_default();
            *workers += 1;
            *last = reason;
        }
    }

    /// A worker of `host` that is fit committed a unit.
    pub(in crate::state) fn forget(&mut self, host: &str) {
        self.by_host.remove(host);
    }

    /// One line for each machine.
    pub(in crate::state) fn lines(&self) -> impl Iterator<Item = String> {
        self.by_host.iter().map(|(host, (workers, reason))| match workers {
            1 => format!("a worker of host {host} is unfit and left: {reason}"),
            _ => format!("{workers} workers of host {host} are unfit and left: {reason}"),
        })
    }
}
