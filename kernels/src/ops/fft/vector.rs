//! Sixteen lanes side by side, in as many vectors as an instruction set needs for them.
//!
//! Leaves out: what the lanes mean. Invariant: lanes never mix and each operation rounds once, so
//! every width of vector gives the same bits.

use std::ops::{Add, Sub};

/// Sequences or channels that are worked on side by side.
pub(crate) const LANES: usize = 16;

/// One value of each lane.
pub(crate) type Lanes = [f32; LANES];

/// One complex value of each lane.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Point {
    /// Real parts.
    pub(crate) re: Lanes,
    /// Imaginary parts.
    pub(crate) im: Lanes,
}

impl Point {
    /// All lanes zero.
    pub(crate) const ZERO: Self = Self { re: [0.0; LANES], im: [0.0; LANES] };
}

/// A complex factor that all lanes share: real part, imaginary part.
pub(crate) type Factor = [f32; 2];

/// Some adjacent lanes in one register.
///
/// Types are only named by functions that are compiled for their instruction set, see
/// [`per_vector`].
pub(crate) trait Vector: Copy {
    /// Registers that hold all lanes.
    const PARTS: usize;
    /// The lanes of one part.
    fn load(lanes: &Lanes, part: usize) -> Self;
    /// Writes the lanes of one part.
    fn store(self, lanes: &mut Lanes, part: usize);
    /// The same value in each lane.
    fn splat(value: f32) -> Self;
    /// `self + other`
    fn plus(self, other: Self) -> Self;
    /// `self - other`
    fn minus(self, other: Self) -> Self;
    /// `self * factor`
    fn times(self, factor: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn times_plus(self, factor: Self, addend: Self) -> Self;
    /// `self * factor - subtrahend`, rounded once.
    fn times_minus(self, factor: Self, subtrahend: Self) -> Self;
}

/// Lanes as plain code, four at a time: what NEON holds.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn each(f: impl Fn(usize) -> f32) -> Self {
        Self([f(0), f(1), f(2), f(3)])
    }
}

impl Vector for Portable {
    const PARTS: usize = 4;
    #[inline(always)]
    fn load(lanes: &Lanes, part: usize) -> Self {
        Self::each(|lane| lanes[4 * part + lane])
    }
    #[inline(always)]
    fn store(self, lanes: &mut Lanes, part: usize) {
        lanes[4 * part..4 * part + 4].copy_from_slice(&self.0);
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self::each(|lane| self.0[lane] + other.0[lane])
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self::each(|lane| self.0[lane] - other.0[lane])
    }
    #[inline(always)]
    fn times(self, factor: Self) -> Self {
        Self::each(|lane| self.0[lane] * factor.0[lane])
    }
    #[inline(always)]
    fn times_plus(self, factor: Self, addend: Self) -> Self {
        Self::each(|lane| self.0[lane].mul_add(factor.0[lane], addend.0[lane]))
    }
    #[inline(always)]
    fn times_minus(self, factor: Self, subtrahend: Self) -> Self {
        Self::each(|lane| self.0[lane].mul_add(factor.0[lane], -subtrahend.0[lane]))
    }
}

