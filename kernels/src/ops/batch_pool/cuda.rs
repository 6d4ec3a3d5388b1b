//! Pools along positions on a device.
//!
//! Leaves out: overlapping windows and padding. Invariant: maxima and picked positions are the CPU's, bit for bit.

use super::PoolShape;
use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count};
use crate::error::{Result, check_length};

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: "batch_pool",
    text: include_str!("../batch_pool.cu"),
    kernels: &["max_pool", "average_pool", "pool_gradient"],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: "max_pool", registers: 40, shared_bytes: 0 },
    Budget { kernel: "average_pool", registers: 40, shared_bytes: 0 },
    Budget { kernel: "pool_gradient", registers: 40, shared_bytes: 0 },
];

fn extents(arguments: Arguments, count: u32, shape: &PoolShape) -> Arguments {
    arguments.u32(count).u32(shape.width as u32).u32(shape.length as u32).u32(shape.size as u32)
}

/// Writes the largest value of each window and which position it came from; as [`max_pool`](super::max_pool).
///
/// # Errors
/// `Shape` if operands do not fit, or a window has no or more than 65535 positions.
pub fn max_pool(
    x: View<'_, f32>,
    shape: &PoolShape,
    out: &mut ViewMut<'_, f32>,
    picked: &mut ViewMut<'_, u16>,
) -> Result<()> {
    const OP: &str = "max_pool";
    let sequences = shape.check(OP, "x", x.len())?;
    check_count(OP, "x", x.len())?;
    check_length(OP, "out", out.len(), sequences * shape.output())?;
    check_length(OP, "picked", picked.len(), out.len())?;
    let arguments = Arguments::new().array(&x).output(out).output(picked);
    let arguments = extents(arguments, out.len() as u32, shape);
    let kernel = out.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: each output reads a window of its own sequence; picked is as long as out.
    unsafe { kernel.launch(LaunchShape::elements(out.len()), arguments) }
}

/// Writes the mean of each window; as [`average_pool`](super::average_pool).
///
/// # Errors
/// `Shape` if operands do not fit, or a window has no or more than 65535 positions.
pub fn average_pool(x: View<'_, f32>, shape: &PoolShape, out: &mut ViewMut<'_, f32>) -> Result<()> {
    const OP: &str = "average_pool";
    let sequences = shape.check(OP, "x", x.len())?;
    check_count(OP, "x", x.len())?;
    check_length(OP, "out", out.len(), sequences * shape.output())?;
    let arguments = extents(Arguments::new().array(&x).output(out), out.len() as u32, shape);
    let kernel = out.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: each output reads a window of its own sequence.
    unsafe { kernel.launch(LaunchShape::elements(out.len()), arguments) }
}

/// Writes the gradient of [`max_pool`], or of [`average_pool`] where nothing was picked.
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn pool_gradient(
    dy: View<'_, f32>,
    picked: Option<View<'_, u16>>,
    shape: &PoolShape,
    dx: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "pool_gradient";
    let sequences = shape.check(OP, "dx", dx.len())?;
    let count = check_count(OP, "dx", dx.len())?;
    check_length(OP, "dy", dy.len(), sequences * shape.output())?;
    if let Some(picked) = &picked {
        check_length(OP, "picked", picked.len(), dy.len())?;
    }
    let arguments = Arguments::new().array(&dy).optional(picked.as_ref()).output(dx);
    let kernel = dx.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: dx is whole sequences; dy and picked hold their windows.
    unsafe { kernel.launch(LaunchShape::elements(dx.len()), extents(arguments, count, shape)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::batch_pool as on_cpu;

    #[test]
    fn pools_and_their_gradients_are_those_of_the_cpu() {
        for_each_device(|gpu| {
            for (sequences, length, width, size) in
                [(1, 1, 1, 1), (3, 11, 3, 4), (2, 17, 130, 5), (2, 6, 5, 6), (2, 3, 4, 5)]
            {
                let shape = PoolShape { length, width, size };
                let mut x = draw(1, sequences * length * width);
                x.iter_mut().step_by(3).for_each(|x| *x = x.max(0.0));
                let outputs = sequences * shape.output();
                let dy = draw(2, outputs);
                let (mut out, mut picked) = (vec![0.0; outputs], vec![0; outputs]);
                let mut dx = vec![0.0; x.len()];
                on_cpu::max_pool(&x, &shape, &mut out, &mut picked).unwrap();
                on_cpu::max_pool_gradient(&dy, &picked, &shape, &mut dx).unwrap();
                let device = DeviceArray::from_slice(gpu, &x)?;
                let from = DeviceArray::from_slice(gpu, &dy)?;
                let mut found = DeviceArray::new(gpu, outputs)?;
                let mut places = DeviceArray::new(gpu, outputs)?;
                max_pool(device.view(), &shape, &mut found.view_mut(), &mut places.view_mut())?;
                assert_eq!((found.to_vec()?, places.to_vec()?), (out.clone(), picked));
                let mut back = DeviceArray::new(gpu, x.len())?;
                pool_gradient(from.view(), Some(places.view()), &shape, &mut back.view_mut())?;
                assert_eq!(back.to_vec()?, dx);
                on_cpu::average_pool(&x, &shape, &mut out).unwrap();
                on_cpu::average_pool_gradient(&dy, &shape, &mut dx).unwrap();
                average_pool(device.view(), &shape, &mut found.view_mut())?;
                assert_close(&found.to_vec()?, &out, 1e-6);
                pool_gradient(from.view(), None, &shape, &mut back.view_mut())?;
                assert_close(&back.to_vec()?, &dx, 1e-6);
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let x = DeviceArray::from_slice(gpu, &[0.0_f32; 6])?;
            let mut out = DeviceArray::<f32>::new(gpu, 3)?;
            let mut picked = DeviceArray::<u16>::new(gpu, 2)?;
            let shape = PoolShape { length: 2, width: 1, size: 2 };
            let (mut out, mut picked) = (out.view_mut(), picked.view_mut());
            assert!(max_pool(x.view(), &shape, &mut out, &mut picked).is_err());
            let none = PoolShape { size: 0, ..shape };
            assert!(average_pool(x.view(), &none, &mut out).is_err());
            let dy = x.view().part(0..2);
            assert!(pool_gradient(dy, None, &shape, &mut out).is_err());
            Ok(())
        });
    }
}
