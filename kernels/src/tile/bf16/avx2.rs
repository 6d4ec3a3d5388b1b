//! The bf16 tile on AVX2 with FMA: products in f32, while the CPU itself treats subnormals as zero.
//!
//! Leaves out: detection, done by the caller. Invariant: the control register is as it was whenever other code
//! runs; results are those of the software form, which spells out what the CPU does here: inputs that are
//! subnormal count as zero, and results that are so after rounding become zero.

use super::{HALF, Pairs, SIDE, Step, Sums};
use std::arch::asm;

/// Rows whose even and odd sums of sixteen columns fill the registers.
const ROWS_PER_GROUP: usize = 3;
/// Rows in whole groups.
const ROWS: usize = SIDE.next_multiple_of(ROWS_PER_GROUP);
/// Flush to zero, and subnormals are zero.
const FLUSHING: u32 = 0x8040;

/// Sixteen even values, then sixteen odd ones.
type Widened = [[f32; HALF]; 2];

/// One step of both operands, widened to f32.
#[repr(C, align(64))]
struct Wide {
    /// By row.
    left: [Widened; ROWS],
    /// Sixteen columns of each pair.
    right: [Widened; HALF],
}

/// Sums in whole groups of rows.
#[repr(C, align(64))]
struct Rows([[f32; SIDE]; ROWS]);

/// The form of `Ready::add_products` for AVX2.
#[target_feature(enable = "avx2,fma")]
pub(super) fn add_products(sums: &mut Sums, rows: usize, left: &[Step], right: &[Step]) {
    let rows = rows.min(SIDE);
    if rows == 0 {
        return;
    }
    let mut wide = Wide { left: [[[0.0; HALF]; 2]; ROWS], right: [[[0.0; HALF]; 2]; HALF] };
    let mut totals = Rows([[0.0; SIDE]; ROWS]);
    totals.0[..SIDE].copy_from_slice(&sums.0);
    for (left, right) in left.iter().zip(right) {
        let lines = left.0.iter().flat_map(|half| &half.0);
        for (line, wide) in lines.zip(&mut wide.left).take(rows) {
            *wide = widened(line);
        }
        for (half, right) in right.0.iter().enumerate() {
            widen(right, &mut wide.right);
            add_step(&mut totals, rows.div_ceil(ROWS_PER_GROUP), half, &wide);
        }
    }
    sums.0.copy_from_slice(&totals.0[..SIDE]);
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn widen(right: &Pairs, wide: &mut [Widened; HALF]) {
    for (line, wide) in right.0.iter().zip(wide) {
        *wide = widened(line);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn widened(pairs: &[u32; HALF]) -> Widened {
    [
        pairs.map(|pair| f32::from_bits(pair << 16)),
        pairs.map(|pair| f32::from_bits(pair & 0xffff_0000)),
    ]
}

/// One step of `groups` groups of rows and one half of the columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_step(totals: &mut Rows, groups: usize, half: usize, wide: &Wide) {
    // The register as it was, and as it is for the products.
    let mut control = [0_u32; 2];
    let first = totals.0.as_flattened_mut()[half * HALF..].as_mut_ptr();
    // SAFETY: the caller has seen AVX2 and FMA. `groups` is at most a third of `ROWS`, so that all rows read and written
    // lie in `totals` and `wide`, whose alignment is that of the aligned loads. The control register is restored.
    unsafe {
        asm!(
            "stmxcsr [{control}]",
            "mov {pairs:e}, dword ptr [{control}]",
            "or {pairs:e}, {flushing}",
            "mov dword ptr [{control} + 4], {pairs:e}",
            "ldmxcsr [{control} + 4]",
            "2:",
            "vxorps xmm0, xmm0, xmm0; vxorps xmm1, xmm1, xmm1; vxorps xmm2, xmm2, xmm2",
            "vxorps xmm3, xmm3, xmm3; vxorps xmm4, xmm4, xmm4; vxorps xmm5, xmm5, xmm5",
            "vxorps xmm6, xmm6, xmm6; vxorps xmm7, xmm7, xmm7; vxorps xmm8, xmm8, xmm8",
            "vxorps xmm9, xmm9, xmm9; vxorps xmm10, xmm10, xmm10; vxorps xmm11, xmm11, xmm11",
            "mov {pairs:e}, 16",
            "mov {column}, {right}",
            "3:",
            // Even values of three rows: sums 0 and 1, 4 and 5, 8 and 9.
            "vmovaps ymm12, [{column}]; vmovaps ymm13, [{column} + 32]",
            "vbroadcastss ymm14, [{left}]; vfmadd231ps ymm0, ymm14, ymm12; vfmadd231ps ymm1, ymm14, ymm13",
            "vbroadcastss ymm15, [{left} + 128]; vfmadd231ps ymm4, ymm15, ymm12; vfmadd231ps ymm5, ymm15, ymm13",
            "vbroadcastss ymm14, [{left} + 256]; vfmadd231ps ymm8, ymm14, ymm12; vfmadd231ps ymm9, ymm14, ymm13",
            // Odd ones: sums 2 and 3, 6 and 7, 10 and 11.
            "vmovaps ymm12, [{column} + 64]; vmovaps ymm13, [{column} + 96]",
            "vbroadcastss ymm15, [{left} + 64]; vfmadd231ps ymm2, ymm15, ymm12; vfmadd231ps ymm3, ymm15, ymm13",
            "vbroadcastss ymm14, [{left} + 192]; vfmadd231ps ymm6, ymm14, ymm12; vfmadd231ps ymm7, ymm14, ymm13",
            "vbroadcastss ymm15, [{left} + 320]; vfmadd231ps ymm10, ymm15, ymm12; vfmadd231ps ymm11, ymm15, ymm13",
            "add {column}, 128",
            "add {left}, 4",
            "dec {pairs:e}",
            "jnz 3b",
            "vaddps ymm0, ymm0, ymm2; vaddps ymm1, ymm1, ymm3",
            "vaddps ymm4, ymm4, ymm6; vaddps ymm5, ymm5, ymm7",
            "vaddps ymm8, ymm8, ymm10; vaddps ymm9, ymm9, ymm11",
            "vaddps ymm0, ymm0, [{sums}]; vaddps ymm1, ymm1, [{sums} + 32]",
            "vaddps ymm4, ymm4, [{sums} + 128]; vaddps ymm5, ymm5, [{sums} + 160]",
            "vaddps ymm8, ymm8, [{sums} + 256]; vaddps ymm9, ymm9, [{sums} + 288]",
            "vmovaps [{sums}], ymm0; vmovaps [{sums} + 32], ymm1",
            "vmovaps [{sums} + 128], ymm4; vmovaps [{sums} + 160], ymm5",
            "vmovaps [{sums} + 256], ymm8; vmovaps [{sums} + 288], ymm9",
            // From behind the first row's even values to the fourth row.
            "add {left}, 320",
            "add {sums}, 384",
            "dec {groups:e}",
            "jnz 2b",
            "ldmxcsr [{control}]",
            control = in(reg) control.as_mut_ptr(),
            flushing = const FLUSHING,
            right = in(reg) wide.right.as_ptr(),
            left = inout(reg) wide.left.as_ptr() => _,
            sums = inout(reg) first => _,
            groups = inout(reg) groups => _,
            column = out(reg) _,
            pairs = out(reg) _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        );
    }
}
