//! `RELU_N1_TO_1`: `output = min(1, max(-1, x))`.
//!
//! One operand of any shape. A quantized result may have a scale of its own.

use super::pointwise::{clamp, unary_shapes};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `RELU_N1_TO_1` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReluN1To1;

no_attributes!(ReluN1To1);

impl Operator for ReluN1To1 {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        clamp(io, -1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_clamps() {
        let input = Case::f32([4], [-3.0, -0.5, 0.5, 7.0]);
        let output = eval(ReluN1To1, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-1.0, -0.5, 0.5, 1.0]);
    }

    #[test]
    fn i8_clamps_at_the_output_scale() {
        let input = Case::i8([3], [-128, 3, 127]).quantized(0.5, 1);
        let output = eval(
            ReluN1To1,
            &[input],
            Case::result(DType::I8).quantized(0.25, -100),
        );
        assert_eq!(output.get::<i8>(), [-104, -96, -96]);
    }

    #[test]
    fn rejects_a_bound_that_overflows() {
        let input = Case::i8([1], [1]).quantized(1e-12, 0);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(1e-12, 3)]);
        assert!(matches!(
            ReluN1To1.prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
