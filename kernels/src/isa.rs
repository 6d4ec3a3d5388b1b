//! Which instruction sets this CPU has, and how one body of code is compiled for each of them.
//!
//! Leaves out: numerics. Invariant: the choice changes speed only, never a bit of any result.

use std::sync::OnceLock;

/// An instruction set that operations are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// What the compiler makes of plain code for the target: SSE2 on x86-64 (fused products by
    /// software), NEON on aarch64.
    Baseline,
    /// Tiles written for NEON, which every aarch64 has; plain code elsewhere.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, DQ, BW and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2 with FMA",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
        }
    }

    /// The fastest set of this CPU, looked up once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Baseline))
    }

    /// Every set this CPU has, slowest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = vec![Self::Baseline];
        #[cfg(target_arch = "aarch64")]
        found.push(Self::Neon);
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                found.push(Self::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                found.push(Self::Avx512);
            }
        }
        found
    }
}

/// Defines `$name(isa, …)`, which runs the `#[inline(always)]` function `$body` compiled for `isa`.
///
/// An [`Isa`] other than the baseline is only ever made by `Isa::available`, after detection.
macro_rules! per_isa {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)? = $body:path) => {
        $(#[$doc])*
        $visible fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $out)? {
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $out)? {
                $body($($arg),*)
            }
            match isa {
                $crate::isa::Isa::Baseline => $body($($arg),*),
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Isa::Neon => $body($($arg),*),
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
pub(crate) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_set_is_one_of_the_available() {
        assert!(Isa::available().contains(&Isa::best()));
        assert_eq!(Isa::available()[0], Isa::Baseline);
    }
}
