//! Between f32 in memory and the number format on disk.
//!
//! Invariant: what is stored is finite; rounding is to nearest, ties to even.

use crate::error::{Error, Result};
use crate::representation::StoredDtype;
use half::{bf16, f16};

/// Little-endian bytes of `values` (`[rows, width]`) in `dtype`, rounded to nearest, ties to even.
///
/// `row_name` names a row for the error message.
///
/// # Errors
/// `Invalid` naming row, column and value for a value that is not finite, before or after rounding.
pub fn narrow(
    values: &[f32],
    width: usize,
    dtype: StoredDtype,
    row_name: &dyn Fn(usize) -> String,
) -> Result<Vec<u8>> {
    let narrowed = match dtype {
        StoredDtype::F32 => each(values, f32::is_finite, |value| value.to_le_bytes()),
        StoredDtype::F16 => each(
            values,
            |value| f16::from_f32(value).is_finite(),
            |value| f16::from_f32(value).to_le_bytes(),
        ),
        StoredDtype::Bf16 => each(
            values,
            |value| bf16::from_f32(value).is_finite(),
            |value| bf16::from_f32(value).to_le_bytes(),
        ),
    };
    narrowed.map_err(|index| {
        let row = row_name(index / width.max(1));
        let column = index % width.max(1);
        let value = values.get(index).copied().unwrap_or(f32::NAN);
        Error::invalid(format!(
            "row {row}, column {column}: expected a value that {} can hold, found {value}",
            dtype.name()
        ))
    })
}

/// Converts each value, or gives the index of the first that `fits` refuses.
fn each<const N: usize>(
    values: &[f32],
    fits: impl Fn(f32) -> bool,
    convert: impl Fn(f32) -> [u8; N],
) -> std::result::Result<Vec<u8>, usize> {
    if let Some(index) = values.iter().position(|&value| !fits(value)) {
        return Err(index);
    }
    let mut bytes = Vec::with_capacity(values.len().saturating_mul(N));
    for &value in values {
        bytes.extend_from_slice(&convert(value));
    }
    Ok(bytes)
}

/// Values of `bytes` in `dtype`, exactly; bytes beyond the last whole value are ignored.
pub fn widen(bytes: &[u8], dtype: StoredDtype) -> Vec<f32> {
    match dtype {
        StoredDtype::F32 => {
            bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
        }
        StoredDtype::F16 => {
            let chunks = bytes.as_chunks::<2>().0;
            chunks.iter().map(|chunk| f16::from_le_bytes(*chunk).to_f32()).collect()
        }
        StoredDtype::Bf16 => {
            let chunks = bytes.as_chunks::<2>().0;
            chunks.iter().map(|chunk| bf16::from_le_bytes(*chunk).to_f32()).collect()
        }
    }
}
