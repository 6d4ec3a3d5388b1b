//! Distances of states on a device: six numbers of a pair leave it instead of two matrices.
//!
//! Leaves out: which states are compared. Invariant: a pair's sums depend on its own values alone.

use super::Distances;
use crate::cuda::{Arguments, Budget, DeviceArray, Instance, LaunchShape, Source, View};
use crate::error::{KernelError, Result, check_rows};

const OP: &str = "state_distance";
/// Sums of a pair: |R|^2, |S|^2, R.S, L1, L2 squared, 1 - cos.
const SUMS: usize = 6;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../state_distance.cu"),
    kernels: &[OP],
    instances: &[Instance {
        defines: &[],
        budgets: &[Budget { kernel: OP, registers: 64, shared_bytes: SHARED_BYTES as u32 }],
    }],
};

/// Five sums of each of eight warps.
const SHARED_BYTES: usize = 8 * 5 * 8;

/// Two sequences of as many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// First row of R.
    pub first: usize,
    /// First row of S.
    pub second: usize,
    /// Rows of each.
    pub rows: usize,
}

/// Compares the rows of each pair, as [`distances`](super::distances).
///
/// - `x`: `[N, D]`
///
/// CPU and CUDA agree within 1e-12 of each sum; sums are added in another order.
///
/// # Errors
/// `Shape` if `x` is not whole rows of `width` or a pair ends past them; `OutOfMemory`.
pub fn state_distances(x: View<'_, f32>, width: usize, pairs: &[Pair]) -> Result<Vec<Distances>> {
    let rows = check_rows(OP, "x", x.len(), width)?;
    let is_beyond = |pair: &&Pair| {
        let last = pair.first.max(pair.second).checked_add(pair.rows);
        last.is_none_or(|last| last > rows)
    };
    if let Some(pair) = pairs.iter().find(is_beyond) {
        return Err(KernelError::Shape {
            op: OP,
            operand: "pairs",
            expected: format!("pairs within {rows} rows"),
            found: format!("{pair:?}"),
        });
    }
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let places = pairs.iter().flat_map(|pair| [pair.first, pair.second, pair.rows]);
    let places: Vec<u64> = places.map(|place| place as u64).collect();
    let places = DeviceArray::from_slice(x.gpu(), &places)?;
    let mut sums = DeviceArray::<f64>::new(x.gpu(), pairs.len() * SUMS)?;
    let kernel = x.gpu().kernel(&SOURCE, OP, &[])?;
    let shape = LaunchShape::line(pairs.len(), 256).shared(SHARED_BYTES);
    let arguments =
        Arguments::new().array(&x).array(&places.view()).output(&sums.view_mut()).u32(width as u32);
    // SAFETY: pairs lie within x's rows, places has three numbers and sums six for each of them, a block one.
    unsafe { kernel.launch(shape, arguments) }?;
    let sums = sums.to_vec()?;
    let of_pair = |sums: &[f64; SUMS]| {
        let [rr, ss, dot, l1, l2_squared, one_minus_cos] = *sums;
        let cos = dot / (rr.sqrt() * ss.sqrt());
        Distances { one_minus_cos, cos, dot, l1, l2_squared }
    };
    Ok(sums.as_chunks::<SUMS>().0.iter().map(of_pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};
    use crate::ops::state_distance::distances;

    #[test]
    fn distances_are_those_on_the_cpu_and_of_a_pair_alone() {
        for_each_device(|gpu| {
            for (rows, width) in [(1, 1), (3, 7), (12, 130)] {
                let x = draw(9, 3 * rows * width);
                let device = DeviceArray::from_slice(gpu, &x)?;
                let pair = |first, second| Pair { first, second, rows };
                let pairs = [pair(0, rows), pair(2 * rows, 0), pair(rows, rows)];
                let found = state_distances(device.view(), width, &pairs)?;
                for (pair, found) in pairs.iter().zip(&found) {
                    let part = |first: usize| &x[first * width..(first + rows) * width];
                    let values = part(pair.first).iter().zip(part(pair.second));
                    let expected = distances(values.map(|(&r, &s)| (r, s)));
                    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * (1.0 + b.abs());
                    assert!(near(found.one_minus_cos, expected.one_minus_cos), "{found:?}");
                    assert!(near(found.cos, expected.cos) && near(found.dot, expected.dot));
                    assert!(near(found.l1, expected.l1));
                    assert!(near(found.l2_squared, expected.l2_squared));
                    let alone = state_distances(device.view(), width, &[*pair])?;
                    assert_eq!(alone, [*found]);
                }
                assert_eq!((found[2].l1, found[2].one_minus_cos), (0.0, 0.0));
            }
            Ok(())
        });
    }

    #[test]
    fn pairs_past_the_rows_are_refused() {
        for_each_device(|gpu| {
            let x = DeviceArray::from_slice(gpu, &[1.0_f32; 6])?;
            for pair in [(0, 2, 2), (usize::MAX, 0, 1), (0, 0, 4)] {
                let pair = Pair { first: pair.0, second: pair.1, rows: pair.2 };
                assert!(state_distances(x.view(), 2, &[pair]).is_err(), "{pair:?}");
            }
            assert_eq!(state_distances(x.view(), 2, &[])?, []);
            Ok(())
        });
    }
}
