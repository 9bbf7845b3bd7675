//! `DEPTHWISE_CONV_2D`: a convolution in which each channel of the input has filters of its own.
//!
//! Input `[batch, height, width, depth]`, filter `[1, height, width, depth * multiplier]`, bias
//! `[depth * multiplier]` or absent. Output channel `c` reads input channel `c / multiplier`.

use bantam_kernels::{ConvGeometry, Quantizer, Scaling};

use super::Activation;
use super::Padding;
use super::conv_2d::has_several_scales;
use super::hybrid::{Hybrid, Rule};
use super::weighted_sum::{Rounding, WeightedSum};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `DEPTHWISE_CONV_2D`.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthwiseConv2d {
    /// How the edges are padded.
    pub padding: Padding,
    /// Rows from one window to the next.
    pub stride_h: i32,
    /// Columns from one window to the next.
    pub stride_w: i32,
    /// Output channels to an input channel. Redundant: the shapes decide, as in LiteRT.
    pub depth_multiplier: i32,
    /// Rows from one tap to the next.
    pub dilation_h: i32,
    /// Columns from one tap to the next.
    pub dilation_w: i32,
    /// The fused activation.
    pub activation: Activation,
}

impl Default for DepthwiseConv2d {
    fn default() -> Self {
        Self {
            padding: Padding::Same,
            stride_h: 1,
            stride_w: 1,
            depth_multiplier: 1,
            dilation_h: 1,
            dilation_w: 1,
            activation: Activation::None,
        }
    }
}

const INPUT: usize = 0;
const WEIGHTS: usize = 1;
const BIAS: usize = 2;

impl Attributes for DepthwiseConv2d {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let o = options
            .as_depthwise_conv_2_doptions()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            padding: Padding::from_code(o.padding),
            stride_h: o.stride_h,
            stride_w: o.stride_w,
            depth_multiplier: o.depth_multiplier,
            dilation_h: o.dilation_h_factor,
            dilation_w: o.dilation_w_factor,
            activation: Activation::from_code(o.fused_activation_function),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::DepthwiseConv2DOptions(Box::new(tfl::DepthwiseConv2DOptionsT {
            padding: self.padding.code(),
            stride_w: self.stride_w,
            stride_h: self.stride_h,
            depth_multiplier: self.depth_multiplier,
            fused_activation_function: self.activation.code(),
            dilation_w_factor: self.dilation_w,
            dilation_h_factor: self.dilation_h,
        }))
    }
}

impl DepthwiseConv2d {
    fn geometry(&self, io: &Signature) -> Result<ConvGeometry, OpError> {
        let [batch, in_h, in_w, in_depth] = io.input(INPUT)?.shape_n()?;
        let [one, filter_h, filter_w, out_depth] = io.input(WEIGHTS)?.shape_n()?;
        let rows = self
            .padding
            .windows(in_h, filter_h, self.stride_h, self.dilation_h)?;
        let columns = self
            .padding
            .windows(in_w, filter_w, self.stride_w, self.dilation_w)?;
        if one != 1 {
            return Err(OpError::Shape(format!(
                "the filter's first dimension is {one}, not 1"
            )));
        }
        if in_depth == 0 || !out_depth.is_multiple_of(in_depth) {
            return Err(OpError::Shape(format!(
                "the filter's depth {out_depth} is not a multiple of depth {in_depth}"
            )));
        }
        Ok(ConvGeometry {
            batch,
            in_h,
            in_w,
            in_depth,
            out_h: rows.count,
            out_w: columns.count,
            out_depth,
            filter_h,
            filter_w,
            stride_h: rows.stride,
            stride_w: columns.stride,
            dilation_h: rows.dilation,
            dilation_w: columns.dilation,
            pad_top: rows.before,
            pad_left: columns.before,
            groups: 1,
        })
    }
}

