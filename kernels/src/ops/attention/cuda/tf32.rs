//! Attention in f32 values with tf32 products.
//!
//! Leaves out: full f32 (`simt`). Invariant: the tiles of a sequence follow from its length.

use super::Call;
use super::table::{Entries, SequenceTable};
use crate::cuda::{Budget, Instance, LaunchShape, Source};
use crate::error::Result;

const KERNEL: &str = "attention_tf32";
/// Values of a head at most, and what they must be a multiple of: 16 bytes.
pub(super) const WIDTH_MAX: usize = 128;
pub(super) const WIDTH_STEP: usize = 4;

/// Keys of a tile and warps of a block: of sequences that one tile holds, and of others.
const WHOLE: (usize, usize) = (48, 3);
const TILED: (usize, usize) = (64, 4);

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: KERNEL,
    text: concat!(include_str!("words.cuh"), include_str!("tf32.cu")),
    kernels: &[KERNEL],
    instances: &[
        instance(&[("WIDTH", 16), ("KEYS", 48), ("WARPS", 3)], &[budget(96, 16, WHOLE)]),
        instance(&[("WIDTH", 32), ("KEYS", 48), ("WARPS", 3)], &[budget(104, 32, WHOLE)]),
        instance(&[("WIDTH", 32), ("KEYS", 64), ("WARPS", 4)], &[budget(120, 32, TILED)]),
        instance(&[("WIDTH", 64), ("KEYS", 48), ("WARPS", 3)], &[budget(120, 64, WHOLE)]),
        instance(&[("WIDTH", 64), ("KEYS", 64), ("WARPS", 4)], &[budget(128, 64, TILED)]),
        instance(&[("WIDTH", 128), ("KEYS", 48), ("WARPS", 3)], &[budget(152, 128, WHOLE)]),
        instance(&[("WIDTH", 128), ("KEYS", 64), ("WARPS", 4)], &[budget(160, 128, TILED)]),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)], budgets: &'static [Budget]) -> Instance {
    Instance { defines, budgets }
}

const fn budget(registers: u32, width: usize, form: (usize, usize)) -> Budget {
    Budget { kernel: KERNEL, registers, shared_bytes: shared_bytes(width, form) as u32 }
}

/// Queries, keys and values of a tile, each row padded by 16 bytes.
const fn shared_bytes(width: usize, (keys, warps): (usize, usize)) -> usize {
    (16 * warps + 2 * keys) * (width.next_multiple_of(8) + 4) * 4
}

/// Attends within every sequence.
pub(super) fn attend(call: &Call<'_, f32>, table: &SequenceTable) -> Result<()> {
    launch(call, &table.small_whole(), WHOLE)?;
    launch(call, &table.small(), TILED)
}

fn launch(call: &Call<'_, f32>, entries: &Entries<'_>, form: (usize, usize)) -> Result<()> {
    if entries.count == 0 {
        return Ok(());
    }
    let (keys, warps) = form;
    let defines = [("WIDTH", call.width as i64), ("KEYS", keys as i64), ("WARPS", warps as i64)];
    let kernel = call.qkv.gpu().kernel(&SOURCE, KERNEL, &defines)?;
    let shape = LaunchShape::line(entries.count.saturating_mul(call.heads), 32 * warps as u32)
        .shared(shared_bytes(call.width, form));
    // SAFETY: entries name rows of qkv and out, whose lengths `attention` checked; a block writes its own rows.
    unsafe { kernel.launch(shape, call.arguments(entries)) }
}
