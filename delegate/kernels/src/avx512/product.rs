//! Micro-kernels of products: a tile of `MR` pixels by `NV` vectors of 16 columns, all accumulators in registers.

use std::arch::x86_64::*;

use super::stage::Stage;
use super::{load_bytes, load_f32, load_i32, load_i64, load_widened, store_bytes, store_f32};
use crate::Avx512;
use crate::geometry::Window;
use crate::product::{PackedF32, PackedI8, PackedI16, Segments, SumsI8, Tile};

/// The tile that is fastest for `n` columns, by measurement: wide ones unless they leave many columns idle.
pub(crate) fn tile_i8(n: usize) -> Tile {
    best_tile(n, [(14, 115), (12, 103), (7, 102), (5, 100)])
}

/// As [`tile_i8`], for int16: more rows than these would leave no registers for the weights.
pub(crate) fn tile_i16(n: usize) -> Tile {
    best_tile(n, [(14, 115), (12, 103), (7, 102), (4, 100)])
}

/// As [`tile_i8`], for float32.
pub(crate) fn tile_f32(n: usize) -> Tile {
    best_tile(n, [(14, 115), (12, 103), (8, 102), (6, 100)])
}

/// Of tiles of 1 to 4 vectors, given by rows and cost of a column in percent, the cheapest for `n` columns.
fn best_tile(n: usize, tiles: [(usize, usize); 4]) -> Tile {
    let (mut best, mut lowest) = (
        Tile {
            rows: tiles[3].0,
            width: 64,
        },
        usize::MAX,
    );
    for (vectors, (rows, cost)) in (1..).zip(tiles) {
        let total = n.next_multiple_of(16 * vectors) * cost;
        if total <= lowest {
            (best, lowest) = (
                Tile {
                    rows,
                    width: 16 * vectors,
                },
                total,
            );
        }
    }
    best
}

/// Bytes in column order, from the order of [`Stage::apply`] for 1, 2 or 3 vectors.
static IN_ORDER: [[i8; 64]; 3] = [in_order(1), in_order(2), in_order(3)];

const fn in_order(vectors: usize) -> [i8; 64] {
    let mut order = [0; 64];
    let mut column = 0;
    while column < 16 * vectors {
        let (vector, element) = (column / 16, column % 16);
        order[column] = (element / 4 * 16 + vector * 4 + element % 4) as i8;
        column += 1;
    }
    order
}

