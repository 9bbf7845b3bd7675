//! `CONV_3D_TRANSPOSE`: each element of the input adds the filter, times itself, to the result;
//! then bias and activation.
//!
//! Operands: the result's shape, a constant; constant filter `[planes, height, width, units,
//! depth]`; input `[batch, planes, height, width, depth]`; constant bias `[units]` or absent;
//! float32. The padding is that of the convolution that would lead from the result back to the input.

use super::conv_3d::constants;
use super::padding::Windows;
use super::volume::Volume;
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `CONV_3D_TRANSPOSE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conv3dTranspose {
    /// Windows, of the result, and activation.
    pub volume: Volume,
}

const SHAPE: usize = 0;
const WEIGHTS: usize = 1;
const INPUT: usize = 2;
const BIAS: usize = 3;

impl Attributes for Conv3dTranspose {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self {
            volume: Volume::read(options),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        self.volume.write()
    }
}

impl Conv3dTranspose {
    fn output_shape(&self, io: &Signature) -> Result<[usize; 5], OpError> {
        let [.., units, filter_depth] = io.input(WEIGHTS)?.shape_n::<5>()?;
        let [batch, .., depth] = io.input(INPUT)?.shape_n::<5>()?;
        let wanted = io.input(SHAPE)?.integers()?;
        let shape: Option<Shape> = wanted.iter().map(|&d| usize::try_from(d).ok()).collect();
        match shape.as_deref().map(<[usize; 5]>::try_from) {
            Some(Ok(shape))
                if shape[0] == batch && shape[4] == units && depth == filter_depth && depth > 0 =>
            {
                Ok(shape)
            }
            _ => Err(OpError::Shape(format!(
                "result {wanted:?} of batch {batch}, depth {depth} and filter {:?}",
                io.input(WEIGHTS)?.shape
            ))),
        }
    }

    fn windows(&self, io: &Signature) -> Result<[Windows; 3], OpError> {
        let (output, weights) = (self.output_shape(io)?, io.input(WEIGHTS)?.shape_n::<5>()?);
        let v = &self.volume;
        let axis = |i: usize| {
            v.padding
                .windows(output[i + 1], weights[i], v.stride[i], v.dilation[i])
        };
        Ok([axis(0)?, axis(1)?, axis(2)?])
    }
}

impl Operator for Conv3dTranspose {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        self.windows(io)?;
        Ok(vec![self.output_shape(io)?.to_vec()])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let windows = self.windows(io)?;
        let [_, out_planes, out_h, out_w, _] = self.output_shape(io)?;
        let [_, in_planes, in_h, in_w, depth] = io.input(INPUT)?.shape_n()?;
        let [filter_planes, filter_h, filter_w, units, _] = io.input(WEIGHTS)?.shape_n()?;
        let (weights, bias) = constants(io, [INPUT, WEIGHTS, BIAS], units)?;
        self.volume.activation.check()?;
        let (low, high) = self.volume.activation.range_f32();
        let bias = bias.unwrap_or_else(|| vec![0.0; units]);
        // From tap, unit, channel to tap, channel, unit.
        let tap_len = units * depth;
        let weights: Vec<f32> = (0..weights.len())
            .map(|i| weights[i / tap_len * tap_len + i % units * depth + i % tap_len / units])
            .collect();
        let taps = [filter_planes, filter_h, filter_w];
        let input_size = [in_planes, in_h, in_w];
        let output_size = [out_planes, out_h, out_w];
        let strides = self.volume.stride;
        // Where tap `tap` of the element at `at` adds to the result.
        let target = move |axis: usize, at: usize, tap: usize| {
            let (stride, w) = (strides[axis] as usize, windows[axis]);
            let to = at
                .checked_mul(stride)?
                .checked_add(tap * w.dilation)?
                .checked_sub(w.before)?;
            (to < output_size[axis]).then_some(to)
        };
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<f32>(0);
            let input = parts.inputs.get::<f32>(INPUT);
            parts
                .output
                .chunks_exact_mut(units)
                .for_each(|voxel| voxel.copy_from_slice(&bias));
            for (index, element) in input.chunks_exact(depth).enumerate() {
                let (x, row) = (index % input_size[2], index / input_size[2]);
                let (y, plane) = (row % input_size[1], row / input_size[1]);
                let (z, batch) = (plane % input_size[0], plane / input_size[0]);
                for (tap, weights) in weights.chunks_exact(tap_len).enumerate() {
                    let (tap_x, rest) = (tap % taps[2], tap / taps[2]);
                    let (Some(z), Some(y), Some(x)) = (
                        target(0, z, rest / taps[1]),
                        target(1, y, rest % taps[1]),
                        target(2, x, tap_x),
                    ) else {
                        continue;
                    };
                    let voxel = ((batch * out_planes + z) * out_h + y) * out_w + x;
                    let voxel = &mut parts.output[voxel * units..][..units];
                    for (&value, weights) in element.iter().zip(weights.chunks_exact(units)) {
                        for (sum, &weight) in voxel.iter_mut().zip(weights) {
                            *sum += value * weight;
                        }
                    }
                }
            }
            parts
                .output
                .iter_mut()
                .for_each(|y| *y = y.clamp(low, high));
        })
        .with_copies_of([SHAPE, WEIGHTS, BIAS]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Padding;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    fn run(stride: i32, planes: i32, input: &[f32]) -> Vec<f32> {
        let volume = Volume {
            padding: Padding::Valid,
            stride: [stride, 1, 1],
            ..Volume::default()
        };
        let shape = Case::i32([5], [1, planes, 1, 1, 1]).constant();
        let weights = Case::f32([3, 1, 1, 1, 1], [1.0, 10.0, 100.0]).constant();
        let input = Case::f32([1, input.len(), 1, 1, 1], input.iter().copied());
        eval(
            Conv3dTranspose { volume },
            &[shape, weights, input],
            Case::result(DType::F32),
        )
        .get()
    }

    #[test]
    fn adds_up_overlapping_filters() {
        assert_eq!(run(2, 5, &[1.0, 2.0]), [1.0, 10.0, 102.0, 20.0, 200.0]);
        assert_eq!(run(i32::MAX, 3, &[1.0]), [1.0, 10.0, 100.0]);
    }

    #[test]
    fn rejects_a_result_of_another_depth() {
        let shape = Case::i32([5], [1, 1, 1, 1, 3]).constant();
        let weights = Case::f32([1, 1, 1, 2, 1], [0.0; 2]).constant();
        let inputs = [shape, weights, Case::f32([1, 1, 1, 1, 1], [0.0])];
        let io = signature(&inputs, &[Case::result(DType::F32)]);
        assert!(matches!(
            Conv3dTranspose::default().infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
