//! Depthwise convolutions. Int8: for a block of 64 channels, the input columns under a run are stored with the bytes of four
//! filter rows interleaved, so that one dot product sums four taps of 16 channels; each column is used by all filter columns
//! over it.

use std::arch::x86_64::*;

use super::stage::Stage;
use super::{load_i32, store_bytes, store_f32};
use crate::aligned::{LINE, line_start};
use crate::depthwise::{PackedDepthwiseF32, PackedDepthwiseI8};
use crate::geometry::{Clip, Window};
use crate::product::interleaved_position;
use crate::{Avx512, OutputStage};

/// Channels of a block.
const BLOCK: usize = 64;

/// Four rows of a block's column.
const COLUMN: usize = 4 * BLOCK;

/// How a run steps over its columns.
pub(crate) struct Steps {
    /// Output pixels.
    pub pixels: usize,
    /// Columns from one to the next.
    pub stride: usize,
    /// Columns from one tap to the next.
    pub dilation: usize,
    /// What padding is.
    pub zero_point: i8,
}

/// Where a run's columns come from.
pub(crate) struct Source<'a, F> {
    /// Pixels of all channels.
    pub data: &'a [i8],
    /// Start of the first column inside the input, for a filter row; `None` if the row is padding.
    pub row: F,
    /// Which columns are inside.
    pub clip: Clip,
}

/// Groups of four filter rows.
fn row_groups(packed: &PackedDepthwiseI8) -> usize {
    packed.filter_h.div_ceil(4)
}

/// Bytes of scratch for interleaved columns, for `columns` input columns.
pub(crate) fn depthwise_columns_len(packed: &PackedDepthwiseI8, columns: usize) -> usize {
    columns * row_groups(packed) * COLUMN + LINE
}

/// Orders weights by block, group of filter rows, filter column, vector, channel, row; bias and stage by block and position.
pub(crate) fn pack_depthwise_i8(plain: &PackedDepthwiseI8) -> PackedDepthwiseI8 {
    let (depth, padded) = (plain.depth, plain.depth.next_multiple_of(BLOCK));
    let mut weights = vec![0; padded * row_groups(plain) * plain.filter_w * 4];
    let mut bias = vec![0; padded];
    let mut order = vec![None; padded];
    for channel in 0..depth {
        let (block, position) = (channel / BLOCK, interleaved_position(4, 4, channel % BLOCK));
        bias[block * BLOCK + position] = plain.bias[channel];
        order[block * BLOCK + position] = Some(channel);
        for y in 0..plain.filter_h {
            for x in 0..plain.filter_w {
                let step = (block * row_groups(plain) + y / 4) * plain.filter_w + x;
                weights[(step * BLOCK + position) * 4 + y % 4] =
                    plain.weights[(y * plain.filter_w + x) * depth + channel];
            }
        }
    }
    PackedDepthwiseI8 {
        weights: weights.into(),
        bias,
        stage: plain.stage.select(padded, |i| order[i]),
        ..*plain
    }
}

/// As [`crate::portable::depthwise_i8`], same bits. `columns` is scratch of at least [`depthwise_columns_len`].
pub(crate) fn depthwise_i8(
    _: Avx512,
    packed: &PackedDepthwiseI8,
    steps: &Steps,
    source: &Source<impl Fn(usize) -> Option<usize>>,
    columns: &mut [u8],
    output: &mut [i8],
) {
    let start = line_start(columns);
    let (columns, _) = columns[start..].as_chunks_mut::<COLUMN>();
    for block in 0..packed.depth.div_ceil(BLOCK) {
        let channels = BLOCK.min(packed.depth - block * BLOCK);
        let padding = [steps.zero_point; BLOCK];
        for group in 0..row_groups(packed) {
            let rows = std::array::from_fn(|row| {
                let y = 4 * group + row;
                let start = if y < packed.filter_h {
                    (source.row)(y)
                } else {
                    None
                };
                match start {
                    Some(start) => (
                        source.data.get(start + block * BLOCK..).unwrap_or(&[]),
                        packed.depth,
                    ),
                    None => (&padding[..], 0),
                }
            });
            let columns = columns.iter_mut().skip(group).step_by(row_groups(packed));
            // SAFETY: the token proves the features.
            unsafe {
                if channels == BLOCK {
                    interleave::<true>(rows, source.clip, channels, steps.zero_point, columns);
                } else {
                    interleave::<false>(rows, source.clip, channels, steps.zero_point, columns);
                }
            }
        }
        // SAFETY: the token proves the features.
        unsafe { sum_block(packed, steps, block, channels, columns, output) };
    }
}

