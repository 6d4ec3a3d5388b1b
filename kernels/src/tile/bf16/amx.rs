//! The bf16 tile on the matrix unit of x86 (AMX), by inline assembly.
//!
//! Leaves out: other tile types. Invariant: tiles are configured only between `configure` and
//! `release`, so that no other code of a thread ever meets their state.

use super::{SIDE, Step, Sums};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Bytes of a row of a tile register.
const ROW_BYTES: u8 = 64;
/// Rows of a tile register.
const ROWS: u8 = 16;

/// Bytes of a row of [`Sums`].
const SUMS_ROW_BYTES: usize = size_of::<[f32; SIDE]>();

/// Where 32 rows of sums are read or written: the first, and the bytes from one to the next.
#[derive(Clone, Copy)]
struct Place {
    row: *mut f32,
    distance: usize,
}

impl Place {
    fn of(sums: &mut Sums) -> Self {
        Self { row: sums.0.as_mut_ptr().cast(), distance: SUMS_ROW_BYTES }
    }

    /// Rows without a distance are all the same row; only ever read.
    fn of_start(sums: &mut Sums, start: Option<&[f32; SIDE]>) -> Self {
        let same = |start: &[f32; SIDE]| Self { row: start.as_ptr().cast_mut(), distance: 0 };
        start.map_or_else(|| Self::of(sums), same)
    }

    /// The lower register's rows.
    fn lower(self) -> *mut f32 {
        self.row.wrapping_byte_add(usize::from(ROWS) * self.distance)
    }
}

/// Fetches eight lines of an operand, some steps ahead, into the first cache.
macro_rules! fetch {
    ($operand:literal, $offset:literal) => {
        concat!(
            "prefetcht0 [{",
            $operand,
            "} + 4096 + ",
            $offset,
            "]\n",
            "prefetcht0 [{",
            $operand,
            "} + 4096 + 64 + ",
            $offset,
            "]\n",
            "prefetcht0 [{",
            $operand,
            "} + 4096 + 128 + ",
            $offset,
            "]\n",
            "prefetcht0 [{",
            $operand,
            "} + 4096 + 192 + ",
            $offset,
            "]\n",
            "prefetcht0 [{",
            $operand,
            "} + 4096 + 256 + ",
            $offset,
            "]\n",
            "prefetcht0 [{",
            $operand,
            "} + 4096 + 320 + ",
            $offset,
            "]\n",
            "prefetcht0 [{",
            $operand,
            "} + 4096 + 384 + ",
            $offset,
            "]\n",
            "prefetcht0 [{",
            $operand,
            "} + 4096 + 448 + ",
            $offset,
            "]",
        )
    };
}

/// What `ldtilecfg` reads: palette 1, all eight registers 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

static CONFIGURATION: Configuration = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut register = 0;
    while register < 8 {
        bytes[16 + 2 * register] = ROW_BYTES;
        bytes[48 + register] = ROWS;
        register += 1;
    }
    Configuration(bytes)
};

/// Whether this CPU has the unit and Linux lets this process use it; asked once.
pub(super) fn permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| present() && enabled() && requested())
}

/// AMX-BF16 and AMX-TILE, and the instruction that asks what the system saves.
fn present() -> bool {
    const XSAVE_IN_USE: u32 = 1 << 27;
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    let has_features = __cpuid(0).eax >= 7 && __cpuid(1).ecx & XSAVE_IN_USE != 0;
    has_features && __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE
}

/// Whether the system saves tiles and their configuration when it switches threads.
fn enabled() -> bool {
    const TILES: u32 = 0b11 << 17;
    let saved: u32;
    // SAFETY: reads a register only; `present` saw that the system uses XSAVE.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nomem, nostack));
    }
    saved & TILES == TILES
}

/// Asks Linux for the tile registers, for all threads of this process.
///
/// Source: Linux, Documentation/arch/x86/xstate.rst.
fn requested() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILES: u64 = 18;
    let refused: i64;
    // SAFETY: the call passes two numbers and touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILES,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

