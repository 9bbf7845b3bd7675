//! `SIGN`: 1, 0 or -1 for each element.
//!
//! One operand of any shape: float32, float64 or int32. What is not a number stays so.

use super::pointwise::{map, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SIGN` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sign;

no_attributes!(Sign, SignOptions);

impl Operator for Sign {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I32) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        macro_rules! sign {
            ($type:ty, $zero:literal, $one:literal) => {
                map(|x: $type| match x {
                    x if x > $zero => $one,
                    x if x < $zero => -$one,
                    x if x == $zero => $zero,
                    not_a_number => not_a_number,
                })
            };
        }
        match unary_type(io)? {
            DType::F32 => Ok(sign!(f32, 0.0, 1.0)),
            DType::F64 => Ok(sign!(f64, 0.0, 1.0)),
            DType::I32 => Ok(map(i32::signum)),
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
        let input = Case::f32([3], [-1.5, 0.0, 2.0]);
        let output = eval(Sign, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-1.0, 0.0, 1.0]);
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let input = Case::f32([1], [f32::NAN]);
        let output = eval(Sign, &[input], Case::result(DType::F32));
        assert!(output.get::<f32>()[0].is_nan());
    }
}
