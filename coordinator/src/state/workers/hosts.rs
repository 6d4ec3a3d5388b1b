//! Pure: machines by what fails on them and succeeds elsewhere.
//!
//! Leaves out: workers that fall silent, pre-emption and store errors: none of these is the machine's
//! doing. Invariant: a machine is blamed once per unit, and only after the unit succeeded elsewhere.

use std::collections::{BTreeMap, BTreeSet};

/// A machine that fails no more than one in so many of its units is not sick, however long it runs.
const ENDED_PER_BLAME_MAX: u64 = 5;

/// One machine.
#[derive(Clone, Debug, Default)]
struct Host {
    /// Attempts that committed or failed for good there.
    ended: u64,
    /// Units that failed there and succeeded elsewhere.
    blamed: u32,
    /// Workers of it that lied.
    liars: u32,
    /// Why nothing is granted to it any more.
    drained: Option<String>,
}

/// Every machine that had a unit.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct Hosts {
    by_name: BTreeMap<String, Host>,
}

impl Hosts {
    /// An attempt ended on a machine, well or for good.
    pub(in crate::state) fn ended(&mut self, host: &str) {
        self.by_name.entry(host.to_owned()).or_default().ended += 1;
    }

    /// A unit succeeded on `well`; returns the machines it had failed on that are sick by now.
    pub(in crate::state) fn succeeded(
        &mut self,
        well: &str,
        failed: &BTreeSet<String>,
        blames_max: u32,
    ) -> Vec<(String, String)> {
        let mut sick = Vec::new();
        for name in failed.iter().filter(|name| *name != well) {
            let host = self.by_name.entry(name.clone()).or_default();
            host.blamed += 1;
            let often = u64::from(host.blamed) * ENDED_PER_BLAME_MAX >= host.ended;
            if host.blamed >= blames_max && often && host.drained.is_none() {
                let blamed = host.blamed;
                sick.push((name.clone(), format!("{blamed} units failed there and ran elsewhere")));
            }
        }
        sick
    }

    /// A worker of a machine lied; returns why the machine is not trusted, from `liars_max` on.
    pub(in crate::state) fn lied(&mut self, host: &str, liars_max: u32) -> Option<String> {
        let it = self.by_name.entry(host.to_owned()).or_default();
        it.liars += 1;
        let is_news = it.liars >= liars_max && it.drained.is_none();
        is_news.then(|| format!("{} of its workers lied", it.liars))
    }

    /// Nothing is granted to a machine any more.
    pub(in crate::state) fn drain(&mut self, host: &str, reason: String) {
        self.by_name.entry(host.to_owned()).or_default().drained = Some(reason);
    }

    /// Whether a machine is drained.
    pub(in crate::state) fn is_drained(&self, host: &str) -> bool {
        self.by_name.get(host).is_some_and(|host| host.drained.is_some())
    }

    /// Drained machines and why.
    pub(in crate::state) fn drained(&self) -> impl Iterator<Item = (&str, &str)> {
        let hosts = self.by_name.iter();
        hosts.filter_map(|(name, host)| Some((name.as_str(), host.drained.as_deref()?)))
    }
}
