//! `TRANSPOSE_CONV`: each element of the input adds the filter, times itself, to the result;
//! then bias and activation.
//!
//! Operands: the result's shape, a constant; filter `[units, height, width, depth]`; input
//! `[batch, height, width, depth]`; bias `[units]` or absent. The padding is that of the
//! convolution that would lead from the result back to the input.
//!
//! Result pixels that lie a stride apart see the same taps: each such phase is a convolution with
//! stride 1 and a part of the filter, turned around.

use bantam_kernels::{ConvGeometry, Quantizer};

use super::hybrid::Hybrid;
use super::weighted_sum::{Convolution, Rounding, WeightedSum};
use super::{Activation, Attributes, OpError, Operator, Padding, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `TRANSPOSE_CONV`.
#[derive(Debug, Clone, PartialEq)]
pub struct TransposeConv {
    /// How the edges of the result are padded.
    pub padding: Padding,
    /// Rows of the result from one row of the input to the next.
    pub stride_h: i32,
    /// Columns of the result from one column of the input to the next.
    pub stride_w: i32,
    /// The fused activation.
    pub activation: Activation,
    /// The bias' type where activations are int16; float32 means not given.
    pub quantized_bias_type: DType,
}

impl Default for TransposeConv {
    fn default() -> Self {
        Self {
            padding: Padding::Same,
            stride_h: 1,
            stride_w: 1,
            activation: Activation::None,
            quantized_bias_type: DType::F32,
        }
    }
}

const SHAPE: usize = 0;
const WEIGHTS: usize = 1;
const INPUT: usize = 2;
const BIAS: usize = 3;

impl Attributes for TransposeConv {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let o = options
            .as_transpose_conv_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            padding: Padding::from_code(o.padding),
            stride_h: o.stride_h,
            stride_w: o.stride_w,
            activation: Activation::from_code(o.fused_activation_function),
            quantized_bias_type: DType::from_code(o.quantized_bias_type),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::TransposeConvOptions(Box::new(tfl::TransposeConvOptionsT {
            padding: self.padding.code(),
            stride_w: self.stride_w,
            stride_h: self.stride_h,
            fused_activation_function: self.activation.code(),
            quantized_bias_type: self.quantized_bias_type.code(),
        }))
    }
}

/// One axis of the result.
#[derive(Debug, Clone, Copy)]
struct Axis {
    output: usize,
    filter: usize,
    stride: usize,
    before: usize,
}

/// The pixels `first`, `first + stride`.. of the result along one axis, as a convolution.
#[derive(Debug, Clone, PartialEq)]
struct Phase {
    first: usize,
    count: usize,
    /// The tap of the whole filter for each tap of the phase's; `None` for one that only shifts.
    taps: Vec<Option<usize>>,
    before: usize,
}

impl Axis {
    /// The phases that have taps.
    fn phases(self) -> Vec<Phase> {
        let phase = |tap: usize| {
            let first = (tap + self.stride - self.before % self.stride) % self.stride;
            let count = self.output.checked_sub(first + 1)? / self.stride + 1;
            let shift = (first + self.before) / self.stride;
            let real = (self.filter - tap).div_ceil(self.stride);
            let len = real.max(shift + 1);
            let tap = |i: usize| (i < real).then_some(tap + i * self.stride);
            Some(Phase {
                first,
                count,
                taps: (0..len).rev().map(tap).collect(),
                before: len - 1 - shift,
            })
        };
        (0..self.filter.min(self.stride))
            .filter_map(phase)
            .collect()
    }

    /// Whether every pixel is in a phase that has taps.
    fn is_covered(self) -> bool {
        self.filter >= self.stride
    }
}

impl TransposeConv {
    fn axes(&self, io: &Signature) -> Result<[Axis; 2], OpError> {
        let [_, filter_h, filter_w, _] = io.input(WEIGHTS)?.shape_n()?;
        let output = self.output_shape(io)?;
        let axis = |output: usize, filter: usize, stride: i32| -> Result<Axis, OpError> {
            let windows = self.padding.windows(output, filter, stride, 1)?;
            Ok(Axis {
                output,
                filter,
                stride: stride as usize,
                before: windows.before,
            })
        };
        Ok([
            axis(output[1], filter_h, self.stride_h)?,
            axis(output[2], filter_w, self.stride_w)?,
        ])
    }

