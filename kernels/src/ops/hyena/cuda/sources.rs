//! The texts of the mixer's kernels, and what they may cost.
//!
//! Leaves out: who launches them. Invariant: every form that a launch takes has an instance of its stages, threads and
//! registers here; points in between differ in constants only.

use crate::cuda::{Budget, Instance, Source};

/// An instance of `hyena.cu`: points, series, threads, resident blocks, code of rows, registers.
macro_rules! mixing {
    ($points:literal, $series:literal, $threads:literal, $blocks:literal, $value:literal, $registers:literal) => {
        Instance {
            defines: &[
                ("POINTS", $points),
                ("SERIES", $series),
                ("THREADS", $threads),
                ("BLOCKS", $blocks),
                ("QUARTER", 1),
                ("VALUE", $value),
            ],
            budgets: &[
                budget("hyena_mix", $registers, $points * $series),
                budget("hyena_spectrum", $registers, $points * $series),
            ],
        }
    };
}

/// Complex points and, after each four of them at least, a spare one.
pub(super) const fn budget(kernel: &'static str, registers: u32, points: u32) -> Budget {
    Budget { kernel, registers, shared_bytes: (points + points / 4) * 8 }
}

/// `hyena.cu`
pub(crate) static MIX: Source = Source {
    name: "hyena",
    text: concat!(
        include_str!("transform.cuh"),
        include_str!("short.cuh"),
        include_str!("../../hyena.cu")
    ),
    kernels: &["hyena_mix", "hyena_spectrum"],
    instances: &[
        mixing!(16, 32, 32, 16, 0, 64),
        mixing!(80, 16, 128, 5, 0, 96),
        mixing!(256, 8, 128, 5, 0, 96),
        mixing!(256, 8, 128, 5, 1, 96),
        mixing!(640, 8, 256, 3, 0, 80),
        mixing!(1024, 8, 256, 3, 0, 80),
        mixing!(1024, 8, 256, 3, 1, 80),
        mixing!(4096, 4, 512, 1, 0, 128),
        mixing!(4096, 2, 256, 1, 0, 128),
        mixing!(6144, 2, 512, 1, 1, 128),
        mixing!(8192, 2, 512, 1, 0, 128),
        mixing!(8192, 2, 512, 1, 1, 128),
        mixing!(6144, 1, 256, 1, 0, 128),
        mixing!(8192, 1, 256, 1, 0, 128),
        mixing!(8192, 1, 256, 1, 1, 128),
    ],
};
