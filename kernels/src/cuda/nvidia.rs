//! An NVIDIA device by way of the CUDA driver.
//!
//! Leaves out: compiling (`nvrtc`), products (`products`), host memory (`staging`). Invariant: one stream for all but downloads
//! that were begun ahead, so work is done in the order in which it was told; nothing of CUDA
//! is called before its library was seen.

use super::driver::{Driver, Graph, Module, Properties, Recorded, refused_recording};
use super::launch::{Arguments, LaunchShape, Source};
use super::pool::{MemoryStatistics, Pending, Pool, block_bytes};
use super::product::Product;
use super::{GpuOptions, SHARED_BYTES_LEAST, lock, nvrtc};
use crate::error::{KernelError, Result};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaStream, DriverError, result,
    sys,
};
use cudarc::nvrtc::Ptx;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) mod narrow;
mod plans;
pub(crate) mod products;
mod staging;

use products::Products;
use staging::{PIECE_BYTES, Pinned, STAGED_BYTES_MIN, Staging};

/// Oldest architecture kernels are written for.
const ARCH_MIN: u32 = 80;

/// Shared memory that a block may ask for.
const SHARED_BYTES: sys::CUdevice_attribute =
    sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;

/// A device.
pub(super) struct Nvidia {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    name: String,
    arch: u32,
    cache: Option<PathBuf>,
    pool: Mutex<Pool>,
    staging: Arc<Staging>,
    /// Copies to the host that kernels do not wait for.
    downloads: Arc<CudaStream>,
    is_recording: AtomicBool,
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

/// Refuses libraries that are newer than the driver by a major version: it takes neither their code nor their calls.
fn check_versions(device: &str) -> Result<()> {
    let driver = driver_version()? / 1000;
    let nvrtc = nvrtc::version()?;
    let cublaslt = products::version()? / 10_000;
    let too_new = |name: &str, version: &str| {
        let reason = format!(
            "expected {name} of CUDA {driver}, as the driver is, or older; found {version}: \
             name another's folder in LD_LIBRARY_PATH, or renew the driver"
        );
        Err(absent(device.to_owned(), reason))
    };
    let major = nvrtc.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major > driver) {
        return too_new("NVRTC", &nvrtc);
    }
    if cublaslt > driver as usize {
        return too_new("cuBLASLt", &cublaslt.to_string());
    }
    Ok(())
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
        check_versions(&device)?;
        let refused = |error: DriverError| absent(device.clone(), say(&error));
        let context = CudaContext::new(ordinal).map_err(refused)?;
        let (major, minor) = context.compute_capability().map_err(refused)?;
        let arch = u32::try_from(10 * major + minor).unwrap_or(0);
        if arch < ARCH_MIN {
            let reason = format!("expected compute capability {ARCH_MIN} or more, found {arch}");
            return Err(absent(device, reason));
        }
        let shared = context.attribute(SHARED_BYTES).map_err(refused)?;
        if shared < SHARED_BYTES_LEAST as i32 {
            let (wanted, found) = (SHARED_BYTES_LEAST >> 10, shared >> 10);
            let reason =
                format!("expected {wanted} KiB of shared memory for a block, found {found}");
            return Err(absent(device, reason));
        }
        // SAFETY: arrays are ordered by the one stream they are used on.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(refused)?;
        let name = context.name().map_err(refused)?;
        let mut device = Self {
            staging: Arc::new(Staging::new(&context)),
            downloads: context.new_stream().map_err(refused)?,
            context,
            stream,
            name,
            arch,
            cache: options.cache.clone(),
            pool: Mutex::new(Pool::new(options.memory_max)),
            is_recording: AtomicBool::new(false),
            products: None,
        };
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

    /// Does what may want memory of the driver's own: once more without our idle blocks if there is none.
    fn with_room<T>(
        &self,
        operation: &'static str,
        work: impl Fn() -> std::result::Result<T, DriverError>,
    ) -> Result<T> {
        let is_full = |error: &DriverError| error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        let done = match work() {
            Err(error) if is_full(&error) => {
                self.trim()?;
                work()
            }
            done => done,
        };
        done.map_err(|error| match is_full(&error) {
            true => self.full(0),
            false => self.failed(operation)(error),
        })
    }

