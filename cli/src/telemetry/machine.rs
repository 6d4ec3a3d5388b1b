//! What this machine and this process are, for whoever watches a cluster.
//!
//! Leaves out: what a machine can do (`doctor`, `bench`). Invariant: what cannot be read is left empty.

use glmeval_common::control::{Health, WorkerFacts};
use glmeval_common::store::Store;
use glmeval_worker::agent::HealthSource;
use glmeval_worker::device::Device;
use std::sync::Arc;

/// What a worker of this process is that computes on `device`.
pub(crate) fn facts(device: &Device) -> WorkerFacts {
    WorkerFacts {
        // As prices name it: `nvidia-h200`.
        device_kind: device.name().map_or("cpu".to_owned(), priced_kind),
        device: device.name().map_or_else(cpu_name, str::to_owned),
        threads: u32::try_from(glmeval_worker::rate::thread_count()).unwrap_or(u32::MAX),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// How this process fares, with its requests to `store`.
pub(crate) fn health(store: Store) -> HealthSource {
    Arc::new(move || Health {
        memory_bytes: memory_bytes(),
        store: store.requests(),
        ..Health::default()
    })
}

fn priced_kind(name: &str) -> String {
    name.to_lowercase().split_whitespace().take(2).collect::<Vec<_>>().join("-")
}

fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// Resident memory of this process.
pub(super) fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    kilobytes.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
}
