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
    Anatomy, Layout, Settings, prepare_float, quant_intermediates, quant_rule,
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
