//! `DEPTH_TO_SPACE`: blocks of pixels out of channels.
//!
//! [batch, height, width, block * block * depth] to [batch, height * block, width * block, depth];
//! a pixel's channels hold the block's pixels row by row.

use super::movement::{Axis, Copy, multiply_add, size, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `DEPTH_TO_SPACE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DepthToSpace {
    /// The height and width of a block.
    pub block_size: i32,
}

const INPUT: usize = 0;

impl Attributes for DepthToSpace {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_depth_to_space_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            block_size: options.block_size,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::DepthToSpaceOptions(Box::new(tfl::DepthToSpaceOptionsT {
            block_size: self.block_size,
        }))
    }
}

/// The axes of the copy between the shape of `space` and that of `depth`, as counts with strides
/// in `space` and in `depth`.
pub(super) fn block_axes(
    block: usize,
    [batch, height, width, depth]: [usize; 4],
    space: &[isize],
    packed: &[isize],
) -> [(usize, isize, isize); 6] {
    let (block_step, depth_step) = (block as isize, depth as isize);
    [
        (batch, space[0], packed[0]),
        (height, space[1] * block_step, packed[1]),
        (block, space[1], block_step * depth_step),
        (width, space[2] * block_step, packed[2]),
        (block, space[2], depth_step),
        (depth, 1, 1),
    ]
}

/// The size of a block, above 0.
pub(super) fn block(block_size: i32) -> Result<usize, OpError> {
    match size(block_size.into(), "block size")? {
        0 => Err(OpError::Attribute("block size 0".into())),
        block => Ok(block),
    }
}

impl Operator for DepthToSpace {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let [batch, height, width, depth] = io.input(INPUT)?.shape_n()?;
        let block = block(self.block_size)?;
        let area = multiply_add(block, block, 0)?;
        if !depth.is_multiple_of(area) {
            return Err(OpError::Shape(format!(
                "depth {depth} is not in blocks of {area}"
            )));
        }
        let (height, width) = (
            multiply_add(height, block, 0)?,
            multiply_add(width, block, 0)?,
        );
        Ok(vec![vec![batch, height, width, depth / area]])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    /// LiteRT's reference kernels take int8 but are registered as version 1 only, and so were
    /// older kernels, so that is what loads everywhere.
    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let ([batch, height, width, _], [.., depth]) = (input.shape_n()?, output.shape_n::<4>()?);
        let (from, to) = (strides(input)?, strides(output)?);
        let axes = block_axes(
            block(self.block_size)?,
            [batch, height, width, depth],
            &to,
            &from,
        );
        let axes = axes.map(|(count, to, from)| Axis::linear(count, from, to));
        Ok(Copy::new(input, output, axes.into())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn spreads_channels_over_a_block() {
        let input = Case::i8([1, 1, 2, 4], [1, 2, 3, 4, 5, 6, 7, 8]);
        let output = eval(
            DepthToSpace { block_size: 2 },
            &[input],
            Case::result(DType::I8),
        );
        assert_eq!(output.shape, [1, 2, 4, 1]);
        assert_eq!(output.get::<i8>(), [1, 2, 5, 6, 3, 4, 7, 8]);
    }

    #[test]
    fn rejects_block_0_and_depths_of_no_whole_block() {
        let io = signature(&[Case::i8([1, 1, 1, 6], 0..6)], &[Case::result(DType::I8)]);
        for block_size in [0, -1, 2, i32::MAX] {
            assert!(DepthToSpace { block_size }.infer_shapes(&io).is_err());
        }
    }
}
