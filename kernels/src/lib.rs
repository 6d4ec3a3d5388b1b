//! Numbers on a device: operations on arrays, CPU forms first, CUDA forms beside them.
//!
//! Leaves out: DNA, files, jobs, network. Invariant: a row's result never depends on other rows,
//! on how many there are, on the number of threads or on the CPU model.
#![expect(unsafe_code, reason = "vector instructions, and threads that write spans of one output")]

pub mod cuda;
pub mod error;
mod isa;
mod lanes;
pub mod ops;
mod parallel;
mod sequences;
mod slices;
mod tile;

/// Changes whenever any operation may give other bits; part of the numeric class of results.
pub const REVISION: u32 = 1;

/// The instruction set that operations run with on this CPU, for people.
pub fn instruction_set() -> &'static str {
    isa::Isa::best().name()
}

/// What computes bf16 products on this CPU, for people: "AMX", "AVX2" or "emulated"; all give the same bits.
pub fn bf16_kind() -> &'static str {
    tile::bf16::Unit::best().name()
}
