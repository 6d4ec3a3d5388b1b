//! Products of matrices by cuBLASLt.
//!
//! The library thinks in columns: a row-major `[rows, columns]` result is its `[columns, rows]` matrix, so the operands change
//! places. Leaves out: what algorithm was chosen before (`plans`). Invariant: nothing is searched once a product's form was
//! seen; no sum is split over blocks, so a row's bits depend on that row and the form alone.

use super::plans::{Algorithm, Choices, PlanKey, Side};
use super::{Nvidia, narrow};
use crate::cuda::driver::{Driver, Module};
use crate::cuda::lock;
use crate::cuda::product::{Product, ProductClass, ValueType};
use crate::error::{KernelError, Result};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Bytes that algorithms may use for themselves; what NVIDIA advises for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Bytes beside them for a bias in the type and at the alignment that the library wants.
const BIAS_BYTES: usize = 1 << 20;

/// Bytes that divide the address of any bias.
const BIAS_ALIGNMENT: usize = 16;

/// Algorithms that are asked for, best first; those that split sums are passed over.
const CANDIDATES: usize = 64;

/// Whether cuBLASLt can be opened.
pub(super) fn check_present() -> Result<()> {
    // SAFETY: looks for the library and opens it.
    if unsafe { sys::is_culib_present() } {
        return Ok(());
    }
    Err(KernelError::NoDevice {
        device: "cuBLASLt".to_owned(),
        reason: "libcublasLt was not found; it comes with CUDA and with the Python package \
                 nvidia-cublas, whose folder LD_LIBRARY_PATH must name"
            .to_owned(),
    })
}

/// Its version, as 130000 for 13.0.0.
pub(in crate::cuda) fn version() -> Result<usize> {
    check_present()?;
    // SAFETY: the library was found.
    Ok(unsafe { sys::cublasLtGetVersion() })
}

/// The library, opened for one device.
pub(super) struct Products {
    device: String,
    handle: Handle,
    /// `WORKSPACE_BYTES` for algorithms, then `BIAS_BYTES` for a bias.
    scratch: u64,
    /// Held from the bias to the product: both use the scratch memory and the plan's descriptors.
    state: Mutex<State>,
}

struct State {
    plans: BTreeMap<PlanKey, Plan>,
    choices: Choices,
    narrow: Option<Arc<dyn Module>>,
}

struct Handle(sys::cublasLtHandle_t);

// SAFETY: the library lets any thread use a handle.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created in `open`, used by nobody any more. A device that is lost frees nothing.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

struct Layout(sys::cublasLtMatrixLayout_t);

// SAFETY: only used under the lock of `State`.
unsafe impl Send for Layout {}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created in `new`, used by nobody any more.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

impl Layout {
    /// Of `rows` columns that are `stride` values apart, each of `inner` values: row-major seen as column-major.
    fn new(side: &Side, inner: usize, rows: usize) -> Result<Self, CublasError> {
        let stride = side.stride as i64;
        result::create_matrix_layout(data_type(side.value_type), inner as u64, rows as u64, stride)
            .map(Self)
    }

    fn set(
        &self,
        attribute: sys::cublasLtMatrixLayoutAttribute_t,
        extent: usize,
    ) -> Result<(), CublasError> {
        let extent = extent as u64;
        // SAFETY: both extents are 64-bit numbers, copied by the call.
        unsafe {
            result::set_matrix_layout_attribute(
                self.0,
                attribute,
                (&raw const extent).cast(),
                size_of::<u64>(),
            )
        }
    }
}

struct Descriptor(sys::cublasLtMatmulDesc_t);

// SAFETY: only used under the lock of `State`.
unsafe impl Send for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created in `new`, used by nobody any more.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

impl Descriptor {
    /// `bias`: an address that no bias is less aligned than, as the library looks at it when it chooses.
    fn new(key: &PlanKey, bias: u64) -> Result<Self, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let compute = match (key.left.value_type, key.class) {
            (ValueType::F32, ProductClass::Tf32) => {
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
            }
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let descriptor =
            Self(result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?);
        // CUBLAS_OP_N and CUBLAS_OP_T.
        let turned = |turned: bool| i32::from(turned);
        // The library's A is the right operand, stored with the depth inside unless it is transposed: A must be turned.
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, turned(!key.right.transposed))?;
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, turned(key.left.transposed))?;
        if key.has_bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue)?;
            let bias_type = data_type(key.out.value_type) as u32;
            descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type)?;
            descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)?;
        }
        Ok(descriptor)
    }

    fn set<T: Copy>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: T,
    ) -> Result<(), CublasError> {
        // SAFETY: the caller gives the attribute's own type: 32 bits for enumerations, 64 for a pointer; copied by the call.
        unsafe {
            result::set_matmul_desc_attribute(
                self.0,
                attribute,
                (&raw const value).cast(),
                size_of::<T>(),
            )
        }
    }
}

