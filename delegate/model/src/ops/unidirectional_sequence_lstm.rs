//! `UNIDIRECTIONAL_SEQUENCE_LSTM`: an LSTM cell over all time steps of a sequence.
//!
//! Operands: 0 input `[batch, time, inputs]` (`[time, batch, inputs]` where time comes first),
//! 1 to 4 input weights `[cells, inputs]`, 5 to 8 recurrent weights `[cells, outputs]` or, as
//! diagonals, `[cells]`, 9 to 11 peephole weights `[cells]`, 12 to 15 biases `[cells]`, 16
//! projection weights `[outputs, cells]`, 17 projection bias `[outputs]`, 18 output state
//! `[batch, outputs]` and 19 cell state `[batch, cells]`, both variables, 20 to 23 coefficients of
//! layer normalization `[cells]`. Gates come in the order input, forget, cell, output; without
//! operand 1 the input gate is 1 minus the forget gate. Peepholes, projection and normalization
//! may be left out. For the arithmetic see `lstm_cell.rs` and `lstm_integer.rs`.

use super::lstm_cell::{
    Anatomy, Layout, Settings, prepare_float, quant_intermediates, quant_obstacle, quant_rule,
};
use super::lstm_integer::prepare_integer;
use super::recurrent::Sequence;
use super::{Activation, Attributes, Intermediate, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `UNIDIRECTIONAL_SEQUENCE_LSTM`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UnidirectionalSequenceLstm {
    /// Of the cell gate and the output.
    pub activation: Activation,
    /// The cell state is clipped to it, if above 0.
    pub cell_clip: f32,
    /// What a projection gives is clipped to it, if above 0.
    pub projection_clip: f32,
    /// Whether the first dimension is time and the second the batch.
    pub time_major: bool,
    /// Whether products with int8 weights quantize float activations asymmetrically.
    pub asymmetric_quantize_inputs: bool,
    /// Whether the file says that recurrent weights are diagonals; their rank decides.
    pub diagonal_recurrent_tensors: bool,
}

impl Attributes for UnidirectionalSequenceLstm {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_unidirectional_sequence_lstmoptions();
        let options = options.cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            cell_clip: options.cell_clip,
            projection_clip: options.proj_clip,
            time_major: options.time_major,
            asymmetric_quantize_inputs: options.asymmetric_quantize_inputs,
            diagonal_recurrent_tensors: options.diagonal_recurrent_tensors,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::UnidirectionalSequenceLSTMOptions(Box::new(
            tfl::UnidirectionalSequenceLSTMOptionsT {
                fused_activation_function: self.activation.code(),
                cell_clip: self.cell_clip,
                proj_clip: self.projection_clip,
                time_major: self.time_major,
                asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
                diagonal_recurrent_tensors: self.diagonal_recurrent_tensors,
            },
        ))
    }
}

impl Operator for UnidirectionalSequenceLstm {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (anatomy, sequence) = self.anatomy(io)?;
        Ok(vec![sequence.shape(anatomy.outputs)])
    }

    fn intermediate_shapes(&self, io: &Signature) -> Vec<Shape> {
        let anatomy = self.anatomy(io).ok();
        anatomy.map_or_else(Vec::new, |(anatomy, sequence)| {
            anatomy.intermediate_shapes(sequence.rows())
        })
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        quant_rule(self.activation).filter(|_| !self.diagonal_recurrent_tensors)
    }

    fn quant_obstacle(&self, given: &dyn Fn(usize) -> bool) -> Option<&'static str> {
        quant_obstacle(given)
    }

    fn quant_intermediates(&self) -> Vec<Intermediate> {
        quant_intermediates()
    }

    fn version(&self, io: &Signature) -> i32 {
        let types = (io.input(0).map(|x| x.dtype), io.input(2).map(|w| w.dtype));
        match types {
            _ if self.diagonal_recurrent_tensors => 4,
            (Ok(DType::F32), Ok(DType::I8)) if self.asymmetric_quantize_inputs => 3,
            (Ok(DType::F32), Ok(DType::I8)) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (anatomy, sequence) = self.anatomy(io)?;
        let settings = Settings {
            activation: self.activation,
            cell_clip: self.cell_clip,
            projection_clip: self.projection_clip,
            asymmetric: self.asymmetric_quantize_inputs,
        };
        match io.common_dtype(0)? {
            DType::F32 => prepare_float(io, anatomy, settings, sequence),
            DType::I8 => prepare_integer(io, &anatomy, &settings, sequence),
            _ => Err(io.unsupported(0)),
        }
    }
}

