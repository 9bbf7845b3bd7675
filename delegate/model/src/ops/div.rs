//! `DIV`: `output = activation(a / b)`.
//!
//! Operands of float32, int32, or quantized int8, uint8 or int16, of any shapes that broadcast to
//! each other. Quantized operands and results may all have scales of their own. Integers over 0,
//! which LiteRT refuses when it runs, are 0.

use bantam_kernels::requantize::{
    rounding_divide_by_pot, saturating_rounding_doubling_high_mul as high_mul,
};

use super::broadcast::{binary, binary_shapes, binary_type, broadcasts_above_rank_4};
use super::fixed_point::reciprocal;
use super::pointwise::{Element, limits, multiplier, parameters};
use super::{Activation, Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `DIV`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Div {
    /// Applied to the quotient.
    pub activation: Activation,
}

impl Attributes for Div {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_div_options().cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::DivOptions(Box::new(tfl::DivOptionsT {
            fused_activation_function: self.activation.code(),
        }))
    }
}

impl Operator for Div {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        1 + i32::from(broadcasts_above_rank_4(io))
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        self.activation.check()?;
        let (low, high) = self.activation.range_f32();
        match binary_type(io)? {
            DType::F32 => binary(io, move |a: f32, b: f32| (a / b).clamp(low, high)),
            DType::I32 => {
                let (low, high) = (low as i32, high as i32);
                binary(io, move |a: i32, b: i32| match b {
                    0 => 0,
                    b => a.wrapping_div(b).clamp(low, high),
                })
            }
            DType::I8 => self.prepare_quantized::<i8>(io),
            DType::U8 => self.prepare_quantized::<u8>(io),
            DType::I16 => self.prepare_quantized::<i16>(io),
            _ => Err(io.unsupported(0)),
        }
    }
}

impl Div {
    /// LiteRT's: times the reciprocal of the denominator, in fixed point.
    fn prepare_quantized<T: Element>(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (min, max) = limits(binary_type(io)?).ok_or_else(|| io.unsupported(0))?;
        let a = parameters(io.input(0)?)?;
        let b = parameters(io.input(1)?)?;
        let output = parameters(io.output(0)?)?;
        let (min, max) = self.activation.range(output, min, max)?;
        let scale = multiplier(f64::from(a.scale / (b.scale * output.scale)))?;
        binary(io, move |x: T, y: T| {
            let (x, y) = (x.into() - a.zero_point, y.into() - b.zero_point);
            let x = if y < 0 { -x } else { x };
            let quotient = match y.abs() {
                0 => 0,
                y => {
                    let (inverse, bits) = reciprocal(y, 31);
                    // The bits above those that the number needs.
                    let headroom = (x ^ (x >> 31)).leading_zeros() as i32 - 1;
                    let quotient = high_mul(high_mul(x << headroom, inverse), scale.value);
                    match scale.exponent - bits - headroom {
                        shift @ 1.. => {
                            let wide = i64::from(quotient) << shift.min(31);
                            wide.clamp((-1 << 30).into(), (1 << 30).into()) as i32
                        }
                        shift => rounding_divide_by_pot(quotient, (-shift).min(31)),
                    }
                }
            };
            T::from_i32(quotient.wrapping_add(output.zero_point).clamp(min, max))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_divides_and_clamps() {
        let operands = [Case::f32([3], [1.0, -6.0, 30.0]), Case::f32([], [4.0])];
        let op = Div {
            activation: Activation::Relu6,
        };
        let output = eval(op, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.25, 0.0, 6.0]);
    }

    #[test]
    fn i8_divides_real_values() {
        // 0.5·(9−1) / (0.25·(4+4)) = 2.
        let a = Case::i8([4], [9, -7, 1, 127]).quantized(0.5, 1);
        let b = Case::i8([4], [4, 4, 4, -3]).quantized(0.25, -4);
        let output = Case::result(DType::I8).quantized(0.1, 7);
        let output = eval(Div::default(), &[a, b], output);
        assert_eq!(output.get::<i8>(), [27, -13, 7, 127]);
    }

    #[test]
    fn does_not_panic_on_what_has_no_quotient() {
        let operands = [Case::i32([2], [i32::MIN, 5]), Case::i32([2], [-1, 0])];
        let output = eval(Div::default(), &operands, Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [i32::MIN, 0]);
        for scale in [1e-30, 1.0, 1e30] {
            let operands = [-128, 0].map(|x| Case::i8([1], [x]).quantized(scale, 0));
            let output = Case::result(DType::I8).quantized(1.0, 5);
            let output = eval(Div::default(), &operands, output);
            assert_eq!(output.get::<i8>(), [5]);
        }
    }

    #[test]
    fn rejects_a_ratio_of_scales_that_overflows() {
        let operands = [1e30, 1e-30].map(|scale| Case::i8([1], [1]).quantized(scale, 0));
        let io = signature(&operands, &[Case::result(DType::I8).quantized(1.0, 0)]);
        assert!(matches!(
            Div::default().prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
