//! Micro-kernels of products: a tile of `MR` pixels by two vectors of 8 columns, all accumulators in registers.

use std::arch::x86_64::*;

use super::stage::{Stage, WideStage, add_wide, load_totals};
use super::{load_f32, load_i32, load_widened, store_f32};
use crate::Avx2;
use crate::geometry::Window;
use crate::product::{PackedF32, PackedI8, PackedI16, Segments, SumsI8, Tile};

pub(crate) const TILE_I8: Tile = Tile {
    rows: 5,
    width: WIDTH,
};
pub(crate) const TILE_F32: Tile = Tile {
    rows: 6,
    width: WIDTH,
};

const WIDTH: usize = 16;

/// Calls `$kernel::<rows>`.
macro_rules! for_rows {
    ($rows:expr, $kernel:ident $arguments:tt) => {
        for_rows!($rows, $kernel $arguments, 1 2 3 4 5 6)
    };
    ($rows:expr, $kernel:ident $arguments:tt, $($count:literal)*) => {
        match $rows {
            // SAFETY: the token proves the features.
            $($count => unsafe { $kernel::<$count> $arguments },)*
            rows => unreachable!("tile of {rows} rows"),
        }
    };
}

/// As [`crate::portable::product_i8`], same bits.
pub(crate) fn product_i8(
    _: Avx2,
    packed: &PackedI8,
    window: &Window<u8>,
    rows: usize,
    block: usize,
    output: &mut [i8],
    pitch: usize,
) {
    for_rows!(rows, tile_of_i8(packed, window, block, output, pitch));
}

#[target_feature(enable = "avx2,fma")]
fn tile_of_i8<const MR: usize>(
    packed: &PackedI8,
    window: &Window<u8>,
    block: usize,
    output: &mut [i8],
    pitch: usize,
) {
    let stage = Stage::load(&packed.stage, block * WIDTH);
    let columns = packed.sums.layout.block_columns(block);
    for (i, &row) in sum_i8::<MR>(&packed.sums, window, block).iter().enumerate() {
        stage.store(row, &mut output[i * pitch..][..columns]);
    }
}

/// The sums of a tile.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_i8<const MR: usize>(
    packed: &SumsI8,
    window: &Window<u8>,
    block: usize,
) -> [[__m256i; 2]; MR] {
    let Segments { rows, columns, .. } = packed.layout.segments;
    let groups = packed.layout.groups();
    window.check(MR, (rows, columns), groups * 4);
    let mut accumulators = [[_mm256_setzero_si256(); 2]; MR];
    let (bias, _) = packed.bias[block * WIDTH..].as_chunks::<8>();
    for row in &mut accumulators {
        *row = [load_i32(&bias[0]), load_i32(&bias[1])];
    }

    let (weights, _) = packed.block(block).as_chunks::<16>();
    let mut weights = weights.as_chunks::<2>().0.iter();
    for y in 0..rows {
        for x in 0..columns {
            let start = window.offset + y * window.row + x * window.column;
            for (group, [low, high]) in (0..groups).zip(&mut weights) {
                let (low, high) = (load_widened(low), load_widened(high));
                for (i, row) in accumulators.iter_mut().enumerate() {
                    // SAFETY: `check` found that pixel `i < MR` has 4 * groups bytes at this segment's start.
                    let pair = unsafe {
                        let first = window
                            .data
                            .as_ptr()
                            .add(start + i * window.pixel + 4 * group);
                        first.cast::<i32>().read_unaligned()
                    };
                    let input = _mm256_set1_epi32(pair);
                    row[0] = _mm256_add_epi32(row[0], _mm256_madd_epi16(input, low));
                    row[1] = _mm256_add_epi32(row[1], _mm256_madd_epi16(input, high));
                }
            }
        }
    }
    accumulators
}

/// As [`crate::portable::sums_i8`], same bits.
pub(crate) fn sums_i8(
    _: Avx2,
    packed: &SumsI8,
    window: &Window<u8>,
    rows: usize,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    for_rows!(rows, sums_of_i8(packed, window, block, output, pitch));
}

#[target_feature(enable = "avx2,fma")]
fn sums_of_i8<const MR: usize>(
    packed: &SumsI8,
    window: &Window<u8>,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    let columns = packed.layout.block_columns(block);
    for (i, row) in sum_i8::<MR>(packed, window, block).iter().enumerate() {
        let output = &mut output[i * pitch..][..columns];
        for (&sums, output) in row.iter().zip(output.chunks_mut(8)) {
            store_f32(_mm256_castsi256_ps(sums), output);
        }
    }
}

/// As [`crate::portable::product_i16`], same bits.
pub(crate) fn product_i16(
    _: Avx2,
    packed: &PackedI16,
    window: &Window<i16>,
    rows: usize,
    block: usize,
    output: &mut [i16],
    pitch: usize,
) {
    for_rows!(rows, tile_of_i16(packed, window, block, output, pitch));
}

