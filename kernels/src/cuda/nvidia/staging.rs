//! Host memory that the device copies from and to at full rate.
//!
//! Leaves out: which stream copies wait for (`nvidia`). Invariant: a buffer is touched by the host only when the copies that
//! were told of it are done; what is read by the host is never write-combined.

use crate::cuda::lock;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result, sys};
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

/// Buffers of each direction that are kept.
const BUFFERS: usize = 3;

/// Bytes of one copy; longer ones go in pieces, so that the host copies one piece while the device copies the next.
pub(super) const PIECE_BYTES: usize = 16 << 20;

/// Copies below this go without staging: the driver has a small buffer of its own for them.
pub(super) const STAGED_BYTES_MIN: usize = 64 << 10;

/// Page-locked memory.
pub(super) struct Pinned {
    context: Arc<CudaContext>,
    address: *mut c_void,
    /// The last copy that uses it.
    done: CudaEvent,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A copy may be under way if its result was never asked for.
        let waited = self.done.synchronize().is_ok();
        if waited && self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated in `new`, no copy uses it any more. A device that is lost frees nothing.
            let _ = unsafe { result::free_host(self.address) };
        }
    }
}

impl Pinned {
    fn new(context: &Arc<CudaContext>, flags: u32) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        let done = context.new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
        // SAFETY: the context is current; the memory is given back in `drop`.
        let address = unsafe { result::malloc_host(PIECE_BYTES, flags)? };
        Ok(Self { context: Arc::clone(context), address, done })
    }

    /// Copies a piece to the device on `stream`; the bytes may go once this returns.
    ///
    /// # Safety
    /// The memory at `to` must be as long as `bytes`, and `bytes` at most a piece.
    unsafe fn upload(&self, to: u64, bytes: &[u8], stream: &CudaStream) -> Result<(), DriverError> {
        self.done.synchronize()?;
        // SAFETY: the buffer is a piece long and no copy uses it; the caller's promise for the rest.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.cast(), bytes.len());
            let staged = std::slice::from_raw_parts(self.address.cast::<u8>(), bytes.len());
            result::memcpy_htod_async(to, staged, stream.cu_stream())?;
        }
        self.done.record(stream)
    }

    /// Begins a copy of a piece from the device on `stream`.
    ///
    /// # Safety
    /// The memory at `from` must be `length` long and stay so until the copy is done; `length` at most a piece.
    pub(super) unsafe fn begin_download(
        &self,
        from: u64,
        length: usize,
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        self.done.synchronize()?;
        // SAFETY: the buffer is a piece long and no copy uses it; the caller's promise for the rest.
        unsafe {
            let staged = std::slice::from_raw_parts_mut(self.address.cast::<u8>(), length);
            result::memcpy_dtoh_async(staged, from, stream.cu_stream())?;
        }
        self.done.record(stream)
    }

    /// Waits for the copy that was begun and hands its bytes over.
    ///
    /// # Safety
    /// `into` must be at most as long as the piece that was begun.
    pub(super) unsafe fn end_download(&self, into: &mut [u8]) -> Result<(), DriverError> {
        self.done.synchronize()?;
        // SAFETY: the copy is done; the caller's promise for the length.
        unsafe {
            std::ptr::copy_nonoverlapping(self.address.cast(), into.as_mut_ptr(), into.len());
        }
        Ok(())
    }
}

/// Buffers of one device, made when they are first needed.
pub(super) struct Staging {
    context: Arc<CudaContext>,
    /// Write-combined: the host only writes them.
    up: Mutex<Vec<Pinned>>,
    down: Mutex<Vec<Pinned>>,
}

impl Staging {
    pub(super) fn new(context: &Arc<CudaContext>) -> Self {
        Self { context: Arc::clone(context), up: Mutex::default(), down: Mutex::default() }
    }

    /// Copies to the device in the order of `stream`.
    ///
    /// # Safety
    /// The memory at `to` must be as long as `bytes`.
    pub(super) unsafe fn write(
        &self,
        to: u64,
        bytes: &[u8],
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        let mut ring = lock(&self.up);
        while ring.len() < BUFFERS {
            ring.push(Pinned::new(&self.context, sys::CU_MEMHOSTALLOC_WRITECOMBINED)?);
        }
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            // The buffer used longest ago is first.
            ring.rotate_left(1);
            let place = to + (index * PIECE_BYTES) as u64;
            if let Some(buffer) = ring.last() {
                // SAFETY: a piece of what the caller promises.
                unsafe { buffer.upload(place, piece, stream)? };
            }
        }
        Ok(())
    }

    /// A buffer to copy from the device to.
    pub(super) fn buffer(&self) -> Result<Pinned, DriverError> {
        let kept = lock(&self.down).pop();
        match kept {
            Some(buffer) => Ok(buffer),
            None => Pinned::new(&self.context, 0),
        }
    }

    /// Keeps a buffer for the next copy.
    pub(super) fn keep(&self, buffer: Pinned) {
        let mut kept = lock(&self.down);
        if kept.len() < BUFFERS {
            kept.push(buffer);
        }
    }

    /// Copies from the device in the order of `stream`, the host a piece behind.
    ///
    /// # Safety
    /// The memory at `from` must be as long as `bytes`.
    pub(super) unsafe fn read(
        &self,
        from: u64,
        bytes: &mut [u8],
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        let mut under_way: Vec<(Pinned, &mut [u8])> = Vec::with_capacity(BUFFERS);
        for (index, piece) in bytes.chunks_mut(PIECE_BYTES).enumerate() {
            if under_way.len() == BUFFERS {
                let (buffer, into) = under_way.remove(0);
                // SAFETY: as long as the piece that was begun.
                unsafe { buffer.end_download(into)? };
                self.keep(buffer);
            }
            let buffer = self.buffer()?;
            let place = from + (index * PIECE_BYTES) as u64;
            // SAFETY: a piece of what the caller promises; all are waited for below.
            unsafe { buffer.begin_download(place, piece.len(), stream)? };
            under_way.push((buffer, piece));
        }
        for (buffer, into) in under_way {
            // SAFETY: as above.
            unsafe { buffer.end_download(into)? };
            self.keep(buffer);
        }
        Ok(())
    }
}