    fn output_shape(&self, io: &Signature) -> Result<Shape, OpError> {
        let [units, _, _, filter_depth] = io.input(WEIGHTS)?.shape_n()?;
        let [batch, _, _, depth] = io.input(INPUT)?.shape_n()?;
        let wanted = io.input(SHAPE)?.integers()?;
        let shape: Option<Shape> = wanted.iter().map(|&d| usize::try_from(d).ok()).collect();
        match shape {
            Some(shape)
                if shape.len() == 4
                    && shape[0] == batch
                    && shape[3] == units
                    && depth == filter_depth =>
            {
                Ok(shape)
            }
            _ => Err(OpError::Shape(format!(
                "result {wanted:?} of batch {batch}, depth {depth} and filter {:?}",
                io.input(WEIGHTS)?.shape
            ))),
        }
    }
}

/// Weights, one row of `depth` elements to a tap, of which a phase takes `rows` and `columns`.
fn select<T: Copy>(
    weights: &[T],
    zero: T,
    [filter_h, filter_w, depth]: [usize; 3],
    rows: &[Option<usize>],
    columns: &[Option<usize>],
) -> Vec<T> {
    let mut selected = Vec::new();
    for unit in weights.chunks_exact(filter_h * filter_w * depth) {
        for row in rows {
            for column in columns {
                match (row, column) {
                    (Some(row), Some(column)) => {
                        selected
                            .extend_from_slice(&unit[(row * filter_w + column) * depth..][..depth]);
                    }
                    _ => selected.extend(std::iter::repeat_n(zero, depth)),
                }
            }
        }
    }
    selected
}

/// Some pixels of the result, ready to run.
struct Part {
    convolution: Convolution,
    rows: Phase,
    columns: Phase,
    /// Bytes of its pixels.
    len: usize,
}

