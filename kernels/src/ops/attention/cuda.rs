//! Self-attention over packed sequences, on a device.
//!
//! Leaves out: the formula (`attention`), rotation. Invariant: the kernel and the tiles of a sequence follow from its own
//! length and the width of a head, so its bits are its own.

mod simt;
mod table;
#[cfg(test)]
mod tests;

use crate::cuda::{Arguments, Bf16, Element, View, ViewMut};
use crate::error::{KernelError, Result, check_length};
use table::Entries;

pub(crate) use simt::SOURCE as SIMT;
pub use table::SequenceTable;

const OP: &str = "attention";

/// What queries, keys, values and results are held as.
pub trait AttentionValue: Element {
    /// Attends with the kernels for this type.
    #[doc(hidden)]
    fn attend(call: &Call<'_, Self>, table: &SequenceTable) -> Result<()>;
}

impl AttentionValue for f32 {
    fn attend(call: &Call<'_, Self>, table: &SequenceTable) -> Result<()> {
        simt::attend(call, table, false)
    }
}

impl AttentionValue for Bf16 {
    fn attend(call: &Call<'_, Self>, table: &SequenceTable) -> Result<()> {
        simt::attend(call, table, true)
    }
}

/// What the kernels of one call are given; `width` is that of a head.
#[doc(hidden)]
pub struct Call<'a, T: Element> {
    qkv: View<'a, T>,
    heads: usize,
    width: usize,
    scale: f32,
    slopes: Option<View<'a, f32>>,
    out: &'a ViewMut<'a, T>,
}

impl<T: Element> Call<'_, T> {
    /// All kernels take the same arguments; exponentials are powers of two, so their scale is in the scores'.
    fn arguments(&self, entries: &Entries<'_>) -> Arguments {
        let scale = f64::from(self.scale) * std::f64::consts::LOG2_E;
        Arguments::new()
            .array(&self.qkv)
            .array(&entries.view)
            .optional(self.slopes.as_ref())
            .output(self.out)
            .u32(self.heads as u32)
            .f32(scale as f32)
    }
}

/// Attends within each sequence, head by head; as [`attention`](super::attention).
///
/// - `qkv`: `[N, 3 D]`, the query, key and value of each token; begins at a multiple of 16 bytes
/// - `table`: the sequences, N tokens in all
/// - `slopes`: `[heads]`, the penalty of one token of distance in each head; none counts as zero
/// - `out`: `[N, D]`; begins at a multiple of 16 bytes
///
/// # Errors
/// `Shape` if `out` is not `heads` equal parts of at most 256 values per token, if `qkv`, `table` or `slopes` do not fit, or
/// if `qkv` or `out` begin elsewhere.
pub fn attention<T: AttentionValue>(
    qkv: View<'_, T>,
    table: &SequenceTable,
    heads: usize,
    scale: f32,
    slopes: Option<View<'_, f32>>,
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    check_length(OP, "qkv", qkv.len(), out.len().saturating_mul(3))?;
    if let Some(slopes) = &slopes {
        check_length(OP, "slopes", slopes.len(), heads)?;
    }
    let tokens = table.token_count();
    if tokens == 0 {
        return check_length(OP, "out", out.len(), 0);
    }
    let parts = tokens.saturating_mul(heads);
    let width = out.len().checked_div(parts).unwrap_or(0);
    if width == 0 || width > simt::WIDTH_MAX || width * parts != out.len() {
        let expected = format!("{tokens} tokens of {heads} equal heads of 1 to 256 values");
        return Err(refused("out", expected, format!("{} values", out.len())));
    }
    for (operand, address) in [("qkv", qkv.address()), ("out", out.view().address())] {
        if !address.is_multiple_of(16) {
            let found = format!("an address {} past one", address % 16);
            return Err(refused(operand, "an address of whole 16 bytes".to_owned(), found));
        }
    }
    T::attend(&Call { qkv, heads, width, scale, slopes, out }, table)
}

fn refused(operand: &'static str, expected: String, found: String) -> KernelError {
    KernelError::Shape { op: OP, operand, expected, found }
}
