//! `SQUARE`: `output = x * x`.
//!
//! One operand of any shape, float32.

use super::pointwise::{map, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SQUARE` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Square;

no_attributes!(Square, SquareOptions);

impl Operator for Square {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(|x: f32| x * x)),
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
        let input = Case::f32([3], [-1.5, 0.0, 3.0]);
        let output = eval(Square, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [2.25, 0.0, 9.0]);
    }
}
