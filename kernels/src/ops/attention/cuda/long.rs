//! Attention with bf16 products for sequences of any length, tile by tile.
//!
//! Leaves out: sequences that a block holds whole (`short`). Invariant: tiles follow from a sequence's length.

use super::Call;
use super::table::{Entries, LONG_ROWS, SequenceTable};
use crate::cuda::{Bf16, Budget, Instance, LaunchShape, Source};
use crate::error::Result;

const KERNEL: &str = "attention_long";
const THREADS: u32 = 128;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: KERNEL,
    text: concat!(include_str!("words.cuh"), include_str!("long.cu")),
    kernels: &[KERNEL],
    instances: &[
        instance(&[("WIDTH", 16), ("HAS_SLOPES", 0)], &[budget(144, 16)]),
        instance(&[("WIDTH", 32), ("HAS_SLOPES", 0)], &[budget(168, 32)]),
        instance(&[("WIDTH", 32), ("HAS_SLOPES", 1)], &[budget(168, 32)]),
        instance(&[("WIDTH", 64), ("HAS_SLOPES", 0)], &[budget(232, 64)]),
        instance(&[("WIDTH", 64), ("HAS_SLOPES", 1)], &[budget(240, 64)]),
        instance(&[("WIDTH", 80), ("HAS_SLOPES", 0)], &[budget(240, 80)]),
        instance(&[("WIDTH", 96), ("HAS_SLOPES", 0)], &[budget(248, 96)]),
        instance(&[("WIDTH", 96), ("HAS_SLOPES", 1)], &[budget(255, 96)]),
        instance(&[("WIDTH", 128), ("HAS_SLOPES", 0)], &[budget(248, 128)]),
        instance(&[("WIDTH", 128), ("HAS_SLOPES", 1)], &[budget(248, 128)]),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)], budgets: &'static [Budget]) -> Instance {
    Instance { defines, budgets }
}

const fn budget(registers: u32, width: usize) -> Budget {
    Budget { kernel: KERNEL, registers, shared_bytes: shared_bytes(width) as u32 }
}

/// Queries of a tile, and two places for keys and values, each row padded by 16 bytes.
const fn shared_bytes(width: usize) -> usize {
    let keys = if width <= 96 { 64 } else { 32 };
    (LONG_ROWS + 4 * keys) * (width.next_multiple_of(16) + 8) * 2
}

/// Attends within every sequence that is in no short form.
pub(super) fn attend(call: &Call<'_, Bf16>, table: &SequenceTable) -> Result<()> {
    launch(call, &table.long())
}

/// Attends within the tiles of `entries`, of [`LONG_ROWS`] rows at most.
pub(super) fn launch(call: &Call<'_, Bf16>, entries: &Entries<'_>) -> Result<()> {
    if entries.count == 0 {
        return Ok(());
    }
    let has_slopes = i64::from(call.slopes.is_some());
    let defines = [("WIDTH", call.width as i64), ("HAS_SLOPES", has_slopes)];
    let kernel = call.qkv.gpu().kernel(&SOURCE, KERNEL, &defines)?;
    let shape = LaunchShape::line(entries.count.saturating_mul(call.heads), THREADS)
        .shared(shared_bytes(call.width));
    // SAFETY: entries name rows of qkv and out, whose lengths `attention` checked; a block writes its own rows.
    unsafe { kernel.launch(shape, call.arguments(entries)) }
}
