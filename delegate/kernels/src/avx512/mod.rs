//! AVX-512 loops with 8-bit dot products (VNNI). Int8 activations are stored as `i8 ^ 0x80`, the unsigned operand of the
//! dot product. Each function's token proves the features that its loop is compiled for.

mod depthwise;
mod product;
mod stage;

use std::arch::x86_64::*;

pub(crate) use depthwise::{
    Source, Steps, depthwise_columns_len, depthwise_f32, depthwise_i8, pack_depthwise_i8,
};
pub(crate) use product::{
    product_f32, product_i8, product_i16, sums_i8, tile_f32, tile_i8, tile_i16,
};

use crate::Avx512;
use crate::hybrid::{Quantizer, RowScale};
use crate::product::HybridColumns;

/// The portable loop, compiled for these vectors.
pub(crate) fn store_biased(_: Avx512, source: &[i8], target: &mut [u8]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn inner(source: &[i8], target: &mut [u8]) {
        crate::portable::store_biased(source, target);
    }
    // SAFETY: the token proves the features.
    unsafe { inner(source, target) }
}

/// The portable loop, compiled for these vectors.
pub(crate) fn scale_sums(
    _: Avx512,
    columns: &HybridColumns,
    first: usize,
    row: RowScale,
    clamp: (f32, f32),
    output: &mut [f32],
) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
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
    _: Avx512,
    quantizer: Quantizer,
    input: &[f32],
    output: &mut [i8],
) -> RowScale {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn inner(quantizer: Quantizer, input: &[f32], output: &mut [i8]) -> RowScale {
        crate::hybrid::quantize_row(quantizer, input, output)
    }
    // SAFETY: the token proves the features.
    unsafe { inner(quantizer, input, output) }
}

/// Loads 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_bytes(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Loads 64 unsigned bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_u8(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Loads 16 integers.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_i32(values: &[i32; 16]) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// Loads 8 integers of 64 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_i64(values: &[i64; 8]) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// Loads 32 bytes and widens them to int16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_widened(bytes: &[i8; 32]) -> __m512i {
    // SAFETY: the reference is to 32 readable bytes; the load needs no alignment.
    _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

/// Loads 16 floats.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(values: &[f32; 16]) -> __m512 {
    // SAFETY: the reference is to 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// Stores the first `target.len()` bytes, at most 64. A masked store is slow on some processors, so only odd lengths use one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn store_bytes(bytes: __m512i, target: &mut [i8]) {
    let start = target.as_mut_ptr();
    let low = _mm512_castsi512_si256(bytes);
    match target.len() {
        // SAFETY: 64 bytes are writable; the store needs no alignment.
        64 => unsafe { _mm512_storeu_si512(start.cast(), bytes) },
        // SAFETY: 48 bytes are writable.
        48 => unsafe {
            _mm256_storeu_si256(start.cast(), low);
            _mm_storeu_si128(start.add(32).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
        },
        // SAFETY: 32 bytes are writable.
        32 => unsafe { _mm256_storeu_si256(start.cast(), low) },
        // SAFETY: 16 bytes are writable.
        16 => unsafe { _mm_storeu_si128(start.cast(), _mm256_castsi256_si128(low)) },
        0 => {}
        // SAFETY: only bytes of the mask are written, and the slice has as many.
        len => unsafe { _mm512_mask_storeu_epi8(start, u64::MAX >> (64 - len.min(64)), bytes) },
    }
}

/// Stores the first `target.len()` floats, at most 16.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_f32(values: __m512, target: &mut [f32]) {
    match target.len() {
        // SAFETY: 16 floats are writable; the store needs no alignment.
        16 => unsafe { _mm512_storeu_ps(target.as_mut_ptr(), values) },
        0 => {}
        // SAFETY: only floats of the mask are written, and the slice has as many.
        len => unsafe {
            _mm512_mask_storeu_ps(target.as_mut_ptr(), u16::MAX >> (16 - len.min(16)), values)
        },
    }
}

/// Looks up each byte in `table`.
pub(crate) fn look_up(_: Avx512, table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
    fn inner(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
        let mut quarters = [_mm512_setzero_si512(); 4];
        for (quarter, bytes) in quarters.iter_mut().zip(table.as_chunks::<64>().0) {
            *quarter = load_u8(bytes);
        }
        let [a, b, c, d] = quarters;
        let mut out_chunks = output.chunks_exact_mut(64);
        let (chunks, rest) = input.as_chunks::<64>();
        for (chunk, out) in chunks.iter().zip(&mut out_chunks) {
            let index = load_u8(chunk);
            let low = _mm512_permutex2var_epi8(a, index, b);
            let high = _mm512_permutex2var_epi8(c, index, d);
            let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
            // SAFETY: 64 bytes are writable; the store needs no alignment.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), found) };
        }
        for (y, &x) in out_chunks.into_remainder().iter_mut().zip(rest) {
            *y = table[usize::from(x)];
        }
    }
    // SAFETY: the token proves the features.
    unsafe { inner(table, input, output) }
}
