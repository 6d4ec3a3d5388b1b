//! An NVIDIA device by way of the CUDA driver.
//!
//! Leaves out: compiling (`nvrtc`), products (`products`). Invariant: one stream, so work is done in the order in which it was told; nothing of CUDA
//! is called before its library was seen.

use super::driver::{Driver, Graph, Module, Properties, Recorded};
use super::launch::{Arguments, LaunchShape, Source};
use super::product::Product;
use super::{GpuOptions, lock, nvrtc};
use crate::error::{KernelError, Result};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaModule, CudaStream, DriverError, result, sys,
};
use cudarc::nvrtc::Ptx;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

mod plans;
pub(crate) mod products;

use products::Products;

/// Oldest architecture kernels are written for.
const ARCH_MIN: u32 = 80;

/// A device.
pub(super) struct Nvidia {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    name: String,
    arch: u32,
    cache: Option<PathBuf>,
    memory_max: Option<u64>,
    sizes: Mutex<BTreeMap<u64, usize>>,
    products: Option<Products>,
}

fn absent(device: String, reason: String) -> KernelError {
    KernelError::NoDevice { device, reason }
}

/// Whether the driver can be opened.
fn check_driver() -> Result<()> {
    // SAFETY: looks for the library and opens it.
    if unsafe { sys::is_culib_present() } {
        return Ok(());
    }
    let reason =
        "libcuda was not found: no NVIDIA driver is installed, or a container hides it".to_owned();
    Err(absent("CUDA".to_owned(), reason))
}

