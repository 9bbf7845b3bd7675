//! `REVERSE_V2`: its input with some axes in reverse order.
//!
//! The second operand, a constant, lists the axes; those that LiteRT reverses are neighbours.

use super::movement::{Axis, Copy, axis, integers, strides};
use super::pointwise::unary_shapes;
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `REVERSE_V2` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReverseV2;

no_attributes!(ReverseV2, ReverseV2Options);

const INPUT: usize = 0;
const AXES: usize = 1;

impl Operator for ReverseV2 {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I8) => 3,
            Ok(DType::Bool) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let mut reversed = vec![false; input.shape.len()];
        for place in integers(io, AXES, "the axes")? {
            reversed[axis(place, input.shape.len())?] = true;
        }
        let (from, to) = (strides(input)?, strides(output)?);
        let axes = (0..from.len()).map(|d| {
            let len = input.shape[d];
            let last = (len as isize - 1).saturating_mul(from[d]);
            let along = if reversed[d] {
                (last, -from[d])
            } else {
                (0, from[d])
            };
            Axis::starting(len, along, (0, to[d]))
        });
        Ok(Copy::new(input, output, axes.collect())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn reversed(axes: &[i32]) -> Vec<i8> {
        let axes = Case::i32([axes.len()], axes.iter().copied()).constant();
        eval(
            ReverseV2,
            &[Case::i8([2, 3], 0..6), axes],
            Case::result(DType::I8),
        )
        .get()
    }

    #[test]
    fn reverses_each_axis_that_is_listed() {
        assert_eq!(reversed(&[1]), [2, 1, 0, 5, 4, 3]);
        assert_eq!(reversed(&[-2]), [3, 4, 5, 0, 1, 2]);
        assert_eq!(reversed(&[0, 1]), [5, 4, 3, 2, 1, 0]);
        assert_eq!(reversed(&[]), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn rejects_axes_outside() {
        let inputs = [Case::i8([2], [0, 1]), Case::i32([1], [1]).constant()];
        let io = signature(&inputs, &[Case::result(DType::I8)]);
        assert!(matches!(ReverseV2.prepare(&io), Err(OpError::Attribute(_))));
    }
}
