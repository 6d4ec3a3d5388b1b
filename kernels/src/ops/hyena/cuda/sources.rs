//! The texts of the mixer's kernels, and what they may cost.
//!
//! Leaves out: who launches them. Invariant: every form that a launch takes has an instance of its stages, threads and
//! registers here; points in between differ in constants only.

use crate::cuda::{Budget, Instance, Source};

/// An instance of `hyena.cu`: points, series, threads, resident blocks, whether rows are bf16, registers.
macro_rules! mixing {
    ($points:literal, $series:literal, $threads:literal, $blocks:literal, $bf16:literal, $registers:literal) => {
        Instance {
            defines: &[
                ("POINTS", $points),
                ("SERIES", $series),
                ("THREADS", $threads),
                ("BLOCKS", $blocks),
                ("QUARTER", 1),
                ("BF16", $bf16),
            ],
            budgets: &[
                budget("hyena_mix", $registers, $points * $series),
                budget("hyena_spectrum", $registers, $points * $series),
            ],
        }
    };
}

/// An instance of `columns.cu`: points, series, whether rows are bf16.
macro_rules! columns {
    ($points:literal, $series:literal, $bf16:literal) => {
        Instance {
            defines: &[
                ("POINTS", $points),
                ("SERIES", $series),
                ("THREADS", 256),
                ("BLOCKS", 3),
                ("QUARTER", 1),
                ("BF16", $bf16),
                ("CHANNELS", 8),
            ],
            budgets: &[
                budget("hyena_columns", 80, $points * $series),
                budget("hyena_columns_filter", 80, $points * $series),
                budget("hyena_columns_back", 80, $points * $series),
            ],
        }
    };
}

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

/// Complex points and, after each four of them at least, a spare one.
const fn budget(kernel: &'static str, registers: u32, points: u32) -> Budget {
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
        mixing!(6144, 2, 512, 1, 1, 128),
        mixing!(8192, 2, 512, 1, 0, 128),
        mixing!(8192, 2, 512, 1, 1, 128),
    ],
};

/// `columns.cu`
pub(crate) static COLUMNS: Source = Source {
    name: "hyena_columns",
    text: concat!(
        include_str!("transform.cuh"),
        include_str!("short.cuh"),
        include_str!("columns.cu")
    ),
    kernels: &["hyena_columns", "hyena_columns_filter", "hyena_columns_back"],
    instances: &[
        columns!(80, 64, 0),
        columns!(256, 32, 1),
        columns!(640, 8, 0),
        columns!(1024, 8, 0),
        columns!(1024, 8, 1),
    ],
};

/// `rows.cu`
pub(crate) static ROWS: Source = Source {
    name: "hyena_rows",
    text: concat!(include_str!("transform.cuh"), include_str!("rows.cu")),
    kernels: &["hyena_rows", "hyena_rows_filter"],
    instances: &[row!(128, 64, 10, 96), row!(256, 128, 5, 96), row!(1024, 256, 3, 80)],
};
