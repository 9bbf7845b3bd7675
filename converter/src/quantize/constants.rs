//! Weights, biases and other constants as integers.

use bantam_model::{DType, Quantization, Tensor};
use half::f16;

use super::encoding::{Encoding, Width};

/// Weights use -127 to 127, so that they are symmetric.
const WEIGHT_MAX: f32 = 127.0;

/// The largest weight of a channel is taken to be at least this, so that its scale is usable.
const SMALLEST_WEIGHT: f32 = 1e-6;

/// A bias beyond half the range of int32 could overflow the accumulator.
const LARGEST_BIAS: f64 = (i32::MAX / 2) as f64;

/// The elements of a float constant.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    let data = tensor.data.as_deref().unwrap_or_default();
    data.as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

/// A constant operand in `encoding`.
pub(super) fn activation(tensor: &Tensor, encoding: Encoding) -> Tensor {
    let (dtype, quantization) = encoding.describe();
    let bytes = encoding.encode(&values(tensor));
    Tensor {
        quantization,
        ..Tensor::constant(tensor.name.clone(), dtype, tensor.shape.clone(), bytes)
    }
}

/// A constant as float16, and how many of its finite values are beyond that type's range and
/// became the largest that it has.
pub(super) fn half(tensor: &Tensor) -> (Tensor, usize) {
    let largest = f16::MAX.to_f32();
    let mut clamped = 0;
    let mut convert = |v: f32| {
        let beyond = v.is_finite() && v.abs() > largest;
        clamped += usize::from(beyond);
        let v = if beyond {
            v.clamp(-largest, largest)
        } else {
            v
        };
        f16::from_f32(v).to_le_bytes()
    };
    let bytes: Vec<u8> = values(tensor).into_iter().flat_map(&mut convert).collect();
    let half = Tensor::constant(tensor.name.clone(), DType::F16, tensor.shape.clone(), bytes);
    (half, clamped)
}

/// The scales of weights: one for each index of `axis`, or one.
pub(crate) fn weight_scales(tensor: &Tensor, axis: Option<usize>) -> Vec<f32> {
    let largest = Channels::new(tensor, axis).largest(&values(tensor));
    let usable = largest.into_iter().map(|v| v.max(SMALLEST_WEIGHT));
    usable.map(|v| v / WEIGHT_MAX).collect()
}

/// The scales with which the squared error of the weights is least, out of those that cover a part
/// of the largest weight or all of it.
pub(super) fn clipped_scales(tensor: &Tensor, axis: Option<usize>) -> Vec<f32> {
    const PERCENTS: std::ops::RangeInclusive<u8> = 30..=99;
    let (values, channels) = (values(tensor), Channels::new(tensor, axis));
    let full = weight_scales(tensor, axis);
    let mut best = full.clone();
    let mut least = channels.squared_errors(&values, &full);
    for percent in PERCENTS.rev() {
        let part = f32::from(percent) / 100.0;
        let scales: Vec<f32> = full.iter().map(|scale| scale * part).collect();
        let errors = channels.squared_errors(&values, &scales);
        for (channel, error) in errors.into_iter().enumerate() {
            if error < least[channel] {
                (best[channel], least[channel]) = (scales[channel], error);
            }
        }
    }
    best
}

/// The scales that cover the magnitude with the least expected squared error: a twelfth of a squared
/// step for weights below it, the squared distance for those above. Newton's iteration for each
/// channel, from the mean magnitude; where the error that it really causes is larger than that of the
/// scale that covers all, as with few weights, that one stays.
pub(super) fn octav_scales(tensor: &Tensor, axis: Option<usize>) -> Vec<f32> {
    const ROUNDS: usize = 20;
    /// A step's share of the magnitude, squared, and a twelfth of it.
    const NOISE: f64 = 1.0 / (12.0 * WEIGHT_MAX as f64 * WEIGHT_MAX as f64);
    let (values, channels) = (values(tensor), Channels::new(tensor, axis));
    let full = weight_scales(tensor, axis);
    let mut clips: Vec<f64> = vec![0.0; channels.count];
    for _ in 0..ROUNDS {
        let mut sums = vec![(0.0, 0.0, 0.0); channels.count];
        for (index, &value) in values.iter().enumerate() {
            let channel = channels.of(index);
            let (beyond, outside, inside) = &mut sums[channel];
            let magnitude = f64::from(value.abs());
            if magnitude > clips[channel] {
                (*beyond, *outside) = (*beyond + magnitude, *outside + 1.0);
            } else if magnitude > 0.0 {
                *inside += 1.0;
            }
        }
        for (clip, (beyond, outside, inside)) in clips.iter_mut().zip(sums) {
            let weight: f64 = NOISE * inside + outside;
            *clip = if weight > 0.0 { beyond / weight } else { 0.0 };
        }
    }
    let largest = |&scale: &f32| f64::from(scale * WEIGHT_MAX);
    let clipped: Vec<f32> = clips
        .iter()
        .zip(&full)
        .map(|(&clip, full)| {
            clip.clamp(f64::from(SMALLEST_WEIGHT), largest(full)) as f32 / WEIGHT_MAX
        })
        .collect();
    let before = channels.squared_errors(&values, &full);
    let after = channels.squared_errors(&values, &clipped);
    let better = clipped
        .into_iter()
        .zip(full)
        .zip(after.into_iter().zip(before));
    better
        .map(|((clipped, full), (after, before))| if after < before { clipped } else { full })
        .collect()
}

