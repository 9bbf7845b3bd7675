//! `SQRT`: the square root of each element.
//!
//! One operand of any shape: float32, int8 or int16. A quantized result may have a scale of its
//! own; where the operand is below 0, which LiteRT refuses when it runs, it is the zero point.

use super::pointwise::{limits, map, map_quantized, parameters, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SQRT` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sqrt;

no_attributes!(Sqrt);

impl Operator for Sqrt {
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
            Ok(DType::I8 | DType::I16) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(f32::sqrt)),
            DType::I8 | DType::I16 => prepare_quantized(io),
            _ => Err(io.unsupported(0)),
        }
    }
}

/// LiteRT's: in float, rounded towards zero.
fn prepare_quantized(io: &Signature) -> Result<Kernel, OpError> {
    let (min, max) = limits(unary_type(io)?).ok_or_else(|| io.unsupported(0))?;
    let input = parameters(io.input(0)?)?;
    let output = parameters(io.output(0)?)?;
    map_quantized(io, move |x| {
        let real = input.scale * (x - input.zero_point) as f32;
        let steps = (real.sqrt() / output.scale) as i32;
        steps.saturating_add(output.zero_point).clamp(min, max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_values() {
        let input = Case::f32([2], [4.0, 0.0]);
        let output = eval(Sqrt, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [2.0, 0.0]);
    }

    #[test]
    fn i8_rounds_towards_zero() {
        let input = Case::i8([4], [-128, -127, -120, -10]).quantized(0.5, -120);
        let output = eval(Sqrt, &[input], Case::result(DType::I8).quantized(0.1, -7));
        assert_eq!(output.get::<i8>(), [-7, -7, -7, 67]);
    }
}
