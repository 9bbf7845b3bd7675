//! `RSQRT`: `output = 1 / sqrt(x)`.
//!
//! One operand of any shape: float32, int8 or int16. A quantized result may have a scale of its
//! own; where the operand is not above 0 (LiteRT refuses what is below when it runs), it is the
//! type's largest.

use super::fixed_point::inverse_sqrt;
use super::pointwise::{
    limits, map, map_quantized, map_real, multiplier, parameters, unary_shapes, unary_type,
};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `RSQRT` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rsqrt;

no_attributes!(Rsqrt);

impl Operator for Rsqrt {
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
            Ok(DType::I16) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(|x: f32| 1.0 / x.sqrt())),
            DType::I8 => prepare_i8(io),
            DType::I16 => {
                let largest = 32767.0 * parameters(io.output(0)?)?.scale;
                map_real(io, move |x| if x <= 0.0 { largest } else { 1.0 / x.sqrt() })
            }
            _ => Err(io.unsupported(0)),
        }
    }
}

/// LiteRT's fixed point.
fn prepare_i8(io: &Signature) -> Result<Kernel, OpError> {
    /// Bits that keep the inverse square root of an integer an integer.
    const SHIFT: i32 = 20;
    let (min, max) = limits(unary_type(io)?).ok_or_else(|| io.unsupported(0))?;
    let input = parameters(io.input(0)?)?;
    let output = parameters(io.output(0)?)?;
    let scale = f64::from(input.scale.sqrt() * output.scale);
    let mut to_output = multiplier(1.0 / scale)?;
    to_output.exponent = (to_output.exponent - SHIFT).max(-31);
    map_quantized(io, move |x| {
        let x = x - input.zero_point;
        if x <= 0 {
            return max;
        }
        let mut root = inverse_sqrt(x);
        root.exponent += SHIFT;
        let y = to_output.apply(root.apply(1));
        y.wrapping_add(output.zero_point).clamp(min, max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_values() {
        let input = Case::f32([2], [4.0, 0.0]);
        let output = eval(Rsqrt, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.5, f32::INFINITY]);
    }

    #[test]
    fn i8_inverts_and_saturates() {
        let input = Case::i8([4], [-128, -120, -112, 4]).quantized(0.5, -120);
        let output = eval(Rsqrt, &[input], Case::result(DType::I8).quantized(0.01, -7));
        assert_eq!(output.get::<i8>(), [127, 127, 43, 6]);
    }
}
