//! The binary as its users meet it: whole jobs, clusters, kills, bad input, every subcommand.
//!
//! Leaves out: numbers (golden tests judge them); what is judged here is that they stay the same.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "end_to_end/bad_files.rs"]
mod bad_files;
#[path = "end_to_end/bad_jobs.rs"]
mod bad_jobs;
#[path = "end_to_end/cluster.rs"]
mod cluster;
#[path = "end_to_end/commands.rs"]
mod commands;
#[path = "end_to_end/devices.rs"]
mod devices;
#[path = "end_to_end/embed.rs"]
mod embed;
#[path = "end_to_end/full_disk.rs"]
mod full_disk;
#[path = "end_to_end/kills.rs"]
mod kills;
#[path = "end_to_end/pairs.rs"]
mod pairs;
#[path = "end_to_end/run.rs"]
mod run;
#[path = "end_to_end/stops.rs"]
mod stops;
#[path = "end_to_end/variants.rs"]
mod variants;
