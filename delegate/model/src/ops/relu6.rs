//! `RELU6`: `output = min(6, max(0, x))`.
//!
//! One operand of any shape. A quantized result may have a scale of its own.

use super::pointwise::{clamp, unary_shapes};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `RELU6` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Relu6;

no_attributes!(Relu6);

impl Operator for Relu6 {
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
        clamp(io, 0.0, 6.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_clamps() {
        let input = Case::f32([4], [-3.0, -0.5, 0.5, 7.0]);
        let output = eval(Relu6, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, 0.0, 0.5, 6.0]);
    }

    #[test]
    fn i8_clamps_at_the_output_scale() {
        let input = Case::i8([3], [-128, 3, 127]).quantized(0.5, 1);
        let output = eval(
            Relu6,
            &[input],
            Case::result(DType::I8).quantized(0.25, -100),
        );
        assert_eq!(output.get::<i8>(), [-100, -96, -76]);
    }

    #[test]
    fn rejects_a_bound_that_overflows() {
        let input = Case::i8([1], [1]).quantized(1e-12, 0);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(1e-12, 3)]);
        assert!(matches!(Relu6.prepare(&io), Err(OpError::Quantization(_))));
    }
}