/// Calls `$kernel::<rows, vectors>` for the tile's rows and width.
macro_rules! for_tile {
    ($rows:expr, $width:expr, $kernel:ident $arguments:tt) => {
        match $width {
            16 => for_rows!($rows, 1, $kernel $arguments, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            32 => for_rows!($rows, 2, $kernel $arguments, 1 2 3 4 5 6 7 8 9 10 11 12),
            48 => for_rows!($rows, 3, $kernel $arguments, 1 2 3 4 5 6 7 8),
            _ => for_rows!($rows, 4, $kernel $arguments, 1 2 3 4 5 6),
        }
    };
}

macro_rules! for_rows {
    ($rows:expr, $vectors:literal, $kernel:ident $arguments:tt, $($count:literal)*) => {
        match $rows {
            // SAFETY: the token proves the features.
            $($count => unsafe { $kernel::<$count, $vectors> $arguments },)*
            rows => unreachable!("tile of {rows} rows"),
        }
    };
}

/// As [`crate::portable::product_i8`], same bits.
pub(crate) fn product_i8(
    _: Avx512,
    packed: &PackedI8,
    window: &Window<u8>,
    rows: usize,
    block: usize,
    output: &mut [i8],
    pitch: usize,
) {
    for_tile!(
        rows,
        packed.sums.layout.tile.width,
        tile_of_i8(packed, window, block, output, pitch)
    );
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")]
fn tile_of_i8<const MR: usize, const NV: usize>(
    packed: &PackedI8,
    window: &Window<u8>,
    block: usize,
    output: &mut [i8],
    pitch: usize,
) {
    let (width, columns) = (16 * NV, packed.sums.layout.block_columns(block));
    let accumulators = sum_i8::<MR, NV>(&packed.sums, window, block);
    let Some(stage) = Stage::<NV>::load(&packed.stage, block * width) else {
        return store_scalar(packed, &accumulators, block, output, pitch);
    };
    let order = load_bytes(&IN_ORDER[if NV < 4 { NV - 1 } else { 0 }]);
    for (i, row) in accumulators.iter().enumerate() {
        let mut bytes = stage.apply(row);
        if NV < 4 {
            bytes = _mm512_permutexvar_epi8(order, bytes);
        }
        store_bytes(bytes, &mut output[i * pitch..][..columns]);
    }
}

/// The sums of a tile.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")]
fn sum_i8<const MR: usize, const NV: usize>(
    packed: &SumsI8,
    window: &Window<u8>,
    block: usize,
) -> [[__m512i; NV]; MR] {
    let Segments { rows, columns, .. } = packed.layout.segments;
    window.check(MR, (rows, columns), packed.layout.groups() * 4);

    let mut accumulators = [[_mm512_setzero_si512(); NV]; MR];
    let (bias, _) = packed.bias[block * 16 * NV..].as_chunks::<16>();
    for row in &mut accumulators {
        for (accumulator, bias) in row.iter_mut().zip(bias) {
            *accumulator = load_i32(bias);
        }
    }

    let (weights, _) = packed.block(block).as_chunks::<64>();
    let mut weights = weights.chunks_exact(NV);
    for y in 0..rows {
        for x in 0..columns {
            let start = window.offset + y * window.row + x * window.column;
            for (group, vectors) in (0..packed.layout.groups()).zip(&mut weights) {
                let mut loaded = [_mm512_setzero_si512(); NV];
                for (loaded, vector) in loaded.iter_mut().zip(vectors) {
                    *loaded = load_bytes(vector);
                }
                for (i, row) in accumulators.iter_mut().enumerate() {
                    // SAFETY: `check` found that pixel `i < MR` has 4 * groups bytes at this segment's start.
                    let bytes = unsafe {
                        let first = window
                            .data
                            .as_ptr()
                            .add(start + i * window.pixel + 4 * group);
                        first.cast::<i32>().read_unaligned()
                    };
                    let input = _mm512_set1_epi32(bytes);
                    for (accumulator, &vector) in row.iter_mut().zip(&loaded) {
                        *accumulator = _mm512_dpbusd_epi32(*accumulator, input, vector);
                    }
                }
            }
        }
    }
    accumulators
}

/// As [`crate::portable::sums_i8`], same bits.
pub(crate) fn sums_i8(
    _: Avx512,
    packed: &SumsI8,
    window: &Window<u8>,
    rows: usize,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    for_tile!(
        rows,
        packed.layout.tile.width,
        sums_of_i8(packed, window, block, output, pitch)
    );
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")]
fn sums_of_i8<const MR: usize, const NV: usize>(
    packed: &SumsI8,
    window: &Window<u8>,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    let columns = packed.layout.block_columns(block);
    for (i, row) in sum_i8::<MR, NV>(packed, window, block).iter().enumerate() {
        let output = &mut output[i * pitch..][..columns];
        for (&sums, output) in row.iter().zip(output.chunks_mut(16)) {
            store_f32(_mm512_castsi512_ps(sums), output);
        }
    }
}

/// The output stage one accumulator at a time, for the rounding that has no vector form here.
#[cold]
fn store_scalar<const MR: usize, const NV: usize>(
    packed: &PackedI8,
    accumulators: &[[__m512i; NV]; MR],
    block: usize,
    output: &mut [i8],
    pitch: usize,
) {
    let layout = &packed.sums.layout;
    let first = block * layout.tile.width;
    for (i, row) in accumulators.iter().enumerate() {
        // SAFETY: a vector of 512 bits is 16 integers, and every bit pattern is one.
        let values = row.map(|vector| unsafe { std::mem::transmute::<__m512i, [i32; 16]>(vector) });
        let output = &mut output[i * pitch..][..layout.block_columns(block)];
        for (column, output) in output.iter_mut().enumerate() {
            let position = layout.position(column);
            *output = packed
                .stage
                .apply(first + position, values.as_flattened()[position]);
        }
    }
}

/// As [`crate::portable::product_i16`], same bits.
pub(crate) fn product_i16(
    _: Avx512,
    packed: &PackedI16,
    window: &Window<i16>,
    rows: usize,
    block: usize,
    output: &mut [i16],
    pitch: usize,
) {
    for_tile!(
        rows,
        packed.layout.tile.width,
        tile_of_i16(packed, window, block, output, pitch)
    );
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn tile_of_i16<const MR: usize, const NV: usize>(
    packed: &PackedI16,
    window: &Window<i16>,
    block: usize,
    output: &mut [i16],
    pitch: usize,
) {
    let Segments { rows, columns, .. } = packed.layout.segments;
    let groups = packed.layout.groups();
    window.check(MR, (rows, columns), 2 * groups);

    let mut sums = [[_mm512_setzero_si512(); NV]; MR];
    let mut totals = [[[_mm512_setzero_si512(); 2]; NV]; MR];
    let (bias, _) = packed.bias[block * 16 * NV..].as_chunks::<8>();
    for row in &mut totals {
        for (total, [low, high]) in row.iter_mut().zip(bias.as_chunks::<2>().0) {
            *total = [load_i64(low), load_i64(high)];
        }
    }

    let (weights, _) = packed.block(block).as_chunks::<32>();
    let mut weights = weights.chunks_exact(NV);
    let mut left = packed.drain;
    for y in 0..rows {
        for x in 0..columns {
            let start = window.offset + y * window.row + x * window.column;
            let mut group = 0;
            while group < groups {
                let end = groups.min(group.saturating_add(left));
                left -= end - group;
                for (group, vectors) in (group..end).zip(&mut weights) {
                    let mut loaded = [_mm512_setzero_si512(); NV];
                    for (loaded, vector) in loaded.iter_mut().zip(vectors) {
                        *loaded = load_widened(vector);
                    }
                    for (i, row) in sums.iter_mut().enumerate() {
                        // SAFETY: `check` found that pixel `i < MR` has 2 * groups elements at this segment's start.
                        let pair = unsafe {
                            let first = window
                                .data
                                .as_ptr()
                                .add(start + i * window.pixel + 2 * group);
                            first.cast::<i32>().read_unaligned()
                        };
                        let input = _mm512_set1_epi32(pair);
                        for (sum, &vector) in row.iter_mut().zip(&loaded) {
                            *sum = _mm512_dpwssd_epi32(*sum, input, vector);
                        }
                    }
                }
                if left == 0 {
                    add_wide(&mut totals, &sums);
                    sums = [[_mm512_setzero_si512(); NV]; MR];
                    left = packed.drain;
                }
                group = end;
            }
        }
    }
    add_wide(&mut totals, &sums);

    let columns = packed.layout.block_columns(block);
    for (i, row) in totals.iter().enumerate() {
        let output = output[i * pitch..][..columns].chunks_mut(16);
        for (j, (total, output)) in row.iter().zip(output).enumerate() {
            store_i16(packed, total, block * NV + j, output);
        }
    }
}

/// Adds int32 to the int64 of the same columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_wide<const MR: usize, const NV: usize>(
    totals: &mut [[[__m512i; 2]; NV]; MR],
    sums: &[[__m512i; NV]; MR],
) {
    for (totals, sums) in totals
        .as_flattened_mut()
        .iter_mut()
        .zip(sums.as_flattened())
    {
        let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(*sums));
        let high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(*sums));
        totals[0] = _mm512_add_epi64(totals[0], low);
        totals[1] = _mm512_add_epi64(totals[1], high);
    }
}

/// The outputs of 16 columns, the `vector`th such of all blocks; as many as `output` has.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn store_i16(packed: &PackedI16, total: &[__m512i; 2], vector: usize, output: &mut [i16]) {
    let Some(wide) = &packed.wide else {
        // SAFETY: a vector of 512 bits is 8 integers, and every bit pattern is one.
        let values = total.map(|half| unsafe { std::mem::transmute::<__m512i, [i64; 8]>(half) });
        for (column, (output, &sum)) in output.iter_mut().zip(values.as_flattened()).enumerate() {
            *output = packed.stage.apply_i16(vector * 16 + column, sum);
        }
        return;
    };
    let (factors, _) = wide.factor.as_chunks::<8>();
    let (shifts, _) = wide.shift.as_chunks::<8>();
    let one = _mm512_set1_epi64(1);
    let mut halves = [_mm256_setzero_si256(); 2];
    for (half, result) in halves.iter_mut().enumerate() {
        let (factor, shift) = (
            load_i64(&factors[vector * 2 + half]),
            load_i64(&shifts[vector * 2 + half]),
        );
        let rounding = _mm512_sllv_epi64(one, _mm512_sub_epi64(shift, one));
        let product = _mm512_add_epi64(_mm512_mullo_epi64(total[half], factor), rounding);
        *result = _mm512_cvtepi64_epi32(_mm512_srav_epi64(product, shift));
    }
    let scaled = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(halves[0]), halves[1]);
    let (min, max) = (
        _mm512_set1_epi32(packed.stage.min),
        _mm512_set1_epi32(packed.stage.max),
    );
    let words = _mm512_cvtepi32_epi16(_mm512_min_epi32(_mm512_max_epi32(scaled, min), max));
    match output.len() {
        // SAFETY: 16 words are writable; the store needs no alignment.
        16 => unsafe { _mm256_storeu_si256(output.as_mut_ptr().cast(), words) },
        0 => {}
        // SAFETY: only words of the mask are written, and the slice has as many.
        len => unsafe {
            _mm256_mask_storeu_epi16(output.as_mut_ptr(), u16::MAX >> (16 - len.min(16)), words)
        },
    }
}