/// The sum of the squared errors that `scales` cause.
pub(super) fn squared_error(tensor: &Tensor, axis: Option<usize>, scales: &[f32]) -> f64 {
    let channels = Channels::new(tensor, axis);
    let errors = channels.squared_errors(&values(tensor), scales);
    errors.into_iter().sum()
}

/// The squared error that one scale for all weights causes, as a part of their squares.
pub(crate) fn weight_error(tensor: &Tensor) -> f64 {
    let squares: f64 = values(tensor).iter().map(|v| f64::from(v * v)).sum();
    squared_error(tensor, None, &weight_scales(tensor, None)) / squares.max(f64::MIN_POSITIVE)
}

/// Raises the scales of weights so that no bias leaves the range of its accumulator.
pub(super) fn raise_for_bias(scales: &mut [f32], bias: &Tensor, input_scale: f32) {
    let per_tensor = scales.len() == 1;
    for (index, value) in values(bias).into_iter().enumerate() {
        let Some(scale) = scales.get_mut(if per_tensor { 0 } else { index }) else {
            return;
        };
        let needed = f64::from(value.abs()) / LARGEST_BIAS / f64::from(input_scale);
        if needed > f64::from(*scale) {
            *scale = needed as f32;
        }
    }
}

/// The lowest scale of an accumulator that holds `bias`.
pub(super) fn scale_for_bias(bias: &Tensor) -> f64 {
    let largest = values(bias)
        .into_iter()
        .fold(0.0, |m: f32, v| m.max(v.abs()));
    f64::from(largest) / LARGEST_BIAS
}

/// Weights as int8, symmetric, with `scales`.
pub(super) fn weights(tensor: &Tensor, axis: Option<usize>, scales: &[f32]) -> Tensor {
    let channels = Channels::new(tensor, axis);
    let quantize = |(index, value): (usize, f32)| {
        let steps = (value / scales[channels.of(index)]).round();
        steps.clamp(-WEIGHT_MAX, WEIGHT_MAX) as i8 as u8
    };
    let bytes: Vec<u8> = values(tensor)
        .into_iter()
        .enumerate()
        .map(quantize)
        .collect();
    Tensor::constant(tensor.name.clone(), DType::I8, tensor.shape.clone(), bytes)
        .quantized(Quantization::symmetric(scales.to_vec(), axis.unwrap_or(0)))
}

/// The scale of int16 weights whose largest integer is `largest`.
pub(super) fn wide_scale(tensor: &Tensor, largest: i32) -> f32 {
    let values = values(tensor).into_iter();
    values.fold(SMALLEST_WEIGHT, |m, v| m.max(v.abs())) / largest as f32
}

/// Weights as int16, symmetric, with one scale.
pub(super) fn wide_weights(tensor: &Tensor, scale: f32, largest: i32) -> Tensor {
    let limit = largest as f32;
    let quantize = |value: f32| (value / scale).round().clamp(-limit, limit) as i16;
    let bytes: Vec<u8> = values(tensor)
        .into_iter()
        .flat_map(|value| quantize(value).to_le_bytes())
        .collect();
    Tensor::constant(tensor.name.clone(), DType::I16, tensor.shape.clone(), bytes)
        .quantized(Quantization::symmetric(vec![scale], 0))
}

/// A bias in the scale of the accumulator.
pub(super) fn bias(
    tensor: &Tensor,
    input_scale: f32,
    weight_scales: &[f32],
    width: Width,
) -> Tensor {
    let scales: Vec<f32> = weight_scales.iter().map(|w| input_scale * w).collect();
    let steps = |(index, value): (usize, f32)| {
        let scale = f64::from(*scales.get(index).unwrap_or(&scales[0]));
        (f64::from(value) / scale).round()
    };
    let steps = values(tensor).into_iter().enumerate().map(steps);
    let dtype = width.bias_dtype();
    let bytes: Vec<u8> = match dtype {
        DType::I64 => steps.flat_map(|s| (s as i64).to_le_bytes()).collect(),
        _ => steps.flat_map(|s| (s as i32).to_le_bytes()).collect(),
    };
    Tensor::constant(tensor.name.clone(), dtype, tensor.shape.clone(), bytes)
        .quantized(Quantization::symmetric(scales, 0))
}

