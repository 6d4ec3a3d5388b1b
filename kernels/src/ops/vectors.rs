//! Launches of kernels in which each thread owns neighbouring values.
//!
//! Leaves out: the kernels. Invariant: rows that are not aligned get the form of single values, which has the same bits.

use crate::cuda::LaunchShape;
use crate::error::{KernelError, Result};

/// Threads of a block.
pub(crate) const THREADS: u32 = 256;
/// Bytes of the widest access.
const ACCESS_BYTES: u64 = 16;

/// Whether rows of `width` values can be read `each` at a time from these addresses; null ones count as aligned.
pub(crate) fn is_wide(width: usize, each: usize, addresses: &[u64]) -> bool {
    width.is_multiple_of(each) && addresses.iter().all(|address| address % ACCESS_BYTES == 0)
}

/// Blocks for `count` vectors, `per_block` a block.
///
/// # Errors
/// `Shape` for more than kernels count.
pub(crate) fn shape_of(op: &'static str, count: usize, per_block: usize) -> Result<LaunchShape> {
    // The last block's threads count on past the end.
    if count > u32::MAX as usize - per_block {
        let (expected, found) = ("less than 2^32 vectors".to_owned(), format!("{count}"));
        return Err(KernelError::Shape { op, operand: "out", expected, found });
    }
    Ok(LaunchShape::line(count.div_ceil(per_block), THREADS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aligned_rows_are_read_wide() {
        assert!(is_wide(8, 4, &[0, 16, 4096]));
        assert!(!is_wide(6, 4, &[16]));
        assert!(!is_wide(8, 4, &[16, 24]));
    }

    #[test]
    fn blocks_hold_all_vectors_and_too_many_are_refused() {
        assert_eq!(shape_of("op", 513, 256).unwrap(), LaunchShape::line(3, 256));
        assert!(shape_of("op", 0, 256).unwrap().is_empty());
        assert!(shape_of("op", u32::MAX as usize, 256).is_err());
    }
}
