//! `RESIZE_NEAREST_NEIGHBOR`: each pixel of the result is the nearest of the input.
//!
//! Input [batch, height, width, depth]; the second operand, a constant, is the new height and
//! width. The input's index is `floor((index + offset) * scale)`, rounded rather than floored
//! with aligned corners, in float32; `offset` is 0.5 with half-pixel centers, otherwise 0.

use super::movement::{Axis, Copy, integers, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `RESIZE_NEAREST_NEIGHBOR`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResizeNearestNeighbor {
    /// Whether the centers of the corner pixels coincide.
    pub align_corners: bool,
    /// Whether a pixel's place is its center.
    pub half_pixel_centers: bool,
}

const INPUT: usize = 0;
const SIZE: usize = 1;

impl Attributes for ResizeNearestNeighbor {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_resize_nearest_neighbor_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            align_corners: options.align_corners,
            half_pixel_centers: options.half_pixel_centers,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        let options = tfl::ResizeNearestNeighborOptionsT {
            align_corners: self.align_corners,
            half_pixel_centers: self.half_pixel_centers,
        };
        tfl::BuiltinOptionsT::ResizeNearestNeighborOptions(Box::new(options))
    }
}

/// The result's shape: the input's with the height and width of the second operand.
pub(super) fn resized_shape(io: &Signature) -> Result<Vec<Shape>, OpError> {
    let [batch, height, width, depth] = io.input(INPUT)?.shape_n()?;
    let size = integers(io, SIZE, "the new size")?;
    let [new_height, new_width] = *size else {
        return Err(OpError::Shape(format!(
            "new size {size:?} is not of height and width"
        )));
    };
    let positive = |d: i64| i32::try_from(d).ok().filter(|&d| d > 0).map(|d| d as usize);
    match (positive(new_height), positive(new_width)) {
        (Some(new_height), Some(new_width)) if height > 0 && width > 0 => {
            Ok(vec![vec![batch, new_height, new_width, depth]])
        }
        _ => Err(OpError::Shape(format!(
            "{height}x{width} pixels cannot become {size:?}"
        ))),
    }
}

/// How many pixels of the input one of the result is, along an axis.
pub(super) fn scale(from: usize, to: usize, align_corners: bool) -> f32 {
    match align_corners && to > 1 {
        true => (from - 1) as f32 / (to - 1) as f32,
        false => from as f32 / to as f32,
    }
}

impl ResizeNearestNeighbor {
    fn source(&self, from: usize, to: usize) -> impl Fn(usize) -> usize {
        let scale = scale(from, to, self.align_corners);
        let offset = if self.half_pixel_centers { 0.5 } else { 0.0 };
        let align_corners = self.align_corners;
        move |index| {
            let place = (index as f32 + offset) * scale;
            let nearest = if align_corners {
                place.round()
            } else {
                place.floor()
            };
            (nearest as usize).min(from - 1)
        }
    }
}

impl Operator for ResizeNearestNeighbor {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        resized_shape(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I16) => 4,
            _ if self.half_pixel_centers || self.align_corners => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let [batch, height, width, depth] = input.shape_n()?;
        let [_, new_height, new_width, _] = output.shape_n()?;
        let (from, to) = (strides(input)?, strides(output)?);
        let axis = |d: usize, old: usize, new: usize| {
            let source = self.source(old, new);
            Axis::table((0..new).map(|i| (source(i) as isize * from[d], i as isize * to[d])))
        };
        let axes = vec![
            Axis::linear(batch, from[0], to[0]),
            axis(1, height, new_height),
            axis(2, width, new_width),
            Axis::linear(depth, from[3], to[3]),
        ];
        Ok(Copy::new(input, output, axes)?.kernel(INPUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn resized(op: ResizeNearestNeighbor, width: i32) -> Vec<i8> {
        let inputs = [
            Case::i8([1, 1, 3, 1], [1, 2, 3]),
            Case::i32([2], [1, width]).constant(),
        ];
        eval(op, &inputs, Case::result(DType::I8)).get()
    }

    #[test]
    fn repeats_and_skips_pixels() {
        let op = ResizeNearestNeighbor::default();
        assert_eq!(resized(op.clone(), 6), [1, 1, 2, 2, 3, 3]);
        assert_eq!(resized(op, 2), [1, 2]);
    }

    #[test]
    fn centers_and_corners_move_the_grid() {
        let op = ResizeNearestNeighbor {
            half_pixel_centers: true,
            ..Default::default()
        };
        assert_eq!(resized(op, 2), [1, 3]);
        let op = ResizeNearestNeighbor {
            align_corners: true,
            ..Default::default()
        };
        assert_eq!(resized(op.clone(), 4), [1, 2, 2, 3]);
        assert_eq!(resized(op, 1), [1]);
    }

    #[test]
    fn rejects_sizes_that_are_not_positive() {
        for size in [[0, 1], [1, -1]] {
            let inputs = [Case::i8([1, 1, 1, 1], [1]), Case::i32([2], size).constant()];
            let io = signature(&inputs, &[Case::result(DType::I8)]);
            assert!(ResizeNearestNeighbor::default().infer_shapes(&io).is_err());
        }
    }
}
