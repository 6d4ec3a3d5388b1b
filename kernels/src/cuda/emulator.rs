//! A device that runs kernels on the host: each source is compiled as C++ and every access is checked.
//!
//! Leaves out: speed. Invariant: an access outside an array, an unsynchronised one or a barrier that not all threads reach
//! is an error of the launch that names block, thread and place.

use super::array::Bf16;
use super::driver::{Driver, Graph, Module, Properties, Recorded, refused_recording};
use super::launch::{Arguments, LaunchShape, Source};
use super::lock;
use super::pool::{MemoryStatistics, Pending, Pool, block_bytes};
use super::product::{Operand, Product, ProductClass, ValueType};
use crate::error::{KernelError, Result};
use libloading::Library;
use sha2::{Digest, Sha256};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const HEADER: &str = include_str!("device/emulator.h");
const RUNTIME: &str = include_str!("device/emulator.cpp");
const COMMON: &str = include_str!("device/common.cuh");

/// Bytes on each side of an array that belong to nobody.
const GAP: usize = 256;
const MESSAGE_BYTES: usize = 512;

/// Bytes of memory it says it has.
const MEMORY_BYTES: u64 = 8 << 30;

/// The device.
pub(super) struct Emulator {
    host: Arc<Host>,
    compiler: Compiler,
    shared_bytes_max: u32,
}

/// Its memory and what is recorded.
#[derive(Default)]
struct Host {
    arrays: Mutex<BTreeMap<u64, usize>>,
    recording: Mutex<Option<Vec<Step>>>,
    pool: Mutex<Pool>,
}

/// Something to do again.
type Step = Arc<dyn Fn() -> Result<()> + Send + Sync>;

impl Host {
    /// Does a step, or takes note of it.
    fn tell(&self, step: Step) -> Result<()> {
        if let Some(steps) = lock(&self.recording).as_mut() {
            steps.push(step);
            return Ok(());
        }
        step()
    }

    /// Refuses bytes that no array holds.
    fn check(&self, operation: &str, address: u64, bytes: usize) -> Result<()> {
        let arrays = lock(&self.arrays);
        let inside = arrays.range(..=address).next_back().is_some_and(|(&base, &length)| {
            (address - base).checked_add(bytes as u64).is_some_and(|end| end <= length as u64)
        });
        if inside || bytes == 0 {
            return Ok(());
        }
        Err(failed(operation, format!("{bytes} bytes at an address of no array: out of bounds")))
    }
}

fn failed(operation: &str, message: String) -> KernelError {
    KernelError::Device {
        device: "the emulator".to_owned(),
        operation: operation.to_owned(),
        message,
    }
}

impl Emulator {
    /// Finds the compiler.
    pub(super) fn open(memory_max: Option<u64>, shared_bytes_max: u32) -> Result<Self> {
        let pool = Mutex::new(Pool::new(Some(memory_max.unwrap_or(MEMORY_BYTES))));
        let host = Arc::new(Host { pool, ..Host::default() });
        Ok(Self { host, compiler: Compiler::find()?, shared_bytes_max })
    }

    fn refuse_recording(&self, operation: &str) -> Result<()> {
        let is_recording = lock(&self.host.recording).is_some();
        if is_recording { Err(refused_recording("the emulator", operation)) } else { Ok(()) }
    }
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(2 * GAP)?, GAP).ok()
}

impl Driver for Emulator {
    fn properties(&self) -> Result<Properties> {
        Ok(Properties {
            name: "the emulator".to_owned(),
            arch: 0,
            multiprocessors: 1,
            shared_bytes_max: self.shared_bytes_max,
            driver_version: 0,
            compiler: self.compiler.version.clone(),
        })
    }

    fn memory(&self) -> Result<(u64, u64)> {
        Ok((lock(&self.host.pool).room(MEMORY_BYTES), MEMORY_BYTES))
    }

