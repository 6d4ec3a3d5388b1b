//! Kernels on a CUDA device, and on the host emulator that stands in for one.
//!
//! Leaves out: what kernels compute (`ops`). Invariant: libraries of CUDA are opened at run time, so that a machine without
//! them gets an error, never a crash; a kernel is compiled once for a device and found on disk the next time.

mod array;
mod driver;
mod emulator;
mod kernel;
mod launch;
mod nvidia;
mod nvrtc;
mod pool;
mod product;
mod recording;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use crate::error::Result;
use driver::{Driver, Module};
use emulator::Emulator;
use nvidia::Nvidia;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use array::{Bf16, DeviceArray, Download, Element, F16, Number, View, ViewMut};
pub use driver::{Graph, Properties};
pub use kernel::Kernel;
pub use launch::{Arguments, Budget, Instance, LaunchShape, Source};
pub(crate) use launch::{check_count, check_scratch};
pub(crate) use nvidia::narrow::NARROW;
pub use nvrtc::{Compiled, compile, sources};
pub use pool::MemoryStatistics;
pub use product::{Operand, Output, Product, ProductClass, Value, ValueType};
pub use recording::Recording;

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Where compiled kernels are kept; none = compiled anew by each process.
    pub cache: Option<PathBuf>,
    /// Bytes of the device's memory that may be used; none = all that is free.
    pub memory_max: Option<u64>,
}

/// A device with its kernels; clones share it.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    driver: Box<dyn Driver>,
    properties: Properties,
    modules: Mutex<BTreeMap<ModuleKey, Arc<dyn Module>>>,
    kept: Mutex<recording::Kept>,
}

/// Shared memory that a block may ask for, in bytes: of the smallest devices that are taken, architectures 86 and 89, and of
/// the largest, 90.
pub(crate) const SHARED_BYTES_LEAST: u32 = 99 << 10;
pub(crate) const SHARED_BYTES_MOST: u32 = 227 << 10;

/// A source and what it is compiled with.
type ModuleKey = (&'static str, Vec<(&'static str, i64)>);

impl fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Gpu({})", self.0.properties.name)
    }
}

impl Gpu {
    /// Opens the NVIDIA device of this ordinal.
    ///
    /// # Errors
    /// `NoDevice` without a driver, NVRTC or such a device, or with one older than sm_80.
    pub fn open(ordinal: usize, options: &GpuOptions) -> Result<Self> {
        Self::of(Box::new(Nvidia::open(ordinal, options)?))
    }

    /// A device that runs kernels on the host, slowly, and checks every access; for tests.
    ///
    /// # Errors
    /// `NoDevice` without a C++ compiler.
    pub fn emulated() -> Result<Self> {
        Self::of(Box::new(Emulator::open(None, SHARED_BYTES_MOST)?))
    }

    /// As [`Gpu::emulated`], with so much memory.
    ///
    /// # Errors
    /// As [`Gpu::emulated`].
    pub fn emulated_within(memory_max: u64) -> Result<Self> {
        Self::of(Box::new(Emulator::open(Some(memory_max), SHARED_BYTES_MOST)?))
    }

    /// As [`Gpu::emulated`], with as little shared memory for a block as any device that is taken.
    ///
    /// # Errors
    /// As [`Gpu::emulated`].
    pub fn emulated_small() -> Result<Self> {
        Self::of(Box::new(Emulator::open(None, SHARED_BYTES_LEAST)?))
    }

    /// The device that tests run on: the first NVIDIA one, or the emulator where there is none and `GLMEVAL_REQUIRE_GPU` is not set.
    ///
    /// # Errors
    /// `NoDevice` without either.
    pub fn for_tests() -> Result<Self> {
        let is_required = std::env::var_os("GLMEVAL_REQUIRE_GPU").is_some();
        match Self::first_for_tests() {
            Err(_) if !is_required => Self::emulated(),
            opened => opened,
        }
    }

    /// The first NVIDIA device, with the cache of kernels that `GLMEVAL_KERNEL_CACHE` names.
    pub(crate) fn first_for_tests() -> Result<Self> {
        let cache = std::env::var_os("GLMEVAL_KERNEL_CACHE").map(Into::into);
        Self::open(0, &GpuOptions { cache, memory_max: None })
    }

    fn of(driver: Box<dyn Driver>) -> Result<Self> {
        let properties = driver.properties()?;
        Ok(Self(Arc::new(Inner {
            driver,
            properties,
            modules: Mutex::default(),
            kept: Mutex::default(),
        })))
    }

    /// What the device is.
    pub fn properties(&self) -> &Properties {
        &self.0.properties
    }

    /// Bytes of memory that are free and that there are.
    ///
    /// # Errors
    /// `Device` if the driver does not answer.
    pub fn memory(&self) -> Result<(u64, u64)> {
        self.0.driver.memory()
    }

    /// What its memory is used for.
    pub fn statistics(&self) -> MemoryStatistics {
        self.0.driver.statistics()
    }

    /// Waits until the device has done all it was told.
    ///
    /// # Errors
    /// `Device` if a kernel failed meanwhile.
    pub fn synchronise(&self) -> Result<()> {
        self.0.driver.synchronise()
    }

