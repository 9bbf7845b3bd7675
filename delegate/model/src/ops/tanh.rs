//! `TANH`: the hyperbolic tangent.
//!
//! One operand of any shape. The result of int8 has scale 1/128 and zero point 0, that of int16
//! 1/32768 and 0.

use bantam_kernels::elementwise::Function;

use super::pointwise::{map_f32, map_real, unary_shapes, unary_type};
use super::sigmoid16::Sigmoid16;
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `TANH` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tanh;

no_attributes!(Tanh);

impl Operator for Tanh {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::fixed(1.0 / 128.0, 0)
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::fixed(1.0 / 32768.0, 0)
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
            DType::F32 => Ok(map_f32(Function::Tanh)),
            DType::I16 => Sigmoid16::prepare_tanh(io),
            _ => map_real(io, f32::tanh),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_values() {
        let input = Case::f32([3], [0.0, 100.0, -200.0]);
        let output = eval(Tanh, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, 1.0, -1.0]);
    }

    #[test]
    fn i8_and_u8_are_tables() {
        let input = Case::i8([3], [-128, 5, 127]).quantized(1.0, 5);
        let output = eval(
            Tanh,
            &[input],
            Case::result(DType::I8).quantized(1.0 / 128.0, 0),
        );
        assert_eq!(output.get::<i8>(), [-128, 0, 127]);
        let input = Case::new(DType::U8, [2], &[5u8, 255]).quantized(1.0, 5);
        let output = eval(
            Tanh,
            &[input],
            Case::result(DType::U8).quantized(1.0 / 128.0, 128),
        );
        assert_eq!(output.get::<u8>(), [128, 255]);
    }

    #[test]
    fn rejects_int32() {
        let io = signature(&[Case::i32([1], [1])], &[Case::result(DType::I32)]);
        assert!(matches!(
            Tanh.prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
