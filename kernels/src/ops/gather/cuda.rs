//! The examples of a batch on a device, which holds all of them and the order they come in; what is found of them, in that order.
//!
//! Leaves out: streaming of what does not fit. Invariant: a device is only given indices that were checked when they were written.

use super::check_indices;
use crate::cuda::{
    Arguments, Bf16, Budget, DeviceArray, Element, F16, Gpu, Instance, LaunchShape, Source, View,
    ViewMut, check_count,
};
use crate::error::{KernelError, Result, check_length, check_rows};

const OP: &str = "gather";
const SCATTER: &str = "scatter";
const NEXT: &str = "next_batch";

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../gather.cu"),
    kernels: &[OP, SCATTER, NEXT],
    instances: &[instance(&[("VALUE", 0)]), instance(&[("VALUE", 1)]), instance(&[("VALUE", 2)])],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGETS: &[Budget] = &[
        Budget { kernel: OP, registers: 40, shared_bytes: 0 },
        Budget { kernel: SCATTER, registers: 24, shared_bytes: 0 },
        Budget { kernel: NEXT, registers: 16, shared_bytes: 0 },
    ];
    Instance { defines, budgets: BUDGETS }
}

/// What examples may be stored as.
pub trait Stored: Element {
    /// The value of `VALUE`.
    const VALUE: i64;
}

impl Stored for f32 {
    const VALUE: i64 = 0;
}

impl Stored for F16 {
    const VALUE: i64 = 1;
}

impl Stored for Bf16 {
    const VALUE: i64 = 2;
}

/// Numbers of examples in the order they are trained on, all below the number of examples.
pub struct Order {
    numbers: DeviceArray<u32>,
    examples: usize,
}

impl Order {
    /// Room for `count` numbers of `examples` examples; they are all the first for now.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room.
    pub fn new(gpu: &Gpu, count: usize, examples: usize) -> Result<Self> {
        Ok(Self { numbers: DeviceArray::zeros(gpu, count)?, examples })
    }

    /// Replaces the numbers.
    ///
    /// # Errors
    /// `Shape` if they are not as many, or one names no example; `Device` if the device refuses.
    pub fn write(&mut self, numbers: &[u32]) -> Result<()> {
        check_length(OP, "index", numbers.len(), self.numbers.len())?;
        check_indices(numbers, self.examples)?;
        self.numbers.view_mut().write(numbers)
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(crate) fn view(&self) -> View<'_, u32> {
        self.numbers.view()
    }

    pub(crate) fn examples(&self) -> usize {
        self.examples
    }
}

/// Which examples a batch holds: `batch_size` numbers of the order, from the batch's place in it.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    /// The order of all examples.
    pub order: &'a Order,
    /// Number of the batch in the epoch, `[1]`; none counts as zero. The caller lets it name no batch past the order.
    pub batch: Option<View<'a, u64>>,
    /// Examples of a whole batch.
    pub batch_size: usize,
}

/// Writes the examples of a batch; as [`gather`](super::gather), and with `affine` each channel's value minus the first times
/// the second.
///
/// - `x`: `[N, values]`
/// - `affine`: `[C]` each; `values` are whole rows of C
/// - `out`: `[rows, values]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn gather<T: Stored>(
    x: View<'_, T>,
    chosen: &Chosen<'_>,
    affine: Option<(View<'_, f32>, View<'_, f32>)>,
    out: &mut ViewMut<'_, f32>,
    rows: usize,
) -> Result<()> {
    if rows == 0 {
        return check_length(OP, "out", out.len(), 0);
    }
    // As many values as `rows` divides it into.
    let values = check_rows(OP, "out", out.len(), rows)?;
    check_length(OP, "x", x.len(), chosen.order.examples().saturating_mul(values))?;
    check_chosen(chosen, rows)?;
    let width = affine.map_or(1, |(mean, _)| mean.len());
    if let Some((mean, inverse)) = &affine {
        check_rows(OP, "values", values, mean.len())?;
        check_length(OP, "inverse", inverse.len(), mean.len())?;
    }
    let arguments = Arguments::new()
        .array(&x)
        .array(&chosen.order.view())
        .optional(chosen.batch.as_ref())
        .optional(affine.as_ref().map(|(mean, _)| mean))
        .optional(affine.as_ref().map(|(_, inverse)| inverse))
        .output(out)
        .u32(check_count(OP, "batch_size", chosen.batch_size)?)
        .u32(check_count(OP, "values", values)?)
        .u32(width as u32);
    let kernel = out.gpu().kernel(&SOURCE, OP, &[("VALUE", T::VALUE)])?;
    let mut shape = LaunchShape::elements(values);
    shape.grid[1] = check_count(OP, "rows", rows)?;
    // SAFETY: out holds `rows` examples; the order's numbers are below the examples of x, and it holds those of the batch.
    unsafe { kernel.launch(shape, arguments) }
}