#[target_feature(enable = "avx2,fma")]
fn tile_of_i16<const MR: usize>(
    packed: &PackedI16,
    window: &Window<i16>,
    block: usize,
    output: &mut [i16],
    pitch: usize,
) {
    let Segments { rows, columns, .. } = packed.layout.segments;
    let groups = packed.layout.groups();
    window.check(MR, (rows, columns), 2 * groups);
    let (bias, _) = packed.bias[block * WIDTH..].as_chunks::<WIDTH>();
    let mut sums = [[_mm256_setzero_si256(); 2]; MR];
    let mut totals = [load_totals(&bias[0]); MR];

    let (weights, _) = packed.block(block).as_chunks::<16>();
    let mut weights = weights.as_chunks::<2>().0.iter();
    let mut left = packed.drain;
    for y in 0..rows {
        for x in 0..columns {
            let start = window.offset + y * window.row + x * window.column;
            let mut group = 0;
            while group < groups {
                let end = groups.min(group.saturating_add(left));
                left -= end - group;
                for (group, [low, high]) in (group..end).zip(&mut weights) {
                    let (low, high) = (load_widened(low), load_widened(high));
                    for (i, row) in sums.iter_mut().enumerate() {
                        // SAFETY: `check` found that pixel `i < MR` has 2 * groups elements at this segment's start.
                        let pair = unsafe {
                            let first = window
                                .data
                                .as_ptr()
                                .add(start + i * window.pixel + 2 * group);
                            first.cast::<i32>().read_unaligned()
                        };
                        let input = _mm256_set1_epi32(pair);
                        row[0] = _mm256_add_epi32(row[0], _mm256_madd_epi16(input, low));
                        row[1] = _mm256_add_epi32(row[1], _mm256_madd_epi16(input, high));
                    }
                }
                if left == 0 {
                    for (total, sums) in totals.iter_mut().zip(&mut sums) {
                        add_wide(total, std::mem::replace(sums, [_mm256_setzero_si256(); 2]));
                    }
                    left = packed.drain;
                }
                group = end;
            }
        }
    }

    let stage = WideStage::load(&packed.stage, packed.wide.as_ref(), block * WIDTH);
    let columns = packed.layout.block_columns(block);
    for (i, (total, &sums)) in totals.iter_mut().zip(&sums).enumerate() {
        add_wide(total, sums);
        stage.store(total, &mut output[i * pitch..][..columns]);
    }
}

/// As [`crate::portable::product_f32`], but each product and its addition round once.
pub(crate) fn product_f32(
    _: Avx2,
    packed: &PackedF32,
    window: &Window<f32>,
    rows: usize,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    for_rows!(rows, tile_of_f32(packed, window, block, output, pitch));
}

#[target_feature(enable = "avx2,fma")]
fn tile_of_f32<const MR: usize>(
    packed: &PackedF32,
    window: &Window<f32>,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    window.check(
        MR,
        packed.layout.segments.taps(),
        packed.layout.segments.len,
    );
    let mut sums = [[_mm256_setzero_ps(); 2]; MR];
    let (bias, _) = packed.bias[block * WIDTH..].as_chunks::<8>();
    for row in &mut sums {
        *row = [load_f32(&bias[0]), load_f32(&bias[1])];
    }

    let mut weights = packed
        .block(block)
        .as_chunks::<8>()
        .0
        .as_chunks::<2>()
        .0
        .iter();
    for y in 0..packed.layout.segments.rows {
        for x in 0..packed.layout.segments.columns {
            let start = window.offset + y * window.row + x * window.column;
            for (element, [low, high]) in (0..packed.layout.segments.len).zip(&mut weights) {
                let (low, high) = (load_f32(low), load_f32(high));
                for (i, row) in sums.iter_mut().enumerate() {
                    // SAFETY: `check` found that pixel `i < MR` has `len` elements at this segment's start.
                    let input = unsafe {
                        *window
                            .data
                            .get_unchecked(start + i * window.pixel + element)
                    };
                    let input = _mm256_set1_ps(input);
                    row[0] = _mm256_fmadd_ps(input, low, row[0]);
                    row[1] = _mm256_fmadd_ps(input, high, row[1]);
                }
            }
        }
    }

    let (min, max) = (
        _mm256_set1_ps(packed.clamp.0),
        _mm256_set1_ps(packed.clamp.1),
    );
    let columns = packed.layout.block_columns(block);
    for (i, row) in sums.iter().enumerate() {
        let output = &mut output[i * pitch..][..columns];
        for (&sum, output) in row.iter().zip(output.chunks_mut(8)) {
            // Both return their second operand for a NaN.
            store_f32(_mm256_min_ps(max, _mm256_max_ps(min, sum)), output);
        }
    }
}
