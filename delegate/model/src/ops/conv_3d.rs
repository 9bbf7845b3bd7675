//! `CONV_3D`: each voxel of the result is `activation(bias + sum of filter * input)` under a
//! window that slides over the volume.
//!
//! Input `[batch, planes, height, width, depth]`, constant filter `[planes, height, width, depth,
//! units]`, constant bias `[units]` or absent; float32. A plane of the result is a convolution of
//! the input planes under it, their channels side by side.

use bantam_kernels::{ConvF32, ConvGeometry, Isa};

use super::padding::Windows;
use super::volume::Volume;
use super::weighted_sum::check_geometry;
use super::{Attributes, OpError, Operator, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `CONV_3D`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conv3d {
    /// Windows and activation.
    pub volume: Volume,
}

const INPUT: usize = 0;
const WEIGHTS: usize = 1;
const BIAS: usize = 2;

impl Attributes for Conv3d {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self {
            volume: Volume::read(options),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        self.volume.write()
    }
}

impl Conv3d {
    fn windows(&self, io: &Signature) -> Result<[Windows; 3], OpError> {
        let input: [usize; 5] = io.input(INPUT)?.shape_n()?;
        let weights: [usize; 5] = io.input(WEIGHTS)?.shape_n()?;
        if input[4] != weights[3] || input[4] == 0 {
            return Err(OpError::Shape(format!(
                "depth {} does not match the filter's depth {}",
                input[4], weights[3]
            )));
        }
        let v = &self.volume;
        let axis = |i: usize| {
            v.padding
                .windows(input[i + 1], weights[i], v.stride[i], v.dilation[i])
        };
        Ok([axis(0)?, axis(1)?, axis(2)?])
    }
}

/// Float32 operands, the bias, if there is one, with one element for each unit; weights and bias are constants.
pub(super) fn constants(
    io: &Signature,
    [input, weights, bias]: [usize; 3],
    units: usize,
) -> Result<(Vec<f32>, Option<Vec<f32>>), OpError> {
    for index in [input, weights, bias] {
        if io
            .optional_input(index)
            .is_some_and(|value| value.dtype != DType::F32)
        {
            return Err(io.unsupported(index));
        }
    }
    io.common_dtype(input)?;
    let filled = |value: &Value| {
        let elements: Vec<f32> = value.constant()?;
        if elements.len() != value.len() {
            return Err(OpError::Shape(format!(
                "a constant does not fill its shape {:?}",
                value.shape
            )));
        }
        Ok(elements)
    };
    let bias = io.optional_input(bias).map(filled).transpose()?;
    if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != units) {
        return Err(OpError::Shape(format!(
            "bias of length {} does not match depth {units}",
            bias.len()
        )));
    }
    Ok((filled(io.input(weights)?)?, bias))
}

impl Operator for Conv3d {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let [planes, rows, columns] = self.windows(io)?.map(|w| w.count);
        let ([batch, ..], [.., units]) = (
            io.input(INPUT)?.shape_n::<5>()?,
            io.input(WEIGHTS)?.shape_n::<5>()?,
        );
        Ok(vec![vec![batch, planes, rows, columns, units]])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let [planes, rows, columns] = self.windows(io)?;
        let [_, in_planes, in_h, in_w, depth] = io.input(INPUT)?.shape_n()?;
        let [filter_planes, filter_h, filter_w, _, units] = io.input(WEIGHTS)?.shape_n()?;
        let (weights, bias) = constants(io, [INPUT, WEIGHTS, BIAS], units)?;
        self.volume.activation.check()?;
        let stack = filter_planes
            .checked_mul(depth)
            .ok_or_else(|| OpError::Shape(format!("{filter_planes} planes of depth {depth}")))?;
        let geometry = ConvGeometry {
            in_h,
            in_w,
            out_h: rows.count,
            out_w: columns.count,
            filter_h,
            filter_w,
            stride_h: rows.stride,
            stride_w: columns.stride,
            dilation_h: rows.dilation,
            dilation_w: columns.dilation,
            pad_top: rows.before,
            pad_left: columns.before,
            ..ConvGeometry::product(1, stack, units)
        };
        check_geometry(&geometry, io.threads)?;
        // From plane, row, column, channel, unit to unit, row, column, plane, channel.
        let area = filter_h * filter_w;
        let packed: Vec<f32> = (0..units * area * stack)
            .map(|i| {
                let (unit, tap, plane, channel) = (
                    i / (area * stack),
                    i / stack % area,
                    i % stack / depth,
                    i % depth,
                );
                weights[((plane * area + tap) * depth + channel) * units + unit]
            })
            .collect();
        let clamp = self.volume.activation.range_f32();
        let conv = ConvF32::new(Isa::best(), geometry, &packed, bias.as_deref(), clamp);
        let (threads, stacked) = (io.threads, geometry.input_len());
        let scratch = 4 * (stacked.next_multiple_of(16) + conv.scratch_len(threads));
        Ok(Kernel::with_scratch(scratch, move |run| {
            let threads = run.threads.min(threads);
            let parts = run.parts::<f32>(0);
            let input = parts.inputs.get::<f32>(INPUT);
            let (stack_memory, scratch) = bytemuck::cast_slice_mut::<u8, f32>(parts.scratch)
                .split_at_mut(stacked.next_multiple_of(16));
            let stacked = &mut stack_memory[..stacked];
            let plane_len = in_h * in_w * depth;
            for (index, output) in parts
                .output
                .chunks_exact_mut(geometry.output_len())
                .enumerate()
            {
                let (batch, plane) = (index / planes.count, index % planes.count);
                for tap in 0..filter_planes {
                    let plane =
                        (plane * planes.stride + tap * planes.dilation).wrapping_sub(planes.before);
                    let source = (plane < in_planes)
                        .then(|| &input[(batch * in_planes + plane) * plane_len..][..plane_len]);
                    for (pixel, stack) in stacked.chunks_exact_mut(stack).enumerate() {
                        let target = &mut stack[tap * depth..][..depth];
                        match source {
                            Some(source) => {
                                target.copy_from_slice(&source[pixel * depth..][..depth])
                            }
                            None => target.fill(0.0),
                        }
                    }
                }
                conv.run(stacked, output, scratch, threads);
            }
        })
        .with_copies_of([WEIGHTS, BIAS]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn sums_over_planes_with_padding() {
        let input = Case::f32([1, 3, 1, 1, 1], [1.0, 2.0, 3.0]);
        let weights = Case::f32([3, 1, 1, 1, 1], [10.0, 1.0, 100.0]).constant();
        let output = eval(
            Conv3d::default(),
            &[input, weights],
            Case::result(DType::F32),
        );
        assert_eq!(output.get::<f32>(), [201.0, 312.0, 23.0]);
    }

    #[test]
    fn rejects_depths_that_differ() {
        let inputs = [
            Case::f32([1, 1, 1, 1, 2], [0.0; 2]),
            Case::f32([1, 1, 1, 1, 1], [0.0]),
        ];
        let io = signature(&inputs, &[Case::result(DType::F32)]);
        assert!(matches!(
            Conv3d::default().infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
