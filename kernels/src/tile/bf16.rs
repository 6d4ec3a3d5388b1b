//! The tile of the bf16 class: 32 rows times 32 columns of f32 sums of bf16 products.
//!
//! Leaves out: blocking and threads, which belong to the operations. Invariant: every sum is the
//! fixed chain that the matrix unit of x86 computes; the other forms have the same bits, but for
//! the payload of NaN.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod emulated;
mod pack;
#[cfg(test)]
mod tests;

use crate::isa::Isa;
use std::marker::PhantomData;
use std::sync::OnceLock;

pub(crate) use pack::{pack_row, round_panel, round_rows};

/// Rows, and columns, of a block of sums.
pub(crate) const SIDE: usize = 32;
/// Values of k that one step holds.
pub(crate) const STEP_WIDTH: usize = 32;
/// Rows, and columns, of one register of the matrix unit.
const HALF: usize = SIDE / 2;

/// One register of operands: sixteen times sixteen pairs of bf16, the even k in the low half.
///
/// A left operand is `[row][pair]`, a right operand `[pair][column]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Pairs(pub(crate) [[u32; HALF]; HALF]);

/// 32 rows, or columns, at 32 values of k.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Step(pub(crate) [Pairs; 2]);

impl Step {
    /// All values zero.
    pub(crate) const ZERO: Self = Self([Pairs([[0; HALF]; HALF]); 2]);
}

/// 32 rows of 32 sums.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [[f32; SIDE]; SIDE]);

/// What computes the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Software, compiled for an instruction set.
    Emulated(Isa),
    /// Vectors of f32, the CPU treating subnormals as zero.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The matrix unit of x86, tiles of bf16.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
}

impl Unit {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Emulated(_) => "emulated",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => "AMX",
        }
    }

    /// The fastest unit of this CPU, looked up once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Unit> = OnceLock::new();
        *BEST.get_or_init(|| {
            Self::available().last().copied().unwrap_or(Self::Emulated(Isa::best()))
        })
    }

    /// The fastest unit to go with `isa`: software unless `isa` is the best of this CPU too.
    pub(crate) fn beside(isa: Isa) -> Self {
        if isa == Isa::best() { Self::best() } else { Self::Emulated(isa) }
    }

    /// Every unit this CPU has, slowest first.
    pub(crate) fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "no other unit"))]
        let mut found: Vec<Self> = Isa::available().into_iter().map(Self::Emulated).collect();
        #[cfg(target_arch = "x86_64")]
        if Isa::available().contains(&Isa::Avx2) {
            found.push(Self::Avx2);
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if amx::permitted() {
            found.push(Self::Amx);
        }
        found
    }

    /// The instruction set for all that is not a product.
    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Emulated(isa) => isa,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Isa::best(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => Isa::best(),
        }
    }

    /// Readies the unit on this thread until the returned value is dropped.
    pub(crate) fn ready(self) -> Ready {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Amx {
            // SAFETY: `available` saw the instructions and the permission before it made this value.
            unsafe { amx::configure() };
        }
        Ready { unit: self, thread: PhantomData }
    }
}

/// A unit that this thread may use now; what it holds of the thread's state ends with it.
pub(crate) struct Ready {
    unit: Unit,
    /// Bound to the thread whose tile registers are configured.
    thread: PhantomData<*const ()>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx {
            // SAFETY: `ready` configured the tiles of this thread.
            unsafe { amx::release() };
        }
    }
}

impl Ready {
    /// Adds the products of as many steps as both operands have, at least one, to `sums`, or to
    /// rows that are all `start`.
    ///
    /// ```text
    /// even = sum over the 16 even k of a step, fma in order from zero;  odd alike
    /// sums[r,c] = sums[r,c] + (even + odd)   for each step in order
    /// ```
    ///
    /// All in f32, rounded to nearest even; subnormal inputs and results count as zero. Only the
    /// first `rows` rows, at most 32, are meaningful afterwards.
    ///
    /// Source: Intel, Software Developer's Manual, volume 2, TDPBF16PS.
    #[inline]
    pub(crate) fn add_products(
        &self,
        sums: &mut Sums,
        start: Option<&[f32; SIDE]>,
        rows: usize,
        left: &[Step],
        right: &[Step],
    ) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx {
            // SAFETY: `ready` configured the tiles of this thread, which hold until `self` drops.
            return unsafe { amx::add_products(sums, start, rows, left, right) };
        }
        if let Some(start) = start {
            sums.0.fill(*start);
        }
        match self.unit {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` saw AVX2 and FMA before it made this value.
            Unit::Avx2 => unsafe { avx2::add_products(sums, rows, left, right) },
            unit => emulated::add_products(unit.isa(), sums, rows, left, right),
        }
    }

    /// [`Self::add_products`] of 32 rows, whose sums go to `out`, `width` values from row to row.
    ///
    /// # Safety
    /// 32 columns of 32 rows from `out` on must be the caller's alone.
    #[inline]
    pub(crate) unsafe fn write_products(
        &self,
        sums: &mut Sums,
        start: Option<&[f32; SIDE]>,
        left: &[Step],
        right: &[Step],
        (out, width): (*mut f32, usize),
    ) {
        match self.unit {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: `ready` configured the tiles of this thread; the rest is the caller's promise.
            Unit::Amx => unsafe { amx::write_products(sums, start, left, right, (out, width)) },
            _ => {
                self.add_products(sums, start, SIDE, left, right);
                for (index, row) in sums.0.iter().enumerate() {
                    // SAFETY: as promised by the caller.
                    unsafe { out.add(index * width).cast::<[f32; SIDE]>().write(*row) };
                }
            }
        }
    }
}
