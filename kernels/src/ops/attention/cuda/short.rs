//! Attention with bf16 products for sequences that a block holds whole.
//!
//! Leaves out: longer sequences (`long`). Invariant: a sequence's form follows from its length.

use super::table::{Entries, SHORT, SequenceTable};
use super::{Call, long};
use crate::cuda::{Bf16, Budget, Instance, LaunchShape, Source};
use crate::error::Result;

const KERNEL: &str = "attention_short";
/// Values of a head at most, and what they must be a multiple of: 16 bytes.
pub(super) const WIDTH_MAX: usize = 128;
pub(super) const WIDTH_STEP: usize = 8;

/// What a block holds.
#[derive(Clone, Copy)]
struct Form {
    keys: usize,
    heads: usize,
    /// Of each head.
    warps: usize,
}

/// The form for each list of the table. The shortest sequences' heads share a block by twos.
const FORMS: [Form; SHORT.len()] = [
    Form { keys: 32, heads: 2, warps: 2 },
    Form { keys: 48, heads: 1, warps: 3 },
    Form { keys: 64, heads: 1, warps: 4 },
    Form { keys: 96, heads: 1, warps: 3 },
    Form { keys: 128, heads: 1, warps: 4 },
];

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: KERNEL,
    text: concat!(include_str!("words.cuh"), include_str!("short.cu")),
    kernels: &[KERNEL],
    instances: INSTANCES,
};

/// Registers are what NVRTC 12.6 takes for sm_80 or sm_90a, the larger.
const INSTANCES: &[Instance] = &[
    instance(&[("WIDTH", 8), ("KEYS", 32), ("HEADS", 2), ("WARPS", 2)], &[budget(40, 8, FORMS[0])]),
    instance(&[("WIDTH", 8), ("KEYS", 96), ("HEADS", 1), ("WARPS", 3)], &[budget(96, 8, FORMS[3])]),
    instance(
        &[("WIDTH", 32), ("KEYS", 32), ("HEADS", 2), ("WARPS", 2)],
        &[budget(48, 32, FORMS[0])],
    ),
    instance(
        &[("WIDTH", 32), ("KEYS", 48), ("HEADS", 1), ("WARPS", 3)],
        &[budget(56, 32, FORMS[1])],
    ),
    instance(
        &[("WIDTH", 32), ("KEYS", 64), ("HEADS", 1), ("WARPS", 4)],
        &[budget(64, 32, FORMS[2])],
    ),
    instance(
        &[("WIDTH", 32), ("KEYS", 96), ("HEADS", 1), ("WARPS", 3)],
        &[budget(96, 32, FORMS[3])],
    ),
    instance(
        &[("WIDTH", 32), ("KEYS", 128), ("HEADS", 1), ("WARPS", 4)],
        &[budget(128, 32, FORMS[4])],
    ),
    instance(
        &[("WIDTH", 64), ("KEYS", 32), ("HEADS", 2), ("WARPS", 2)],
        &[budget(64, 64, FORMS[0])],
    ),
    instance(
        &[("WIDTH", 64), ("KEYS", 48), ("HEADS", 1), ("WARPS", 3)],
        &[budget(72, 64, FORMS[1])],
    ),
    instance(
        &[("WIDTH", 64), ("KEYS", 64), ("HEADS", 1), ("WARPS", 4)],
        &[budget(80, 64, FORMS[2])],
    ),
    instance(
        &[("WIDTH", 64), ("KEYS", 96), ("HEADS", 1), ("WARPS", 3)],
        &[budget(128, 64, FORMS[3])],
    ),
    instance(
        &[("WIDTH", 64), ("KEYS", 128), ("HEADS", 1), ("WARPS", 4)],
        &[budget(128, 64, FORMS[4])],
    ),
    instance(
        &[("WIDTH", 80), ("KEYS", 64), ("HEADS", 1), ("WARPS", 4)],
        &[budget(96, 80, FORMS[2])],
    ),
    instance(
        &[("WIDTH", 96), ("KEYS", 48), ("HEADS", 1), ("WARPS", 3)],
        &[budget(96, 96, FORMS[1])],
    ),
    instance(
        &[("WIDTH", 96), ("KEYS", 128), ("HEADS", 1), ("WARPS", 4)],
        &[budget(208, 96, FORMS[4])],
    ),
    instance(
        &[("WIDTH", 128), ("KEYS", 32), ("HEADS", 2), ("WARPS", 2)],
        &[budget(128, 128, FORMS[0])],
    ),
    instance(
        &[("WIDTH", 128), ("KEYS", 48), ("HEADS", 1), ("WARPS", 3)],
        &[budget(128, 128, FORMS[1])],
    ),
    instance(
        &[("WIDTH", 128), ("KEYS", 64), ("HEADS", 1), ("WARPS", 4)],
        &[budget(128, 128, FORMS[2])],
    ),
    instance(
        &[("WIDTH", 128), ("KEYS", 96), ("HEADS", 1), ("WARPS", 3)],
        &[budget(192, 128, FORMS[3])],
    ),
    instance(
        &[("WIDTH", 128), ("KEYS", 128), ("HEADS", 1), ("WARPS", 4)],
        &[budget(208, 128, FORMS[4])],
    ),
];

const fn instance(defines: &'static [(&'static str, i64)], budgets: &'static [Budget]) -> Instance {
    Instance { defines, budgets }
}

const fn budget(registers: u32, width: usize, form: Form) -> Budget {
    Budget { kernel: KERNEL, registers, shared_bytes: shared_bytes(width, form) as u32 }
}

/// Queries, keys and values of a block's heads, each row padded by 16 bytes.
const fn shared_bytes(width: usize, form: Form) -> usize {
    3 * form.keys * (form.heads * width.next_multiple_of(16) + 8) * 2
}

/// Attends within every sequence that is short enough, tile by tile where a block has no room for it.
pub(super) fn attend(call: &Call<'_, Bf16>, table: &SequenceTable) -> Result<()> {
    let room = call.qkv.gpu().properties().shared_bytes_max as usize;
    for (list, form) in FORMS.into_iter().enumerate() {
        if shared_bytes(call.width, form) <= room {
            launch(call, &table.short(list), form)?;
        } else {
            long::launch(call, &table.short(list))?;
        }
    }
    Ok(())
}

fn launch(call: &Call<'_, Bf16>, entries: &Entries<'_>, form: Form) -> Result<()> {
    if entries.count == 0 {
        return Ok(());
    }
    let defines = [
        ("WIDTH", call.width as i64),
        ("KEYS", form.keys as i64),
        ("HEADS", form.heads as i64),
        ("WARPS", form.warps as i64),
    ];
    let kernel = call.qkv.gpu().kernel(&SOURCE, KERNEL, &defines)?;
    let blocks = entries.count.saturating_mul(call.heads.div_ceil(form.heads));
    let shape = LaunchShape::line(blocks, (32 * form.warps * form.heads) as u32)
        .shared(shared_bytes(call.width, form));
    // SAFETY: entries name rows of qkv and out, whose lengths `attention` checked; the list's hold `keys` tokens at most.
    unsafe { kernel.launch(shape, call.arguments(entries)) }
}
