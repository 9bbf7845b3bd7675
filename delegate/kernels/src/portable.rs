//! The plain loops: the specification of the other sets, and what machines without one of those run.

use crate::depthwise::{PackedDepthwiseF32, PackedDepthwiseI8, PackedDepthwiseI16};
use crate::geometry::Window;
use crate::hybrid::{RowScale, Scaling};
use crate::product::{HybridColumns, PackedF32, PackedI8, PackedI16, Segments, SumsI8, Tile};

pub(crate) const TILE_I8: Tile = Tile {
    rows: 4,
    width: WIDTH_I8,
};
pub(crate) const TILE_F32: Tile = Tile {
    rows: 4,
    width: WIDTH_F32,
};

const WIDTH_I8: usize = 16;
const WIDTH_F32: usize = 8;

/// `Form::Biased`: flips the sign bit.
pub(crate) fn store_biased(source: &[i8], target: &mut [u8]) {
    for (target, &x) in target.iter_mut().zip(source) {
        *target = x as u8 ^ 0x80;
    }
}

/// `Form::Wide`: two bytes each.
pub(crate) fn store_wide(source: &[i8], target: &mut [u8]) {
    for (target, &x) in target.as_chunks_mut().0.iter_mut().zip(source) {
        *target = i16::from(x).to_le_bytes();
    }
}

/// `rows` pixels of `window` times block `block` of `packed`; `output` starts at the block's first column, and the next pixel's
/// is `pitch` further.
pub(crate) fn product_i8(
    packed: &PackedI8,
    window: &Window<u8>,
    rows: usize,
    block: usize,
    output: &mut [i8],
    pitch: usize,
) {
    let first = block * WIDTH_I8;
    for row in 0..rows {
        let sums = row_of_i8(&packed.sums, &window.skip(row), block);
        let output = &mut output[row * pitch..][..packed.sums.layout.block_columns(block)];
        for (column, (output, &sum)) in output.iter_mut().zip(&sums).enumerate() {
            *output = packed.stage.apply(first + column, sum);
        }
    }
}

/// As [`product_i8`], but the sums themselves, as the bits of floats.
pub(crate) fn sums_i8(
    packed: &SumsI8,
    window: &Window<u8>,
    rows: usize,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    for row in 0..rows {
        let sums = row_of_i8(packed, &window.skip(row), block);
        let output = &mut output[row * pitch..][..packed.layout.block_columns(block)];
        for (output, &sum) in output.iter_mut().zip(&sums) {
            *output = f32::from_bits(sum as u32);
        }
    }
}

fn row_of_i8(packed: &SumsI8, window: &Window<u8>, block: usize) -> [i32; WIDTH_I8] {
    let Segments { rows, columns, .. } = packed.layout.segments;
    let mut sums: [i32; WIDTH_I8] = packed.bias[block * WIDTH_I8..].as_chunks().0[0];
    let mut weights = packed.block(block).as_chunks::<{ 2 * WIDTH_I8 }>().0.iter();
    for segment in 0..rows * columns {
        let (y, x) = (segment / columns, segment % columns);
        let start = window.offset + y * window.row + x * window.column;
        let groups = window.data[start..].as_chunks::<4>().0;
        for (&[a, b, c, d], weights) in groups.iter().take(packed.layout.groups()).zip(&mut weights)
        {
            let pair = [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])].map(i32::from);
            for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<2>().0) {
                let products = pair[0] * i32::from(weights[0]) + pair[1] * i32::from(weights[1]);
                *sum = sum.wrapping_add(products);
            }
        }
    }
    sums
}

/// A row's sums, which are the bits of `output`, to float32: `first` is the column that `output` starts with.
#[inline(always)]
pub(crate) fn scale_sums(
    columns: &HybridColumns,
    first: usize,
    row: RowScale,
    clamp: (f32, f32),
    output: &mut [f32],
) {
    match columns.scaling {
        Scaling::WeightsFirst => {
            scale_row(Scaling::WeightsFirst, columns, first, row, clamp, output)
        }
        Scaling::Together => scale_row(Scaling::Together, columns, first, row, clamp, output),
        Scaling::RowFirst => scale_row(Scaling::RowFirst, columns, first, row, clamp, output),
    }
}

/// [`scale_sums`] for a scaling that is known when this is compiled.
#[inline(always)]
fn scale_row(
    scaling: Scaling,
    columns: &HybridColumns,
    first: usize,
    row: RowScale,
    clamp: (f32, f32),
    output: &mut [f32],
) {
    let weights = columns.sum[first..].iter().zip(&columns.scale[first..]);
    for ((output, (&weights, &scale)), &bias) in
        output.iter_mut().zip(weights).zip(&columns.bias[first..])
    {
        let sum = (output.to_bits() as i32).wrapping_sub(weights.wrapping_mul(row.zero_point));
        *output = scaling
            .apply(sum, row.scale, scale, bias)
            .clamp(clamp.0, clamp.1);
    }
}

