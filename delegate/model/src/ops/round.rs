//! `ROUND`: the nearest integer, ties to even.
//!
//! One operand of any shape, float32.

use super::pointwise::{map, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `ROUND` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Round;

no_attributes!(Round);

impl Operator for Round {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(f32::round_ties_even)),
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
        let input = Case::f32([4], [-1.5, 0.5, 2.5, 2.6]);
        let output = eval(Round, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-2.0, 0.0, 2.0, 3.0]);
    }
}
