//! Attention in f32 multiply-adds, for every width of a head up to 256.
//!
//! Leaves out: matrix units. Invariant: the tiles of a sequence follow from its length.

use super::Call;
use super::table::{Entries, SequenceTable};
use crate::cuda::{Budget, Element, Instance, LaunchShape, Source};
use crate::error::Result;

const KERNEL: &str = "attention_simt";
const THREADS: u32 = 128;
/// Values of a head at most.
pub(super) const WIDTH_MAX: usize = 256;

/// Rows and keys that a thread owns: of sequences that one tile holds, and of others.
const WHOLE: (usize, usize) = (3, 6);
const TILED: (usize, usize) = (4, 8);
/// As `TILED`, of heads above 128 values: a block's shared memory stays below 163 KiB.
const TILED_WIDE: (usize, usize) = (4, 4);

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: KERNEL,
    text: concat!(include_str!("words.cuh"), include_str!("simt.cu")),
    kernels: &[KERNEL],
    instances: &[
        instance(
            &[("WIDTH", 32), ("ROWS_EACH", 3), ("KEYS_EACH", 6), ("IS_BF16", 0)],
            &[budget(128, 32, WHOLE)],
        ),
        instance(
            &[("WIDTH", 64), ("ROWS_EACH", 3), ("KEYS_EACH", 6), ("IS_BF16", 0)],
            &[budget(128, 64, WHOLE)],
        ),
        instance(
            &[("WIDTH", 64), ("ROWS_EACH", 4), ("KEYS_EACH", 8), ("IS_BF16", 0)],
            &[budget(168, 64, TILED)],
        ),
        instance(
            &[("WIDTH", 128), ("ROWS_EACH", 4), ("KEYS_EACH", 8), ("IS_BF16", 0)],
            &[budget(168, 128, TILED)],
        ),
        instance(
            &[("WIDTH", 256), ("ROWS_EACH", 4), ("KEYS_EACH", 4), ("IS_BF16", 0)],
            &[budget(255, 256, TILED_WIDE)],
        ),
        instance(
            &[("WIDTH", 128), ("ROWS_EACH", 4), ("KEYS_EACH", 4), ("IS_BF16", 0)],
            &[budget(168, 128, (4, 4))],
        ),
        instance(
            &[("WIDTH", 256), ("ROWS_EACH", 4), ("KEYS_EACH", 1), ("IS_BF16", 0)],
            &[budget(255, 256, (4, 1))],
        ),
        instance(
            &[("WIDTH", 20), ("ROWS_EACH", 4), ("KEYS_EACH", 8), ("IS_BF16", 1)],
            &[budget(128, 20, TILED)],
        ),
        instance(
            &[("WIDTH", 7), ("ROWS_EACH", 3), ("KEYS_EACH", 6), ("IS_BF16", 0)],
            &[budget(128, 7, WHOLE)],
        ),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)], budgets: &'static [Budget]) -> Instance {
    Instance { defines, budgets }
}

const fn budget(registers: u32, width: usize, each: (usize, usize)) -> Budget {
    Budget { kernel: KERNEL, registers, shared_bytes: shared_bytes(width, each) as u32 }
}

/// Queries, keys and values of a tile with their padding, and its weights.
const fn shared_bytes(width: usize, (rows_each, keys_each): (usize, usize)) -> usize {
    let (rows, keys) = (16 * rows_each, 8 * keys_each);
    let stride = width.next_multiple_of(32) + 4;
    4 * ((rows + 2 * keys) * stride + rows * (keys + 8))
}

/// Attends within every sequence.
pub(super) fn attend<T: Element>(
    call: &Call<'_, T>,
    table: &SequenceTable,
    is_bf16: bool,
) -> Result<()> {
    let room = call.qkv.gpu().properties().shared_bytes_max as usize;
    launch(call, &table.small_whole(), fitting(WHOLE, call.width, room), is_bf16)?;
    let tiled = if call.width <= 128 { TILED } else { TILED_WIDE };
    launch(call, &table.small(), fitting(tiled, call.width, room), is_bf16)
}

/// A form with as many keys of `form`'s as a block has room for.
fn fitting((rows, keys): (usize, usize), width: usize, room: usize) -> (usize, usize) {
    let halves = std::iter::successors(Some(keys), |keys| (*keys > 1).then_some(keys / 2));
    (rows, halves.filter(|keys| shared_bytes(width, (rows, *keys)) <= room).max().unwrap_or(1))
}

fn launch<T: Element>(
    call: &Call<'_, T>,
    entries: &Entries<'_>,
    each: (usize, usize),
    is_bf16: bool,
) -> Result<()> {
    if entries.count == 0 {
        return Ok(());
    }
    let defines = [
        ("WIDTH", call.width as i64),
        ("ROWS_EACH", each.0 as i64),
        ("KEYS_EACH", each.1 as i64),
        ("IS_BF16", i64::from(is_bf16)),
    ];
    let kernel = call.qkv.gpu().kernel(&SOURCE, KERNEL, &defines)?;
    let shape = LaunchShape::line(entries.count.saturating_mul(call.heads), THREADS)
        .shared(shared_bytes(call.width, each));
    // SAFETY: entries name rows of qkv and out, whose lengths `attention` checked; a block writes its own rows.
    unsafe { kernel.launch(shape, call.arguments(entries)) }
}
