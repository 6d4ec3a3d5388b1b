//! The examples of a batch, taken from all of them by their numbers.
//!
//! Leaves out: who is in a batch. Invariant: an example's values are copied or mapped one by one.

pub mod cuda;

use crate::error::{KernelError, Result, check_length, check_rows};

/// Writes the examples of `index`, in its order.
///
/// ```text
/// out[b,:] = x[index[b],:]
/// ```
///
/// - `x`: `[N, values]`
/// - `out`: `[index.len(), values]`
///
/// # Errors
/// `Shape` if operands are not whole examples, or an index names none.
pub fn gather(x: &[f32], values: usize, index: &[u32], out: &mut [f32]) -> Result<()> {
    const OP: &str = "gather";
    let examples = check_rows(OP, "x", x.len(), values)?;
    check_length(OP, "out", out.len(), index.len().saturating_mul(values))?;
    check_indices(index, examples)?;
    for (out, &example) in out.chunks_exact_mut(values).zip(index) {
        out.copy_from_slice(&x[example as usize * values..][..values]);
    }
    Ok(())
}

/// Refuses an index that names no example.
fn check_indices(index: &[u32], examples: usize) -> Result<()> {
    let Some(largest) = index.iter().max().filter(|&&index| index as usize >= examples) else {
        return Ok(());
    };
    let (expected, found) = (format!("numbers below {examples}"), largest.to_string());
    Err(KernelError::Shape { op: "gather", operand: "index", expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_taken_in_the_order_asked_for() {
        let mut out = [0.0; 6];
        gather(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, &[2, 0, 2], &mut out).unwrap();
        assert_eq!(out, [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        assert!(gather(&[1.0; 4], 2, &[2], &mut [0.0; 2]).is_err());
        assert!(gather(&[1.0; 4], 2, &[1], &mut [0.0; 4]).is_err());
        assert!(gather(&[1.0; 3], 2, &[1], &mut [0.0; 2]).is_err());
    }
}