    /// Refuses what a recording cannot hold.
    fn refuse_recording(&self, operation: &str) -> Result<()> {
        match self.is_recording.load(Ordering::Relaxed) {
            true => Err(refused_recording(&self.name, operation)),
            false => Ok(()),
        }
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(self.failed("bind"))
    }

    /// Gives all idle blocks back to the driver, and the driver's to the device.
    fn trim(&self) -> Result<()> {
        self.bind()?;
        for address in lock(&self.pool).trim() {
            // SAFETY: allocated on this stream, in use by nobody.
            unsafe { result::free_async(address, self.stream.cu_stream()) }
                .map_err(self.failed("free"))?;
        }
        self.synchronise()?;
        // SAFETY: the device's own pool, which allocations on its streams come from.
        unsafe {
            result::device::get_default_mem_pool(self.context.cu_device())
                .and_then(|pool| result::mem_pool::trim_to(pool, 0))
        }
        .map_err(self.failed("trim"))
    }

    fn full(&self, bytes: usize) -> KernelError {
        let (free, total) = self.memory().unwrap_or_default();
        KernelError::OutOfMemory { device: self.name.clone(), bytes: bytes as u64, free, total }
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        // Another device's context may be current on this thread.
        let _ = self.bind();
        if let Some(products) = self.products.take() {
            self.free(products.scratch());
        }
        // What the device still has to do may use the blocks; a device that is lost frees nothing.
        drop(self.trim());
    }
}

/// A copy to the host under way on its own stream.
struct Download {
    staging: Arc<Staging>,
    pieces: Vec<Pinned>,
    device: String,
}

impl Pending for Download {
    fn finish(self: Box<Self>, into: &mut [u8]) -> Result<()> {
        let Self { staging, pieces, device } = *self;
        for (buffer, piece) in pieces.into_iter().zip(into.chunks_mut(PIECE_BYTES)) {
            // SAFETY: pieces are as long as those that were begun; `Driver::begin_read` has the length checked.
            unsafe { buffer.end_download(piece) }.map_err(|error| KernelError::Device {
                device: device.clone(),
                operation: "read".to_owned(),
                message: say(&error),
            })?;
            staging.keep(buffer);
        }
        Ok(())
    }
}

impl Driver for Nvidia {
    fn properties(&self) -> Result<Properties> {
        use sys::CUdevice_attribute as Attribute;
        Ok(Properties {
            name: self.name.clone(),
            arch: self.arch,
            multiprocessors: self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes_max: self.attribute(SHARED_BYTES)?,
            driver_version: driver_version()?,
            compiler: format!("NVRTC {}", nvrtc::version()?),
        })
    }

    fn memory(&self) -> Result<(u64, u64)> {
        self.bind()?;
        let (free, total) = result::mem_get_info().map_err(self.failed("memory"))?;
        Ok((lock(&self.pool).room(free as u64), total as u64))
    }

    fn statistics(&self) -> MemoryStatistics {
        lock(&self.pool).statistics()
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.bind()?;
        self.refuse_recording("allocate")?;
        let block = block_bytes(bytes).ok_or_else(|| self.full(bytes))?;
        // Work told of a block before it was freed is done before work told afterwards: there is one stream.
        if let Some(address) = lock(&self.pool).take(block) {
            return Ok(address);
        }
        for is_last in [false, true] {
            if lock(&self.pool).has_room(block) {
                // SAFETY: the stream lives as long as the device.
                match unsafe { result::malloc_async(self.stream.cu_stream(), block) } {
                    Ok(address) => {
                        lock(&self.pool).add(address, block);
                        return Ok(address);
                    }
                    Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {}
                    Err(error) => return Err(self.failed("allocate")(error)),
                }
            }
            if !is_last {
                self.trim()?;
            }
        }
        Err(self.full(bytes))
    }

