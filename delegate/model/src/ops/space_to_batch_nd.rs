//! `SPACE_TO_BATCH_ND`: batches out of blocks, after padding.
//!
//! Operands: input [batch, spatial.., rest..], block sizes `[n]`, padding `[n, 2]`; the last two are
//! constants. The result has `batch` times the block's elements as batches, the place in the
//! block outermost; its spatial dimensions are the padded ones divided by the block's. Padding is
//! 0, for quantized tensors the zero point.

use super::movement::{Axis, Copy, fill, integers, multiply_add, pairs, size, strides, zero};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SPACE_TO_BATCH_ND` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpaceToBatchNd;

pub(super) const INPUT: usize = 0;
const BLOCK: usize = 1;
const PADDING: usize = 2;

no_attributes!(SpaceToBatchNd, SpaceToBatchNDOptions);

/// One spatial dimension: the block's size, and what is added or cut before and after.
pub(super) struct Blocked {
    pub block: usize,
    pub before: usize,
    pub after: usize,
}

/// The spatial dimensions, as the operands give them; `edges` names the last.
pub(super) fn blocked(io: &Signature, edges: &str) -> Result<Vec<Blocked>, OpError> {
    let rank = io.input(INPUT)?.shape.len();
    let blocks = integers(io, BLOCK, "the block sizes")?;
    if blocks.len() >= rank {
        return Err(OpError::Shape(format!(
            "blocks {blocks:?} of {rank} dimensions"
        )));
    }
    let edges = pairs(io, PADDING, edges, blocks.len())?;
    let blocked = |(&block, (before, after)): (&i64, (usize, usize))| match size(block, "block")? {
        0 => Err(OpError::Attribute("block size 0".into())),
        block => Ok(Blocked {
            block,
            before,
            after,
        }),
    };
    blocks.iter().zip(edges).map(blocked).collect()
}

/// How many batches apart neighbours within a block are, along each spatial dimension.
pub(super) fn batch_steps(blocked: &[Blocked], batches: usize) -> Result<Vec<usize>, OpError> {
    let mut step = batches;
    let mut steps = vec![0; blocked.len()];
    for (slot, dimension) in steps.iter_mut().zip(blocked).rev() {
        *slot = step;
        step = multiply_add(step, dimension.block, 0)?;
    }
    Ok(steps)
}

/// The lowest version that knows the type and rank of the input.
pub(super) fn version(io: &Signature) -> i32 {
    let Ok(input) = io.input(INPUT) else { return 1 };
    match input.dtype {
        DType::I16 => 4,
        _ if input.shape.len() != 4 => 3,
        DType::I8 => 2,
        _ => 1,
    }
}

impl Operator for SpaceToBatchNd {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let mut shape = io.input(INPUT)?.shape.clone();
        for (
            d,
            Blocked {
                block,
                before,
                after,
            },
        ) in blocked(io, "the padding")?.iter().enumerate()
        {
            let padded = multiply_add(*before, 1, multiply_add(*after, 1, shape[d + 1])?)?;
            if !padded.is_multiple_of(*block) {
                return Err(OpError::Shape(format!(
                    "{padded} is not in blocks of {block}"
                )));
            }
            shape[d + 1] = padded / block;
            shape[0] = multiply_add(shape[0], *block, 0)?;
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
        let blocked = blocked(io, "the padding")?;
        let steps = batch_steps(&blocked, input.shape[0])?;
        let axis = |d: usize| match d
            .checked_sub(1)
            .and_then(|s| blocked.get(s).zip(steps.get(s)))
        {
            None => Axis::linear(input.shape[d], from[d], to[d]),
            Some((Blocked { block, before, .. }, &step)) => {
                Axis::table((0..input.shape[d]).map(|index| {
                    let (place, inside) = ((index + before) / block, (index + before) % block);
                    let target = (inside * step) as isize * to[0] + place as isize * to[d];
                    (index as isize * from[d], target)
                }))
            }
        };
        let copy = Copy::new(input, output, (0..from.len()).map(axis).collect())?;
        let element = zero(output)?;
        let is_padded = blocked.iter().any(|d| d.before > 0 || d.after > 0);
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            if is_padded {
                fill(parts.output, &element);
            }
            copy.run(parts.inputs.bytes(INPUT), parts.output);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(block: [i32; 2], padding: [i32; 4]) -> [Case; 3] {
        [
            Case::i8([1, 2, 3, 1], [1, 2, 3, 4, 5, 6]).quantized(1.0, -7),
            Case::i32([2], block).constant(),
            Case::i32([2, 2], padding).constant(),
        ]
    }

    #[test]
    fn pads_and_deals_out_pixels() {
        let result = Case::result(DType::I8).quantized(1.0, -7);
        let output = eval(SpaceToBatchNd, &operands([2, 2], [0, 0, 1, 0]), result);
        assert_eq!(output.shape, [4, 1, 2, 1]);
        assert_eq!(output.get::<i8>(), [-7, 2, 1, 3, -7, 5, 4, 6]);
    }

    #[test]
    fn a_block_of_1_only_pads() {
        let result = Case::result(DType::I8).quantized(1.0, -7);
        let output = eval(SpaceToBatchNd, &operands([1, 1], [0, 0, 0, 1]), result);
        assert_eq!(output.get::<i8>(), [1, 2, 3, -7, 4, 5, 6, -7]);
    }

    #[test]
    fn rejects_block_0_and_sides_of_no_whole_block() {
        for (block, padding) in [([0, 1], [0; 4]), ([2, 2], [0; 4]), ([2, 1], [-2, 0, 0, 0])] {
            let io = signature(&operands(block, padding), &[Case::result(DType::I8)]);
            assert!(SpaceToBatchNd.infer_shapes(&io).is_err());
        }
    }
}