/// Gives this thread eight empty tile registers.
///
/// # Safety
/// [`permitted`] must have been true.
#[inline]
pub(super) unsafe fn configure() {
    // SAFETY: the instruction exists, and reads the 64 bytes of a valid configuration.
    unsafe {
        asm!(
            "ldtilecfg [{0}]",
            in(reg) &raw const CONFIGURATION,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Empties the tile registers of this thread, so that switches no longer save them.
///
/// # Safety
/// [`permitted`] must have been true.
#[inline]
pub(super) unsafe fn release() {
    // SAFETY: the instruction exists, and touches tile registers alone.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
}

/// `Ready::add_products` with two registers of rows, or with one if that holds all rows.
///
/// # Safety
/// This thread must be between [`configure`] and [`release`].
#[inline]
pub(super) unsafe fn add_products(
    sums: &mut Sums,
    start: Option<&[f32; SIDE]>,
    rows: usize,
    left: &[Step],
    right: &[Step],
) {
    let start = Place::of_start(sums, start);
    let steps = left.len().min(right.len());
    if steps == 0 {
        return;
    }
    if rows > usize::from(ROWS) {
        // SAFETY: as promised by the caller; both operands have `steps`, at least one.
        unsafe { add_to_32_rows(Place::of(sums), start, left.as_ptr(), right.as_ptr(), steps) };
    } else {
        // SAFETY: as above.
        unsafe { add_to_16_rows(sums, start, left.as_ptr(), right.as_ptr(), steps) };
    }
}

/// [`add_products`] of 32 rows, whose sums go to `out`, `width` values from row to row.
///
/// # Safety
/// As there; 32 columns of 32 rows from `out` on must be the caller's alone.
#[inline]
pub(super) unsafe fn write_products(
    sums: &mut Sums,
    start: Option<&[f32; SIDE]>,
    left: &[Step],
    right: &[Step],
    (out, width): (*mut f32, usize),
) {
    let steps = left.len().min(right.len());
    assert!(steps > 0, "the loop ends after its last step");
    let end = Place { row: out, distance: width * size_of::<f32>() };
    let start = Place::of_start(sums, start);
    // SAFETY: as promised by the caller; both operands have `steps`, at least one.
    unsafe { add_to_32_rows(end, start, left.as_ptr(), right.as_ptr(), steps) };
}

/// Four registers of sums; each of the four operands of a step takes part in two products.
///
/// # Safety
/// As [`add_products`]; `left` and `right` must point to `steps` steps, at least one, `start` to
/// rows to read, `end` to rows to write.
#[inline]
unsafe fn add_to_32_rows(
    end: Place,
    start: Place,
    left: *const Step,
    right: *const Step,
    steps: usize,
) {
    // SAFETY: reads `steps` steps of 2048 bytes from both operands, and exactly the rows of `start` and `end`.
    unsafe {
        asm!(
            "tileloadd tmm0, [{start} + {start_row}*1]",
            "tileloadd tmm1, [{start} + {start_row}*1 + 64]",
            "tileloadd tmm2, [{start_lower} + {start_row}*1]",
            "tileloadd tmm3, [{start_lower} + {start_row}*1 + 64]",
            "2:",
            "tileloadd tmm4, [{left} + {row}*1]",
            "tileloadd tmm6, [{right} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            fetch!("right", 0),
            "tileloadd tmm7, [{right} + {row}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            fetch!("right", 512),
            "tileloadd tmm5, [{left} + {row}*1 + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            fetch!("right", 1024),
            "tdpbf16ps tmm3, tmm5, tmm7",
            fetch!("right", 1536),
            "add {left}, 2048",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {sums_row}*1], tmm0",
            "tilestored [{sums} + {sums_row}*1 + 64], tmm1",
            "tilestored [{lower} + {sums_row}*1], tmm2",
            "tilestored [{lower} + {sums_row}*1 + 64], tmm3",
            start = in(reg) start.row,
            start_lower = in(reg) start.lower(),
            start_row = in(reg) start.distance,
            sums = in(reg) end.row,
            lower = in(reg) end.lower(),
            sums_row = in(reg) end.distance,
            row = in(reg) 64_usize,
            left = inout(reg) left => _,
            right = inout(reg) right => _,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Two registers of sums, for at most sixteen rows.
///
/// # Safety
/// As [`add_to_32_rows`].
#[inline]
unsafe fn add_to_16_rows(
    sums: &mut Sums,
    start: Place,
    left: *const Step,
    right: *const Step,
    steps: usize,
) {
    // SAFETY: reads within `steps` steps of both operands, and the upper half of `sums`.
    unsafe {
        asm!(
            "tileloadd tmm0, [{start} + {start_row}*1]",
            "tileloadd tmm1, [{start} + {start_row}*1 + 64]",
            "2:",
            "tileloadd tmm4, [{left} + {row}*1]",
            "tileloadd tmm6, [{right} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            fetch!("right", 0),
            fetch!("right", 512),
            fetch!("right", 1024),
            fetch!("right", 1536),
            "tileloadd tmm7, [{right} + {row}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {left}, 2048",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {sums_row}*1], tmm0",
            "tilestored [{sums} + {sums_row}*1 + 64], tmm1",
            start = in(reg) start.row,
            start_row = in(reg) start.distance,
            sums = in(reg) sums.0.as_mut_ptr(),
            sums_row = in(reg) SUMS_ROW_BYTES,
            row = in(reg) 64_usize,
            left = inout(reg) left => _,
            right = inout(reg) right => _,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
