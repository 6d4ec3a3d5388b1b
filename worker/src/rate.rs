//! Matrix products of known size on the shapes of gLMs, to measure a machine by.
//!
//! Leaves out: timing them (whoever runs them), forward passes ([`crate::model`]). Invariant:
//! operands are random, never zeros, which some CPUs multiply faster.

use crate::layers::{defect, kernel_precision};
use glmeval_common::error::Result;
use glmeval_common::model::Precision;
use glmeval_common::rng::Rng;
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
