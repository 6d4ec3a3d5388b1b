//! The text of a long transform's columns, and what its kernels may cost.
//!
//! Leaves out: who launches them (`long`). Invariant: as of `sources`.

use super::sources::budget;
use crate::cuda::{Instance, Source};

/// An instance of `columns.cu`: points, series, resident blocks, code of rows, registers.
macro_rules! columns {
    ($points:literal, $series:literal, $blocks:literal, $value:literal, $registers:literal) => {
        Instance {
            defines: &[
                ("POINTS", $points),
                ("SERIES", $series),
                ("THREADS", 256),
                ("BLOCKS", $blocks),
                ("QUARTER", 1),
                ("VALUE", $value),
                ("CHANNELS", 8),
            ],
            budgets: &[
                budget("hyena_columns", $registers, $points * $series),
                budget("hyena_columns_filter", $registers, $points * $series),
                budget("hyena_columns_back", $registers, $points * $series),
            ],
        }
    };
}

/// `columns.cu`
pub(crate) static SOURCE: Source = Source {
    name: "hyena_columns",
    text: concat!(
        include_str!("transform.cuh"),
        include_str!("short.cuh"),
        include_str!("columns.cu")
    ),
    kernels: &["hyena_columns", "hyena_columns_filter", "hyena_columns_back"],
    instances: &[
        columns!(80, 64, 2, 0, 128),
        columns!(256, 32, 3, 1, 80),
        columns!(640, 8, 3, 0, 80),
        columns!(1024, 8, 3, 0, 80),
        columns!(1024, 8, 3, 1, 80),
    ],
};
