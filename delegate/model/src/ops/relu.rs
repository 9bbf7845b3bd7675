//! `RELU`: `output = max(0, x)`.
//!
//! One operand of any shape. A quantized result may have a scale of its own.

use super::pointwise::{clamp, unary_shapes};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `RELU` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Relu;

no_attributes!(Relu);

impl Operator for Relu {
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
            Ok(DType::I8 | DType::U8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        clamp(io, 0.0, f32::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_clamps() {
        let input = Case::f32([4], [-3.0, -0.5, 0.5, 7.0]);
        let output = eval(Relu, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, 0.0, 0.5, 7.0]);
    }

    #[test]
    fn i8_clamps_at_the_output_scale() {
        let input = Case::i8([3], [-128, 3, 127]).quantized(0.5, 1);
        let output = eval(
            Relu,
            &[input],
            Case::result(DType::I8).quantized(0.25, -100),
        );
        assert_eq!(output.get::<i8>(), [-100, -96, 127]);
    }

    #[test]
    fn rejects_a_zero_point_outside_the_type() {
        let input = Case::i8([1], [1]).quantized(1.0, 200);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(1.0, 0)]);
        assert!(matches!(Relu.prepare(&io), Err(OpError::Quantization(_))));
    }
}
