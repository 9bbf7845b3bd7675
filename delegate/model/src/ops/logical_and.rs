//! `LOGICAL_AND`: whether both operands are true.
//!
//! Operands of bool, of any shapes that broadcast to each other.

use super::broadcast::{binary, binary_shapes, binary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `LOGICAL_AND` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogicalAnd;

no_attributes!(LogicalAnd, LogicalAndOptions);

impl Operator for LogicalAnd {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match binary_type(io)? {
            DType::Bool => binary(io, |a: u8, b: u8| u8::from(a != 0) & u8::from(b != 0)),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn has_its_truth_table() {
        let operands = [[0u8, 1], [0, 1]].map(|x| Case::new(DType::Bool, [2], &x));
        let [a, b] = operands;
        let a = Case {
            shape: vec![2, 1],
            ..a
        };
        let output = eval(LogicalAnd, &[a, b], Case::result(DType::Bool));
        assert_eq!(output.bytes, [0, 0, 0, 1]);
    }
}