/// What all products of one form share.
struct Plan {
    descriptor: Descriptor,
    right: Layout,
    left: Layout,
    out: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

fn data_type(value_type: ValueType) -> sys::cudaDataType_t {
    match value_type {
        ValueType::F32 => sys::cudaDataType_t::CUDA_R_32F,
        ValueType::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
    }
}

/// Why there is no plan.
enum Unplanned {
    Library(CublasError),
    /// What was offered, for people.
    NoAlgorithm(String),
}

impl From<CublasError> for Unplanned {
    fn from(error: CublasError) -> Self {
        Self::Library(error)
    }
}

impl Plan {
    /// Descriptors, and the algorithm that was chosen before, or else the best that splits no sum.
    fn new(
        handle: &Handle,
        key: &PlanKey,
        (chosen, bias): (Option<Algorithm>, u64),
    ) -> Result<Self, Unplanned> {
        let rows = key.rows_typical();
        let of = |side: &Side, extent: usize| match side.transposed {
            false => Layout::new(side, key.depth, extent),
            true => Layout::new(side, extent, key.depth),
        };
        let (right, left) = (of(&key.right, key.columns)?, of(&key.left, rows)?);
        let out = Layout::new(&key.out, key.columns, rows)?;
        let descriptor = Descriptor::new(key, bias)?;
        let algorithm = sys::cublasLtMatmulAlgo_t { data: chosen.unwrap_or_default() };
        let mut plan = Self { descriptor, right, left, out, algorithm };
        if chosen.is_none() || !plan.takes_all(handle, key)? {
            plan.search(handle, key)?;
        }
        Ok(plan)
    }

    /// Says how many rows the left operand and the result have.
    fn set_rows(&self, is_transposed: bool, rows: usize) -> Result<(), CublasError> {
        use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
        let inner = Attribute::CUBLASLT_MATRIX_LAYOUT_ROWS;
        let outer = Attribute::CUBLASLT_MATRIX_LAYOUT_COLS;
        self.left.set(if is_transposed { inner } else { outer }, rows)?;
        self.out.set(outer, rows)
    }

