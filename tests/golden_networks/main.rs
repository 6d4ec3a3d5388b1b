//! Networks of layers and their training against Keras, for every model of the fixtures.
//!
//! Models are built from the fixtures' own descriptions; tolerances are their README's. Leaves out:
//! facts that hold for any layers (worker).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod callbacks;
mod device;
mod fits;
mod fixture;
mod keras;
mod models;
mod paper_scale;
mod published;
