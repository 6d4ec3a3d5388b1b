//! Self-attention over packed sequences, on a device.
//!
//! Leaves out: the formula (`attention`), rotation. Invariant: the kernel and the tiles of a sequence follow from its own
//! length and the width of a head, so its bits are its own.

pub(crate) mod long;
pub(crate) mod short;
pub(crate) mod simt;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod tf32;

use crate::cuda::{Arguments, Bf16, Element, ProductClass, View, ViewMut};
use crate::error::{KernelError, Result, check_length};
use table::Entries;

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
        let fits = call.width <= tf32::WIDTH_MAX && call.width.is_multiple_of(tf32::WIDTH_STEP);
        if call.class == ProductClass::Tf32 && fits {
            return tf32::attend(call, table);
        }
        simt::attend(call, table, false)
    }
}

impl AttentionValue for Bf16 {
    fn attend(call: &Call<'_, Self>, table: &SequenceTable) -> Result<()> {
        if call.width > short::WIDTH_MAX || !call.width.is_multiple_of(short::WIDTH_STEP) {
            return simt::attend(call, table, true);
        }
        short::attend(call, table)?;
        long::attend(call, table)
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
    /// How f32 values are multiplied.
    class: ProductClass,
    out: &'a ViewMut<'a, T>,
}

impl<T: Element> Call<'_, T> {
    /// All kernels take the same arguments; exponentials are powers of two, so log2 e is in the scores' scale.
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

    /// Refuses operands that do not fit; `width` is whatever it is.
    fn check(&self, table: &SequenceTable) -> Result<()> {
        check_length(OP, "qkv", self.qkv.len(), self.out.len().saturating_mul(3))?;
        if let Some(slopes) = &self.slopes {
            check_length(OP, "slopes", slopes.len(), self.heads)?;
        }
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(refused("scale", "a number above 0".to_owned(), format!("{}", self.scale)));
        }
        let tokens = table.token_count();
        let values = tokens.saturating_mul(self.heads).saturating_mul(self.width);
        let has_heads = (1..=simt::WIDTH_MAX).contains(&self.width);
        if values != self.out.len() || (tokens > 0 && !has_heads) {
            let expected = format!("{tokens} tokens of {} heads of 1 to 256 values", self.heads);
            return Err(refused("out", expected, format!("{} values", self.out.len())));
        }
        for (operand, address) in [("qkv", self.qkv.address()), ("out", self.out.view().address())]
        {
            if !address.is_multiple_of(16) {
                let found = format!("an address {} past one", address % 16);
                return Err(refused(operand, "an address of whole 16 bytes".to_owned(), found));
            }
        }
        Ok(())
    }
}

fn refused(operand: &'static str, expected: String, found: String) -> KernelError {
    KernelError::Shape { op: OP, operand, expected, found }
}

/// Attends within each sequence, head by head; as [`attention`](super::attention).
///
/// - `qkv`: `[N, 3 D]`, the query, key and value of each token
/// - `table`: the sequences, N tokens in all
/// - `scale`: above 0
/// - `slopes`: `[heads]`, the penalty of one token of distance in each head; none counts as zero
/// - `out`: `[N, D]`
///
/// `qkv` and `out` begin at multiples of 16 bytes. f32 is multiply-adds in f32. bf16 is products of bf16 with f32 sums where
/// heads have a multiple of 8 values, 128 at most, else as f32. CPU and CUDA agree within 2e-6 (f32) or 1e-2 (bf16) of
/// max |out|.
///
/// # Errors
/// `Shape` if `out` is not `heads` equal parts of 1 to 256 values per token, if `qkv`, `table`, `scale` or `slopes` do not
/// fit, or if `qkv` or `out` begin elsewhere.
pub fn attention<T: AttentionValue>(
    qkv: View<'_, T>,
    table: &SequenceTable,
    heads: usize,
    scale: f32,
    slopes: Option<View<'_, f32>>,
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    let width = out.len().checked_div(table.token_count().saturating_mul(heads)).unwrap_or(0);
    let call = Call { qkv, heads, width, scale, slopes, class: ProductClass::F32, out };
    call.check(table)?;
    T::attend(&call, table)
}

/// As [`attention`], with both products' operands of f32 rounded to tf32 where heads have a multiple of 4 values, 128 at most;
/// bf16 is multiplied as there.
///
/// CPU and CUDA agree within 2e-3 of max |out| for f32.
///
/// # Errors
/// As [`attention`].
pub fn attention_tf32<T: AttentionValue>(
    qkv: View<'_, T>,
    table: &SequenceTable,
    heads: usize,
    scale: f32,
    slopes: Option<View<'_, f32>>,
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    let width = out.len().checked_div(table.token_count().saturating_mul(heads)).unwrap_or(0);
    let call = Call { qkv, heads, width, scale, slopes, class: ProductClass::Tf32, out };
    call.check(table)?;
    T::attend(&call, table)
}
