//! The output stage on vectors of accumulators.

use std::arch::x86_64::*;

use super::{load_f32, load_i32};
use crate::product::interleaved_position;
use crate::requantize::{OutputStage, Requantize};

/// Where a block of 16 columns has column `column`.
pub(super) fn position(column: usize) -> usize {
    interleaved_position(2, 2, column)
}

/// Constants of an output stage for 16 columns, in the order of [`position`].
pub(super) struct Stage<'a> {
    factor: Factor,
    zero_point: __m256i,
    min: __m128i,
    max: __m128i,
    scalar: &'a OutputStage,
    first: usize,
}

enum Factor {
    /// Scales, and the largest product before the zero point is added.
    Float([__m256; 2], __m256),
    /// Significands and exponents.
    Fixed([(__m256i, __m256i); 2]),
    /// One accumulator at a time.
    Scalar,
}

impl<'a> Stage<'a> {
    /// The stage of 16 columns from column `first`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn load(stage: &'a OutputStage, first: usize) -> Self {
        let factor = match &stage.requantize {
            Requantize::Float { scale } => {
                let mut loaded = [_mm256_setzero_ps(); 2];
                for (loaded, scales) in loaded.iter_mut().zip(scale[first..].as_chunks().0) {
                    *loaded = load_f32(scales);
                }
                Factor::Float(
                    loaded,
                    _mm256_set1_ps((stage.max - stage.zero_point) as f32),
                )
            }
            Requantize::Fixed { multiplier } => {
                let mut loaded = [(_mm256_setzero_si256(), _mm256_setzero_si256()); 2];
                for (loaded, multipliers) in loaded
                    .iter_mut()
                    .zip(multiplier[first..].as_chunks::<8>().0)
                {
                    *loaded = (
                        load_i32(&multipliers.map(|multiplier| multiplier.value)),
                        load_i32(&multipliers.map(|multiplier| multiplier.exponent)),
                    );
                }
                Factor::Fixed(loaded)
            }
            Requantize::Double { .. } => Factor::Scalar,
        };
        Self {
            factor,
            zero_point: _mm256_set1_epi16(stage.zero_point as i16),
            min: _mm_set1_epi8(stage.min as i8),
            max: _mm_set1_epi8(stage.max as i8),
            scalar: stage,
            first,
        }
    }

    /// Writes the outputs of a row of accumulators, as many as `output` has, at most 16.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn store(&self, accumulators: [__m256i; 2], output: &mut [i8]) {
        let scaled = match &self.factor {
            Factor::Float(scales, limit) => {
                let scale =
                    |j: usize| _mm256_mul_ps(_mm256_cvtepi32_ps(accumulators[j]), scales[j]);
                [scale(0), scale(1)]
                    .map(|product| _mm256_cvtps_epi32(_mm256_min_ps(product, *limit)))
            }
            Factor::Fixed(multipliers) => {
                let [(value_0, exponent_0), (value_1, exponent_1)] = *multipliers;
                [
                    multiply_fixed(accumulators[0], value_0, exponent_0),
                    multiply_fixed(accumulators[1], value_1, exponent_1),
                ]
            }
            Factor::Scalar => return self.store_scalar(&accumulators, output),
        };
        let words = _mm256_adds_epi16(_mm256_packs_epi32(scaled[0], scaled[1]), self.zero_point);
        let bytes = _mm_packs_epi16(
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256::<1>(words),
        );
        let bytes = _mm_min_epi8(_mm_max_epi8(bytes, self.min), self.max);
        if let Some(output) = output.first_chunk_mut::<16>() {
            // SAFETY: the reference is to 16 writable bytes; the store needs no alignment.
            unsafe { _mm_storeu_si128(output.as_mut_ptr().cast(), bytes) };
        } else {
            // SAFETY: a vector of 128 bits is 16 bytes, and every bit pattern is one.
            let bytes: [i8; 16] = unsafe { std::mem::transmute(bytes) };
            let len = output.len();
            output.copy_from_slice(&bytes[..len]);
        }
    }

    #[cold]
    fn store_scalar(&self, accumulators: &[__m256i; 2], output: &mut [i8]) {
        // SAFETY: a vector of 256 bits is 8 integers, and every bit pattern is one.
        let values =
            accumulators.map(|vector| unsafe { std::mem::transmute::<__m256i, [i32; 8]>(vector) });
        for (column, output) in output.iter_mut().enumerate().take(16) {
            let position = position(column);
            *output = self
                .scalar
                .apply(self.first + position, values.as_flattened()[position]);
        }
    }
}

/// [`crate::Multiplier::apply`].
///
/// The high multiplication is `(x * value + 2^30) >> 31` for every sign, and never saturates: `value` is not `i32::MIN`. Its
/// low 32 bits are the same when the shift is a logical one.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_fixed(x: __m256i, value: __m256i, exponent: __m256i) -> __m256i {
    let zero = _mm256_setzero_si256();
    let x = _mm256_sllv_epi32(x, _mm256_max_epi32(exponent, zero));
    let half = _mm256_set1_epi64x(1 << 30);
    let even = _mm256_add_epi64(_mm256_mul_epi32(x, value), half);
    let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(x), _mm256_srli_epi64::<32>(value));
    let odd = _mm256_add_epi64(odd, half);
    let high =
        _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<31>(even), _mm256_slli_epi64::<1>(odd));

    let shift = _mm256_sub_epi32(zero, _mm256_min_epi32(exponent, zero));
    let one = _mm256_set1_epi32(1);
    let mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, shift), one);
    let threshold = _mm256_sub_epi32(_mm256_srli_epi32::<1>(mask), _mm256_srai_epi32::<31>(high));
    let up = _mm256_cmpgt_epi32(_mm256_and_si256(high, mask), threshold);
    _mm256_sub_epi32(_mm256_srav_epi32(high, shift), up)
}
