//! `LOGISTIC`: `output = 1 / (1 + exp(-x))`.
//!
//! One operand of any shape. The result of int8 has scale 1/256 and zero point -128, that of int16
//! 1/32768 and 0.

use bantam_kernels::elementwise::Function;

use super::pointwise::{map_f32, map_real, unary_shapes, unary_type};
use super::sigmoid16::Sigmoid16;
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `LOGISTIC` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Logistic;

no_attributes!(Logistic);

impl Operator for Logistic {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::fixed(1.0 / 256.0, -128)
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
            DType::F32 => Ok(map_f32(Function::Logistic)),
            DType::I16 => Sigmoid16::prepare_logistic(io),
            _ => map_real(io, |x| 1.0 / (1.0 + (-x).exp())),
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
        let output = eval(Logistic, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.5, 1.0, 0.0]);
    }

    #[test]
    fn i8_and_u8_are_tables() {
        let input = Case::i8([3], [-128, 5, 127]).quantized(1.0, 5);
        let output = eval(
            Logistic,
            &[input],
            Case::result(DType::I8).quantized(1.0 / 256.0, -128),
        );
        assert_eq!(output.get::<i8>(), [-128, 0, 127]);
        let input = Case::new(DType::U8, [2], &[5u8, 255]).quantized(1.0, 5);
        let output = eval(
            Logistic,
            &[input],
            Case::result(DType::U8).quantized(1.0 / 256.0, -128 + 128),
        );
        assert_eq!(output.get::<u8>(), [128, 255]);
    }

    #[test]
    fn rejects_int32() {
        let io = signature(&[Case::i32([1], [1])], &[Case::result(DType::I32)]);
        assert!(matches!(
            Logistic.prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
