//! Runs one leased unit at a time: prepares data sets, embeds examples, fits probes, writes reports.
//!
//! Leaves out: which unit runs where (coordinator). Invariant: a unit's result depends on the unit
//! alone, never on the worker, its neighbours or the time.

pub mod agent;
mod attempt;
pub mod attribution;
pub mod batching;
pub mod config;
pub mod device;
pub mod extract;
pub mod features;
pub mod fit;
pub mod hub;
pub mod importance;
pub mod json;
mod layers;
pub mod logo;
pub mod model;
pub mod models;
pub mod motifs;
pub mod network;
pub mod notice;
pub mod prepare;
pub mod probe;
pub mod probes;
pub mod publish;
pub mod rate;
pub mod report;
pub mod representation;
pub mod row_table;
pub mod runner;
pub mod scoring;
pub mod spool;
pub mod statistics;
pub mod task;
pub mod tasks;
pub mod tokenizer;
pub mod tokenizers;
pub mod training;
pub mod variants;
pub mod weights;

use glmeval_common::model::Precision;
use glmeval_common::network::{ResolvedNetwork, TrainingSpec};

/// Numeric class of what the CPU embeds in `precision`: precision, device kind, kernel revision.
pub fn numeric_class(precision: Precision) -> String {
    numeric_class_on(device::CPU, precision)
}

/// Numeric class on a kind of device, as [`device::Device::kind`] names it.
pub fn numeric_class_on(kind: &str, precision: Precision) -> String {
    format!("{}.{kind}.{}", precision.name(), glmeval_kernels::REVISION)
}

/// Numeric class that a network is trained in on a kind of device; `None` where it is trained on the CPU: there are no devices,
/// or they do not train such a network in such a precision. Asks no device.
pub fn training_class_on(
    kind: &str,
    network: &ResolvedNetwork,
    training: &TrainingSpec,
) -> Option<String> {
    let is_trained = kind != device::CPU && network::is_trained_on_devices(network, training);
    is_trained.then(|| numeric_class_on(kind, training.precision))
}

/// Every numeric class a worker without a device can compute in.
pub fn numeric_classes() -> Vec<String> {
    device::Device::Cpu.numeric_classes()
}

/// The CPU instruction set that kernels run with, for people.
pub fn instruction_set() -> &'static str {
    glmeval_kernels::instruction_set()
}

/// What bf16 matrix products run on, for people: `AMX`, `AVX2` or `emulated`.
pub fn bf16_kind() -> &'static str {
    glmeval_kernels::bf16_kind()
}

/// Sizes the pool of threads that all kernels share; `None` = one per CPU thread.
///
/// # Errors
/// `Invalid` for zero threads or more than 1,024; `Unavailable` if threads cannot be started.
pub fn start_threads(threads: Option<usize>) -> glmeval_common::error::Result<()> {
    use glmeval_common::error::Error;
    const THREADS_MAX: usize = 1024;
    if let Some(found) = threads.filter(|threads| !(1..=THREADS_MAX).contains(threads)) {
        let message = format!("--threads: expected 1 to {THREADS_MAX}, found {found}");
        return Err(Error::invalid(message));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    pool.build_global().map_err(|e| Error::unavailable("start threads").with_source(e))
}
