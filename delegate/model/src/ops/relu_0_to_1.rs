//! `RELU_0_TO_1`: `output = min(1, max(0, x))`.
//!
//! One operand of any shape. A quantized result may have a scale of its own.

use super::pointwise::{clamp, unary_shapes};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `RELU_0_TO_1` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Relu0To1;

no_attributes!(Relu0To1);

impl Operator for Relu0To1 {
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
        match io.input(0)?.dtype {
            DType::F32 | DType::I8 | DType::U8 => clamp(io, 0.0, 1.0),
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
        let input = Case::f32([3], [-3.0, 0.5, 7.0]);
        let output = eval(Relu0To1, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, 0.5, 1.0]);
    }

    #[test]
    fn i8_clamps_at_the_output_scale() {
        let input = Case::i8([3], [-128, 2, 127]).quantized(0.5, 1);
        let output = eval(
            Relu0To1,
            &[input],
            Case::result(DType::I8).quantized(0.01, -50),
        );
        assert_eq!(output.get::<i8>(), [-50, 0, 50]);
    }
}