/// Writes what was found of a batch to its place among all, in the order of the epoch.
///
/// - `x`: `[rows, values]`, at most `batch_size` rows
/// - `batch`: number of the batch, `[1]`; the caller lets it name none of which `out` does not hold all rows
/// - `out`: `[N, values]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn scatter(
    x: View<'_, f32>,
    (batch, batch_size): (View<'_, u64>, usize),
    out: &mut ViewMut<'_, f32>,
    rows: usize,
) -> Result<()> {
    check_length(SCATTER, "batch", batch.len(), 1)?;
    if rows == 0 {
        return check_length(SCATTER, "x", x.len(), 0);
    }
    let values = check_rows(SCATTER, "x", x.len(), rows)?;
    if rows > batch_size || x.len() > out.len() {
        let expected = format!("{batch_size} rows and {} values at most", out.len());
        let found = format!("{rows} rows and {} values", x.len());
        return Err(KernelError::Shape { op: SCATTER, operand: "x", expected, found });
    }
    let batch_values = check_count(SCATTER, "batch", batch_size.saturating_mul(values))?;
    let count = check_count(SCATTER, "x", x.len())?;
    let arguments =
        Arguments::new().array(&x).array(&batch).output(out).u32(batch_values).u32(count);
    let kernel = out.gpu().kernel(&SOURCE, SCATTER, &[("VALUE", 0)])?;
    // SAFETY: `out` has room for the rows of the batch, which the caller says.
    unsafe { kernel.launch(LaunchShape::elements(x.len()), arguments) }
}

/// Counts a batch, `[1]`.
///
/// # Errors
/// `Shape` for another length.
pub fn next_batch(batch: &mut ViewMut<'_, u64>) -> Result<()> {
    check_length(NEXT, "batch", batch.len(), 1)?;
    let kernel = batch.gpu().kernel(&SOURCE, NEXT, &[("VALUE", 0)])?;
    // SAFETY: the length was checked.
    unsafe { kernel.launch(LaunchShape::line(1, 32), Arguments::new().output(batch)) }
}

/// Refuses more rows than a batch or the order has.
pub(crate) fn check_chosen(chosen: &Chosen<'_>, rows: usize) -> Result<()> {
    let most = chosen.batch_size.min(chosen.order.len());
    if let Some(batch) = &chosen.batch {
        check_length(OP, "batch", batch.len(), 1)?;
    }
    if rows <= most {
        return Ok(());
    }
    let (expected, found) = (format!("{most} rows at most"), format!("{rows} rows"));
    Err(KernelError::Shape { op: OP, operand: "out", expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};

    #[test]
    fn examples_of_every_batch_and_type_are_taken_and_mapped() {
        for_each_device(|gpu| {
            let (examples, values, width) = (7, 1029, 3);
            let x: Vec<Bf16> = draw(1, examples * values).into_iter().map(Bf16::from_f32).collect();
            let plain: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
            let numbers = [6, 0, 3, 3, 5];
            let mut order = Order::new(gpu, numbers.len(), examples)?;
            order.write(&numbers)?;
            assert!(order.write(&[0, 0, 0, 0, 7]).is_err());
            let batch = DeviceArray::from_slice(gpu, &[1_u64])?;
            let chosen = Chosen { order: &order, batch: Some(batch.view()), batch_size: 3 };
            let mut expected = vec![0.0; 2 * values];
            super::super::gather(&plain, values, &numbers[3..], &mut expected).unwrap();
            let mut out = DeviceArray::new(gpu, 2 * values)?;
            let (from, wide) =
                (DeviceArray::from_slice(gpu, &x)?, DeviceArray::from_slice(gpu, &plain)?);
            gather(from.view(), &chosen, None, &mut out.view_mut(), 2)?;
            assert_eq!(out.to_vec()?, expected);
            let (mean, inverse) = (draw(2, width), draw(3, width));
            let affine = [&mean, &inverse].map(|v| DeviceArray::from_slice(gpu, v).unwrap());
            let affine = (affine[0].view(), affine[1].view());
            gather(wide.view(), &chosen, Some(affine), &mut out.view_mut(), 2)?;
            for (i, (found, x)) in out.to_vec()?.into_iter().zip(expected).enumerate() {
                assert_eq!(found, (x - mean[i % width]) * inverse[i % width]);
            }
            assert!(gather(wide.view(), &chosen, None, &mut out.view_mut(), 4).is_err());
            Ok(())
        });
    }

    #[test]
    fn what_is_found_of_batches_lies_in_the_order_of_the_epoch() {
        for_each_device(|gpu| {
            for values in [1, 700] {
                let expected = draw(4, 5 * values);
                let mut batch = DeviceArray::from_slice(gpu, &[0_u64])?;
                let mut out = DeviceArray::zeros(gpu, expected.len())?;
                for found in expected.chunks(2 * values) {
                    let (x, rows) = (DeviceArray::from_slice(gpu, found)?, found.len() / values);
                    scatter(x.view(), (batch.view(), 2), &mut out.view_mut(), rows)?;
                    next_batch(&mut batch.view_mut())?;
                }
                assert_eq!((out.to_vec()?, batch.to_vec()?), (expected, vec![3]));
                let wide = DeviceArray::zeros(gpu, 3 * values)?;
                let at = (batch.view(), 2);
                assert!(scatter(wide.view(), at, &mut out.view_mut(), 3).is_err());
            }
            Ok(())
        });
    }

    #[test]
    fn halves_are_read_as_what_they_are() {
        for_each_device(|gpu| {
            let x = [0x3c00, 0xc000, 0x0001, 0x7bff].map(F16);
            let order = Order::new(gpu, 1, 2)?;
            let chosen = Chosen { order: &order, batch: None, batch_size: 1 };
            let from = DeviceArray::from_slice(gpu, &x)?;
            let mut out = DeviceArray::new(gpu, 2)?;
            gather(from.view(), &chosen, None, &mut out.view_mut(), 1)?;
            assert_eq!(out.to_vec()?, [1.0, -2.0]);
            Ok(())
        });
    }
}