    /// Whether the library takes the algorithm for few rows and for many.
    fn takes_all(&self, handle: &Handle, key: &PlanKey) -> Result<bool, CublasError> {
        for rows in key.rows_checked() {
            self.set_rows(key.left.transposed, rows)?;
            if !self.takes(handle) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the library takes the algorithm for these matrices, within the workspace.
    fn takes(&self, handle: &Handle) -> bool {
        let mut found = empty_result();
        // SAFETY: every descriptor is alive; the result is valid to write.
        let status = unsafe {
            sys::cublasLtMatmulAlgoCheck(
                handle.0,
                self.descriptor.0,
                self.right.0,
                self.left.0,
                self.out.0,
                self.out.0,
                &raw const self.algorithm,
                &raw mut found,
            )
        };
        status.result().is_ok()
            && found.state.result().is_ok()
            && found.workspaceSize <= WORKSPACE_BYTES
            && splits_no_sum(&self.algorithm)
    }

    /// Takes the best algorithm that splits no sum, as the library ranks them: the first that serves any number of rows, or
    /// else the first.
    fn search(&mut self, handle: &Handle, key: &PlanKey) -> Result<(), Unplanned> {
        self.set_rows(key.left.transposed, key.rows_typical())?;
        let offered = self.offered(handle, key)?;
        let whole: Vec<_> = offered
            .iter()
            .filter(|one| one.state.result().is_ok() && one.workspaceSize <= WORKSPACE_BYTES)
            .filter(|one| splits_no_sum(&one.algo))
            .map(|one| one.algo)
            .collect();
        for &algorithm in &whole {
            self.algorithm = algorithm;
            if self.takes_all(handle, key)? {
                return Ok(());
            }
        }
        let Some(&first) = whole.first() else {
            let words: Vec<String> = offered.iter().map(words).collect();
            return Err(Unplanned::NoAlgorithm(words.join("; ")));
        };
        self.algorithm = first;
        Ok(())
    }

    /// What the library offers, best first.
    fn offered(
        &self,
        handle: &Handle,
        key: &PlanKey,
    ) -> Result<Vec<sys::cublasLtMatmulHeuristicResult_t>, CublasError> {
        let preference = Preference::new(key)?;
        let mut found = vec![empty_result(); CANDIDATES];
        let mut count = 0;
        // SAFETY: every descriptor is alive; there is room for as many results as are asked for.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle.0,
                self.descriptor.0,
                self.right.0,
                self.left.0,
                self.out.0,
                self.out.0,
                preference.0,
                CANDIDATES as i32,
                found.as_mut_ptr(),
                &raw mut count,
            )
        }
        .result()?;
        found.truncate(usize::try_from(count).unwrap_or(0));
        Ok(found)
    }
}

/// An offer, for people.
fn words(offer: &sys::cublasLtMatmulHeuristicResult_t) -> String {
    use sys::cublasLtMatmulAlgoConfigAttributes_t as Attribute;
    let read = |attribute| configured(&offer.algo, attribute).unwrap_or(-1);
    format!(
        "algorithm {}, tile {}, stages {}, {} parts, reduction {}, {} bytes, {:?}",
        read(Attribute::CUBLASLT_ALGO_CONFIG_ID),
        read(Attribute::CUBLASLT_ALGO_CONFIG_TILE_ID),
        read(Attribute::CUBLASLT_ALGO_CONFIG_STAGES_ID),
        read(Attribute::CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
        read(Attribute::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
        offer.workspaceSize,
        offer.state
    )
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created in `new`, used by nobody any more.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

impl Preference {
    /// Algorithms without reduction, within the workspace, for the alignments of a form.
    fn new(key: &PlanKey) -> Result<Self, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Self(result::create_matmul_pref()?);
        let workspace = WORKSPACE_BYTES as u64;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace)?;
        let none = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_NONE as u32;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, none)?;
        for (attribute, side) in [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &key.right),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &key.left),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &key.out),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &key.out),
        ] {
            preference.set(attribute, side.alignment)?;
        }
        Ok(preference)
    }

    fn set<T: Copy>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: T,
    ) -> Result<(), CublasError> {
        // SAFETY: the caller gives the attribute's own type: 64 bits for bytes of workspace, else 32; copied by the call.
        unsafe {
            result::set_matmul_pref_attribute(
                self.0,
                attribute,
                (&raw const value).cast(),
                size_of::<T>(),
            )
        }
    }
}

fn empty_result() -> sys::cublasLtMatmulHeuristicResult_t {
    sys::cublasLtMatmulHeuristicResult_t {
        algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        workspaceSize: 0,
        state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
        wavesCount: 0.0,
        reserved: [0; 4],
    }
}

