//! `CONV_2D`: each pixel of the result is `activation(bias + sum of filter * input)` under a
//! window that slides over the image.
//!
//! Input `[batch, height, width, depth]`, filter `[units, height, width, depth / groups]`, bias
//! `[units]` or absent. The filter's depth gives the number of groups.

use bantam_kernels::{ConvGeometry, Quantizer, Scaling};

use super::Activation;
use super::Padding;
use super::hybrid::{Hybrid, Rule};
use super::weighted_sum::{Rounding, WeightedSum};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `CONV_2D`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    /// How the edges are padded.
    pub padding: Padding,
    /// Rows from one window to the next.
    pub stride_h: i32,
    /// Columns from one window to the next.
    pub stride_w: i32,
    /// Rows from one tap to the next.
    pub dilation_h: i32,
    /// Columns from one tap to the next.
    pub dilation_w: i32,
    /// The fused activation.
    pub activation: Activation,
    /// The bias' type where activations are int16; float32 means not given.
    pub quantized_bias_type: DType,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self {
            padding: Padding::Same,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            activation: Activation::None,
            quantized_bias_type: DType::F32,
        }
    }
}

const INPUT: usize = 0;
const WEIGHTS: usize = 1;
const BIAS: usize = 2;

impl Attributes for Conv2d {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let o = options.as_conv_2_doptions().cloned().unwrap_or_default();
        Ok(Self {
            padding: Padding::from_code(o.padding),
            stride_h: o.stride_h,
            stride_w: o.stride_w,
            dilation_h: o.dilation_h_factor,
            dilation_w: o.dilation_w_factor,
            activation: Activation::from_code(o.fused_activation_function),
            quantized_bias_type: DType::from_code(o.quantized_bias_type),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::Conv2DOptions(Box::new(tfl::Conv2DOptionsT {
            padding: self.padding.code(),
            stride_w: self.stride_w,
            stride_h: self.stride_h,
            fused_activation_function: self.activation.code(),
            dilation_w_factor: self.dilation_w,
            dilation_h_factor: self.dilation_h,
            quantized_bias_type: self.quantized_bias_type.code(),
        }))
    }
}

impl Conv2d {
    fn geometry(&self, io: &Signature) -> Result<ConvGeometry, OpError> {
        let [batch, in_h, in_w, in_depth] = io.input(INPUT)?.shape_n()?;
        let [out_depth, filter_h, filter_w, filter_depth] = io.input(WEIGHTS)?.shape_n()?;
        let rows = self
            .padding
            .windows(in_h, filter_h, self.stride_h, self.dilation_h)?;
        let columns = self
            .padding
            .windows(in_w, filter_w, self.stride_w, self.dilation_w)?;
        if filter_depth == 0 || in_depth == 0 || !in_depth.is_multiple_of(filter_depth) {
            return Err(OpError::Shape(format!(
                "depth {in_depth} is not a multiple of the filter's depth {filter_depth}"
            )));
        }
        let groups = in_depth / filter_depth;
        if !out_depth.is_multiple_of(groups) {
            return Err(OpError::Shape(format!(
                "{out_depth} units for {groups} groups"
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
            groups,
        })
    }

    /// XNNPACK makes a product of what only mixes channels, and so each pixel is a row of its own.
    fn hybrid(&self, io: &Signature, geometry: &ConvGeometry) -> Hybrid {
        let is_product = (geometry.filter_h, geometry.filter_w, geometry.groups) == (1, 1, 1)
            && (self.stride_h, self.stride_w) == (1, 1);
        let litert = |quantizer, scaling| Rule {
            parts: geometry.batch,
            quantizer,
            scaling,
        };
        Hybrid {
            reference: if has_distinct_scales(io, WEIGHTS) {
                litert(Quantizer::Asymmetric, Scaling::WeightsFirst)
            } else {
                litert(Quantizer::Symmetric, Scaling::Together)
            },
            fast: Rule::xnnpack(if is_product {
                geometry.pixels()
            } else {
                geometry.batch
            }),
        }
    }

    fn is_grouped(io: &Signature) -> bool {
        let depth = |index| io.optional_input(index).and_then(|v| v.shape.get(3));
        depth(INPUT) != depth(WEIGHTS)
    }
}

impl Operator for Conv2d {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let g = self.geometry(io)?;
        Ok(vec![vec![g.batch, g.out_h, g.out_w, g.out_depth]])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([
            Role::Activation,
            Role::Weights { axis: Some(0) },
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
            (Some(DType::I16), Some(DType::I8)) if self.quantized_bias_type != DType::F32 => 8,
            _ if Self::is_grouped(io) => 6,
            (Some(DType::I16), Some(DType::I16)) => 4,
            (Some(DType::I8), Some(DType::I8)) => 3,
            (Some(DType::I8), Some(DType::I4)) => 7,
            (Some(DType::F32), Some(DType::I8)) if has_several_scales(io, WEIGHTS) => 5,
            (Some(DType::F32), Some(DType::I8)) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let geometry = self.geometry(io)?;
        let sum = WeightedSum {
            io,
            input: INPUT,
            weights: WEIGHTS,
            bias: BIAS,
            activation: self.activation,
            reference: Rounding::Fixed,
            hybrid: self.hybrid(io, &geometry),
        };
        sum.prepare(geometry, false)
    }
}

/// Whether operand `index` has a scale for each index of an axis.
pub(super) fn has_several_scales(io: &Signature, index: usize) -> bool {
    let quantization = io
        .optional_input(index)
        .and_then(|v| v.quantization.as_ref());
    quantization.is_some_and(|q| q.scale.len() > 1)
}

/// Whether operand `index` has scales that differ.
fn has_distinct_scales(io: &Signature, index: usize) -> bool {
    let quantization = io
        .optional_input(index)
        .and_then(|v| v.quantization.as_ref());
    quantization.is_some_and(|q| q.scale.iter().any(|scale| *scale != q.scale[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_pads_with_zeros() {
        let input = Case::f32([1, 1, 3, 1], [1.0, 2.0, 3.0]);
        let weights = Case::f32([1, 1, 3, 1], [10.0, 1.0, 100.0]).constant();
        let bias = Case::f32([1], [0.5]).constant();
        let output = eval(
            Conv2d::default(),
            &[input, weights, bias],
            Case::result(DType::F32),
        );
        assert_eq!(output.shape, [1, 1, 3, 1]);
        assert_eq!(output.get::<f32>(), [201.5, 312.5, 23.5]);
    }

    #[test]
    fn int8_ties_depend_on_the_numerics() {
        // 5 * 0.5 = 2.5; and 1.25 is 1 for a float, but 2 where it is rounded twice.
        let op = Conv2d {
            padding: Padding::Valid,
            ..Conv2d::default()
        };
        let input = Case::i8([1, 1, 1, 1], [5]).quantized(0.5, 0);
        let weights = Case::i8([2, 1, 1, 1], [1, 1])
            .quantized_per_axis(0, [1.0, 0.5])
            .constant();
        let output = [Case::result(DType::I8).quantized(1.0, 0)];
        let run = |numerics| {
            eval_with(
                numerics,
                op.clone(),
                &[input.clone(), weights.clone()],
                &output,
            )[0]
            .get::<i8>()
        };
        assert_eq!(run(Numerics::Fast), [2, 1]);
        assert_eq!(run(Numerics::Reference), [3, 2]);
    }

    #[test]
    fn weights_that_are_computed_give_the_same() {
        let input = Case::i8([1, 3, 3, 2], -9..9).quantized(0.5, 3);
        let weights = Case::i8([2, 2, 2, 1], -4..4).quantized(0.25, 0);
        let output = Case::result(DType::I8).quantized(0.3, -5);
        let constant = eval(
            Conv2d::default(),
            &[input.clone(), weights.clone().constant()],
            output.clone(),
        );
        let computed = eval(Conv2d::default(), &[input, weights], output);
        assert_eq!(constant.get::<i8>(), computed.get::<i8>());
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let shapes = |op: &Conv2d, input: [usize; 4], weights: [usize; 4]| {
            let case = |shape: [usize; 4]| Case::f32(shape, vec![0.0; shape.iter().product()]);
            op.infer_shapes(&signature(
                &[case(input), case(weights)],
                &[Case::result(DType::F32)],
            ))
        };
        let op = Conv2d::default();
        assert!(matches!(
            shapes(&op, [1, 2, 2, 3], [1, 1, 1, 2]),
            Err(OpError::Shape(_))
        ));
        assert!(matches!(
            shapes(&op, [1, 2, 2, 4], [3, 1, 1, 2]),
            Err(OpError::Shape(_))
        ));
        assert!(matches!(
            shapes(&op, [1, 2, 2, 0], [1, 1, 1, 0]),
            Err(OpError::Shape(_))
        ));
        assert!(matches!(
            shapes(&op, [1, 2, 2, 1], [1, 0, 1, 1]),
            Err(OpError::Shape(_))
        ));
        let op = Conv2d { stride_h: 0, ..op };
        assert!(matches!(
            shapes(&op, [1, 2, 2, 1], [1, 1, 1, 1]),
            Err(OpError::Attribute(_))
        ));
    }

    #[test]
    fn rejects_a_bias_of_another_length() {
        let input = Case::f32([1, 1, 1, 1], [0.0]);
        let weights = Case::f32([2, 1, 1, 1], [0.0; 2]).constant();
        let bias = Case::f32([1], [0.0]).constant();
        let io = signature(&[input, weights, bias], &[Case::result(DType::F32)]);
        assert!(matches!(
            Conv2d::default().prepare(&io),
            Err(OpError::Shape(_))
        ));
    }
}
