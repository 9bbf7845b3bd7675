//! Instruction sets that the inner loops exist for. A value of a token type ([`Avx2`], [`Avx512`]) proves that this machine
//! has the features that its loops are compiled for, so the loops can be called from safe code.

use std::sync::OnceLock;

/// Proof that AVX2 and FMA are present.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// `None` if this machine lacks a feature.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// Proof that AVX-512 F, BW, VL, DQ, VNNI and VBMI are present, and what [`Avx2`] proves.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// `None` if this machine lacks a feature.
    pub fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vbmi")
            && Avx2::detect().is_some();
        present.then_some(Self(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl From<Avx512> for Avx2 {
    fn from(_: Avx512) -> Self {
        Self(())
    }
}

/// A set of inner loops.
///
/// Objects take it when they are made, because the order of packed weights depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain loops: the specification of all other sets.
    Portable,
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 512-bit vectors with 8-bit dot products.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// The fastest set that this machine can run, found once per process.
    ///
    /// The environment variable `BANTAM_ISA` (`portable`, `avx2`, `avx512`) lowers it; other values have no effect.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var("BANTAM_ISA").unwrap_or_default();
            let all = Self::all();
            let fastest = all.len() - 1;
            let index = all
                .iter()
                .position(|isa| isa.name() == wanted)
                .unwrap_or(fastest);
            all[index]
        })
    }

    /// All sets that this machine can run, slowest first.
    pub fn all() -> Vec<Self> {
        let all = [
            Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Self::Avx512),
        ];
        all.into_iter().flatten().collect()
    }

    /// Runs `work` compiled for the vectors of this set.
    ///
    /// Only what is inlined into [`Work::run`] is: mark it, and the functions that hold its loops, `#[inline(always)]`.
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Self::Portable => work.run(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => {
                #[target_feature(enable = "avx2,fma")]
                fn inner<W: Work>(work: W) -> W::Output {
                    work.run()
                }
                // SAFETY: the token proves the features.
                unsafe { inner(work) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                fn inner<W: Work>(work: W) -> W::Output {
                    work.run()
                }
                // SAFETY: the token proves the features.
                unsafe { inner(work) }
            }
        }
    }

    /// The name that `BANTAM_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        }
    }
}

/// Plain loops that [`Isa::run`] compiles for each set.
pub trait Work {
    /// What they return.
    type Output;

    /// The loops; see [`Isa::run`].
    fn run(self) -> Self::Output;
}

/// A closure whose loops stand in it, not in functions that it calls.
impl<R, F: FnOnce() -> R> Work for F {
    type Output = R;

    #[inline(always)]
    fn run(self) -> R {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectorized_loops_give_the_same_in_every_set() {
        let sum = || (0..1000).map(|i| i as f32 * 0.1).sum::<f32>();
        assert!(Isa::all().iter().all(|isa| isa.run(sum) == sum()));
    }

    #[test]
    fn starts_with_portable_and_has_distinct_names() {
        let all = Isa::all();
        assert_eq!(all[0], Isa::Portable);
        assert!(all.contains(&Isa::best()));
        for (i, isa) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other.name() != isa.name()));
        }
    }
}
