//! `UNIDIRECTIONAL_SEQUENCE_RNN`: `h = activation(W x + R h + b)` over all time steps of a
//! sequence.
//!
//! Operands: 0 input `[batch, time, inputs]` (`[time, batch, inputs]` where time comes first),
//! 1 weights `[units, inputs]`, 2 recurrent weights `[units, units]`, 3 bias `[units]`, 4 the
//! state, a variable `[batch, units]`.

use super::recurrent::Sequence;
use super::rnn_cell::{Layout, Settings, prepare_single, version};
use super::{Activation, Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `UNIDIRECTIONAL_SEQUENCE_RNN`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UnidirectionalSequenceRnn {
    /// Of the result.
    pub activation: Activation,
    /// Whether the first dimension is time and the second the batch.
    pub time_major: bool,
    /// Whether products with int8 weights quantize float activations asymmetrically.
    pub asymmetric_quantize_inputs: bool,
}

impl Attributes for UnidirectionalSequenceRnn {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_sequence_rnnoptions()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            time_major: options.time_major,
            asymmetric_quantize_inputs: options.asymmetric_quantize_inputs,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SequenceRNNOptions(Box::new(tfl::SequenceRNNOptionsT {
            fused_activation_function: self.activation.code(),
            time_major: self.time_major,
            asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
        }))
    }
}

impl Operator for UnidirectionalSequenceRnn {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (sequence, _) = Sequence::of(io.input(0)?, self.time_major)?;
        Ok(vec![sequence.shape(Layout::SINGLE.units(io)?)])
    }

    fn version(&self, io: &Signature) -> i32 {
        version(io, self.asymmetric_quantize_inputs)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (sequence, depth) = Sequence::of(io.input(0)?, self.time_major)?;
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
    fn either_order_of_dimensions_gives_the_same_steps() {
        for (time_major, shape, values) in [
            (false, [2, 3, 1], [1.0, 2.0, 3.0, -1.0, -2.0, -4.0]),
            (true, [3, 2, 1], [1.0, -1.0, 2.0, -2.0, 3.0, -4.0]),
        ] {
            let operands = [
                Case::f32(shape, values),
                Case::f32([1, 1], [1.0]).constant(),
                Case::f32([1, 1], [1.0]).constant(),
                Case::f32([1], [0.0]).constant(),
                Case::variable::<f32>(DType::F32, [2, 1]),
            ];
            let op = UnidirectionalSequenceRnn {
                time_major,
                ..UnidirectionalSequenceRnn::default()
            };
            let mut sums = eval(op, &operands, Case::result(DType::F32)).get::<f32>();
            sums.sort_by(f32::total_cmp);
            assert_eq!(sums, [-7.0, -3.0, -1.0, 1.0, 3.0, 6.0]);
        }
    }
}