/// As [`crate::portable::product_f32`], but each product and its addition round once.
pub(crate) fn product_f32(
    _: Avx512,
    packed: &PackedF32,
    window: &Window<f32>,
    rows: usize,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    for_tile!(
        rows,
        packed.layout.tile.width,
        tile_of_f32(packed, window, block, output, pitch)
    );
}

#[target_feature(enable = "avx512f,avx512vl")]
fn tile_of_f32<const MR: usize, const NV: usize>(
    packed: &PackedF32,
    window: &Window<f32>,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    let (width, columns) = (16 * NV, packed.layout.block_columns(block));
    window.check(
        MR,
        packed.layout.segments.taps(),
        packed.layout.segments.len,
    );

    let mut sums = [[_mm512_setzero_ps(); NV]; MR];
    let (bias, _) = packed.bias[block * width..].as_chunks::<16>();
    for row in &mut sums {
        for (sum, bias) in row.iter_mut().zip(bias) {
            *sum = load_f32(bias);
        }
    }

    let (weights, _) = packed.block(block).as_chunks::<16>();
    let mut weights = weights.chunks_exact(NV);
    for y in 0..packed.layout.segments.rows {
        for x in 0..packed.layout.segments.columns {
            let start = window.offset + y * window.row + x * window.column;
            for (element, vectors) in (0..packed.layout.segments.len).zip(&mut weights) {
                let mut loaded = [_mm512_setzero_ps(); NV];
                for (loaded, vector) in loaded.iter_mut().zip(vectors) {
                    *loaded = load_f32(vector);
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    // SAFETY: `check` found that pixel `i < MR` has `len` elements at this segment's start.
                    let input = unsafe {
                        *window
                            .data
                            .get_unchecked(start + i * window.pixel + element)
                    };
                    let input = _mm512_set1_ps(input);
                    for (sum, &vector) in row.iter_mut().zip(&loaded) {
                        *sum = _mm512_fmadd_ps(input, vector, *sum);
                    }
                }
            }
        }
    }

    let (min, max) = (
        _mm512_set1_ps(packed.clamp.0),
        _mm512_set1_ps(packed.clamp.1),
    );
    for (i, row) in sums.iter().enumerate() {
        let output = &mut output[i * pitch..][..columns];
        for (&sum, output) in row.iter().zip(output.chunks_mut(16)) {
            // Both return their second operand for a NaN.
            store_f32(_mm512_min_ps(max, _mm512_max_ps(min, sum)), output);
        }
    }
}
