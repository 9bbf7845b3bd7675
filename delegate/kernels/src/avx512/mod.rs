//! AVX-512 loops with 8-bit dot products (VNNI). Int8 activations are stored as `i8 ^ 0x80`, the unsigned operand of the
//! dot product. Each function's token proves the features that its loop is compiled for.

mod depthwise;
mod product;
mod stage;

use std::arch::x86_64::*;

pub(crate) use depthwise::{
    Source, Steps, depthwise_columns_len, depthwise_f32, depthwise_i8, pack_depthwise_i8,
};
pub(crate) use product::{product_f32, product_i8, tile_f32, tile_i8};

use crate::Avx512;

/// The portable loop, compiled for these vectors.
pub(crate) fn store_biased(_: Avx512, source: &[i8], target: &mut [u8]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn inner(source: &[i8], target: &mut [u8]) {
        crate::portable::store_biased(source, target);
    }
    // SAFETY: the token proves the features.
    unsafe { inner(source, target) }
}

/// Loads 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_bytes(bytes: &[i8; 64]) -> __m512i {
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

/// Loads 16 floats.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(values: &[f32; 16]) -> __m512 {
    // SAFETY: the reference is to 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}