/// Fills `columns` with four rows of `channels` channels each, as `u8 = i8 ^ 0x80`; `ALL` if that is a whole block. A row is its
/// first column inside, and the elements from one to the next; one without weights may hold anything.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave<'a, const ALL: bool>(
    rows: [(&[i8], usize); 4],
    clip: Clip,
    channels: usize,
    zero_point: i8,
    mut columns: impl Iterator<Item = &'a mut [u8; COLUMN]>,
) {
    assert!(if ALL {
        channels == BLOCK
    } else {
        (1..=BLOCK).contains(&channels)
    });
    let padding = _mm512_set1_epi8(zero_point);
    let present = u64::MAX >> (64 - channels);
    for column in columns.by_ref().take(clip.left) {
        store_column([padding; 4], column);
    }
    if clip.inside > 0 {
        for (row, step) in rows {
            assert!(
                (clip.inside - 1) * step + channels <= row.len(),
                "column exceeds the input"
            );
        }
    }
    for (index, column) in columns.by_ref().take(clip.inside).enumerate() {
        let load = |(row, step): (&[i8], usize)| {
            // SAFETY: `channels` bytes from here are inside by the assertion above, and only those are read.
            unsafe {
                let first = row.as_ptr().add(index * step);
                if ALL {
                    _mm512_loadu_si512(first.cast())
                } else {
                    _mm512_maskz_loadu_epi8(present, first)
                }
            }
        };
        store_column(
            [load(rows[0]), load(rows[1]), load(rows[2]), load(rows[3])],
            column,
        );
    }
    for column in columns.take(clip.columns - clip.left - clip.inside) {
        store_column([padding; 4], column);
    }
}

/// Interleaves the bytes of four rows and stores them: vector `v` has channels `16 * lane + 4 * v..` in its lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_column([a, b, c, d]: [__m512i; 4], column: &mut [u8; COLUMN]) {
    let flip = _mm512_set1_epi8(-128);
    let (low_ab, high_ab) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (low_cd, high_cd) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    let vectors = [
        _mm512_unpacklo_epi16(low_ab, low_cd),
        _mm512_unpackhi_epi16(low_ab, low_cd),
        _mm512_unpacklo_epi16(high_ab, high_cd),
        _mm512_unpackhi_epi16(high_ab, high_cd),
    ];
    let start = column.as_mut_ptr();
    // SAFETY: the reference is to 4 * 64 writable bytes; the stores need no alignment.
    unsafe {
        _mm512_storeu_si512(start.cast(), _mm512_xor_si512(vectors[0], flip));
        _mm512_storeu_si512(start.add(64).cast(), _mm512_xor_si512(vectors[1], flip));
        _mm512_storeu_si512(start.add(128).cast(), _mm512_xor_si512(vectors[2], flip));
        _mm512_storeu_si512(start.add(192).cast(), _mm512_xor_si512(vectors[3], flip));
    }
}

/// Sums the taps of one block of channels for all pixels of a run.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn sum_block(
    packed: &PackedDepthwiseI8,
    steps: &Steps,
    block: usize,
    channels: usize,
    columns: &[[u8; COLUMN]],
    output: &mut [i8],
) {
    let groups = row_groups(packed);
    let weights_len = groups * packed.filter_w * COLUMN;
    let weights = packed.weights[block * weights_len..][..weights_len]
        .as_chunks::<COLUMN>()
        .0;
    let mut bias = [_mm512_setzero_si512(); 4];
    for (loaded, bias) in bias
        .iter_mut()
        .zip(packed.bias[block * BLOCK..].as_chunks().0)
    {
        *loaded = load_i32(bias);
    }
    let stage = Stage::<4>::load(&packed.stage, block * BLOCK);
    let taps: Option<&[[i8; COLUMN]; 3]> = if groups == 1 {
        weights.try_into().ok()
    } else {
        None
    };
    for pixel in 0..steps.pixels {
        let mut accumulators = bias;
        if let Some(taps) = taps {
            for (x, weights) in taps.iter().enumerate() {
                add_taps(
                    &mut accumulators,
                    &columns[pixel * steps.stride + x * steps.dilation],
                    weights,
                );
            }
        } else {
            for (group, weights) in weights.chunks_exact(packed.filter_w).enumerate() {
                for (x, weights) in weights.iter().enumerate() {
                    let column = (pixel * steps.stride + x * steps.dilation) * groups + group;
                    add_taps(&mut accumulators, &columns[column], weights);
                }
            }
        }
        let output = &mut output[pixel * packed.depth + block * BLOCK..][..channels];
        match &stage {
            Some(stage) => store_bytes(stage.apply(&accumulators), output),
            None => store_scalar(&packed.stage, block, &accumulators, output),
        }
    }
}

