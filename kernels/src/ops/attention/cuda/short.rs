//! Attention with bf16 products for sequences that a block holds whole.
//!
//! Leaves out: longer sequences (`long`). Invariant: a sequence's form follows from its length.

use super::Call;
use super::table::{Entries, SHORT, SequenceTable};
use crate::cuda::{Bf16, Budget, Instance, LaunchShape, Source};
use crate::error::Result;

const KERNEL: &str = "attention_short";
/// Values of a head at most, and what they must be a multiple of: 16 bytes.
pub(super) const WIDTH_MAX: usize = 128;
pub(super) const WIDTH_STEP: usize = 8;

/// Keys and heads of a block, for each list of the table. The shortest sequences share a block by twos, of one sequence.
const FORMS: [(usize, usize); SHORT.len()] = [(32, 2), (48, 1), (64, 1), (96, 1), (128, 1)];

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: KERNEL,
    text: concat!(include_str!("words.cuh"), include_str!("short.cu")),
    kernels: &[KERNEL],
    instances: INSTANCES,
};

/// Registers are what NVRTC 12.6 takes for sm_80 or sm_90a, the larger.
const INSTANCES: &[Instance] = &[
    instance(&[("WIDTH", 8), ("KEYS", 32), ("HEADS", 2)], &[budget(40, 8, FORMS[0])]),
    instance(&[("WIDTH", 32), ("KEYS", 32), ("HEADS", 2)], &[budget(48, 32, FORMS[0])]),
    instance(&[("WIDTH", 32), ("KEYS", 48), ("HEADS", 1)], &[budget(56, 32, FORMS[1])]),
    instance(&[("WIDTH", 32), ("KEYS", 64), ("HEADS", 1)], &[budget(64, 32, FORMS[2])]),
    instance(&[("WIDTH", 32), ("KEYS", 96), ("HEADS", 1)], &[budget(80, 32, FORMS[3])]),
    instance(&[("WIDTH", 32), ("KEYS", 128), ("HEADS", 1)], &[budget(104, 32, FORMS[4])]),
    instance(&[("WIDTH", 64), ("KEYS", 32), ("HEADS", 2)], &[budget(56, 64, FORMS[0])]),
    instance(&[("WIDTH", 64), ("KEYS", 48), ("HEADS", 1)], &[budget(72, 64, FORMS[1])]),
    instance(&[("WIDTH", 64), ("KEYS", 64), ("HEADS", 1)], &[budget(72, 64, FORMS[2])]),
    instance(&[("WIDTH", 64), ("KEYS", 96), ("HEADS", 1)], &[budget(96, 64, FORMS[3])]),
    instance(&[("WIDTH", 64), ("KEYS", 128), ("HEADS", 1)], &[budget(128, 64, FORMS[4])]),
    instance(&[("WIDTH", 80), ("KEYS", 64), ("HEADS", 1)], &[budget(80, 80, FORMS[2])]),
    instance(&[("WIDTH", 96), ("KEYS", 48), ("HEADS", 1)], &[budget(96, 96, FORMS[1])]),
    instance(&[("WIDTH", 96), ("KEYS", 128), ("HEADS", 1)], &[budget(128, 96, FORMS[4])]),
    instance(&[("WIDTH", 128), ("KEYS", 32), ("HEADS", 2)], &[budget(88, 128, FORMS[0])]),
    instance(&[("WIDTH", 128), ("KEYS", 48), ("HEADS", 1)], &[budget(116, 128, FORMS[1])]),
    instance(&[("WIDTH", 128), ("KEYS", 64), ("HEADS", 1)], &[budget(128, 128, FORMS[2])]),
    instance(&[("WIDTH", 128), ("KEYS", 96), ("HEADS", 1)], &[budget(132, 128, FORMS[3])]),
    instance(&[("WIDTH", 128), ("KEYS", 128), ("HEADS", 1)], &[budget(156, 128, FORMS[4])]),
];

const fn instance(defines: &'static [(&'static str, i64)], budgets: &'static [Budget]) -> Instance {
    Instance { defines, budgets }
}

const fn budget(registers: u32, width: usize, form: (usize, usize)) -> Budget {
    Budget { kernel: KERNEL, registers, shared_bytes: shared_bytes(width, form) as u32 }
}

/// Queries, keys and values of a block's heads, each row padded by 16 bytes.
const fn shared_bytes(width: usize, (keys, heads): (usize, usize)) -> usize {
    3 * keys * (heads * width.next_multiple_of(16) + 8) * 2
}

/// Attends within every sequence that is short enough.
pub(super) fn attend(call: &Call<'_, Bf16>, table: &SequenceTable) -> Result<()> {
    for (list, form) in FORMS.into_iter().enumerate() {
        launch(call, &table.short(list), form)?;
    }
    Ok(())
}

fn launch(call: &Call<'_, Bf16>, entries: &Entries<'_>, form: (usize, usize)) -> Result<()> {
    if entries.count == 0 {
        return Ok(());
    }
    let (keys, heads) = form;
    let defines = [("WIDTH", call.width as i64), ("KEYS", keys as i64), ("HEADS", heads as i64)];
    let kernel = call.qkv.gpu().kernel(&SOURCE, KERNEL, &defines)?;
    let blocks = entries.count.saturating_mul(call.heads.div_ceil(heads));
    let shape =
        LaunchShape::line(blocks, (2 * keys * heads) as u32).shared(shared_bytes(call.width, form));
    // SAFETY: entries name rows of qkv and out, whose lengths `attention` checked; the list holds `keys` tokens at most.
    unsafe { kernel.launch(shape, call.arguments(entries)) }
}
