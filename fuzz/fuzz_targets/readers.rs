//! Feeds what libFuzzer makes up to the reader that `GLMEVAL_FUZZ` names.
//!
//! Leaves out: the readers (`src/targets.rs`). Invariant: a panic, an allocation far past the input's size
//! and, by libFuzzer's own limits, too much time are findings; an error is none.

#![no_main]

#[path = "../src/targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Bytes of one allocation that no input of libFuzzer's size justifies.
const ALLOCATION_BYTES_MAX: usize = 256 << 20;

/// The system's memory, for allocations of reasonable size.
struct Bounded;

#[global_allocator]
static MEMORY: Bounded = Bounded;

/// Ends the process with a finding if an allocation is too large.
fn check(bytes: usize) {
    if bytes > ALLOCATION_BYTES_MAX {
        // The text is made on the stack: there may be no memory.
        let mut text = [0_u8; 64];
        let mut place = &mut text[..];
        let _ = writeln!(place, "fuzz: allocation of {bytes} bytes");
        let _ = std::io::stderr().write_all(&text);
        std::process::abort();
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What one process works on.
struct Chosen {
    target: &'static targets::Target,
    folder: PathBuf,
}

fn chosen() -> &'static Chosen {
    static CHOSEN: OnceLock<Chosen> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("GLMEVAL_FUZZ").unwrap_or_default();
        let target = targets::ALL.iter().find(|target| target.name == name);
        let names: Vec<_> = targets::ALL.iter().map(|target| target.name).collect();
        let target = target.unwrap_or_else(|| panic!("GLMEVAL_FUZZ: one of {names:?}"));
        let shared = PathBuf::from("/dev/shm");
        let base = if shared.is_dir() { shared } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("glmeval-fuzz").tempdir_in(base);
        Chosen { target, folder: folder.expect("a folder").keep() }
    })
}

fuzz_target!(
    init: {
        // libFuzzer's hook ends the process at every panic; those of a format library that runs on a
        // thread of its own become errors.
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some("format reader") {
                end(panic);
            }
        }));
        let _ = chosen();
    },
    |bytes: &[u8]| {
        let Chosen { target, folder } = chosen();
        (target.read)(folder, bytes);
    }
);
