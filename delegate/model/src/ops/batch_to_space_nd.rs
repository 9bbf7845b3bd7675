//! `BATCH_TO_SPACE_ND`: blocks out of batches, then cropped; `SPACE_TO_BATCH_ND` backwards.
//!
//! Operands: input [block * batch, spatial.., rest..], block sizes `[n]`, crops `[n, 2]`; the last two
//! are constants. The place in the block is outermost among the batches.

use super::movement::{Axis, Copy, multiply_add, strides};
use super::space_to_batch_nd::{Blocked, INPUT, batch_steps, blocked, version};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `BATCH_TO_SPACE_ND` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchToSpaceNd;

no_attributes!(BatchToSpaceNd, BatchToSpaceNDOptions);

impl Operator for BatchToSpaceNd {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let mut shape = io.input(INPUT)?.shape.clone();
        for (
            d,
            Blocked {
                block,
                before,
                after,
            },
        ) in blocked(io, "the crops")?.iter().enumerate()
        {
            if !shape[0].is_multiple_of(*block) {
                let batches = shape[0];
                return Err(OpError::Shape(format!(
                    "{batches} batches are not in blocks of {block}"
                )));
            }
            shape[0] /= block;
            let whole = multiply_add(shape[d + 1], *block, 0)?;
            let cropped = whole
                .checked_sub(*before)
                .and_then(|rest| rest.checked_sub(*after));
            shape[d + 1] = cropped
                .ok_or_else(|| OpError::Shape(format!("crops {before} and {after} of {whole}")))?;
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
        version(io)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let (from, to) = (strides(input)?, strides(output)?);
        let blocked = blocked(io, "the crops")?;
        let steps = batch_steps(&blocked, output.shape[0])?;
        let axis = |d: usize| match d
            .checked_sub(1)
            .and_then(|s| blocked.get(s).zip(steps.get(s)))
        {
            None => Axis::linear(output.shape[d], from[d], to[d]),
            Some((Blocked { block, before, .. }, &step)) => {
                Axis::table((0..output.shape[d]).map(|index| {
                    let (place, inside) = ((index + before) / block, (index + before) % block);
                    let source = (inside * step) as isize * from[0] + place as isize * from[d];
                    (source, index as isize * to[d])
                }))
            }
        };
        Ok(Copy::new(input, output, (0..to.len()).map(axis).collect())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    fn operands(block: [i32; 2], crops: [i32; 4]) -> [Case; 3] {
        [
            Case::i8([4, 1, 2, 1], [0, 2, 1, 3, 0, 5, 4, 6]),
            Case::i32([2], block).constant(),
            Case::i32([2, 2], crops).constant(),
        ]
    }

    #[test]
    fn collects_pixels_and_crops() {
        let output = eval(
            BatchToSpaceNd,
            &operands([2, 2], [0, 0, 1, 0]),
            Case::result(DType::I8),
        );
        assert_eq!(output.shape, [1, 2, 3, 1]);
        assert_eq!(output.get::<i8>(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn crops_everything() {
        let output = eval(
            BatchToSpaceNd,
            &operands([2, 2], [1, 1, 0, 0]),
            Case::result(DType::I8),
        );
        assert_eq!(output.shape, [1, 0, 4, 1]);
    }

    #[test]
    fn rejects_larger_crops_and_batches_of_no_whole_block() {
        for (block, crops) in [([2, 2], [2, 1, 0, 0]), ([3, 1], [0; 4]), ([0, 1], [0; 4])] {
            let io = signature(&operands(block, crops), &[Case::result(DType::I8)]);
            assert!(BatchToSpaceNd.infer_shapes(&io).is_err());
        }
    }
}
