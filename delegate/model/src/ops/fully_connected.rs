//! `FULLY_CONNECTED`: `activation(input * weights transposed + bias)`.
//!
//! Input of any shape, taken as rows of `depth`; weights `[units, depth]`, bias `[units]` or
//! absent. The result is `[rows, units]`, or has the input's other dimensions.

use bantam_kernels::{ConvGeometry, Quantizer};

use super::Activation;
use super::conv_2d::has_several_scales;
use super::hybrid::Hybrid;
use super::weighted_sum::{Rounding, WeightedSum};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `FULLY_CONNECTED`.
#[derive(Debug, Clone, PartialEq)]
pub struct FullyConnected {
    /// The fused activation.
    pub activation: Activation,
    /// The order of the weights; kernels exist for the default only.
    pub weights_format: tfl::FullyConnectedOptionsWeightsFormat,
    /// Whether the result has the dimensions of the input but the last.
    pub keep_num_dims: bool,
    /// How float inputs are quantized for int8 weights.
    pub asymmetric_quantize_inputs: bool,
    /// The bias' type where activations are int16; float32 means not given.
    pub quantized_bias_type: DType,
}

impl Default for FullyConnected {
    fn default() -> Self {
        Self {
            activation: Activation::None,
            weights_format: tfl::FullyConnectedOptionsWeightsFormat::DEFAULT,
            keep_num_dims: false,
            asymmetric_quantize_inputs: false,
            quantized_bias_type: DType::F32,
        }
    }
}

const INPUT: usize = 0;
const WEIGHTS: usize = 1;
const BIAS: usize = 2;

impl Attributes for FullyConnected {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let o = options
            .as_fully_connected_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(o.fused_activation_function),
            weights_format: o.weights_format,
            keep_num_dims: o.keep_num_dims,
            asymmetric_quantize_inputs: o.asymmetric_quantize_inputs,
            quantized_bias_type: DType::from_code(o.quantized_bias_type),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::FullyConnectedOptions(Box::new(tfl::FullyConnectedOptionsT {
            fused_activation_function: self.activation.code(),
            weights_format: self.weights_format,
            keep_num_dims: self.keep_num_dims,
            asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
            quantized_bias_type: self.quantized_bias_type.code(),
        }))
    }
}

/// Rows, depth and units.
fn sizes(io: &Signature) -> Result<(usize, usize, usize), OpError> {
    let [units, depth] = io.input(WEIGHTS)?.shape_n()?;
    let len = io.input(INPUT)?.len();
    if depth == 0 || !len.is_multiple_of(depth) {
        return Err(OpError::Shape(format!(
            "{len} elements are no rows of the weights' depth {depth}"
        )));
    }
    Ok((len / depth, depth, units))
}

