//! `LEAKY_RELU`: `output = x` where `x >= 0`, otherwise `alpha * x`.
//!
//! One operand of any shape. A quantized result may have a scale of its own.

use bantam_kernels::Multiplier;

use super::pointwise::{
    fast_factor, limits, map, map_quantized, multiplier, parameters, rescale_fast, unary_shapes,
    unary_type,
};
use super::{Attributes, Numerics, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `LEAKY_RELU`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LeakyRelu {
    /// The slope left of 0.
    pub alpha: f32,
}

impl Attributes for LeakyRelu {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_leaky_relu_options().cloned().unwrap_or_default();
        Ok(Self {
            alpha: options.alpha,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::LeakyReluOptions(Box::new(tfl::LeakyReluOptionsT {
            alpha: self.alpha,
        }))
    }
}

impl Operator for LeakyRelu {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I16) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let dtype = unary_type(io)?;
        let alpha = self.alpha;
        if dtype == DType::F32 {
            return Ok(map(move |x: f32| if x > 0.0 { x } else { x * alpha }));
        }
        let (DType::I8 | DType::U8 | DType::I16, Some((min, max))) = (dtype, limits(dtype)) else {
            return Err(io.unsupported(0));
        };
        let input = parameters(io.input(0)?)?;
        let output = parameters(io.output(0)?)?;
        let ratio = input.scale / output.scale;
        let factors = (fast_factor(ratio), fast_factor(ratio * alpha));
        if let (DType::I8 | DType::U8, Numerics::Fast, (Some(right), Some(left))) =
            (dtype, io.numerics, factors)
        {
            return map_quantized(io, move |x| {
                let x = x - input.zero_point;
                let y = rescale_fast(x, if x >= 0 { right } else { left });
                (y + output.zero_point).clamp(min, max)
            });
        }
        let right = multiplier(f64::from(input.scale / output.scale))?;
        let left = multiplier(f64::from(input.scale * alpha / output.scale))?;
        // As there, a negative slope is the negative of a positive one's result.
        let magnitude = Multiplier {
            value: left.value.abs(),
            ..left
        };
        map_quantized(io, move |x| {
            let x = x - input.zero_point;
            let y = match x {
                0.. => right.apply(x),
                _ => left.value.signum() * magnitude.apply(x),
            };
            y.wrapping_add(output.zero_point).clamp(min, max)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_scales_what_is_negative() {
        let op = LeakyRelu { alpha: 0.25 };
        let input = Case::f32([3], [-2.0, 0.0, 3.0]);
        let output = eval(op, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-0.5, 0.0, 3.0]);
    }

    #[test]
    fn i8_takes_a_negative_slope() {
        let op = LeakyRelu { alpha: -0.5 };
        let input = Case::i8([3], [-7, 1, 11]).quantized(0.5, 1);
        let output = eval(op, &[input], Case::result(DType::I8).quantized(0.25, 2));
        assert_eq!(output.get::<i8>(), [10, 2, 22]);
    }

    #[test]
    fn rejects_a_slope_that_is_not_a_number() {
        let op = LeakyRelu { alpha: f32::NAN };
        let input = Case::i8([1], [1]).quantized(1.0, 0);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(1.0, 0)]);
        assert!(matches!(op.prepare(&io), Err(OpError::Quantization(_))));
    }
}
