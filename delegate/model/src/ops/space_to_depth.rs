//! `SPACE_TO_DEPTH`: channels out of blocks of pixels.
//!
//! [batch, height * block, width * block, depth] to [batch, height, width, block * block * depth];
//! a pixel's channels hold the block's pixels row by row.

use super::depth_to_space::{block, block_axes};
use super::movement::{Axis, Copy, multiply_add, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SPACE_TO_DEPTH`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpaceToDepth {
    /// The height and width of a block.
    pub block_size: i32,
}

const INPUT: usize = 0;

impl Attributes for SpaceToDepth {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_space_to_depth_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            block_size: options.block_size,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SpaceToDepthOptions(Box::new(tfl::SpaceToDepthOptionsT {
            block_size: self.block_size,
        }))
    }
}

impl Operator for SpaceToDepth {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let [batch, height, width, depth] = io.input(INPUT)?.shape_n()?;
        let block = block(self.block_size)?;
        if !height.is_multiple_of(block) || !width.is_multiple_of(block) {
            return Err(OpError::Shape(format!(
                "{height}x{width} is not in blocks of {block}"
            )));
        }
        let depth = multiply_add(depth, multiply_add(block, block, 0)?, 0)?;
        Ok(vec![vec![batch, height / block, width / block, depth]])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let ([.., depth], [batch, height, width, _]) = (input.shape_n::<4>()?, output.shape_n()?);
        let (from, to) = (strides(input)?, strides(output)?);
        let axes = block_axes(
            block(self.block_size)?,
            [batch, height, width, depth],
            &from,
            &to,
        );
        let axes = axes.map(|(count, from, to)| Axis::linear(count, from, to));
        Ok(Copy::new(input, output, axes.into())?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn gathers_a_block_in_channels() {
        let input = Case::i8([1, 2, 4, 1], [1, 2, 5, 6, 3, 4, 7, 8]);
        let output = eval(
            SpaceToDepth { block_size: 2 },
            &[input],
            Case::result(DType::I8),
        );
        assert_eq!(output.shape, [1, 1, 2, 4]);
        assert_eq!(output.get::<i8>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn rejects_block_0_and_sides_of_no_whole_block() {
        let io = signature(&[Case::i8([1, 2, 3, 1], 0..6)], &[Case::result(DType::I8)]);
        for block_size in [0, -1, 2, i32::MAX] {
            assert!(SpaceToDepth { block_size }.infer_shapes(&io).is_err());
        }
    }
}