    /// A kernel of `source` compiled with `defines`; compiled at most once.
    ///
    /// # Errors
    /// `Compile` if the source is refused; `Device` if the device refuses the kernel.
    pub fn kernel(
        &self,
        source: &'static Source,
        name: &'static str,
        defines: &[(&'static str, i64)],
    ) -> Result<Kernel> {
        let key = (source.name, defines.to_vec());
        let mut modules = lock(&self.0.modules);
        let module = match modules.get(&key) {
            Some(module) => Arc::clone(module),
            None => {
                let module = self.0.driver.load(source, defines)?;
                modules.insert(key, Arc::clone(&module));
                module
            }
        };
        drop(modules);
        Kernel::new(self.clone(), module, source, name)
    }

    /// Records what `work` tells the device, to be done again and again with the same arrays. Nothing runs yet, and
    /// `work` must allocate nothing and copy nothing from or to the host; it must have been done
    /// once before, so that its kernels are compiled and its products planned. What another thread tells the device meanwhile
    /// would be recorded too: the caller keeps others away.
    ///
    /// # Errors
    /// As `work`; `Device` if the driver refuses.
    pub fn record(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.0.driver.begin_recording()?;
        let done = work();
        let graph = self.0.driver.end_recording();
        done?;
        graph
    }

    /// Multiplies matrices; see [`Product`].
    ///
    /// # Errors
    /// `Shape` if an operand is too short; `Device` if the library refuses.
    pub fn multiply(&self, product: &Product<'_>) -> Result<()> {
        product.check()?;
        self.0.driver.multiply(product)
    }

    /// Milliseconds that the device takes for what `work` tells it, by the device's own clock; `None` in the emulator.
    ///
    /// # Errors
    /// As `work`; `Device` if the driver refuses.
    pub fn measure(&self, mut work: impl FnMut() -> Result<()>) -> Result<Option<f64>> {
        self.0.driver.measure(&mut work)
    }

    /// Compiles a small kernel, runs it and looks at what it gives; multiplies two small matrices of each type.
    ///
    /// # Errors
    /// As compiling and running; `Device` if the numbers are wrong.
    pub fn check_itself(&self) -> Result<()> {
        let x: Vec<f32> = (0..64_u8).map(f32::from).collect();
        let found = self.small_product::<f32>(&x)?;
        // All sums are whole numbers that both types of operands lead to exactly.
        self.check_small_product(&x, &found, 0.0)?;
        // These are exact in bf16 too, but the result has 8 bits, and the bias may have been rounded to as many.
        let narrow: Vec<Bf16> = x.iter().map(|x| Bf16::from_f32(*x)).collect();
        let found = self.small_product(&narrow)?;
        let found: Vec<f32> = found.iter().map(|x| x.to_f32()).collect();
        self.check_small_product(&x, &found, 1.0 / 64.0)
    }

    /// A matrix of 8 x 8 times itself turned, with its first row added to each.
    fn small_product<T: Value>(&self, x: &[T]) -> Result<Vec<T>> {
        let bias: Vec<f32> = (0..8_u8).map(f32::from).collect();
        let (left, bias) =
            (DeviceArray::from_slice(self, x)?, DeviceArray::from_slice(self, &bias)?);
        let mut out = DeviceArray::<T>::new(self, 64)?;
        self.multiply(&Product {
            rows: 8,
            columns: 8,
            depth: 8,
            left: Operand::rows(left.view(), 8),
            right: Operand::rows(left.view(), 8),
            bias: Some(bias.view()),
            adds: false,
            out: Output::rows(out.view_mut(), 8),
            class: ProductClass::F32,
        })?;
        out.to_vec()
    }

    fn check_small_product(&self, x: &[f32], found: &[f32], tolerance: f32) -> Result<()> {
        for (index, found) in found.iter().enumerate() {
            let (row, column) = (index / 8, index % 8);
            let sum: f32 = (0..8).map(|k| x[8 * row + k] * x[8 * column + k]).sum();
            let expected = sum + x[column];
            if (found - expected).abs() > tolerance * expected {
                return Err(crate::error::KernelError::Device {
                    device: self.properties().name.clone(),
                    operation: "check".to_owned(),
                    message: format!("value {index}: expected {expected}, found {found}"),
                });
            }
        }
        Ok(())
    }

    fn driver(&self) -> &dyn Driver {
        self.0.driver.as_ref()
    }
}

/// How many NVIDIA devices there are.
///
/// # Errors
/// `NoDevice` without a driver.
pub fn device_count() -> Result<usize> {
    nvidia::device_count()
}

/// The newest CUDA that the driver knows, as "13.0".
///
/// # Errors
/// `NoDevice` without a driver.
pub fn driver_version() -> Result<String> {
    let version = nvidia::driver_version()?;
    Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// NVRTC's version, as "13.0".
///
/// # Errors
/// `NoDevice` without the library.
pub fn nvrtc_version() -> Result<String> {
    nvrtc::version()
}

/// cuBLASLt's version, as "13.0.2".
///
/// # Errors
/// `NoDevice` without the library.
pub fn cublaslt_version() -> Result<String> {
    let version = nvidia::products::version()?;
    Ok(format!("{}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
