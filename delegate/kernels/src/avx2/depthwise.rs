//! Depthwise convolutions, by blocks of channels. Int8 multiplies and adds two taps at a time.

use std::arch::x86_64::*;

use super::stage::{Stage, WideStage, add_wide, load_totals, position};
use super::{load_f32, load_i32, load_widened, store_f32};
use crate::Avx2;
use crate::depthwise::{PackedDepthwiseF32, PackedDepthwiseI8, PackedDepthwiseI16};
use crate::geometry::Window;
use crate::requantize::{Requantize, WideMultiplier};

/// Channels of an int8 block.
const BLOCK: usize = 16;

/// Orders weights by block, pair of taps, position, tap; bias and stage by block and position.
pub(crate) fn pack_depthwise_i8(plain: &PackedDepthwiseI8) -> PackedDepthwiseI8 {
    let order = order(plain.depth);
    PackedDepthwiseI8 {
        weights: pack(&plain.weights, plain.depth).into(),
        bias: pick(&plain.bias, &order),
        stage: plain.stage.select(order.len(), |i| order[i]),
        ..*plain
    }
}

/// As [`pack_depthwise_i8`].
pub(crate) fn pack_depthwise_i16(plain: &PackedDepthwiseI16) -> PackedDepthwiseI16 {
    let order = order(plain.depth);
    let stage = plain.stage.select(order.len(), |i| order[i]);
    PackedDepthwiseI16 {
        weights: pack(&plain.weights, plain.depth).into(),
        bias: pick(&plain.bias, &order),
        wide: match &stage.requantize {
            Requantize::Wide { multiplier } => WideMultiplier::new(multiplier),
            _ => None,
        },
        stage,
        ..*plain
    }
}

/// The channel at each place of all blocks.
fn order(depth: usize) -> Vec<Option<usize>> {
    let mut order = vec![None; depth.next_multiple_of(BLOCK)];
    for channel in 0..depth {
        order[channel / BLOCK * BLOCK + position(channel % BLOCK)] = Some(channel);
    }
    order
}

fn pick<T: Copy + Default>(from: &[T], order: &[Option<usize>]) -> Vec<T> {
    let entry = |channel: &Option<usize>| channel.map_or(T::default(), |channel| from[channel]);
    order.iter().map(entry).collect()
}

fn pack(plain: &[i8], depth: usize) -> Vec<i8> {
    let (padded, taps) = (depth.next_multiple_of(BLOCK), plain.len() / depth);
    let pairs = taps.div_ceil(2);
    let mut weights = vec![0; padded * pairs * 2];
    for channel in 0..depth {
        let (block, position) = (channel / BLOCK, position(channel % BLOCK));
        for tap in 0..taps {
            let pair = block * pairs + tap / 2;
            weights[(pair * BLOCK + position) * 2 + tap % 2] = plain[tap * depth + channel];
        }
    }
    weights
}

/// As [`crate::portable::depthwise_i8`], same bits.
pub(crate) fn depthwise_i8(
    _: Avx2,
    packed: &PackedDepthwiseI8,
    window: &Window<i8>,
    pixels: usize,
    output: &mut [i8],
) {
    let mut first = 0;
    while first < pixels {
        let (rest, output) = (window.skip(first), &mut output[first * packed.depth..]);
        if pixels - first >= 4 {
            // SAFETY: the token proves the features.
            unsafe { pixels_of_i8::<4>(packed, &rest, output) };
            first += 4;
        } else {
            // SAFETY: the token proves the features.
            unsafe { pixels_of_i8::<1>(packed, &rest, output) };
            first += 1;
        }
    }
}

/// `PIXELS` pixels, so that weights that are loaded are used as often.
#[target_feature(enable = "avx2,fma")]
fn pixels_of_i8<const PIXELS: usize>(
    packed: &PackedDepthwiseI8,
    window: &Window<i8>,
    output: &mut [i8],
) {
    let (depth, taps) = (packed.depth, packed.filter_h * packed.filter_w);
    window.check(PIXELS, (packed.filter_h, packed.filter_w), depth);
    let pairs = taps.div_ceil(2);
    let (bias, _) = packed.bias.as_chunks::<8>();
    let (weights, _) = packed.weights.as_chunks::<16>();
    for block in 0..depth.div_ceil(BLOCK) {
        let channels = BLOCK.min(depth - block * BLOCK);
        let mut sums = [[load_i32(&bias[2 * block]), load_i32(&bias[2 * block + 1])]; PIXELS];
        let (weights, _) = weights[2 * pairs * block..][..2 * pairs].as_chunks::<2>();
        let mut starts = window
            .taps(packed.filter_h, packed.filter_w)
            .map(|start| start + block * BLOCK);
        for [low, high] in weights {
            let (low, high) = (load_widened(low), load_widened(high));
            let Some(first) = starts.next() else { break };
            // The last tap of an odd number is paired with itself, at weight 0.
            let starts = [first, starts.next().unwrap_or(first)];
            for (pixel, sum) in sums.iter_mut().enumerate() {
                let [a, b] = starts.map(|start| start + pixel * window.pixel);
                let (a, b) = (
                    load_channels(window.data, a, channels),
                    load_channels(window.data, b, channels),
                );
                sum[0] =
                    _mm256_add_epi32(sum[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), low));
                sum[1] =
                    _mm256_add_epi32(sum[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), high));
            }
        }
        let stage = Stage::load(&packed.stage, block * BLOCK);
        for (pixel, &sum) in sums.iter().enumerate() {
            stage.store(
                sum,
                &mut output[pixel * depth + block * BLOCK..][..channels],
            );
        }
    }
}

