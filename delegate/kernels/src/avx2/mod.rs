//! Stub.
use crate::Avx2;
use crate::depthwise::*;
use crate::geometry::*;
use crate::product::*;
pub(crate) const TILE_I8: Tile = Tile { rows: 4, width: 16 };
pub(crate) const TILE_F32: Tile = Tile { rows: 4, width: 16 };
pub(crate) fn tile_i8(_: usize) -> Tile {
    TILE_I8
}
pub(crate) fn tile_f32(_: usize) -> Tile {
    TILE_F32
}
pub(crate) fn product_i8(
    _: Avx2,
    _: &PackedI8,
    _: &Window<u8>,
    _: usize,
    _: usize,
    _: &mut [i8],
    _: usize,
) {
    unimplemented!()
}
pub(crate) fn product_f32(
    _: Avx2,
    _: &PackedF32,
    _: &Window<f32>,
    _: usize,
    _: usize,
    _: &mut [f32],
    _: usize,
) {
    unimplemented!()
}
pub(crate) fn depthwise_f32(
    _: Avx2,
    _: &PackedDepthwiseF32,
    _: &Window<f32>,
    _: usize,
    _: &mut [f32],
) {
    unimplemented!()
}
pub(crate) fn store_biased(_: Avx2, s: &[i8], t: &mut [u8]) {
    crate::portable::store_biased(s, t)
}
pub(crate) fn store_wide(_: Avx2, s: &[i8], t: &mut [u8]) {
    crate::portable::store_wide(s, t)
}
pub(crate) fn pack_depthwise_i8(_: &PackedDepthwiseI8) -> PackedDepthwiseI8 {
    unimplemented!()
}
pub(crate) fn depthwise_i8(_: Avx2, _: &PackedDepthwiseI8, _: &Window<i8>, _: usize, _: &mut [i8]) {
    unimplemented!()
}
