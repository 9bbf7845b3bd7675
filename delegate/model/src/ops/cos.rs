//! `COS`: the cosine of each element, in radians.
//!
//! One operand of any shape, float32.

use super::pointwise::{map, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `COS` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cos;

no_attributes!(Cos, CosOptions);

impl Operator for Cos {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map(f32::cos)),
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
        let input = Case::f32([2], [0.0, 1.0]);
        let output = eval(Cos, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [1.0, 1f32.cos()]);
    }
}
