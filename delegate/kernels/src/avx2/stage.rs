//! The output stage on vectors of accumulators.

use std::arch::x86_64::*;

use super::{load_f32, load_i32, load_i64};
use crate::product::interleaved_position;
use crate::requantize::{OutputStage, Requantize, WideMultiplier};

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
            Requantize::Wide { .. } | Requantize::Double { .. } => Factor::Scalar,
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

/// Int64 sums of 16 columns, in their order.
pub(super) type Totals = [__m256i; 4];

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_totals(values: &[i64; 16]) -> Totals {
    let mut totals = [_mm256_setzero_si256(); 4];
    for (total, values) in totals.iter_mut().zip(values.as_chunks().0) {
        *total = load_i64(values);
    }
    totals
}

/// Adds int32 to the int64 of the same columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_wide(totals: &mut Totals, sums: [__m256i; 2]) {
    for (totals, sums) in totals.as_chunks_mut::<2>().0.iter_mut().zip(sums) {
        let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums));
        let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(sums));
        totals[0] = _mm256_add_epi64(totals[0], low);
        totals[1] = _mm256_add_epi64(totals[1], high);
    }
}

/// Constants of an output stage from int64 to int16 for 16 columns, in the order of [`position`].
pub(super) struct WideStage<'a> {
    factors: Option<(Totals, Totals)>,
    min: __m256i,
    max: __m256i,
    scalar: &'a OutputStage,
    first: usize,
}

impl<'a> WideStage<'a> {
    /// The stage of 16 columns from column `first`; `wide` are its factors, if it has a vector form.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn load(stage: &'a OutputStage, wide: Option<&WideMultiplier>, first: usize) -> Self {
        let load = |values: &[i64]| load_totals(&values[first..].as_chunks().0[0]);
        Self {
            factors: wide.map(|wide| (load(&wide.factor), load(&wide.shift))),
            min: _mm256_set1_epi16(stage.min as i16),
            max: _mm256_set1_epi16(stage.max as i16),
            scalar: stage,
            first,
        }
    }

    /// Writes the outputs of a row of sums, as many as `output` has, at most 16.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn store(&self, totals: &Totals, output: &mut [i16]) {
        let Some((factors, shifts)) = &self.factors else {
            return self.store_scalar(totals, output);
        };
        let mut scaled = [_mm256_setzero_si256(); 4];
        for (i, scaled) in scaled.iter_mut().enumerate() {
            *scaled = multiply_wide(totals[i], factors[i], shifts[i]);
        }
        let low = low_halves(scaled[0], scaled[1]);
        let high = low_halves(scaled[2], scaled[3]);
        let words = _mm256_packs_epi32(low, high);
        let words = _mm256_min_epi16(_mm256_max_epi16(words, self.min), self.max);
        if let Some(output) = output.first_chunk_mut::<16>() {
            // SAFETY: the reference is to 32 writable bytes; the store needs no alignment.
            unsafe { _mm256_storeu_si256(output.as_mut_ptr().cast(), words) };
        } else {
            // SAFETY: a vector of 256 bits is 16 words, and every bit pattern is one.
            let words: [i16; 16] = unsafe { std::mem::transmute(words) };
            let len = output.len();
            output.copy_from_slice(&words[..len]);
        }
    }

    #[cold]
    fn store_scalar(&self, totals: &Totals, output: &mut [i16]) {
        // SAFETY: a vector of 256 bits is 4 integers, and every bit pattern is one.
        let values =
            totals.map(|vector| unsafe { std::mem::transmute::<__m256i, [i64; 4]>(vector) });
        for (column, output) in output.iter_mut().enumerate().take(16) {
            let position = position(column);
            *output = self
                .scalar
                .apply_i16(self.first + position, values.as_flattened()[position]);
        }
    }
}

/// [`crate::Multiplier::apply_i64`], with the low 32 bits of each as the result. `factor` is in `0..1 << 15`.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_wide(x: __m256i, factor: __m256i, shift: __m256i) -> __m256i {
    let high = _mm256_slli_epi64::<32>(_mm256_mul_epu32(_mm256_srli_epi64::<32>(x), factor));
    let product = _mm256_add_epi64(_mm256_mul_epu32(x, factor), high);
    let one = _mm256_set1_epi64x(1);
    let rounding = _mm256_sllv_epi64(one, _mm256_sub_epi64(shift, one));
    // An arithmetic shift: of a number that 2^63 makes positive, less what became of the 2^63.
    let sign = _mm256_set1_epi64x(i64::MIN);
    let biased = _mm256_xor_si256(_mm256_add_epi64(product, rounding), sign);
    _mm256_sub_epi64(
        _mm256_srlv_epi64(biased, shift),
        _mm256_srlv_epi64(sign, shift),
    )
}

/// The low 32 bits of 8 integers, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn low_halves(a: __m256i, b: __m256i) -> __m256i {
    let mixed = _mm256_shuffle_ps::<0x88>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
    _mm256_permute4x64_epi64::<0xd8>(_mm256_castps_si256(mixed))
}