impl Operator for DepthwiseConv2d {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let g = self.geometry(io)?;
        Ok(vec![vec![g.batch, g.out_h, g.out_w, g.out_depth]])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([
            Role::Activation,
            Role::Weights { axis: Some(3) },
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
            (Some(DType::I16), Some(DType::I16)) => 5,
            (Some(DType::F32), Some(DType::I8)) if has_several_scales(io, WEIGHTS) => 6,
            (Some(DType::F32), Some(DType::I8)) => 4,
            (Some(DType::I8), Some(DType::I8)) => 3,
            (Some(DType::I8), Some(DType::I4)) => 7,
            _ if (self.dilation_h, self.dilation_w) != (1, 1) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let geometry = self.geometry(io)?;
        let reference = Rule::litert(geometry.batch, Quantizer::Asymmetric);
        let sum = WeightedSum {
            io,
            input: INPUT,
            weights: WEIGHTS,
            bias: BIAS,
            activation: self.activation,
            reference: Rounding::Fixed,
            hybrid: Hybrid {
                reference,
                // XNNPACK leaves it to LiteRT's optimized kernel.
                fast: Rule {
                    scaling: Scaling::WeightsFirst,
                    ..reference
                },
            },
        };
        sum.prepare(geometry, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_keeps_channels_apart() {
        let input = Case::f32([1, 1, 2, 2], [1.0, 2.0, 3.0, 4.0]);
        let weights = Case::f32([1, 1, 2, 2], [1.0, 10.0, 100.0, 1000.0]).constant();
        let op = DepthwiseConv2d {
            padding: Padding::Valid,
            ..DepthwiseConv2d::default()
        };
        let output = eval(op, &[input, weights], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [301.0, 4020.0]);
    }

    #[test]
    fn multiplier_gives_each_channel_several_filters() {
        let input = Case::i8([1, 1, 1, 2], [3, 5]).quantized(1.0, 1);
        let weights = Case::i8([1, 1, 1, 4], [1, 2, 3, 4])
            .quantized(1.0, 0)
            .constant();
        let output = Case::result(DType::I8).quantized(1.0, -1);
        let op = DepthwiseConv2d {
            depth_multiplier: 2,
            ..DepthwiseConv2d::default()
        };
        assert_eq!(
            eval(op, &[input, weights], output).get::<i8>(),
            [1, 3, 11, 15]
        );
    }

    #[test]
    fn uint8_subtracts_the_zero_point_of_the_weights() {
        let u8s = |shape: [usize; 4], data: &[u8]| Case::new(DType::U8, shape, data);
        let input = u8s([1, 1, 1, 2], &[3, 255]).quantized(1.0, 1);
        let weights = u8s([1, 1, 1, 2], &[10, 0]).quantized(0.5, 4).constant();
        let output = Case::result(DType::U8).quantized(4.0, 200);
        let result = eval(DepthwiseConv2d::default(), &[input, weights], output);
        assert_eq!(result.get::<u8>(), [202, 73]);
    }

    #[test]
    fn hybrid_results_depend_on_the_order_of_scales_in_the_last_bit() {
        let input = Case::f32([1, 1, 1, 5], [0.1, 0.2, 0.3, 0.4, 0.55]);
        let weights = [77i8, -5, 100, 3, 99];
        let scales = [0.1f32, 0.3, 0.7, 0.013, 0.0077];
        let operands = [
            input,
            Case::i8([1, 1, 1, 5], weights)
                .quantized_per_axis(3, scales)
                .constant(),
        ];
        let run = |numerics| {
            let op = DepthwiseConv2d::default();
            let output = [Case::result(DType::F32)];
            eval_with(numerics, op, &operands, &output)[0].get::<f32>()
        };
        let row = 0.55f32 / 255.0;
        let steps = [46, 93, 139, 185, 255];
        let sums: [f32; 5] = std::array::from_fn(|c| (steps[c] * i32::from(weights[c])) as f32);
        let together = std::array::from_fn(|c| sums[c] * (row * scales[c]));
        let fours: [f32; 5] = std::array::from_fn(|c| match c {
            4 => sums[c] * row * scales[c],
            _ => sums[c] * scales[c] * row,
        });
        assert_ne!(together, fours);
        assert_eq!(run(Numerics::Reference), together);
        assert_eq!(run(Numerics::Fast), fours);
    }

    #[test]
    fn rejects_a_depth_that_is_no_multiple() {
        let input = Case::f32([1, 1, 1, 2], [0.0; 2]);
        let weights = Case::f32([1, 1, 1, 3], [0.0; 3]);
        let io = signature(&[input, weights], &[Case::result(DType::F32)]);
        assert!(matches!(
            DepthwiseConv2d::default().infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
