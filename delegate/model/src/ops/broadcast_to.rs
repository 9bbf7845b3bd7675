//! `BROADCAST_TO`: its input repeated along dimensions of 1, to a given shape.
//!
//! The second operand, a constant, is the shape; the input is aligned at its last dimension.

use super::movement::{Axis, Copy, integers, size, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `BROADCAST_TO` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BroadcastTo;

no_attributes!(BroadcastTo, BroadcastToOptions);

const INPUT: usize = 0;
const SHAPE: usize = 1;

impl Operator for BroadcastTo {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let input = &io.input(INPUT)?.shape;
        let wanted = integers(io, SHAPE, "the new shape")?;
        let shape = wanted
            .iter()
            .map(|&d| size(d, "dimension"))
            .collect::<Result<Shape, _>>()?;
        let tail = shape
            .len()
            .checked_sub(input.len())
            .map(|extra| &shape[extra..]);
        if !tail.is_some_and(|tail| {
            input
                .iter()
                .zip(tail)
                .all(|(&from, &to)| from == 1 || from == to)
        }) {
            return Err(OpError::Shape(format!(
                "shape {input:?} does not broadcast to {shape:?}"
            )));
        }
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I8 | DType::I16) => 3,
            _ => 2,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let (from, to) = (strides(input)?, strides(output)?);
        let extra = output.shape.len().saturating_sub(input.shape.len());
        let axes = output.shape.iter().enumerate().map(|(d, &len)| {
            let step = d
                .checked_sub(extra)
                .filter(|&d| input.shape[d] != 1)
                .map_or(0, |d| from[d]);
            Axis::linear(len, step, to[d])
        });
        Ok(Copy::new(input, output, axes.collect())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(input: Case, shape: &[i32]) -> [Case; 2] {
        [
            input,
            Case::i32([shape.len()], shape.iter().copied()).constant(),
        ]
    }

    #[test]
    fn repeats_along_new_axes_and_axes_of_1() {
        let output = eval(
            BroadcastTo,
            &operands(Case::i8([2, 1], [1, 2]), &[2, 2, 3]),
            Case::result(DType::I8),
        );
        assert_eq!(output.shape, [2, 2, 3]);
        assert_eq!(output.get::<i8>(), [1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]);
        let scalar = eval(
            BroadcastTo,
            &operands(Case::f32([], [1.5]), &[3]),
            Case::result(DType::F32),
        );
        assert_eq!(scalar.get::<f32>(), [1.5; 3]);
    }

    #[test]
    fn rejects_shapes_that_do_not_fit() {
        for shape in [&[3][..], &[2, 3], &[-1, 2]] {
            let io = signature(
                &operands(Case::i8([1, 2], [1, 2]), shape),
                &[Case::result(DType::I8)],
            );
            assert!(BroadcastTo.infer_shapes(&io).is_err());
        }
    }
}