impl UnidirectionalSequenceLstm {
    fn anatomy(&self, io: &Signature) -> Result<(Anatomy, Sequence), OpError> {
        let (sequence, depth) = Sequence::of(io.input(0)?, self.time_major)?;
        Ok((Anatomy::of(io, Layout::UNIDIRECTIONAL, depth)?, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    /// One input, one cell, weights and biases of the gates input, forget, cell, output.
    fn operands(input: Case, weights: [f32; 4], bias: [f32; 4]) -> Vec<Case> {
        let mut operands = vec![input];
        operands.extend(weights.map(|w| Case::f32([1, 1], [w]).constant()));
        operands.extend([0.0; 4].map(|w| Case::f32([1, 1], [w]).constant()));
        operands.extend([(); 3].map(|()| Case::absent()));
        operands.extend(bias.map(|b| Case::f32([1], [b]).constant()));
        operands.extend([(); 2].map(|()| Case::absent()));
        operands.extend([(); 2].map(|()| Case::variable::<f32>(DType::F32, [1, 1])));
        operands.extend([(); 4].map(|()| Case::absent()));
        operands
    }

    fn op() -> UnidirectionalSequenceLstm {
        UnidirectionalSequenceLstm {
            activation: Activation::Relu,
            ..UnidirectionalSequenceLstm::default()
        }
    }

    #[test]
    fn cell_state_goes_from_step_to_step() {
        // All gates half open: c = c / 2 + x / 2, h = c / 2.
        let input = Case::f32([1, 3, 1], [4.0, 0.0, 8.0]);
        let operands = operands(input, [0.0, 0.0, 1.0, 0.0], [0.0; 4]);
        let output = eval(op(), &operands, Case::result(DType::F32));
        assert_eq!(output.shape, [1, 3, 1]);
        assert_eq!(output.get::<f32>(), [1.0, 0.5, 2.25]);
    }

    #[test]
    fn without_an_input_gate_it_is_what_is_forgotten() {
        let input = Case::f32([1, 2, 1], [4.0, 4.0]);
        let mut operands = operands(input, [0.0, 0.0, 1.0, 0.0], [0.0; 4]);
        for index in [1, 5, 12] {
            operands[index] = Case::absent();
        }
        operands[13] = Case::f32([1], [f32::INFINITY]).constant();
        let output = eval(op(), &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, 0.0]);
    }

    #[test]
    fn clips_the_cell_state() {
        let input = Case::f32([1, 1, 1], [100.0]);
        let operands = operands(input, [0.0, 0.0, 1.0, 0.0], [0.0; 4]);
        let op = UnidirectionalSequenceLstm {
            cell_clip: 3.0,
            ..op()
        };
        let output = eval(op, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [1.5]);
    }

    #[test]
    fn rejects_states_that_are_not_variables_and_what_does_not_fit() {
        let prepare = |operands: &[Case]| {
            let op = op();
            let mut io = signature(operands, &[Case::result(DType::F32)]);
            op.infer_shapes(&io).and_then(|shapes| {
                io.outputs[0].shape.clone_from(&shapes[0]);
                op.prepare(&io).map(|_| ())
            })
        };
        let good = operands(Case::f32([1, 1, 1], [1.0]), [0.0; 4], [0.0; 4]);
        assert!(prepare(&good).is_ok());
        let with = |index: usize, case: Case| {
            let mut operands = good.clone();
            operands[index] = case;
            prepare(&operands).unwrap_err()
        };
        let state = Case::f32([1, 1], [0.0]);
        assert!(matches!(with(18, state), OpError::NotVariable(_)));
        let state = Case::variable::<f32>(DType::F32, [2, 1]);
        assert!(matches!(with(19, state), OpError::Shape(_)));
        assert!(matches!(with(15, Case::absent()), OpError::Missing(_)));
        let weights = Case::f32([1, 2], [0.0; 2]).constant();
        assert!(matches!(with(3, weights), OpError::Shape(_)));
        let computed = Case::f32([1, 1], [0.0]);
        assert!(matches!(with(3, computed), OpError::UnsupportedType { .. }));
        let none = Case::f32([1, 0], []).constant();
        assert!(matches!(with(4, none), OpError::Shape(_)));
    }

    #[test]
    fn diagonals_and_other_activations_do_not_become_integer() {
        let tanh = UnidirectionalSequenceLstm {
            activation: Activation::Tanh,
            ..op()
        };
        assert!(tanh.quant_rule().is_some() && op().quant_rule().is_none());
        let diagonal = UnidirectionalSequenceLstm {
            diagonal_recurrent_tensors: true,
            ..tanh
        };
        assert!(diagonal.quant_rule().is_none());
    }
}
