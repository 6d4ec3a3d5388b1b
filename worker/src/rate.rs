//! Matrix products of known size on the shapes of gLMs, to measure a machine by.
//!
//! Leaves out: timing them (whoever runs them), forward passes ([`crate::model`]). Invariant:
//! operands are random, never zeros, which some CPUs multiply faster.

use crate::device::device_error;
use crate::layers::{defect, kernel_precision};
use glmeval_common::error::Result;
use glmeval_common::model::Precision;
use glmeval_common::rng::Rng;
use glmeval_kernels::cuda::{
    Bf16, DeviceArray, Gpu, Operand, Output, Product as DeviceProduct, ProductClass, Value,
};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// The extents of one product `[M, K] x [K, N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductShape {
    /// Where it occurs, for people.
    pub name: &'static str,
    /// M.
    pub rows: usize,
    /// N.
    pub output_width: usize,
    /// K.
    pub input_width: usize,
}

const fn shape(
    name: &'static str,
    rows: usize,
    output_width: usize,
    input_width: usize,
) -> ProductShape {
    ProductShape { name, rows, output_width, input_width }
}

/// Large enough that packing, edges and waiting for threads do not count: a machine's peak.
pub const PEAK: ProductShape = shape("square", 2048, 2048, 2048);

/// Products that gLMs are made of.
pub static PRODUCTS: [ProductShape; 12] = [
    PEAK,
    shape("NT-500M query, key, value", 1152, 3840, 1280),
    shape("NT-500M attention output", 1152, 1280, 1280),
    shape("NT-500M feed-forward 1", 1152, 5120, 1280),
    shape("NT-500M feed-forward 2", 1152, 1280, 5120),
    shape("NT-500M feed-forward 1, one sequence", 36, 5120, 1280),
    shape("NT-500M feed-forward 2, one sequence", 36, 1280, 5120),
    shape("NT-2.5B feed-forward 1", 1152, 10_240, 2560),
    shape("BERT-base feed-forward 1", 1344, 3072, 768),
    shape("HyenaDNA feed-forward 1", 2048, 1024, 256),
    shape("HyenaDNA feed-forward 2", 2048, 256, 1024),
    shape("GPN convolution", 2048, 512, 4608),
];

impl ProductShape {
    /// Multiplications and additions.
    pub fn flops(&self) -> f64 {
        2.0 * self.rows as f64 * self.output_width as f64 * self.input_width as f64
    }
}

/// Operands of one product, its weights packed, and room for the result.
pub struct Product {
    x: Vec<f32>,
    weights: PackedLinear,
    out: Vec<f32>,
}

impl Product {
    /// Draws the operands of a product of `shape` and packs its weights for `precision`.
    ///
    /// # Errors
    /// `Bug` for an extent of zero.
    pub fn prepare(shape: &ProductShape, precision: Precision) -> Result<Self> {
        let random = |purpose: &str, count: usize| {
            let mut rng = Rng::derive(0, purpose);
            (0..count).map(|_| (2.0 * rng.uniform() - 1.0) as f32).collect::<Vec<f32>>()
        };
        let weight = random("weight", shape.output_width * shape.input_width);
        let weights = PackedLinear::pack_as(
            kernel_precision(precision),
            &weight,
            None,
            shape.output_width,
            shape.input_width,
        )
        .map_err(defect)?;
        let x = random("x", shape.rows * shape.input_width);
        Ok(Self { x, weights, out: vec![0.0; shape.rows * shape.output_width] })
    }

    /// Computes the product once.
    ///
    /// # Errors
    /// `Bug` if the kernel refuses its own shapes.
    pub fn run(&mut self) -> Result<()> {
        linear(&self.x, &self.weights, Epilogue::None, &mut self.out).map_err(defect)
    }
}

/// A product of two square matrices of `size` on a device; each call waits until it is done.
///
/// # Errors
/// `Unavailable` if the device has no room.
pub fn device_product(
    gpu: &Gpu,
    precision: Precision,
    size: usize,
) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let values = drawn(size * size);
    match precision {
        Precision::Bf16 => {
            let values: Vec<Bf16> = values.iter().map(|x| Bf16::from_f32(*x)).collect();
            square(gpu, &values, size, ProductClass::F32)
        }
        Precision::F32 => square(gpu, &values, size, ProductClass::F32),
        Precision::Tf32 => square(gpu, &values, size, ProductClass::Tf32),
    }
}

fn square<T: Value>(
    gpu: &Gpu,
    values: &[T],
    size: usize,
    class: ProductClass,
) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let gpu = gpu.clone();
    let operand = DeviceArray::from_slice(&gpu, values).map_err(device_error)?;
    let mut out = DeviceArray::<T>::new(&gpu, values.len()).map_err(device_error)?;
    Ok(Box::new(move || {
        let product = gpu.multiply(&DeviceProduct {
            rows: size,
            columns: size,
            depth: size,
            left: Operand::rows(operand.view(), size),
            right: Operand::rows(operand.view(), size),
            bias: None,
            adds: false,
            out: Output::rows(out.view_mut(), size),
            class,
        });
        product.and_then(|()| gpu.synchronise()).map_err(device_error)
    }))
}

/// Values in -1..1 that are not zero.
fn drawn(count: usize) -> Vec<f32> {
    let value = |i: usize| (i as u32).wrapping_mul(2_654_435_761) as f32 / (1_u64 << 31) as f32;
    (1..=count).map(|i| value(i) - 1.0).collect()
}

/// Threads that kernels share.
pub fn thread_count() -> usize {
    rayon::current_num_threads()
}

/// What computes products in `precision` on this CPU, for people.
pub fn product_kind(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => glmeval_kernels::instruction_set(),
        Precision::Bf16 => glmeval_kernels::bf16_kind(),
        Precision::Tf32 => "CUDA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_multiplies_in_each_precision() {
        let gpu = Gpu::emulated().unwrap();
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            device_product(&gpu, precision, 8).unwrap()().unwrap();
        }
    }

    #[test]
    fn a_product_is_computed_from_operands_that_are_not_zero() {
        let shape = shape("small", 3, 5, 70);
        assert_eq!(shape.flops(), 2100.0);
        for precision in [Precision::F32, Precision::Bf16] {
            let mut product = Product::prepare(&shape, precision).unwrap();
            product.run().unwrap();
            assert_eq!(product.out.len(), 15);
            assert!(product.out.iter().all(|sum| *sum != 0.0), "{:?}", product.out);
        }
    }
}
