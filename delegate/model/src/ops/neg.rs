//! `NEG`: `output = -x`.
//!
//! One operand of any shape: float32 or integers. As in LiteRT, scales and zero points play no part.

use super::pointwise::{map, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `NEG` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Neg;

no_attributes!(Neg, NegOptions);

impl Operator for Neg {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(|x: f32| -x)),
            DType::I8 => Ok(map(i8::wrapping_neg)),
            DType::I16 => Ok(map(i16::wrapping_neg)),
            DType::I32 => Ok(map(i32::wrapping_neg)),
            DType::I64 => Ok(map(i64::wrapping_neg)),
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
        let input = Case::f32([2], [-1.5, 2.0]);
        let output = eval(Neg, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [1.5, -2.0]);
    }

    #[test]
    fn integers_wrap() {
        let output = eval(
            Neg,
            &[Case::i32([2], [i32::MIN, 7])],
            Case::result(DType::I32),
        );
        assert_eq!(output.get::<i32>(), [i32::MIN, -7]);
    }
}