    fn statistics(&self) -> MemoryStatistics {
        lock(&self.host.pool).statistics()
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.refuse_recording("allocate")?;
        let full = || KernelError::OutOfMemory {
            device: "the emulator".to_owned(),
            bytes: bytes as u64,
            free: lock(&self.host.pool).room(MEMORY_BYTES),
            total: MEMORY_BYTES,
        };
        // Sizes and budget are a device's; the memory itself is new each time, so that what nobody wrote shows.
        let block = block_bytes(bytes).ok_or_else(full)?;
        let has_room = lock(&self.host.pool).has_room(block);
        if !has_room {
            return Err(full());
        }
        let layout = layout(bytes).ok_or_else(full)?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return Err(full());
        }
        // SAFETY: as long as the layout. All ones are a NaN, so that what nobody wrote shows.
        unsafe { start.write_bytes(0xff, layout.size()) };
        let address = start as u64 + GAP as u64;
        lock(&self.host.arrays).insert(address, bytes);
        lock(&self.host.pool).add(address, block);
        Ok(address)
    }

    fn free(&self, address: u64) {
        let Some(bytes) = lock(&self.host.arrays).remove(&address) else { return };
        let mut pool = lock(&self.host.pool);
        pool.free(address);
        pool.trim();
        drop(pool);
        if let Some(layout) = layout(bytes) {
            // SAFETY: allocated with this layout in `allocate`, GAP before the address.
            unsafe { dealloc((address - GAP as u64) as *mut u8, layout) };
        }
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.host.check("write", to, bytes.len())?;
        self.refuse_recording("write")?;
        let bytes = bytes.to_vec();
        self.host.tell(Arc::new(move || {
            // SAFETY: inside an array, checked above.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
            Ok(())
        }))
    }

    unsafe fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.host.check("read", from, bytes.len())?;
        self.refuse_recording("read")?;
        // SAFETY: inside an array, checked above.
        unsafe {
            std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len())
        };
        Ok(())
    }

    unsafe fn begin_read(&self, from: u64, bytes: usize) -> Result<Box<dyn Pending>> {
        let mut copied = vec![0; bytes];
        // SAFETY: the caller's promise.
        unsafe { self.read(from, &mut copied)? };
        Ok(Box::new(Copied(copied)))
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.host.check("copy", from, bytes)?;
        self.host.check("copy", to, bytes)?;
        self.host.tell(Arc::new(move || {
            // SAFETY: inside arrays, checked above; the caller keeps them apart.
            unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
            Ok(())
        }))
    }

    unsafe fn fill(&self, to: u64, value: u8, bytes: usize) -> Result<()> {
        self.host.check("fill", to, bytes)?;
        self.host.tell(Arc::new(move || {
            // SAFETY: inside an array, checked above.
            unsafe { (to as *mut u8).write_bytes(value, bytes) };
            Ok(())
        }))
    }

    fn load(
        &self,
        source: &'static Source,
        defines: &[(&'static str, i64)],
    ) -> Result<Arc<dyn Module>> {
        let path = self.compiler.compile(source, defines)?;
        let refused = |error: libloading::Error| compile_error(source, error.to_string());
        // SAFETY: compiled from our own source; it does nothing when it is opened.
        let library = unsafe { Library::new(path) }.map_err(refused)?;
        Ok(Arc::new(Emulated {
            inner: Arc::new(Loaded { source, library }),
            host: Arc::clone(&self.host),
        }))
    }

    fn multiply(&self, product: &Product<'_>) -> Result<()> {
        let step = HostProduct::of(product);
        self.host.tell(Arc::new(move || {
            step.run();
            Ok(())
        }))
    }

    fn measure(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<f64>> {
        work().map(|()| None)
    }

    fn begin_recording(&self) -> Result<()> {
        *lock(&self.host.recording) = Some(Vec::new());
        Ok(())
    }

    fn end_recording(&self) -> Result<Graph> {
        let steps = lock(&self.host.recording).take().unwrap_or_default();
        Ok(Graph(Box::new(Steps(steps))))
    }

    fn synchronise(&self) -> Result<()> {
        Ok(())
    }
}

struct Copied(Vec<u8>);

impl Pending for Copied {
    fn finish(self: Box<Self>, into: &mut [u8]) -> Result<()> {
        into.copy_from_slice(&self.0);
        Ok(())
    }
}

struct Steps(Vec<Step>);

impl Recorded for Steps {
    fn run(&self) -> Result<()> {
        self.0.iter().try_for_each(|step| step())
    }
}

struct Loaded {
    source: &'static Source,
    library: Library,
}

struct Emulated {
    inner: Arc<Loaded>,
    host: Arc<Host>,
}

#[repr(C)]
struct Region {
    base: u64,
    bytes: u64,
}

/// As `Launch` in `emulator.cpp`.
#[repr(C)]
struct Launch {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u64,
    regions: *const Region,
    region_count: u64,
    kernel: unsafe extern "C" fn(*mut *mut c_void),
    arguments: *mut *mut c_void,
    message: *mut c_char,
    message_bytes: u64,
}

impl Loaded {
    fn run(
        &self,
        host: &Host,
        kernel: &str,
        shape: &LaunchShape,
        arguments: &Arguments,
    ) -> Result<()> {
        let operation =
            || format!("{kernel} with {:?} blocks of {:?} threads", shape.grid, shape.block);
        let missing = |error: libloading::Error| failed(&operation(), error.to_string());
        // SAFETY: made by the macro EMULATED with this signature.
        let entry = unsafe {
            self.library
                .get::<unsafe extern "C" fn(*mut *mut c_void)>(format!("emulated_{kernel}"))
                .map_err(missing)?
        };
        // SAFETY: declared so in `emulator.cpp`.
        let run = unsafe {
            self.library
                .get::<unsafe extern "C" fn(*const Launch) -> c_int>("emulator_run")
                .map_err(missing)?
        };
        let regions: Vec<Region> = lock(&host.arrays)
            .iter()
            .map(|(&base, &bytes)| Region { base, bytes: bytes as u64 })
            .collect();
        let mut values = arguments.0.clone();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let mut message: [c_char; MESSAGE_BYTES] = [0; MESSAGE_BYTES];
        let launch = Launch {
            grid: shape.grid,
            block: shape.block,
            shared_bytes: u64::from(shape.shared_bytes),
            regions: regions.as_ptr(),
            region_count: regions.len() as u64,
            kernel: *entry,
            arguments: pointers.as_mut_ptr(),
            message: message.as_mut_ptr(),
            message_bytes: MESSAGE_BYTES as u64,
        };
        // SAFETY: everything the launch points to outlives the call; the message ends with zero.
        let (code, message) = unsafe { (run(&raw const launch), CStr::from_ptr(message.as_ptr())) };
        match code {
            0 => Ok(()),
            _ => Err(failed(&operation(), message.to_string_lossy().into_owned())),
        }
    }
}

impl Module for Emulated {
    fn has(&self, kernel: &str) -> bool {
        self.inner.source.kernels.contains(&kernel)
    }

    fn cost(&self, _kernel: &str) -> Option<(u32, u32)> {
        None
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        shape: &LaunchShape,
        arguments: Arguments,
    ) -> Result<()> {
        let (inner, host, shape) = (Arc::clone(&self.inner), Arc::clone(&self.host), *shape);
        let memory = Arc::clone(&self.host);
        host.tell(Arc::new(move || inner.run(&memory, kernel, &shape, &arguments)))
    }
}

/// A product with plain addresses.
struct HostProduct {
    extents: [usize; 3],
    left: Matrix,
    right: Matrix,
    bias: Option<u64>,
    adds: bool,
    out: Matrix,
}

#[derive(Clone, Copy)]
struct Matrix {
    address: u64,
    value_type: ValueType,
    strides: [usize; 2],
    /// Whether f32 values are read with 10 bits of fraction.
    rounds: bool,
}

impl Matrix {
    fn of(operand: &Operand<'_>, class: ProductClass) -> Self {
        let Operand { address, value_type, .. } = *operand;
        let strides = if operand.transposed { [1, operand.stride] } else { [operand.stride, 1] };
        Self { address, value_type, strides, rounds: class == ProductClass::Tf32 }
    }

    fn place(&self, row: usize, column: usize) -> u64 {
        let index = row * self.strides[0] + column * self.strides[1];
        self.address + (index * self.value_type.bytes()) as u64
    }

    fn get(&self, row: usize, column: usize) -> f32 {
        let place = self.place(row, column);
        // SAFETY: inside the operand, as `Product::check` has seen.
        unsafe {
            match self.value_type {
                ValueType::F32 if self.rounds => to_tf32(*(place as *const f32)),
                ValueType::F32 => *(place as *const f32),
                ValueType::Bf16 => (*(place as *const Bf16)).to_f32(),
            }
        }
    }

    fn set(&self, row: usize, column: usize, value: f32) {
        let place = self.place(row, column);
        // SAFETY: inside the output, as `Product::check` has seen.
        unsafe {
            match self.value_type {
                ValueType::F32 => *(place as *mut f32) = value,
                ValueType::Bf16 => *(place as *mut Bf16) = Bf16::from_f32(value),
            }
        }
    }
}

/// To the nearest number with 10 bits of fraction, as kernels round what tensor cores multiply.
fn to_tf32(x: f32) -> f32 {
    if !x.is_finite() {
        return x;
    }
    f32::from_bits((x.to_bits() + 0x1000) & 0xffff_e000)
}

impl HostProduct {
    fn of(product: &Product<'_>) -> Self {
        let out = &product.out;
        let strides = [out.stride, 1];
        Self {
            extents: [product.rows, product.columns, product.depth],
            left: Matrix::of(&product.left, product.class),
            right: Matrix::of(&product.right, product.class),
            bias: product.bias.as_ref().map(super::View::address),
            adds: product.adds,
            out: Matrix {
                address: out.address,
                value_type: out.value_type,
                strides,
                rounds: false,
            },
        }
    }

    fn run(&self) {
        let [rows, columns, depth] = self.extents;
        for row in 0..rows {
            let left: Vec<f32> = (0..depth).map(|k| self.left.get(row, k)).collect();
            for column in 0..columns {
                let products = left.iter().enumerate();
                let mut sum = products
                    .fold(0.0_f32, |sum, (k, &x)| x.mul_add(self.right.get(column, k), sum));
                if let Some(bias) = self.bias {
                    // SAFETY: `columns` values, as `Product::check` has seen.
                    sum += unsafe { *(bias as *const f32).add(column) };
                }
                if self.adds {
                    sum += self.out.get(row, column);
                }
                self.out.set(row, column, sum);
            }
        }
    }
}

/// A folder that only this user writes: what lies in it is loaded and run.
fn cache_folder() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(caches.join("glmeval").join("emulator"))
}

/// The C++ compiler, and where its output is kept.
struct Compiler {
    program: String,
    version: String,
    folder: PathBuf,
}

fn compile_error(source: &Source, log: String) -> KernelError {
    KernelError::Compile {
        source_name: format!("{}.cu", source.name),
        target: "the emulator".to_owned(),
        log,
    }
}

impl Compiler {
    fn find() -> Result<Self> {
        let program = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
        let absent =
            |reason: String| KernelError::NoDevice { device: "the emulator".to_owned(), reason };
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|error| absent(format!("{program}: {error}; it needs a C++ compiler")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().unwrap_or_default().to_owned();
        let folder = cache_folder().ok_or_else(|| {
            absent("neither XDG_CACHE_HOME nor HOME says where compiled kernels may lie".to_owned())
        })?;
        Ok(Self { program, version, folder })
    }

    /// The shared library of a source; compiled unless it is there.
    fn compile(&self, source: &'static Source, defines: &[(&'static str, i64)]) -> Result<PathBuf> {
        let mut text =
            format!("{HEADER}\n{COMMON}\n#line 1 \"{}.cu\"\n{}\n", source.name, source.text);
        text.extend(source.kernels.iter().map(|kernel| format!("EMULATED({kernel})\n")));
        let mut options: Vec<String> =
            ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
                .map(String::from)
                .into();
        options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        let refused = |error: String| compile_error(source, error);
        std::fs::create_dir_all(&self.folder).map_err(|error| refused(error.to_string()))?;
        let runtime =
            self.object("runtime", RUNTIME, &["-O2".to_owned()], &options[..4]).map_err(refused)?;
        let checked =
            ["-O1", "-fsanitize=thread", "-Wno-unknown-pragmas", "-Wno-tsan"].map(String::from);
        let kernels = self.object(source.name, &text, &checked, &options).map_err(refused)?;
        let stem =
            |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let library = self.folder.join(format!("{}-{}.so", stem(&kernels), stem(&runtime)));
        if !library.exists() {
            self.write(&library, |staging| {
                self.run(&[
                    "-shared".as_ref(),
                    kernels.as_ref(),
                    runtime.as_ref(),
                    "-o".as_ref(),
                    staging.as_ref(),
                ])
            })
            .map_err(refused)?;
        }
        Ok(library)
    }

    /// Compiles a text to an object file.
    fn object(
        &self,
        name: &str,
        text: &str,
        first: &[String],
        rest: &[String],
    ) -> Result<PathBuf, String> {
        let mut digest = Sha256::new();
        for part in [&self.version, text, &first.join(" "), &rest.join(" ")] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let digest: String =
            digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let object = self.folder.join(format!("{name}-{digest}.o"));
        if object.exists() {
            return Ok(object);
        }
        let code = object.with_extension("cpp");
        self.write(&code, |staging| {
            std::fs::write(staging, text).map_err(|error| error.to_string())
        })?;
        self.write(&object, |staging| {
            let options = first.iter().chain(rest).map(AsRef::<std::ffi::OsStr>::as_ref);
            let files = ["-c".as_ref(), code.as_os_str(), "-o".as_ref(), staging.as_os_str()];
            self.run(&options.chain(files).collect::<Vec<_>>())
        })?;
        Ok(object)
    }

    /// Makes a file beside its place and renames it: processes that compile at the same time do no harm.
    fn write(
        &self,
        path: &Path,
        make: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let staging = path.with_extension(format!("{}-{number}.{ending}", std::process::id()));
        make(&staging)?;
        std::fs::rename(&staging, path).map_err(|error| error.to_string())
    }

    fn run(&self, arguments: &[&std::ffi::OsStr]) -> Result<(), String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .output()
            .map_err(|error| format!("{}: {error}", self.program))?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
