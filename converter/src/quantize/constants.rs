//! Weights, biases and other constants as integers.

use bantam_model::quant::PerTensor;
use bantam_model::{DType, Quantization, Tensor};

/// Weights use -127 to 127, so that they are symmetric.
const WEIGHT_MAX: f32 = 127.0;

/// The largest weight of a channel is taken to be at least this, so that its scale is usable.
const SMALLEST_WEIGHT: f32 = 1e-6;

/// A bias beyond half the range of int32 could overflow the accumulator.
const LARGEST_BIAS: f64 = (i32::MAX / 2) as f64;

/// The elements of a float constant.
pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    let data = tensor.data.as_deref().unwrap_or_default();
    data.as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

/// A constant operand as int8 with `params`.
pub(super) fn activation(tensor: &Tensor, params: PerTensor) -> Tensor {
    let bytes: Vec<u8> = values(tensor)
        .into_iter()
        .map(|v| params.quantize(v, -128, 127) as i8 as u8)
        .collect();
    Tensor::constant(tensor.name.clone(), DType::I8, tensor.shape.clone(), bytes)
        .quantized(params.into())
}

/// The scales of weights: one for each index of `axis`, or one.
pub(super) fn weight_scales(tensor: &Tensor, axis: Option<usize>) -> Vec<f32> {
    let channels = Channels::new(tensor, axis);
    let mut largest = vec![SMALLEST_WEIGHT; channels.count];
    for (index, value) in values(tensor).into_iter().enumerate() {
        let largest = &mut largest[channels.of(index)];
        *largest = largest.max(value.abs());
    }
    largest.into_iter().map(|v| v / WEIGHT_MAX).collect()
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

/// A bias as int32 in the scale of the accumulator.
pub(super) fn bias(tensor: &Tensor, input_scale: f32, weight_scales: &[f32]) -> Tensor {
    let scales: Vec<f32> = weight_scales.iter().map(|w| input_scale * w).collect();
    let quantize = |(index, value): (usize, f32)| {
        let scale = f64::from(*scales.get(index).unwrap_or(&scales[0]));
        let steps = (f64::from(value) / scale).round();
        (steps.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i32).to_le_bytes()
    };
    let bytes: Vec<u8> = values(tensor)
        .into_iter()
        .enumerate()
        .flat_map(quantize)
        .collect();
    Tensor::constant(tensor.name.clone(), DType::I32, tensor.shape.clone(), bytes)
        .quantized(Quantization::symmetric(scales, 0))
}

/// Which channel an element belongs to.
struct Channels {
    count: usize,
    inner: usize,
}

impl Channels {
    fn new(tensor: &Tensor, axis: Option<usize>) -> Self {
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

    fn of(&self, index: usize) -> usize {
        index / self.inner.max(1) % self.count
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
    fn large_bias_raises_the_scale_of_its_channel_only() {
        let mut scales = [1e-8, 1e-3];
        raise_for_bias(&mut scales, &constant(&[2], &[100.0, 100.0]), 1e-3);
        assert!(scales[0] > 9e-5 && scales[1] == 1e-3);
        let quantized = bias(&constant(&[2], &[100.0, 0.0]), 1e-3, &scales);
        let first = i32::from_le_bytes(quantized.data.unwrap()[..4].try_into().unwrap());
        assert!((first - i32::MAX / 2).abs() < 100, "{first}");
    }
}