/// As [`crate::portable::depthwise_i16`], same bits; no sum of products exceeds int32.
pub(crate) fn depthwise_i16(
    _: Avx2,
    packed: &PackedDepthwiseI16,
    window: &Window<i16>,
    pixels: usize,
    output: &mut [i16],
) {
    let mut first = 0;
    while first < pixels {
        let (rest, output) = (window.skip(first), &mut output[first * packed.depth..]);
        if pixels - first >= 4 {
            // SAFETY: the token proves the features.
            unsafe { pixels_of_i16::<4>(packed, &rest, output) };
            first += 4;
        } else {
            // SAFETY: the token proves the features.
            unsafe { pixels_of_i16::<1>(packed, &rest, output) };
            first += 1;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn pixels_of_i16<const PIXELS: usize>(
    packed: &PackedDepthwiseI16,
    window: &Window<i16>,
    output: &mut [i16],
) {
    let (depth, taps) = (packed.depth, packed.filter_h * packed.filter_w);
    window.check(PIXELS, (packed.filter_h, packed.filter_w), depth);
    let pairs = taps.div_ceil(2);
    let (bias, _) = packed.bias.as_chunks::<BLOCK>();
    let (weights, _) = packed.weights.as_chunks::<16>();
    for block in 0..depth.div_ceil(BLOCK) {
        let channels = BLOCK.min(depth - block * BLOCK);
        let mut sums = [[_mm256_setzero_si256(); 2]; PIXELS];
        let (weights, _) = weights[2 * pairs * block..][..2 * pairs].as_chunks::<2>();
        let mut starts = window
            .taps(packed.filter_h, packed.filter_w)
            .map(|start| start + block * BLOCK);
        for [low, high] in weights {
            let (low, high) = (load_widened(low), load_widened(high));
            let Some(first) = starts.next() else { break };
            // The last tap of an odd number is paired with itself, at weight 0.
            let starts = [first, starts.next().unwrap_or(first)];
            for (pixel, sum) in sums.iter_mut().enumerate() {
                let [a, b] = starts
                    .map(|start| load_words(window.data, start + pixel * window.pixel, channels));
                sum[0] =
                    _mm256_add_epi32(sum[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), low));
                sum[1] =
                    _mm256_add_epi32(sum[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), high));
            }
        }
        let stage = WideStage::load(&packed.stage, packed.wide.as_ref(), block * BLOCK);
        for (pixel, &sum) in sums.iter().enumerate() {
            let mut totals = load_totals(&bias[block]);
            add_wide(&mut totals, sum);
            stage.store(
                &totals,
                &mut output[pixel * depth + block * BLOCK..][..channels],
            );
        }
    }
}

/// `channels` channels from index `start`, at most [`BLOCK`]; the rest is 0.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(data: &[i16], start: usize, channels: usize) -> __m256i {
    let mut some = [0; BLOCK];
    let words: &[i16; BLOCK] = match data[start..][..channels].first_chunk() {
        Some(all) => all,
        None => {
            some[..channels].copy_from_slice(&data[start..][..channels]);
            &some
        }
    };
    // SAFETY: the reference is to 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Widens `channels` channels from index `start`, at most [`BLOCK`]; the rest is 0.
#[inline]
#[target_feature(enable = "avx2")]
fn load_channels(data: &[i8], start: usize, channels: usize) -> __m256i {
    match data[start..][..channels].first_chunk() {
        Some(all) => load_widened(all),
        None => {
            let mut some = [0; BLOCK];
            some[..channels].copy_from_slice(&data[start..][..channels]);
            load_widened(&some)
        }
    }
}

/// As [`crate::portable::depthwise_f32`], but each product and its addition round once.
pub(crate) fn depthwise_f32(
    _: Avx2,
    packed: &PackedDepthwiseF32,
    window: &Window<f32>,
    pixels: usize,
    output: &mut [f32],
) {
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
#[target_feature(enable = "avx2,fma")]
fn pixels_of_f32<const PIXELS: usize>(
    packed: &PackedDepthwiseF32,
    window: &Window<f32>,
    output: &mut [f32],
) {
    let depth = packed.depth;
    let (min, max) = (
        _mm256_set1_ps(packed.clamp.0),
        _mm256_set1_ps(packed.clamp.1),
    );
    for channel in (0..depth).step_by(8) {
        let channels = 8.min(depth - channel);
        let mut sums = [load_floats(&packed.bias, channel, channels); PIXELS];
        for y in 0..packed.filter_h {
            for x in 0..packed.filter_w {
                let tap = (y * packed.filter_w + x) * depth;
                let weights = load_floats(&packed.weights, tap + channel, channels);
                let start = window.offset + y * window.row + x * window.column + channel;
                for (pixel, sum) in sums.iter_mut().enumerate() {
                    let input = load_floats(window.data, start + pixel * window.pixel, channels);
                    *sum = _mm256_fmadd_ps(input, weights, *sum);
                }
            }
        }
        for (pixel, &sum) in sums.iter().enumerate() {
            // Both return their second operand for a NaN.
            let clamped = _mm256_min_ps(max, _mm256_max_ps(min, sum));
            store_f32(clamped, &mut output[pixel * depth + channel..][..channels]);
        }
    }
}

/// `count` floats from index `start`, at most 8; the rest is 0.
#[inline]
#[target_feature(enable = "avx2")]
fn load_floats(data: &[f32], start: usize, count: usize) -> __m256 {
    match data[start..][..count].first_chunk() {
        Some(all) => load_f32(all),
        None => {
            let mut some = [0.0; 8];
            some[..count].copy_from_slice(&data[start..][..count]);
            load_f32(&some)
        }
    }
}
