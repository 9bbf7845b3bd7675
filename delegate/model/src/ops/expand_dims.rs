//! `EXPAND_DIMS`: the same elements with one more dimension of 1.
//!
//! Input any shape; the second operand, a constant, is where the new dimension stands in the
//! result, counted from the end if negative.

use super::movement::{axis, integer, unchanged};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `EXPAND_DIMS` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExpandDims;

const INPUT: usize = 0;
const AXIS: usize = 1;

no_attributes!(ExpandDims, ExpandDimsOptions);

impl Operator for ExpandDims {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let mut shape = io.input(INPUT)?.shape.clone();
        let place = axis(integer(io, AXIS, "the axis")?, shape.len() + 1)?;
        shape.insert(place, 1);
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        unchanged(io, INPUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn counts_the_axis_in_the_result() {
        for (axis, expected) in [(0, [1, 2, 3]), (-1, [2, 3, 1]), (1, [2, 1, 3])] {
            let inputs = [Case::i8([2, 3], 0..6), Case::i32([], [axis]).constant()];
            let output = eval(ExpandDims, &inputs, Case::result(DType::I8));
            assert_eq!(
                (&*output.shape, output.get()),
                (&expected[..], vec![0i8, 1, 2, 3, 4, 5])
            );
        }
    }

    #[test]
    fn rejects_an_axis_outside_and_one_that_depends_on_data() {
        let axis = Case::i32([], [3]);
        let infer = |axis| {
            let io = signature(&[Case::i8([2, 3], 0..6), axis], &[Case::result(DType::I8)]);
            ExpandDims.infer_shapes(&io)
        };
        assert!(matches!(
            infer(axis.clone().constant()),
            Err(OpError::Attribute(_))
        ));
        assert!(matches!(infer(axis), Err(OpError::NotConstant(_))));
    }
}