/// Adds the products of four rows of one column.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_taps(accumulators: &mut [__m512i; 4], column: &[u8; COLUMN], weights: &[i8; COLUMN]) {
    for (v, accumulator) in accumulators.iter_mut().enumerate() {
        // SAFETY: both references are to 4 * 64 readable bytes; the loads need no alignment.
        let (column, weights) = unsafe {
            let (column, weights) = (column.as_ptr().add(64 * v), weights.as_ptr().add(64 * v));
            (
                _mm512_loadu_si512(column.cast()),
                _mm512_loadu_si512(weights.cast()),
            )
        };
        *accumulator = _mm512_dpbusd_epi32(*accumulator, column, weights);
    }
}

/// The output stage one accumulator at a time, for the rounding that has no vector form here.
#[cold]
fn store_scalar(stage: &OutputStage, block: usize, accumulators: &[__m512i; 4], output: &mut [i8]) {
    // SAFETY: a vector of 512 bits is 16 integers, and every bit pattern is one.
    let values =
        accumulators.map(|vector| unsafe { std::mem::transmute::<__m512i, [i32; 16]>(vector) });
    for (channel, output) in output.iter_mut().enumerate() {
        let position = interleaved_position(4, 4, channel);
        *output = stage.apply(block * BLOCK + position, values.as_flattened()[position]);
    }
}

/// As [`crate::portable::depthwise_f32`], but each product and its addition round once.
pub(crate) fn depthwise_f32(
    _: Avx512,
    packed: &PackedDepthwiseF32,
    window: &Window<f32>,
    pixels: usize,
    output: &mut [f32],
) {
    window.check(pixels, (packed.filter_h, packed.filter_w), packed.depth);
    let mut first = 0;
    while first < pixels {
        let (rest, output) = (window.skip(first), &mut output[first * packed.depth..]);
        if pixels - first >= 4 {
            // SAFETY: the token proves the features.
            unsafe { pixels_of_f32::<4>(packed, &rest, output) };
            first += 4;
        } else {
            // SAFETY: the token proves the features.
            unsafe { pixels_of_f32::<1>(packed, &rest, output) };
            first += 1;
        }
    }
}

/// `PIXELS` pixels, so that each weight that is loaded is used as often.
#[target_feature(enable = "avx512f,avx512vl")]
fn pixels_of_f32<const PIXELS: usize>(
    packed: &PackedDepthwiseF32,
    window: &Window<f32>,
    output: &mut [f32],
) {
    let depth = packed.depth;
    window.check(PIXELS, (packed.filter_h, packed.filter_w), depth);
    assert!(
        packed.weights.len() == packed.filter_h * packed.filter_w * depth
            && packed.bias.len() == depth
    );
    let (min, max) = (
        _mm512_set1_ps(packed.clamp.0),
        _mm512_set1_ps(packed.clamp.1),
    );
    for channel in (0..depth).step_by(16) {
        let present = u16::MAX >> (16 - (depth - channel).min(16));
        // SAFETY: `present` has no channel past `depth`, and only its elements are read.
        let bias = unsafe { _mm512_maskz_loadu_ps(present, packed.bias.as_ptr().add(channel)) };
        let mut sums = [bias; PIXELS];
        for y in 0..packed.filter_h {
            for x in 0..packed.filter_w {
                let tap = (y * packed.filter_w + x) * depth + channel;
                // SAFETY: as for the bias; the assertion gives each tap `depth` weights.
                let weights =
                    unsafe { _mm512_maskz_loadu_ps(present, packed.weights.as_ptr().add(tap)) };
                let start = window.offset + y * window.row + x * window.column + channel;
                for (pixel, sum) in sums.iter_mut().enumerate() {
                    let first = start + pixel * window.pixel;
                    // SAFETY: `check` found `depth` elements at this tap of each pixel.
                    let input =
                        unsafe { _mm512_maskz_loadu_ps(present, window.data.as_ptr().add(first)) };
                    *sum = _mm512_fmadd_ps(input, weights, *sum);
                }
            }
        }
        for (pixel, &sum) in sums.iter().enumerate() {
            // Both return their second operand for a NaN.
            let clamped = _mm512_min_ps(max, _mm512_max_ps(min, sum));
            store_f32(
                clamped,
                &mut output[pixel * depth + channel..][..(depth - channel).min(16)],
            );
        }
    }
}