    fn free(&self, address: u64) {
        lock(&self.pool).free(address);
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        self.refuse_recording("write")?;
        if bytes.is_empty() {
            return Ok(());
        }
        let written = if bytes.len() < STAGED_BYTES_MIN {
            // SAFETY: the caller's promise. The bytes may go once this returns, as they are pageable.
            unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.staging.write(to, bytes, &self.stream) }
        };
        written.map_err(self.failed("write"))
    }

    unsafe fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.bind()?;
        self.refuse_recording("read")?;
        if bytes.is_empty() {
            return self.synchronise();
        }
        if bytes.len() >= STAGED_BYTES_MIN {
            // SAFETY: the caller's promise.
            return unsafe { self.staging.read(from, bytes, &self.stream) }
                .map_err(self.failed("read"));
        }
        // SAFETY: the caller's promise; waited for below.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }
            .map_err(self.failed("read"))?;
        self.synchronise()
    }

    unsafe fn begin_read(&self, from: u64, bytes: usize) -> Result<Box<dyn Pending>> {
        self.bind()?;
        self.refuse_recording("begin_read")?;
        let told = self.stream.record_event(None).map_err(self.failed("begin_read"))?;
        self.downloads.wait(&told).map_err(self.failed("begin_read"))?;
        let mut pieces = Vec::new();
        for start in (0..bytes).step_by(PIECE_BYTES) {
            let length = PIECE_BYTES.min(bytes - start);
            let buffer = self.staging.buffer().map_err(self.failed("begin_read"))?;
            // SAFETY: a piece of what the caller promises.
            unsafe { buffer.begin_download(from + start as u64, length, &self.downloads) }
                .map_err(self.failed("begin_read"))?;
            pieces.push(buffer);
        }
        let (staging, device) = (Arc::clone(&self.staging), self.name.clone());
        Ok(Box::new(Download { staging, pieces, device }))
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(self.failed("copy"))
    }

    unsafe fn fill(&self, to: u64, value: u8, bytes: usize) -> Result<()> {
        self.bind()?;
        if bytes == 0 {
            return Ok(());
        }
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
        let module = self.with_room("load", || {
            self.context.load_module(Ptx::from_binary(compiled.cubin.clone()))
        })?;
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
        let ms = elapsed_ms(&start, &end).map_err(self.failed("elapsed"))?;
        Ok(Some(f64::from(ms)))
    }

    fn begin_recording(&self) -> Result<()> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(self.failed("begin_capture"))?;
        self.is_recording.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn end_recording(&self) -> Result<Graph> {
        self.is_recording.store(false, Ordering::Relaxed);
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = self.stream.end_capture(flags).map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => self.full(0),
            _ => self.failed("end_capture")(error),
        })?;
        let (context, device) = (Arc::clone(&self.context), self.name.clone());
        Ok(Graph(Box::new(Captured { graph: Mutex::new(graph), context, device })))
    }

    fn synchronise(&self) -> Result<()> {
        self.stream.synchronize().map_err(self.failed("synchronise"))
    }
}

impl Nvidia {
    fn function(&self, module: &Arc<CudaModule>, name: &str) -> Result<CudaFunction> {
        let function = module.load_function(name).map_err(self.failed("load"))?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = self.context.attribute(SHARED_BYTES).map_err(self.failed("attribute"))?;
        function.set_attribute(attribute, bytes).map_err(self.failed("set_attribute"))?;
        Ok(function)
    }
}

/// Milliseconds between two events of which the second has been waited for.
///
/// By the first form of the call: drivers before CUDA 12.8 have no other, and bindings for 13 name only the newer one.
fn elapsed_ms(start: &CudaEvent, end: &CudaEvent) -> std::result::Result<f32, DriverError> {
    type Call = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    let mut ms = 0.0_f32;
    // SAFETY: the library was opened before there were events; the call is the driver's of that name.
    let call = unsafe { sys::culib().get::<Call>(b"cuEventElapsedTime\0") }
        .map_err(|_| DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND))?;
    // SAFETY: both events are alive; the number is valid to write.
    unsafe { call(&raw mut ms, start.cu_event(), end.cu_event()) }.result()?;
    Ok(ms)
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
    context: Arc<CudaContext>,
    device: String,
}

impl Drop for Captured {
    fn drop(&mut self) {
        // A graph is destroyed in the context that is current, whoever drops it.
        let _ = self.context.bind_to_thread();
        lock(&self.graph).take();
    }
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
