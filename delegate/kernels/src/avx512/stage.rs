//! The output stage on vectors of accumulators.

use std::arch::x86_64::*;

use super::{load_f32, load_i32};
use crate::requantize::{Multiplier, OutputStage, Requantize};

/// Constants of an output stage for `NV` vectors of 16 columns.
#[derive(Clone, Copy)]
pub(super) struct Stage<const NV: usize> {
    factor: Factor<NV>,
    zero_point: __m512i,
    min: __m512i,
    max: __m512i,
}

#[derive(Clone, Copy)]
enum Factor<const NV: usize> {
    /// Scales, and the largest product before the zero point is added.
    Float([__m512; NV], __m512),
    /// Significands and exponents.
    Fixed([(__m512i, __m512i); NV]),
}

impl<const NV: usize> Stage<NV> {
    /// The stage of `16 * NV` columns from column `first`; `None` for what has no vector form here.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn load(stage: &OutputStage, first: usize) -> Option<Self> {
        let factor = match &stage.requantize {
            Requantize::Float { scale } => {
                let (scales, _) = scale[first..].as_chunks::<16>();
                let mut loaded = [_mm512_setzero_ps(); NV];
                for (loaded, scales) in loaded.iter_mut().zip(scales) {
                    *loaded = load_f32(scales);
                }
                Factor::Float(
                    loaded,
                    _mm512_set1_ps((stage.max - stage.zero_point) as f32),
                )
            }
            Requantize::Fixed { multiplier } => {
                let (multipliers, _) = multiplier[first..].as_chunks::<16>();
                let mut loaded = [(_mm512_setzero_si512(), _mm512_setzero_si512()); NV];
                for (loaded, multipliers) in loaded.iter_mut().zip(multipliers) {
                    *loaded = (
                        load_i32(&multipliers.map(|multiplier: Multiplier| multiplier.value)),
                        load_i32(&multipliers.map(|multiplier| multiplier.exponent)),
                    );
                }
                Factor::Fixed(loaded)
            }
            Requantize::Wide { .. } | Requantize::Double { .. } => return None,
        };
        Some(Self {
            factor,
            zero_point: _mm512_set1_epi16(stage.zero_point as i16),
            min: _mm512_set1_epi8(stage.min as i8),
            max: _mm512_set1_epi8(stage.max as i8),
        })
    }

    /// Outputs of a row of accumulators. Lane `l` of the result has columns `4 * l..` of vector 0, then of vector 1 and so on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    pub fn apply(&self, accumulators: &[__m512i; NV]) -> __m512i {
        let mut scaled = [_mm512_setzero_si512(); 4];
        match &self.factor {
            Factor::Float(scales, limit) => {
                for j in 0..NV {
                    let product = _mm512_mul_ps(_mm512_cvtepi32_ps(accumulators[j]), scales[j]);
                    scaled[j] = _mm512_cvtps_epi32(_mm512_min_ps(product, *limit));
                }
            }
            Factor::Fixed(multipliers) => {
                for j in 0..NV {
                    scaled[j] = multiply_fixed(accumulators[j], multipliers[j].0, multipliers[j].1);
                }
            }
        }
        let low = _mm512_adds_epi16(_mm512_packs_epi32(scaled[0], scaled[1]), self.zero_point);
        let high = if NV > 2 {
            _mm512_adds_epi16(_mm512_packs_epi32(scaled[2], scaled[3]), self.zero_point)
        } else {
            low
        };
        _mm512_min_epi8(
            _mm512_max_epi8(_mm512_packs_epi16(low, high), self.min),
            self.max,
        )
    }
}

/// [`Multiplier::apply`].
///
/// The high multiplication is `(x * value + 2^30) >> 31` for every sign, and never saturates: `value` is not `i32::MIN`.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiply_fixed(x: __m512i, value: __m512i, exponent: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    let x = _mm512_sllv_epi32(x, _mm512_max_epi32(exponent, zero));
    let half = _mm512_set1_epi64(1 << 30);
    let even = _mm512_add_epi64(_mm512_mul_epi32(x, value), half);
    let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(x), _mm512_srli_epi64::<32>(value));
    let odd = _mm512_add_epi64(odd, half);
    let high = _mm512_mask_blend_epi32(
        0xaaaa,
        _mm512_srli_epi64::<31>(even),
        _mm512_slli_epi64::<1>(odd),
    );

    let shift = _mm512_sub_epi32(zero, _mm512_min_epi32(exponent, zero));
    let one = _mm512_set1_epi32(1);
    let mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, shift), one);
    let threshold = _mm512_sub_epi32(_mm512_srli_epi32::<1>(mask), _mm512_srai_epi32::<31>(high));
    let up = _mm512_cmpgt_epi32_mask(_mm512_and_si512(high, mask), threshold);
    let quotient = _mm512_srav_epi32(high, shift);
    _mm512_mask_add_epi32(quotient, up, quotient, one)
}