/// A vector type of x86-64 from its intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_vector {
    ($(#[$doc:meta])* $name:ident($register:ident), $parts:literal, $load:ident, $store:ident,
     $splat:ident, $add:ident, $sub:ident, $mul:ident, $fmadd:ident, $fmsub:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(std::arch::x86_64::$register);

        impl Vector for $name {
            const PARTS: usize = $parts;
            #[inline(always)]
            fn load(lanes: &Lanes, part: usize) -> Self {
                let part = &lanes[LANES / $parts * part..][..LANES / $parts];
                // SAFETY: `part` is as long as the register; the caller has the instruction set.
                Self(unsafe { std::arch::x86_64::$load(part.as_ptr()) })
            }
            #[inline(always)]
            fn store(self, lanes: &mut Lanes, part: usize) {
                let part = &mut lanes[LANES / $parts * part..][..LANES / $parts];
                // SAFETY: `part` is as long as the register; the caller has the instruction set.
                unsafe { std::arch::x86_64::$store(part.as_mut_ptr(), self.0) }
            }
            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: the caller has the instruction set.
                Self(unsafe { std::arch::x86_64::$splat(value) })
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                // SAFETY: the caller has the instruction set.
                Self(unsafe { std::arch::x86_64::$add(self.0, other.0) })
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                // SAFETY: the caller has the instruction set.
                Self(unsafe { std::arch::x86_64::$sub(self.0, other.0) })
            }
            #[inline(always)]
            fn times(self, factor: Self) -> Self {
                // SAFETY: the caller has the instruction set.
                Self(unsafe { std::arch::x86_64::$mul(self.0, factor.0) })
            }
            #[inline(always)]
            fn times_plus(self, factor: Self, addend: Self) -> Self {
                // SAFETY: the caller has the instruction set.
                Self(unsafe { std::arch::x86_64::$fmadd(self.0, factor.0, addend.0) })
            }
            #[inline(always)]
            fn times_minus(self, factor: Self, subtrahend: Self) -> Self {
                // SAFETY: the caller has the instruction set.
                Self(unsafe { std::arch::x86_64::$fmsub(self.0, factor.0, subtrahend.0) })
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
x86_vector!(
    /// Eight lanes with AVX2 and fused multiply-add.
    Avx2(__m256), 2, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_add_ps,
    _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, _mm256_fmsub_ps
);

#[cfg(target_arch = "x86_64")]
x86_vector!(
    /// All lanes with AVX-512.
    Avx512(__m512), 1, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_add_ps,
    _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, _mm512_fmsub_ps
);

/// Defines `$name(isa, …)`, which runs `$body::<V>` with the vector type of `isa`, compiled for it.
macro_rules! per_vector {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        $visible fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) {
                $body::<$crate::ops::fft::vector::Avx512>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) {
                $body::<$crate::ops::fft::vector::Avx2>($($arg),*)
            }
            match isa {
                $crate::isa::Isa::Baseline => {
                    $body::<$crate::ops::fft::vector::Portable>($($arg),*)
                }
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Isa::Neon => {
                    $body::<$crate::ops::fft::vector::Portable>($($arg),*)
                }
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Isa::available` saw AVX2 and FMA before it made this value.
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Isa::available` saw all of these features before it made this value.
                $crate::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use per_vector;

/// Complex values of some lanes.
#[derive(Clone, Copy)]
pub(super) struct Complex<V> {
    /// Real parts.
    pub(super) re: V,
    /// Imaginary parts.
    pub(super) im: V,
}

impl<V: Vector> Complex<V> {
    #[inline(always)]
    pub(super) fn load(point: &Point, part: usize) -> Self {
        Self { re: V::load(&point.re, part), im: V::load(&point.im, part) }
    }

    #[inline(always)]
    pub(super) fn store(self, point: &mut Point, part: usize) {
        self.re.store(&mut point.re, part);
        self.im.store(&mut point.im, part);
    }

    /// A factor in all lanes.
    #[inline(always)]
    pub(super) fn splat([re, im]: Factor) -> Self {
        Self { re: V::splat(re), im: V::splat(im) }
    }

    /// `self * factor`
    #[inline(always)]
    pub(super) fn times(self, factor: Self) -> Self {
        Self {
            re: self.re.times_minus(factor.re, self.im.times(factor.im)),
            im: self.re.times_plus(factor.im, self.im.times(factor.re)),
        }
    }

    /// `self * conjugate(factor)`
    #[inline(always)]
    pub(super) fn times_conjugate(self, factor: Self) -> Self {
        Self {
            re: self.re.times_plus(factor.re, self.im.times(factor.im)),
            im: self.im.times_minus(factor.re, self.re.times(factor.im)),
        }
    }

    /// `self * factor` for a real factor.
    #[inline(always)]
    pub(super) fn scaled(self, factor: V) -> Self {
        Self { re: self.re.times(factor), im: self.im.times(factor) }
    }

    /// `self * factor + addend` for a real factor.
    #[inline(always)]
    pub(super) fn scaled_plus(self, factor: V, addend: Self) -> Self {
        Self {
            re: self.re.times_plus(factor, addend.re),
            im: self.im.times_plus(factor, addend.im),
        }
    }

    /// `self - i other`
    #[inline(always)]
    pub(super) fn minus_i(self, other: Self) -> Self {
        Self { re: self.re.plus(other.im), im: self.im.minus(other.re) }
    }

    /// `self + i other`
    #[inline(always)]
    pub(super) fn plus_i(self, other: Self) -> Self {
        Self { re: self.re.minus(other.im), im: self.im.plus(other.re) }
    }
}

impl<V: Vector> Add for Complex<V> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { re: self.re.plus(other.re), im: self.im.plus(other.im) }
    }
}

impl<V: Vector> Sub for Complex<V> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { re: self.re.minus(other.re), im: self.im.minus(other.im) }
    }
}
