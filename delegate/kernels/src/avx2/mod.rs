//! AVX2 loops. Int8 activations are stored as int16 and weights widened when loaded: the 8-bit multiply-add of this set
//! saturates, the 16-bit one (`vpmaddwd`) is exact. Each function's token proves the features that its loop is compiled for.

mod depthwise;
mod product;
mod stage;

use std::arch::x86_64::*;

pub(crate) use depthwise::{
    depthwise_f32, depthwise_i8, depthwise_i16, pack_depthwise_i8, pack_depthwise_i16,
};
pub(crate) use product::{TILE_F32, TILE_I8, product_f32, product_i8, product_i16, sums_i8};

use crate::Avx2;
use crate::hybrid::{Quantizer, RowScale};
use crate::product::HybridColumns;

/// The portable loop, compiled for these vectors.
pub(crate) fn store_wide(_: Avx2, source: &[i8], target: &mut [u8]) {
    #[target_feature(enable = "avx2")]
    fn inner(source: &[i8], target: &mut [u8]) {
        crate::portable::store_wide(source, target);
    }
    // SAFETY: the token proves the features.
    unsafe { inner(source, target) }
}

/// The portable loop, compiled for these vectors.
pub(crate) fn scale_sums(
    _: Avx2,
    columns: &HybridColumns,
    first: usize,
    row: RowScale,
    clamp: (f32, f32),
    output: &mut [f32],
) {
    #[target_feature(enable = "avx2,fma")]
    fn inner(
        columns: &HybridColumns,
        first: usize,
        row: RowScale,
        clamp: (f32, f32),
        output: &mut [f32],
    ) {
        crate::portable::scale_sums(columns, first, row, clamp, output);
    }
    // SAFETY: the token proves the features.
    unsafe { inner(columns, first, row, clamp, output) }
}

/// The portable loop, compiled for these vectors.
pub(crate) fn quantize_row(
    _: Avx2,
    quantizer: Quantizer,
    input: &[f32],
    output: &mut [i8],
) -> RowScale {
    #[target_feature(enable = "avx2")]
    fn inner(quantizer: Quantizer, input: &[f32], output: &mut [i8]) -> RowScale {
        crate::hybrid::quantize_row(quantizer, input, output)
    }
    // SAFETY: the token proves the features.
    unsafe { inner(quantizer, input, output) }
}

/// Loads 16 bytes and widens them to int16.
#[inline]
#[target_feature(enable = "avx2")]
fn load_widened(bytes: &[i8; 16]) -> __m256i {
    // SAFETY: the reference is to 16 readable bytes; the load needs no alignment.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Loads 8 integers.
#[inline]
#[target_feature(enable = "avx2")]
fn load_i32(values: &[i32; 8]) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Loads 4 integers of 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn load_i64(values: &[i64; 4]) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Loads 8 floats.
#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(values: &[f32; 8]) -> __m256 {
    // SAFETY: the reference is to 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Stores as many floats as `target` has, at most 8.
#[inline]
#[target_feature(enable = "avx2")]
fn store_f32(values: __m256, target: &mut [f32]) {
    if let Some(target) = target.first_chunk_mut::<8>() {
        // SAFETY: the reference is to 32 writable bytes; the store needs no alignment.
        unsafe { _mm256_storeu_ps(target.as_mut_ptr(), values) };
    } else {
        // SAFETY: a vector of 256 bits is 8 floats, and every bit pattern is one.
        let values: [f32; 8] = unsafe { std::mem::transmute(values) };
        let len = target.len();
        target.copy_from_slice(&values[..len]);
    }
}