impl Operator for TransposeConv {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        self.axes(io)?;
        Ok(vec![self.output_shape(io)?])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([
            Role::Plain,
            Role::Weights { axis: Some(0) },
            Role::Activation,
            Role::Bias {
                input: INPUT,
                weights: WEIGHTS,
            },
        ])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let dtype = |index| io.optional_input(index).map(|v| v.dtype);
        match (dtype(INPUT), dtype(WEIGHTS)) {
            (Some(DType::I16), Some(DType::I8)) if self.quantized_bias_type != DType::F32 => 5,
            _ if self.activation != Activation::None => 4,
            _ if io.optional_input(BIAS).is_some() => 3,
            (_, Some(DType::I8)) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let [batch, in_h, in_w, in_depth] = io.input(INPUT)?.shape_n()?;
        let sum = WeightedSum {
            io,
            input: INPUT,
            weights: WEIGHTS,
            bias: BIAS,
            activation: self.activation,
            reference: Rounding::Fixed,
            hybrid: Hybrid::new(batch, Quantizer::Asymmetric),
        };
        let [out_depth, filter_h, filter_w, _] = io.input(WEIGHTS)?.shape_n()?;
        let [vertical, horizontal] = self.axes(io)?;
        let filter = [filter_h, filter_w, in_depth];
        let background = sum.bias_only(out_depth)?;
        let pixel = background.len();
        let mut parts = Vec::new();
        for rows in vertical.phases() {
            for columns in horizontal.phases() {
                let geometry = ConvGeometry {
                    batch,
                    in_h,
                    in_w,
                    in_depth,
                    out_h: rows.count,
                    out_w: columns.count,
                    out_depth,
                    filter_h: rows.taps.len(),
                    filter_w: columns.taps.len(),
                    pad_top: rows.before,
                    pad_left: columns.before,
                    ..ConvGeometry::product(1, in_depth, out_depth)
                };
                let weights = io.input(WEIGHTS)?;
                let convolution = match (io.input(INPUT)?.dtype, weights.dtype) {
                    (DType::F32, DType::F32) => {
                        let weights =
                            select(&weights.constant()?, 0.0, filter, &rows.taps, &columns.taps);
                        sum.packed_f32(geometry, false, &weights)?
                    }
                    (DType::F32 | DType::I16, _) => {
                        let weights =
                            select(&weights.constant()?, 0, filter, &rows.taps, &columns.taps);
                        sum.packed_bytes(geometry, false, &weights)?
                    }
                    _ => {
                        let zero = sum.zero_weight()?;
                        let weights = select(
                            &weights.constant()?,
                            zero,
                            filter,
                            &rows.taps,
                            &columns.taps,
                        );
                        sum.packed_integer(geometry, &weights)?
                    }
                };
                let len = geometry.pixels() * pixel;
                parts.push(Part {
                    convolution,
                    rows: rows.clone(),
                    columns,
                    len,
                });
            }
        }
        let threads = io.threads;
        let part_scratch =
            |part: &Part| part.len.next_multiple_of(64) + part.convolution.scratch(threads);
        let scratch = parts.iter().map(part_scratch).max().unwrap_or(0);
        let is_covered = vertical.is_covered() && horizontal.is_covered();
        Ok(Kernel::with_scratch(scratch, move |run| {
            let threads = run.threads.min(threads);
            let operands = run.parts::<u8>(0);
            let input = operands.inputs.bytes(INPUT);
            if !is_covered {
                operands
                    .output
                    .chunks_exact_mut(pixel)
                    .for_each(|p| p.copy_from_slice(&background));
            }
            for part in &parts {
                let (pixels, scratch) =
                    operands.scratch.split_at_mut(part.len.next_multiple_of(64));
                let pixels = &mut pixels[..part.len];
                part.convolution
                    .run(operands.inputs, input, pixels, scratch, threads);
                for (index, pixels) in pixels.chunks_exact(part.columns.count * pixel).enumerate() {
                    let y = part.rows.first + index % part.rows.count * vertical.stride;
                    let row = (index / part.rows.count * vertical.output + y) * horizontal.output;
                    for (x, from) in pixels.chunks_exact(pixel).enumerate() {
                        let to = (row + part.columns.first + x * horizontal.stride) * pixel;
                        operands.output[to..][..pixel].copy_from_slice(from);
                    }
                }
            }
        })
        .with_copies_of([SHAPE, WEIGHTS, BIAS]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn row(op: &TransposeConv, width: i32, weights: &[f32], input: &[f32]) -> Vec<f32> {
        let shape = Case::i32([4], [1, 1, width, 1]).constant();
        let weights = Case::f32([1, 1, weights.len(), 1], weights.iter().copied()).constant();
        let input = Case::f32([1, 1, input.len(), 1], input.iter().copied());
        eval(
            op.clone(),
            &[shape, weights, input],
            Case::result(DType::F32),
        )
        .get()
    }

    #[test]
    fn f32_adds_up_overlapping_filters() {
        let op = TransposeConv {
            padding: Padding::Valid,
            stride_w: 2,
            ..TransposeConv::default()
        };
        assert_eq!(
            row(&op, 5, &[1.0, 10.0, 100.0], &[1.0, 2.0]),
            [1.0, 10.0, 102.0, 20.0, 200.0]
        );
        let op = TransposeConv {
            padding: Padding::Same,
            ..op
        };
        assert_eq!(
            row(&op, 4, &[1.0, 10.0, 100.0], &[1.0, 2.0]),
            [1.0, 10.0, 102.0, 20.0]
        );
        assert_eq!(
            row(&op, 3, &[1.0, 10.0, 100.0], &[1.0, 2.0]),
            [10.0, 102.0, 20.0]
        );
    }

    #[test]
    fn pixels_that_no_filter_reaches_are_the_bias() {
        let op = TransposeConv {
            padding: Padding::Valid,
            stride_w: 3,
            ..TransposeConv::default()
        };
        assert_eq!(
            row(&op, 6, &[1.0, 10.0], &[1.0, 2.0]),
            [1.0, 10.0, 0.0, 2.0, 20.0, 0.0]
        );
        let huge = TransposeConv {
            stride_w: i32::MAX,
            ..op
        };
        assert_eq!(row(&huge, 3, &[1.0, 10.0], &[1.0]), [1.0, 10.0, 0.0]);
    }

    #[test]
    fn int8_adds_bias_and_requantizes() {
        let shape = Case::i32([4], [1, 1, 2, 2]).constant();
        let weights = Case::i8([2, 1, 1, 1], [1, 3])
            .quantized_per_axis(0, [1.0, 2.0])
            .constant();
        let input = Case::i8([1, 1, 2, 1], [5, 2]).quantized(0.5, 1);
        let bias = Case::i32([2], [4, -1]).constant();
        let output = Case::result(DType::I8).quantized(0.5, -1);
        let result = eval(
            TransposeConv::default(),
            &[shape, weights, input, bias],
            output,
        );
        assert_eq!(result.get::<i8>(), [7, 21, 4, 3]);
    }

    #[test]
    fn rejects_a_result_of_another_depth() {
        let shape = Case::i32([4], [1, 1, 1, 3]).constant();
        let weights = Case::f32([2, 1, 1, 1], [0.0; 2]).constant();
        let inputs = [shape, weights, Case::f32([1, 1, 1, 1], [0.0])];
        let io = signature(&inputs, &[Case::result(DType::F32)]);
        assert!(matches!(
            TransposeConv::default().infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }

    #[test]
    fn rejects_weights_that_are_computed() {
        let shape = Case::i32([4], [1, 1, 1, 1]).constant();
        let inputs = [
            shape,
            Case::f32([1, 1, 1, 1], [0.0]),
            Case::f32([1, 1, 1, 1], [0.0]),
        ];
        let io = signature(&inputs, &[Case::result(DType::F32)]);
        assert!(matches!(
            TransposeConv::default().prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
