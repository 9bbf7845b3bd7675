//! `LOGICAL_NOT`: whether the operand is false.
//!
//! One operand of bool, of any shape.

use super::pointwise::{map, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `LOGICAL_NOT` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogicalNot;

no_attributes!(LogicalNot, LogicalNotOptions);

impl Operator for LogicalNot {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::Bool => Ok(map(|x: u8| u8::from(x == 0))),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn inverts() {
        let input = Case::new(DType::Bool, [2], &[0u8, 1]);
        assert_eq!(
            eval(LogicalNot, &[input], Case::result(DType::Bool)).bytes,
            [1, 0]
        );
    }
}
