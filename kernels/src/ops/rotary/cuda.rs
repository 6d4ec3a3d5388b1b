//! Rotary positions on a device.
//!
//! Leaves out: how angles are computed; a table comes from the host. Invariant: a token's result depends on that token and its
//! position alone.

use super::RotaryTable;
use crate::cuda::{Arguments, Budget, DeviceArray, Gpu, Instance, Number, Source, ViewMut};
use crate::error::{KernelError, Result, check_length, check_rows};
use crate::ops::vectors::{THREADS, is_wide, shape_of};
use crate::sequences::Sequences;

const OP: &str = "rotary";

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../rotary.cu"),
    kernels: &[OP],
    instances: &[
        instance(&[("TYPE", 0), ("WIDTH", 4)]),
        instance(&[("TYPE", 0), ("WIDTH", 1)]),
        instance(&[("TYPE", 1), ("WIDTH", 8)]),
        instance(&[("TYPE", 1), ("WIDTH", 1)]),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGET: &[Budget] = &[Budget { kernel: OP, registers: 64, shared_bytes: 0 }];
    Instance { defines, budgets: BUDGET }
}

/// Cosines and sines of every position and pair, on the device.
pub struct DeviceRotaryTable {
    cosines: DeviceArray<f32>,
    sines: DeviceArray<f32>,
    pairs: usize,
    length: usize,
}

impl DeviceRotaryTable {
    /// Takes a table to the device.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room.
    pub fn new(gpu: &Gpu, table: &RotaryTable) -> Result<Self> {
        let (pairs, length) = (table.pairs, table.length);
        let cosines = DeviceArray::from_slice(gpu, &table.cosines)?;
        let sines = DeviceArray::from_slice(gpu, &table.sines)?;
        Ok(Self { cosines, sines, pairs, length })
    }

    /// Positions it reaches.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// The position of each token within its sequence, on the device.
pub struct TokenPlaces {
    places: DeviceArray<u32>,
    longest: usize,
}

impl TokenPlaces {
    /// Counts the tokens of sequences that begin at `offsets` `[B + 1]`.
    ///
    /// # Errors
    /// `Shape` for offsets that do not rise from 0; `OutOfMemory` if there is no room.
    pub fn new(gpu: &Gpu, offsets: &[usize]) -> Result<Self> {
        let sequences = Sequences::check(OP, offsets)?;
        let longest = sequences.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let places: Vec<u32> =
            sequences.iter().flat_map(|tokens| (0_u32..).take(tokens.len())).collect();
        Ok(Self { places: DeviceArray::from_slice(gpu, &places)?, longest })
    }
}

/// Rotates queries and keys in place; as [`rotary`](super::rotary), with the same bits where they are f32.
///
/// - `qkv`: `[N, 3 D]`, D of `heads` times twice the pairs of `table`
///
/// # Errors
/// `Shape` if `qkv` does not fit, or a sequence is longer than the table.
pub fn rotary<T: Number>(
    qkv: &mut ViewMut<'_, T>,
    places: &TokenPlaces,
    heads: usize,
    table: &DeviceRotaryTable,
) -> Result<()> {
    let pairs = table.pairs;
    let row = heads.saturating_mul(pairs).saturating_mul(6);
    let tokens = check_rows(OP, "qkv", qkv.len(), row)?;
    check_length(OP, "tokens of qkv", tokens, places.places.len())?;
    if places.longest > table.length {
        return Err(KernelError::Shape {
            op: OP,
            operand: "offsets",
            expected: format!("sequences of at most {} tokens", table.length),
            found: format!("{} tokens", places.longest),
        });
    }
    let widest = if T::CODE == 0 { 4 } else { 8 };
    let each = if is_wide(pairs, widest, &[qkv.address()]) { widest } else { 1 };
    let kernel = qkv.gpu().kernel(&SOURCE, OP, &[("TYPE", T::CODE), ("WIDTH", each as i64)])?;
    let shape = shape_of(OP, qkv.len() / 6 * 2 / each, THREADS as usize)?;
    let arguments = Arguments::new()
        .output(qkv)
        .array(&places.places.view())
        .array(&table.cosines.view())
        .array(&table.sines.view())
        .u32(tokens as u32)
        .u32(heads as u32)
        .u32(pairs as u32);
    // SAFETY: qkv holds `tokens` rows, places one for each, below the rows of the table.
    unsafe { kernel.launch(shape, arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Bf16;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::rotary::rotary as on_cpu;

    #[test]
    fn queries_and_keys_turn_with_the_bits_of_the_cpu() {
        for_each_device(|gpu| {
            for (heads, pairs, offsets) in
                [(1, 1, vec![0, 1]), (3, 5, vec![0, 4, 4, 11]), (2, 16, vec![0, 9, 10])]
            {
                let frequencies: Vec<f32> = (0..pairs).map(|j| 0.3_f32.powi(j)).collect();
                let table = RotaryTable::new(&frequencies, 9);
                let tokens = *offsets.last().unwrap();
                let given = draw(7, tokens * heads * pairs as usize * 6);
                let mut expected = given.clone();
                on_cpu(&mut expected, &offsets, heads, &table).unwrap();
                let on_device = DeviceRotaryTable::new(gpu, &table)?;
                let places = TokenPlaces::new(gpu, &offsets)?;
                let mut qkv = DeviceArray::from_slice(gpu, &given)?;
                rotary(&mut qkv.view_mut(), &places, heads, &on_device)?;
                assert_eq!(qkv.to_vec()?, expected);
                let short: Vec<Bf16> = given.iter().map(|&x| Bf16::from_f32(x)).collect();
                let mut qkv = DeviceArray::from_slice(gpu, &short)?;
                rotary(&mut qkv.view_mut(), &places, heads, &on_device)?;
                let found: Vec<f32> = qkv.to_vec()?.iter().map(|x| x.to_f32()).collect();
                assert_close(&found, &expected, 8e-3);
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let table = DeviceRotaryTable::new(gpu, &RotaryTable::new(&[1.0], 2))?;
            let mut qkv = DeviceArray::from_slice(gpu, &[0.0_f32; 18])?;
            let mut refused = |offsets: &[usize], heads| {
                let places = TokenPlaces::new(gpu, offsets)?;
                rotary(&mut qkv.view_mut(), &places, heads, &table)
            };
            assert!(refused(&[0, 3], 1).unwrap_err().to_string().contains("at most 2 tokens"));
            assert!(refused(&[0, 2], 1).unwrap_err().to_string().contains("tokens of qkv"));
            assert!(refused(&[0, 1, 3], 2).is_err() && refused(&[1, 3], 1).is_err());
            refused(&[0, 1, 3], 1)
        });
    }
}
