//! The store on a real S3 gateway: large objects, long lists, refusals, faults on the way, outages, full spools.
//!
//! Leaves out: facts that hold for every kind of store (`store_conformance`). Without the gateway's programs
//! everything here is skipped aloud, or fails where `GLMEVAL_REQUIRE_REAL=1`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod faults;
mod full_spool;
mod objects;
mod outage;
mod refusals;
