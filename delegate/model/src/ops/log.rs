//! `LOG`: the natural logarithm of each element.
//!
//! One operand of any shape: float32, int8 or int16. A quantized result may have a scale of its
//! own; where the operand is not above 0 it is the type's smallest.

use super::pointwise::{limits, map, map_real, parameters, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `LOG` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Log;

no_attributes!(Log);

impl Operator for Log {
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
        let dtype = unary_type(io)?;
        match (dtype, limits(dtype)) {
            (DType::F32, _) => Ok(map(f32::ln)),
            (DType::I8 | DType::I16, Some((min, _))) => {
                let output = parameters(io.output(0)?)?;
                let smallest = (min - output.zero_point) as f32 * output.scale;
                map_real(io, move |x| if x <= 0.0 { smallest } else { x.ln() })
            }
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_values() {
        let input = Case::f32([2], [1.0, 0.0]);
        let output = eval(Log, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn i8_is_a_table() {
        let input = Case::i8([3], [-128, -127, 0]).quantized(0.1, -128);
        let output = eval(Log, &[input], Case::result(DType::I8).quantized(0.05, -50));
        assert_eq!(output.get::<i8>(), [-128, -96, 1]);
    }
}