/// As [`product_i8`], with int16 activations and int64 sums.
pub(crate) fn product_i16(
    packed: &PackedI16,
    window: &Window<i16>,
    rows: usize,
    block: usize,
    output: &mut [i16],
    pitch: usize,
) {
    let Segments {
        rows: filter_rows,
        columns,
        ..
    } = packed.layout.segments;
    let first = block * WIDTH_I8;
    for row in 0..rows {
        let window = window.skip(row);
        let mut sums: [i64; WIDTH_I8] = packed.bias[first..].as_chunks().0[0];
        let mut weights = packed.block(block).as_chunks::<{ 2 * WIDTH_I8 }>().0.iter();
        for segment in 0..filter_rows * columns {
            let (y, x) = (segment / columns, segment % columns);
            let start = window.offset + y * window.row + x * window.column;
            let pairs = window.data[start..].as_chunks::<2>().0;
            for (pair, weights) in pairs.iter().take(packed.layout.groups()).zip(&mut weights) {
                let pair = pair.map(i32::from);
                for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<2>().0) {
                    let products =
                        pair[0] * i32::from(weights[0]) + pair[1] * i32::from(weights[1]);
                    *sum = sum.wrapping_add(i64::from(products));
                }
            }
        }
        let output = &mut output[row * pitch..][..packed.layout.block_columns(block)];
        for (column, (output, &sum)) in output.iter_mut().zip(&sums).enumerate() {
            *output = packed.stage.apply_i16(first + column, sum);
        }
    }
}

/// As [`product_i8`]. Sums in the order of the depth, starting from the bias.
pub(crate) fn product_f32(
    packed: &PackedF32,
    window: &Window<f32>,
    rows: usize,
    block: usize,
    output: &mut [f32],
    pitch: usize,
) {
    let first = block * WIDTH_F32;
    for row in 0..rows {
        let mut sums: [f32; WIDTH_F32] = packed.bias[first..].as_chunks().0[0];
        let mut weights = packed.block(block).as_chunks::<WIDTH_F32>().0.iter();
        for segment in 0..packed.layout.segments.rows * packed.layout.segments.columns {
            let (y, x) = (
                segment / packed.layout.segments.columns,
                segment % packed.layout.segments.columns,
            );
            let start = window.offset + row * window.pixel + y * window.row + x * window.column;
            for (&x, weights) in window.data[start..][..packed.layout.segments.len]
                .iter()
                .zip(&mut weights)
            {
                for (sum, &weight) in sums.iter_mut().zip(weights) {
                    *sum += x * weight;
                }
            }
        }
        let output = &mut output[row * pitch..][..packed.layout.block_columns(block)];
        for (output, &sum) in output.iter_mut().zip(&sums) {
            *output = sum.clamp(packed.clamp.0, packed.clamp.1);
        }
    }
}

/// `pixels` pixels of `window`, all channels; `output` has them one after the other.
pub(crate) fn depthwise_i8(
    packed: &PackedDepthwiseI8,
    window: &Window<i8>,
    pixels: usize,
    output: &mut [i8],
) {
    let depth = packed.depth;
    for (pixel, output) in output.chunks_exact_mut(depth).take(pixels).enumerate() {
        for (channel, output) in output.iter_mut().enumerate() {
            let start = window.offset + pixel * window.pixel + channel;
            let mut accumulator = packed.bias[channel];
            for y in 0..packed.filter_h {
                for x in 0..packed.filter_w {
                    let input = window.data[start + y * window.row + x * window.column];
                    let weight = packed.weights[(y * packed.filter_w + x) * depth + channel];
                    accumulator = accumulator.wrapping_add(i32::from(input) * i32::from(weight));
                }
            }
            *output = packed.stage.apply(channel, accumulator);
        }
    }
}

/// As [`depthwise_i8`], with int16 activations and int64 sums.
pub(crate) fn depthwise_i16(
    packed: &PackedDepthwiseI16,
    window: &Window<i16>,
    pixels: usize,
    output: &mut [i16],
) {
    let depth = packed.depth;
    for (pixel, output) in output.chunks_exact_mut(depth).take(pixels).enumerate() {
        for (channel, output) in output.iter_mut().enumerate() {
            let start = window.offset + pixel * window.pixel + channel;
            let mut sum = packed.bias[channel];
            for y in 0..packed.filter_h {
                for x in 0..packed.filter_w {
                    let input = window.data[start + y * window.row + x * window.column];
                    let weight = packed.weights[(y * packed.filter_w + x) * depth + channel];
                    let product = i64::from(i32::from(input) * i32::from(weight));
                    sum = sum.wrapping_add(product);
                }
            }
            *output = packed.stage.apply_i16(channel, sum);
        }
    }
}

/// As [`depthwise_i8`]. Sums the taps in order, starting from the bias.
pub(crate) fn depthwise_f32(
    packed: &PackedDepthwiseF32,
    window: &Window<f32>,
    pixels: usize,
    output: &mut [f32],
) {
    let depth = packed.depth;
    for (pixel, output) in output.chunks_exact_mut(depth).take(pixels).enumerate() {
        output.copy_from_slice(&packed.bias);
        for y in 0..packed.filter_h {
            for x in 0..packed.filter_w {
                let start =
                    window.offset + pixel * window.pixel + y * window.row + x * window.column;
                let weights = &packed.weights[(y * packed.filter_w + x) * depth..][..depth];
                for ((sum, &input), &weight) in output
                    .iter_mut()
                    .zip(&window.data[start..][..depth])
                    .zip(weights)
                {
                    *sum += input * weight;
                }
            }
        }
        for sum in output {
            *sum = sum.clamp(packed.clamp.0, packed.clamp.1);
        }
    }
}
