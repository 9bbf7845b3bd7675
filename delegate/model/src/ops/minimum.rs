//! `MINIMUM`: the smaller of two operands.
//!
//! Operands of any shapes that broadcast to each other. Quantized operands and the result share
//! scale and zero point; as in LiteRT, the integers are compared as they are.

use super::broadcast::{binary, binary_shapes, binary_type, broadcasts_above_rank_4};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `MINIMUM` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Minimum;

no_attributes!(Minimum, MaximumMinimumOptions);

impl Operator for Minimum {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I16) => 4,
            Ok(_) if broadcasts_above_rank_4(io) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        macro_rules! kernel {
            ($type:ty) => {
                binary(io, |a: $type, b: $type| if a < b { a } else { b })
            };
        }
        match binary_type(io)? {
            DType::F32 => kernel!(f32),
            DType::I8 => kernel!(i8),
            DType::U8 => kernel!(u8),
            DType::I16 => kernel!(i16),
            DType::I32 => kernel!(i32),
            DType::I64 => kernel!(i64),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn takes_the_smaller_of_each_pair() {
        let operands = [Case::f32([2, 1], [2.0, 3.0]), Case::f32([2], [1.0, -5.0])];
        let output = eval(Minimum, &operands, Case::result(DType::F32));
        let pick = f32::min;
        let expected = [
            pick(2.0, 1.0),
            pick(2.0, -5.0),
            pick(3.0, 1.0),
            pick(3.0, -5.0),
        ];
        assert_eq!(output.get::<f32>(), expected);
    }

    #[test]
    fn compares_bytes_by_sign() {
        let operands = [Case::i8([1], [-1]), Case::i8([1], [1])];
        let output = eval(Minimum, &operands, Case::result(DType::I8));
        assert_eq!(output.get::<i8>(), [-1]);
    }

    #[test]
    fn rejects_another_output_type() {
        let operands = [Case::i8([1], [-1]), Case::i8([1], [1])];
        let io = signature(&operands, &[Case::result(DType::F32)]);
        assert!(matches!(
            Minimum.prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