impl Operator for FullyConnected {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (rows, depth, units) = sizes(io)?;
        if !self.keep_num_dims {
            return Ok(vec![vec![rows, units]]);
        }
        match io.input(INPUT)?.shape.split_last() {
            Some((&last, others)) if last == depth => {
                Ok(vec![others.iter().copied().chain([units]).collect()])
            }
            _ => Err(OpError::Shape(format!(
                "input {:?} does not end with the weights' depth {depth}",
                io.input(INPUT)?.shape
            ))),
        }
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
        let shuffled = self.weights_format != tfl::FullyConnectedOptionsWeightsFormat::DEFAULT;
        match (dtype(INPUT), dtype(WEIGHTS)) {
            (Some(DType::I16), Some(DType::I4)) => 13,
            (Some(DType::F32), Some(DType::I8)) if has_several_scales(io, WEIGHTS) => 12,
            (Some(DType::I16), Some(DType::I8)) if self.quantized_bias_type != DType::F32 => 11,
            (Some(DType::I16), Some(DType::I16)) => 7,
            _ if io.inputs.len() == 2 => 6,
            _ if self.keep_num_dims => 5,
            (Some(DType::I8), Some(DType::I8)) => 4,
            (Some(DType::I8), Some(DType::I4)) => 10,
            (Some(DType::F32), Some(DType::I8)) if self.asymmetric_quantize_inputs => 9,
            (Some(DType::F32), Some(DType::I8)) => 3,
            _ if shuffled => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if self.weights_format != tfl::FullyConnectedOptionsWeightsFormat::DEFAULT {
            return Err(OpError::Attribute(format!(
                "no kernel for weights format {}",
                self.weights_format.0
            )));
        }
        let (rows, depth, units) = sizes(io)?;
        let sum = WeightedSum {
            io,
            input: INPUT,
            weights: WEIGHTS,
            bias: BIAS,
            activation: self.activation,
            reference: Rounding::Double,
            hybrid: Hybrid::new(
                rows,
                if self.asymmetric_quantize_inputs {
                    Quantizer::Asymmetric
                } else {
                    Quantizer::Symmetric
                },
            ),
        };
        sum.prepare(ConvGeometry::product(rows, depth, units), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_adds_bias_to_each_unit() {
        let input = Case::f32([1, 2], [1.0, 2.0]);
        let weights = Case::f32([2, 2], [1.0, 0.0, 3.0, 4.0]).constant();
        let bias = Case::f32([2], [10.0, 20.0]).constant();
        let output = eval(
            FullyConnected::default(),
            &[input, weights, bias],
            Case::result(DType::F32),
        );
        assert_eq!(output.get::<f32>(), [11.0, 31.0]);
    }

    #[test]
    fn int8_requantizes_to_the_output_scale() {
        // 0.5 * 3 * 0.25 * 4 = 1.5, which a scale of 0.1 and zero point of -1 store as 14.
        let input = Case::i8([1, 1], [3]).quantized(0.5, 0);
        let weights = Case::i8([1, 1], [4])
            .quantized_per_axis(0, [0.25])
            .constant();
        let output = Case::result(DType::I8).quantized(0.1, -1);
        assert_eq!(
            eval(FullyConnected::default(), &[input, weights], output).get::<i8>(),
            [14]
        );
    }

    #[test]
    fn int8_weights_may_have_a_zero_point() {
        let input = Case::i8([1, 2], [3, 1]).quantized(1.0, 0);
        let weights = Case::i8([1, 2], [127, 2]).quantized(1.0, -100);
        let output = Case::result(DType::I8).quantized(8.0, 0);
        let run = |weights| {
            eval(
                FullyConnected::default(),
                &[input.clone(), weights],
                output.clone(),
            )
            .get::<i8>()
        };
        assert_eq!(run(weights.clone()), [98]);
        assert_eq!(run(weights.constant()), [98]);
    }

    #[test]
    fn keeps_or_flattens_dimensions() {
        let shape = |keep_num_dims, depth| {
            let weights = Case::f32([5, depth], vec![0.0; 5 * depth]);
            let inputs = [Case::f32([2, 3, 4], [0.0; 24]), weights];
            let op = FullyConnected {
                keep_num_dims,
                ..FullyConnected::default()
            };
            op.infer_shapes(&signature(&inputs, &[Case::result(DType::F32)]))
        };
        assert_eq!(shape(true, 4), Ok(vec![vec![2, 3, 5]]));
        assert_eq!(shape(false, 4), Ok(vec![vec![6, 5]]));
        assert_eq!(shape(false, 12), Ok(vec![vec![2, 5]]));
        assert!(matches!(shape(true, 12), Err(OpError::Shape(_))));
        assert!(matches!(shape(false, 5), Err(OpError::Shape(_))));
        assert!(matches!(shape(false, 0), Err(OpError::Shape(_))));
    }

    #[test]
    fn rejects_shuffled_weights() {
        let op = FullyConnected {
            weights_format: tfl::FullyConnectedOptionsWeightsFormat::SHUFFLED4x16INT8,
            ..FullyConnected::default()
        };
        let inputs = [Case::f32([1, 1], [0.0]), Case::f32([1, 1], [0.0])];
        let io = signature(&inputs, &[Case::result(DType::F32)]);
        assert!(matches!(op.prepare(&io), Err(OpError::Attribute(_))));
    }
}
