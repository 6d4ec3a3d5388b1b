//! A cluster as its operators see it: metrics, dashboard, traces and cost of real processes.
//!
//! Leaves out: whether the work is right (`end_to_end.rs`, `cluster.rs`).

mod access;
mod browser;
mod cost;
mod metrics;
mod prometheus;
mod report;
mod secured;
mod study;
mod traces;
mod webdriver;
mod world;
