//! Sources of kernels, and what a launch is told.
//!
//! Leaves out: compilers and drivers. Invariant: a source is one text for the device and for the emulator, and says what
//! each of its kernels may cost.

use super::array::{Element, View, ViewMut};
use crate::error::{KernelError, Result};

/// The text of a `.cu` file with what is known of it.
#[derive(Debug)]
pub struct Source {
    /// Its name, without ending.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Names of its kernels.
    pub kernels: &'static [&'static str],
    /// What it is compiled with in the checks that need no device.
    pub instances: &'static [Instance],
}

/// Values that a source is compiled with, and what its kernels may cost then.
#[derive(Debug)]
pub struct Instance {
    /// Names and values of `#define`s.
    pub defines: &'static [(&'static str, i64)],
    /// What each kernel may cost; a kernel that is not named may use 64 registers and 48 KiB of shared memory.
    pub budgets: &'static [Budget],
}

/// What a kernel may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Its name.
    pub kernel: &'static str,
    /// Registers of a thread.
    pub registers: u32,
    /// Shared memory of a block in bytes, as its launches ask for at most.
    pub shared_bytes: u32,
}

/// Blocks, threads of a block, shared memory of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads along x, y, z; 1024 in all at most.
    pub block: [u32; 3],
    /// Bytes of shared memory.
    pub shared_bytes: u32,
}

impl LaunchShape {
    /// `blocks` blocks of `threads` threads.
    pub fn line(blocks: usize, threads: u32) -> Self {
        // A grid has 2^31 blocks along x at most; more is refused at the launch.
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        Self { grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0 }
    }

    /// A block of 256 threads for each 1024 of `count` elements.
    pub(crate) fn elements(count: usize) -> Self {
        Self::line(count.div_ceil(1024), 256)
    }

    /// A block of 256 threads for each 32 of `columns`, and along y for each of `slices`; every thread has a value of
    /// `scratch_bytes` in shared memory.
    pub(crate) fn columns(columns: usize, slices: usize, scratch_bytes: usize) -> Self {
        let mut shape = Self::line(columns.div_ceil(32), 256).shared(256 * scratch_bytes);
        shape.grid[1] = u32::try_from(slices).unwrap_or(u32::MAX);
        shape
    }

    /// With so much shared memory.
    #[must_use]
    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }

    pub(super) fn check(&self, kernel: &'static str, shared_bytes_max: u32) -> Result<()> {
        let threads = self.block.iter().map(|&extent| u64::from(extent)).product::<u64>();
        let [x, y, z] = self.grid;
        let fits = (1..=1024).contains(&threads)
            && x <= i32::MAX as u32
            && y.max(z) <= 65_535
            && self.shared_bytes <= shared_bytes_max;
        if fits {
            return Ok(());
        }
        Err(KernelError::Shape {
            op: kernel,
            operand: "launch",
            expected: format!(
                "2^31 x 65535 x 65535 blocks of 1 to 1024 threads and {shared_bytes_max} bytes of shared memory at most"
            ),
            found: format!(
                "{:?} blocks of {:?} threads and {} bytes",
                self.grid, self.block, self.shared_bytes
            ),
        })
    }
}

/// Refuses more values than an index of 32 bits names in whole blocks.
pub(crate) fn check_count(op: &'static str, operand: &'static str, count: usize) -> Result<u32> {
    const MOST: usize = (u32::MAX - 1024) as usize;
    if let Ok(count) = u32::try_from(count.min(MOST + 1))
        && count as usize <= MOST
    {
        return Ok(count);
    }
    let (expected, found) = (format!("{MOST} values at most"), format!("{count} values"));
    Err(KernelError::Shape { op, operand, expected, found })
}

/// Refuses scratch memory that holds fewer than `needed` values.
pub(crate) fn check_scratch(op: &'static str, found: usize, needed: usize) -> Result<()> {
    if found >= needed {
        return Ok(());
    }
    let (expected, found) = (format!("{needed} values at least"), format!("{found} values"));
    Err(KernelError::Shape { op, operand: "scratch", expected, found })
}

/// Arguments of a launch, in order.
#[derive(Clone, Debug, Default)]
pub struct Arguments(pub(super) Vec<u64>);

impl Arguments {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An array to read.
    #[must_use]
    pub fn array<T: Element>(mut self, view: &View<'_, T>) -> Self {
        self.0.push(view.address());
        self
    }

    /// An array to read, or a null pointer.
    #[must_use]
    pub fn optional<T: Element>(mut self, view: Option<&View<'_, T>>) -> Self {
        self.0.push(view.map_or(0, View::address));
        self
    }

    /// An array to write.
    #[must_use]
    pub fn output<T: Element>(mut self, view: &ViewMut<'_, T>) -> Self {
        self.0.push(view.address());
        self
    }

    /// A `float`.
    #[must_use]
    pub fn f32(mut self, value: f32) -> Self {
        self.0.push(u64::from(value.to_bits()));
        self
    }

    /// A `double`.
    #[must_use]
    pub fn f64(mut self, value: f64) -> Self {
        self.0.push(value.to_bits());
        self
    }

    /// An array to write, or a null pointer.
    #[must_use]
    pub fn optional_output<T: Element>(mut self, view: Option<&ViewMut<'_, T>>) -> Self {
        self.0.push(view.map_or(0, ViewMut::address));
        self
    }

    /// A `u32` or an `i32`.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.push(u64::from(value));
        self
    }

    /// A `u64` or an `i64`.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.push(value);
        self
    }
}