/// The newest CUDA that the driver knows, as 13000 for 13.0.
pub(super) fn driver_version() -> Result<u32> {
    check_driver()?;
    let mut version = 0;
    // SAFETY: valid to write.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(|error| absent("CUDA".to_owned(), say(&error)))?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// How many devices there are.
pub(super) fn device_count() -> Result<usize> {
    check_driver()?;
    let count =
        CudaContext::device_count().map_err(|error| absent("CUDA".to_owned(), say(&error)))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What the driver says.
fn say(error: &DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    let code = format!("{:?}", error.0);
    text.map_or(code.clone(), |text| format!("{text} ({code})"))
}

impl Nvidia {
    /// Opens a device and its stream.
    pub(super) fn open(ordinal: usize, options: &GpuOptions) -> Result<Self> {
        let count = device_count()?;
        let device = format!("cuda:{ordinal}");
        if ordinal >= count {
            return Err(absent(device, format!("there are {count} devices")));
        }
        nvrtc::check_present()?;
        products::check_present()?;
        let refused = |error: DriverError| absent(device.clone(), say(&error));
        let context = CudaContext::new(ordinal).map_err(refused)?;
        let (major, minor) = context.compute_capability().map_err(refused)?;
        let arch = u32::try_from(10 * major + minor).unwrap_or(0);
        if arch < ARCH_MIN {
            let reason = format!("expected compute capability {ARCH_MIN} or more, found {arch}");
            return Err(absent(device, reason));
        }
        // SAFETY: arrays are ordered by the one stream they are used on.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(refused)?;
        let name = context.name().map_err(refused)?;
        let (cache, memory_max) = (options.cache.clone(), options.memory_max);
        let sizes = Mutex::default();
        let mut device =
            Self { context, stream, name, arch, cache, memory_max, sizes, products: None };
        device.products = Some(Products::open(&device, options.cache.as_deref())?);
        Ok(device)
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<u32> {
        let value = self.context.attribute(attribute).map_err(self.failed("attribute"))?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    fn failed(&self, operation: &'static str) -> impl Fn(DriverError) -> KernelError + '_ {
        move |error| KernelError::Device {
            device: self.name.clone(),
            operation: operation.to_owned(),
            message: say(&error),
        }
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(self.failed("bind"))
    }

    fn full(&self, bytes: usize) -> KernelError {
        let (free, total) = self.memory().unwrap_or_default();
        KernelError::OutOfMemory { device: self.name.clone(), bytes: bytes as u64, free, total }
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        if let Some(products) = self.products.take() {
            self.free(products.scratch());
        }
    }
}

impl Driver for Nvidia {
    fn properties(&self) -> Result<Properties> {
        use sys::CUdevice_attribute as Attribute;
        Ok(Properties {
            name: self.name.clone(),
            arch: self.arch,
            multiprocessors: self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes_max: self
                .attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            driver_version: driver_version()?,
            compiler: format!("NVRTC {}", nvrtc::version()?),
        })
    }

    fn memory(&self) -> Result<(u64, u64)> {
        self.bind()?;
        let (free, total) = result::mem_get_info().map_err(self.failed("memory"))?;
        let Some(limit) = self.memory_max else { return Ok((free as u64, total as u64)) };
        let used: usize = lock(&self.sizes).values().sum();
        Ok((limit.saturating_sub(used as u64).min(free as u64), limit.min(total as u64)))
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.bind()?;
        let used: usize = lock(&self.sizes).values().sum();
        if self.memory_max.is_some_and(|limit| (used + bytes) as u64 > limit) {
            return Err(self.full(bytes));
        }
        // SAFETY: the stream lives as long as the device.
        let allocated = unsafe { result::malloc_async(self.stream.cu_stream(), bytes) };
        match allocated {
            Ok(address) => {
                lock(&self.sizes).insert(address, bytes);
                Ok(address)
            }
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Err(self.full(bytes)),
            Err(error) => Err(self.failed("allocate")(error)),
        }
    }

    fn free(&self, address: u64) {
        lock(&self.sizes).remove(&address);
        if self.bind().is_ok() {
            // SAFETY: allocated by `allocate` on the same stream. A device that is lost frees nothing.
            let _ = unsafe { result::free_async(address, self.stream.cu_stream()) };
        }
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise. The bytes may go once this returns, as they are pageable.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }
            .map_err(self.failed("write"))
    }

    unsafe fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise; waited for below.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }
            .map_err(self.failed("read"))?;
        self.synchronise()
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(self.failed("copy"))
    }

    unsafe fn fill(&self, to: u64, value: u8, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise.
        unsafe { result::memset_d8_async(to, value, bytes, self.stream.cu_stream()) }
            .map_err(self.failed("fill"))
    }

    fn load(
        &self,
        source: &'static Source,
        defines: &[(&'static str, i64)],
    ) -> Result<Arc<dyn Module>> {
        let target =
            if self.arch == 90 { "sm_90a".to_owned() } else { format!("sm_{}", self.arch) };
        let compiled = nvrtc::compile_cached(source, defines, &target, self.cache.as_deref())?;
        let module = self
            .context
            .load_module(Ptx::from_binary(compiled.cubin))
            .map_err(self.failed("load"))?;
        let mut functions = BTreeMap::new();
        for &name in source.kernels {
            functions.insert(name, self.function(&module, name)?);
        }
        let stream = Arc::clone(&self.stream);
        let context = Arc::clone(&self.context);
        Ok(Arc::new(Loaded { context, stream, device: self.name.clone(), functions }))
    }

    fn multiply(&self, product: &Product<'_>) -> Result<()> {
        let absent = || absent(self.name.clone(), "cuBLASLt was not opened".to_owned());
        self.products.as_ref().ok_or_else(absent)?.multiply(self, product)
    }

    fn measure(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<f64>> {
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let event = || self.context.new_event(flags).map_err(self.failed("event"));
        let (start, end) = (event()?, event()?);
        start.record(&self.stream).map_err(self.failed("record"))?;
        work()?;
        end.record(&self.stream).map_err(self.failed("record"))?;
        end.synchronize().map_err(self.failed("synchronise"))?;
        start.elapsed_ms(&end).map(|ms| Some(f64::from(ms))).map_err(self.failed("elapsed"))
    }

    fn begin_recording(&self) -> Result<()> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(self.failed("begin_capture"))
    }

    fn end_recording(&self) -> Result<Graph> {
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = self.stream.end_capture(flags).map_err(self.failed("end_capture"))?;
        Ok(Graph(Box::new(Captured { graph: Mutex::new(graph), device: self.name.clone() })))
    }

    fn synchronise(&self) -> Result<()> {
        self.stream.synchronize().map_err(self.failed("synchronise"))
    }
}

impl Nvidia {
    fn function(&self, module: &Arc<CudaModule>, name: &str) -> Result<CudaFunction> {
        let function = module.load_function(name).map_err(self.failed("load"))?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let shared = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let bytes = self.context.attribute(shared).map_err(self.failed("attribute"))?;
        function.set_attribute(attribute, bytes).map_err(self.failed("set_attribute"))?;
        Ok(function)
    }
}

struct Loaded {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    device: String,
    functions: BTreeMap<&'static str, CudaFunction>,
}

impl Module for Loaded {
    fn has(&self, kernel: &str) -> bool {
        self.functions.contains_key(kernel)
    }

    fn cost(&self, kernel: &str) -> Option<(u32, u32)> {
        let function = self.functions.get(kernel)?;
        let registers = function.num_regs().ok()?;
        let local = function.local_size_bytes().ok()?;
        Some((u32::try_from(registers).ok()?, u32::try_from(local).ok()?))
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        shape: &LaunchShape,
        mut arguments: Arguments,
    ) -> Result<()> {
        let failed = |message: String| KernelError::Device {
            device: self.device.clone(),
            operation: format!(
                "{kernel} with {:?} blocks of {:?} threads and {} bytes of shared memory",
                shape.grid, shape.block, shape.shared_bytes
            ),
            message,
        };
        let function = self
            .functions
            .get(kernel)
            .ok_or_else(|| failed("the module has no such kernel".to_owned()))?;
        self.context.bind_to_thread().map_err(|error| failed(say(&error)))?;
        let mut pointers: Vec<*mut c_void> =
            arguments.0.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let [grid, block] = [shape.grid, shape.block].map(|[x, y, z]| (x, y, z));
        // SAFETY: the caller's promise; the driver copies the arguments before it returns.
        unsafe {
            result::launch_kernel(
                function.cu_function(),
                grid,
                block,
                shape.shared_bytes,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(|error| failed(say(&error)))
    }
}

struct Captured {
    graph: Mutex<Option<CudaGraph>>,
    device: String,
}

// SAFETY: the graph is only used under its lock, as the driver asks.
unsafe impl Send for Captured {}
// SAFETY: as above.
unsafe impl Sync for Captured {}

impl Recorded for Captured {
    fn run(&self) -> Result<()> {
        let graph = lock(&self.graph);
        let Some(graph) = graph.as_ref() else { return Ok(()) };
        graph.launch().map_err(|error| KernelError::Device {
            device: self.device.clone(),
            operation: "graph".to_owned(),
            message: say(&error),
        })
    }
}
