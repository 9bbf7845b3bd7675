//! Quantization: how the integers of a tensor stand for real values.

use crate::ops::OpError;
use crate::schema::tfl;
use crate::tensor::DType;

/// `real = scale * (q - zero_point)`, for the whole tensor or for each index of an axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quantization {
    /// One scale, or one for each index of `axis`.
    pub scale: Vec<f32>,
    /// As many zero points as scales.
    pub zero_point: Vec<i64>,
    /// `quantized_dimension`: the axis that several scales belong to.
    pub axis: i32,
    /// The smallest real values seen, where the file has them.
    pub min: Option<Vec<f32>>,
    /// The largest real values seen, where the file has them.
    pub max: Option<Vec<f32>>,
    /// Other schemes than scale and zero point (custom, blockwise), as in the file.
    pub details: tfl::QuantizationDetailsT,
}

/// One scale and zero point, for all elements of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerTensor {
    /// Real value of one step.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: i32,
}

impl PerTensor {
    /// `scale` and `zero_point` as given.
    pub const fn new(scale: f32, zero_point: i32) -> Self {
        Self { scale, zero_point }
    }

    /// The parameters that cover `min..=max`, widened to hold 0, with the integers of
    /// `dtype` (int8 or uint8 asymmetric over the full range; int16 symmetric, -32767 to 32767).
    ///
    /// The zero point is the nearer of the two that the ends suggest (as TensorFlow does); a
    /// range below 4e-6 is widened to it, because LiteRT refuses the scales of smaller ones.
    pub fn from_range(min: f32, max: f32, dtype: DType) -> Self {
        const SMALLEST_RANGE: f64 = 4e-6;
        let (mut min, mut max) = (f64::from(min.min(0.0)), f64::from(max.max(0.0)));
        if max - min < SMALLEST_RANGE {
            let missing = SMALLEST_RANGE - (max - min);
            if min < 0.0 {
                min -= missing
            } else {
                max += missing
            }
        }
        let (low, high) = match dtype {
            DType::U8 => (0.0, 255.0),
            DType::I16 => {
                let scale = (max.max(-min) / 32767.0) as f32;
                return Self::new(scale, 0);
            }
            _ => (-128.0, 127.0),
        };
        let scale = (max - min) / (high - low);
        let (from_min, from_max) = (low - min / scale, high - max / scale);
        let min_error = f64::abs(low) + f64::abs(min / scale);
        let max_error = f64::abs(high) + f64::abs(max / scale);
        let zero_point = if min_error < max_error {
            from_min
        } else {
            from_max
        };
        Self::new(scale as f32, zero_point.round().clamp(low, high) as i32)
    }

    /// The integer nearest to `real`, ties away from zero, clamped to `min..=max`.
    pub fn quantize(self, real: f32, min: i32, max: i32) -> i32 {
        let steps = f64::from((real / self.scale).round()) + f64::from(self.zero_point);
        (steps.clamp(f64::from(min), f64::from(max))) as i32
    }

    /// The real value of `q`.
    pub fn dequantize(self, q: i32) -> f32 {
        (f64::from(self.scale) * f64::from(q - self.zero_point)) as f32
    }
}

impl From<PerTensor> for Quantization {
    fn from(p: PerTensor) -> Self {
        Self {
            scale: vec![p.scale],
            zero_point: vec![i64::from(p.zero_point)],
            ..Self::default()
        }
    }
}

impl Quantization {
    /// Symmetric: zero point 0, one of `scale` for each index of `axis`.
    pub fn symmetric(scale: Vec<f32>, axis: usize) -> Self {
        Self {
            zero_point: vec![0; scale.len()],
            scale,
            axis: axis as i32,
            ..Self::default()
        }
    }

    /// The scale and zero point of the whole tensor.
    pub fn per_tensor(&self) -> Result<PerTensor, OpError> {
        let ([scale], [zero_point]) = (&*self.scale, &*self.zero_point) else {
            return Err(OpError::Quantization(format!(
                "{} scales and {} zero points where one of each is needed",
                self.scale.len(),
                self.zero_point.len()
            )));
        };
        if !(scale.is_finite() && *scale > 0.0) {
            return Err(OpError::Quantization(format!(
                "scale {scale} is not above 0"
            )));
        }
        let zero_point = i32::try_from(*zero_point).map_err(|_| {
            OpError::Quantization(format!("zero point {zero_point} does not fit 32 bits"))
        })?;
        Ok(PerTensor::new(*scale, zero_point))
    }

    /// The scales of a symmetric tensor: one, or one for each of `len` indices of its axis.
    pub fn symmetric_scales(&self, len: usize) -> Result<&[f32], OpError> {
        if let Some(zero_point) = self.zero_point.iter().find(|&&z| z != 0) {
            return Err(OpError::Quantization(format!(
                "zero point {zero_point} where a symmetric tensor is needed"
            )));
        }
        if self.scale.len() != 1 && self.scale.len() != len {
            return Err(OpError::Quantization(format!(
                "{} scales for an axis of {len}",
                self.scale.len()
            )));
        }
        match self.scale.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
            Some(scale) => Err(OpError::Quantization(format!(
                "scale {scale} is negative or not finite"
            ))),
            None => Ok(&self.scale),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_maps_zero_exactly() {
        let p = PerTensor::from_range(-1.0, 3.0, DType::I8);
        assert_eq!(p.zero_point, -64);
        assert_eq!(p.quantize(0.0, -128, 127), -64);
        assert_eq!(p.quantize(9.0, -128, 127), 127);
    }

    #[test]
    fn positive_range_uses_all_steps() {
        assert_eq!(
            PerTensor::from_range(1.0, 2.55, DType::I8),
            PerTensor::new(0.01, -128)
        );
        assert_eq!(
            PerTensor::from_range(0.0, 2.55, DType::U8),
            PerTensor::new(0.01, 0)
        );
    }

    #[test]
    fn dead_range_keeps_a_usable_scale() {
        assert!(PerTensor::from_range(0.0, 0.0, DType::I8).scale > 1.49e-8);
    }

    #[test]
    fn int16_is_symmetric() {
        assert_eq!(
            PerTensor::from_range(-1.0, 0.5, DType::I16),
            PerTensor::new(1.0 / 32767.0, 0)
        );
    }
}
