//! The text of a long transform's rows, and what its kernels may cost.
//!
//! Leaves out: who launches them (`long`). Invariant: as of `sources`.

use super::sources::budget;
use crate::cuda::{Instance, Source};

/// An instance of `rows.cu`: points, threads, resident blocks, registers.
macro_rules! row {
    ($points:literal, $threads:literal, $blocks:literal, $registers:literal) => {
        Instance {
            defines: &[
                ("POINTS", $points),
                ("SERIES", 8),
                ("THREADS", $threads),
                ("BLOCKS", $blocks),
                ("QUARTER", 0),
            ],
            budgets: &[
                budget("hyena_rows", $registers, $points * 8),
                budget("hyena_rows_filter", $registers, $points * 8),
            ],
        }
    };
}

/// `rows.cu`
pub(crate) static SOURCE: Source = Source {
    name: "hyena_rows",
    text: concat!(include_str!("transform.cuh"), include_str!("rows.cu")),
    kernels: &["hyena_rows", "hyena_rows_filter"],
    instances: &[row!(128, 64, 10, 96), row!(256, 128, 5, 96), row!(1024, 256, 3, 80)],
};
