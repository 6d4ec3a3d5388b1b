//! How the system's allocator treats large blocks.
//!
//! Leaves out: how much memory units take (`plan`). Invariant: no result depends on it.

/// Blocks from this size on go back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK_BYTES: i32 = 1 << 20;

/// Fixes the size from which glibc maps blocks one by one.
///
/// Left alone, glibc raises it to 32 MiB as blocks are freed and keeps everything below in one arena
/// per thread: full representations then held four times the memory they used.
pub(crate) fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the allocator is set through the C library")]
        // SAFETY: `mallopt` takes two integers, and no other thread runs yet.
        let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES) };
        debug_assert_eq!(set, 1, "glibc knows the option");
    }
}
