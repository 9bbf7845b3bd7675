//! `CEIL`: the smallest integer not below each element.
//!
//! One operand of any shape, float32.

use super::pointwise::{map, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `CEIL` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ceil;

no_attributes!(Ceil);

impl Operator for Ceil {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(f32::ceil)),
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
        let input = Case::f32([4], [-1.5, 0.2, 2.0, 2.1]);
        let output = eval(Ceil, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-1.0, 1.0, 2.0, 3.0]);
    }
}