/// Whether each sum is one thread block's.
fn splits_no_sum(algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
    use sys::cublasLtMatmulAlgoConfigAttributes_t as Attribute;
    // One part, or a library that does not count parts for this algorithm.
    let parts = configured(algorithm, Attribute::CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
    let reduction = configured(algorithm, Attribute::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
    matches!(parts, Some(0 | 1)) && reduction == Some(0)
}

/// An attribute of 32 bits.
fn configured(
    algorithm: &sys::cublasLtMatmulAlgo_t,
    attribute: sys::cublasLtMatmulAlgoConfigAttributes_t,
) -> Option<i32> {
    let (mut value, mut written) = (-1_i32, 0);
    // SAFETY: value and length are valid to write; the library refuses an attribute of another size.
    unsafe {
        sys::cublasLtMatmulAlgoConfigGetAttribute(
            algorithm,
            attribute,
            (&raw mut value).cast(),
            size_of::<i32>(),
            &raw mut written,
        )
    }
    .result()
    .ok()
    .map(|()| value)
}

impl Products {
    /// Opens the library for a device whose context is current.
    pub(super) fn open(nvidia: &Nvidia, cache: Option<&Path>) -> Result<Self> {
        let version = version()?;
        let device = nvidia.name.clone();
        nvidia.bind()?;
        let refused = |error: CublasError| KernelError::NoDevice {
            device: "cuBLASLt".to_owned(),
            reason: format!("{:?} on {device}", error.0),
        };
        let handle = Handle(result::create_handle().map_err(refused)?);
        let scratch = nvidia.allocate(WORKSPACE_BYTES + BIAS_BYTES)?;
        let choices = Choices::open(cache, &device, version);
        let state = Mutex::new(State { plans: BTreeMap::new(), choices, narrow: None });
        Ok(Self { device, handle, scratch, state })
    }

    /// The memory that it holds.
    pub(super) fn scratch(&self) -> u64 {
        self.scratch
    }

    /// Computes a product whose operands were checked.
    pub(super) fn multiply(&self, nvidia: &Nvidia, product: &Product<'_>) -> Result<()> {
        if product.rows == 0 || product.columns == 0 {
            return Ok(());
        }
        nvidia.bind()?;
        let key = PlanKey::of(product);
        let mut state = lock(&self.state);
        let bias = self.bias(&mut state, nvidia, product)?;
        let plan = self.plan(&mut state, &key, product.rows)?;
        self.run(plan, nvidia, product, bias)
            .map_err(|error| self.failed(&key, product.rows, error))
    }

    fn failed(&self, key: &PlanKey, rows: usize, error: CublasError) -> KernelError {
        KernelError::Device {
            device: self.device.clone(),
            operation: format!("cuBLASLt product of {rows} rows, {}", key.words()),
            message: format!("{:?}", error.0),
        }
    }

    /// The plan of a form; made and written down when the form is first seen.
    fn plan<'a>(&self, state: &'a mut State, key: &PlanKey, rows: usize) -> Result<&'a Plan> {
        if !state.plans.contains_key(key) {
            let chosen = state.choices.get(key);
            // No bias is aligned better than this in general.
            let bias = self.scratch + (WORKSPACE_BYTES + BIAS_ALIGNMENT) as u64;
            let plan =
                Plan::new(&self.handle, key, (chosen, bias)).map_err(|reason| match reason {
                    Unplanned::Library(error) => self.failed(key, rows, error),
                    Unplanned::NoAlgorithm(offered) => KernelError::Device {
                        device: self.device.clone(),
                        operation: format!("cuBLASLt product of {}", key.words()),
                        message: format!(
                            "expected an algorithm that splits no sum, found {offered}"
                        ),
                    },
                })?;
            if chosen != Some(plan.algorithm.data) {
                state.choices.put(key, plan.algorithm.data);
            }
            state.plans.insert(*key, plan);
        }
        state.plans.get(key).ok_or_else(|| KernelError::Device {
            device: self.device.clone(),
            operation: "multiply".to_owned(),
            message: "a plan was not kept".to_owned(),
        })
    }

    /// Where the bias lies in the type of the result, aligned as the library wants it.
    fn bias(&self, state: &mut State, nvidia: &Nvidia, product: &Product<'_>) -> Result<u64> {
        let Some(bias) = &product.bias else { return Ok(0) };
        let place = self.scratch + WORKSPACE_BYTES as u64;
        let bytes = product.columns * product.out.value_type.bytes();
        let is_f32 = product.out.value_type == ValueType::F32;
        if is_f32 && bias.address().is_multiple_of(BIAS_ALIGNMENT as u64) {
            return Ok(bias.address());
        }
        if bytes > BIAS_BYTES {
            return Err(KernelError::Shape {
                op: "multiply",
                operand: "bias",
                expected: format!("{BIAS_BYTES} bytes at most"),
                found: format!("{bytes} bytes"),
            });
        }
        if is_f32 {
            // SAFETY: both hold `columns` values; the scratch memory is nobody else's.
            unsafe { nvidia.copy(bias.address(), place, bytes)? };
            return Ok(place);
        }
        let module = match &state.narrow {
            Some(module) => Arc::clone(module),
            None => narrow::load(nvidia)?,
        };
        state.narrow = Some(Arc::clone(&module));
        // SAFETY: the bias holds `columns` values, the scratch memory has room for as many.
        unsafe { narrow::launch(module.as_ref(), bias, place)? };
        Ok(place)
    }

    fn run(
        &self,
        plan: &Plan,
        nvidia: &Nvidia,
        product: &Product<'_>,
        bias: u64,
    ) -> Result<(), CublasError> {
        if bias != 0 {
            let pointer = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
            plan.descriptor.set(pointer, bias)?;
        }
        plan.set_rows(product.left.transposed, product.rows)?;
        let (alpha, beta) = (1.0_f32, if product.adds { 1.0_f32 } else { 0.0 });
        let out = product.out.address as *mut c_void;
        // SAFETY: descriptors are alive; operands hold what their layouts say, as `Product::check` has seen; C and D are one
        // matrix with one layout, which the library allows; the workspace is this stream's alone.
        unsafe {
            result::matmul(
                self.handle.0,
                plan.descriptor.0,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                product.right.address as *const c_void,
                plan.right.0,
                product.left.address as *const c_void,
                plan.left.0,
                out,
                plan.out.0,
                out,
                plan.out.0,
                &raw const plan.algorithm,
                self.scratch as *mut c_void,
                WORKSPACE_BYTES,
                nvidia.stream.cu_stream().cast(),
            )
        }
    }
}