/// Which channel an element belongs to.
pub(crate) struct Channels {
    count: usize,
    inner: usize,
}

impl Channels {
    pub fn new(tensor: &Tensor, axis: Option<usize>) -> Self {
        match axis.and_then(|a| Some((a, *tensor.shape.get(a)?))) {
            Some((axis, count)) if count > 0 => Self {
                count,
                inner: tensor.shape[axis + 1..].iter().product(),
            },
            _ => Self {
                count: 1,
                inner: usize::MAX,
            },
        }
    }

    pub fn of(&self, index: usize) -> usize {
        index / self.inner.max(1) % self.count
    }

    /// The largest magnitude of each channel.
    pub fn largest(&self, values: &[f32]) -> Vec<f32> {
        let mut largest = vec![0.0f32; self.count];
        for (index, value) in values.iter().enumerate() {
            let largest = &mut largest[self.of(index)];
            *largest = largest.max(value.abs());
        }
        largest
    }

    /// For each channel the sum of the squared errors that its scale causes.
    fn squared_errors(&self, values: &[f32], scales: &[f32]) -> Vec<f64> {
        let mut errors = vec![0.0; self.count];
        for (index, &value) in values.iter().enumerate() {
            let channel = self.of(index);
            let scale = scales[channel];
            let error = value - scale * (value / scale).round().clamp(-WEIGHT_MAX, WEIGHT_MAX);
            errors[channel] += f64::from(error * error);
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(shape: &[usize], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::constant("c", DType::F32, shape, bytes)
    }

    #[test]
    fn each_channel_has_its_own_scale() {
        let tensor = constant(&[2, 2], &[1.27, -0.5, 0.0, 254.0]);
        let scales = weight_scales(&tensor, Some(0));
        assert_eq!(scales, [1.27 / 127.0, 2.0]);
        assert_eq!(weight_scales(&tensor, Some(1)), [1.27 / 127.0, 2.0]);
        let quantized = weights(&tensor, Some(0), &scales);
        assert_eq!(quantized.data.unwrap()[..], [127, (-50i8) as u8, 0, 127]);
    }

    #[test]
    fn dead_channel_keeps_a_usable_scale() {
        assert!(weight_scales(&constant(&[1, 2], &[0.0, 0.0]), Some(0))[0] > 0.0);
    }

    #[test]
    fn float16_clamps_what_is_finite_only() {
        let (half, clamped) = half(&constant(&[4], &[1e6, -7e4, f32::NEG_INFINITY, 0.1]));
        let values: Vec<f16> = half
            .data
            .unwrap()
            .as_chunks()
            .0
            .iter()
            .map(|&b| f16::from_le_bytes(b))
            .collect();
        assert_eq!(
            values,
            [f16::MAX, f16::MIN, f16::NEG_INFINITY, f16::from_f32(0.1)]
        );
        assert_eq!(clamped, 2);
    }

    #[test]
    fn int16_bias_has_64_bits() {
        let quantized = bias(&constant(&[1], &[1e6]), 1e-5, &[1e-3], Width::Int16);
        assert_eq!(quantized.dtype, DType::I64);
        let steps = i64::from_le_bytes(quantized.data.unwrap()[..].try_into().unwrap());
        assert!((steps - 100_000_000_000_000).abs() < 10_000_000, "{steps}");
    }

    #[test]
    fn clipping_cuts_off_what_costs_more_than_it_is_worth() {
        let mut values: Vec<f32> = (0..5000).map(|i| (i % 100) as f32 / 100.0).collect();
        values.push(1.3);
        values.extend((0..5001).map(|i| (i % 128) as f32));
        let tensor = constant(&[2, 5001], &values);
        let full = weight_scales(&tensor, Some(0));
        let error = |scales: &[f32]| squared_error(&tensor, Some(0), scales);
        for find in [clipped_scales, octav_scales] {
            let clipped = find(&tensor, Some(0));
            assert!(clipped[0] < full[0], "{clipped:?} {full:?}");
            assert_eq!(clipped[1], full[1]);
            assert!(error(&clipped) < error(&full));
        }
    }

    #[test]
    fn large_bias_raises_the_scale_of_its_channel_only() {
        let mut scales = [1e-8, 1e-3];
        raise_for_bias(&mut scales, &constant(&[2], &[100.0, 100.0]), 1e-3);
        assert!(scales[0] > 9e-5 && scales[1] == 1e-3);
        let quantized = bias(&constant(&[2], &[100.0, 0.0]), 1e-3, &scales, Width::Int8);
        let first = i32::from_le_bytes(quantized.data.unwrap()[..4].try_into().unwrap());
        assert!((first - i32::MAX / 2).abs() < 100, "{first}");
    }
}
