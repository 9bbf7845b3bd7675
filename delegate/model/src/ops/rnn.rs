//! `RNN`: one step of `h = activation(W x + R h + b)`.
//!
//! Operands: 0 input `[batch, inputs]`, 1 weights `[units, inputs]`, 2 recurrent weights
//! `[units, units]`, 3 bias `[units]`, 4 the state, a variable `[batch, units]`.

use super::recurrent::Sequence;
use super::rnn_cell::{Layout, Settings, prepare_single, version};
use super::{Activation, Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `RNN`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rnn {
    /// Of the result.
    pub activation: Activation,
    /// Whether products with int8 weights quantize float activations asymmetrically.
    pub asymmetric_quantize_inputs: bool,
}

impl Attributes for Rnn {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_rnnoptions().cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            asymmetric_quantize_inputs: options.asymmetric_quantize_inputs,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::RNNOptions(Box::new(tfl::RNNOptionsT {
            fused_activation_function: self.activation.code(),
            asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
        }))
    }
}

impl Operator for Rnn {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (sequence, _) = Sequence::single(io.input(0)?)?;
        Ok(vec![vec![sequence.batch, Layout::SINGLE.units(io)?]])
    }

    fn version(&self, io: &Signature) -> i32 {
        version(io, self.asymmetric_quantize_inputs)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (sequence, depth) = Sequence::single(io.input(0)?)?;
        let settings = Settings {
            activation: self.activation,
            asymmetric: self.asymmetric_quantize_inputs,
        };
        prepare_single(io, settings, sequence, depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval};

    #[test]
    fn one_step_from_zero_is_a_fully_connected_layer() {
        let operands = [
            Case::f32([2, 2], [1.0, 2.0, -3.0, 4.0]),
            Case::f32([1, 2], [0.5, -1.0]).constant(),
            Case::f32([1, 1], [7.0]).constant(),
            Case::f32([1], [1.0]).constant(),
            Case::variable::<f32>(DType::F32, [2, 1]),
        ];
        let output = eval(Rnn::default(), &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-0.5, -4.5]);
    }
}
