//! `BIDIRECTIONAL_SEQUENCE_LSTM`: two LSTM cells over a sequence, one forward in time and one
//! backward.
//!
//! Operands: 0 input; of the forward cell 1 to 17 and of the backward cell 18 to 34 what 1 to 17
//! are for UNIDIRECTIONAL_SEQUENCE_LSTM; 35 and 36 the forward, 37 and 38 the backward output and
//! cell states; 39 an auxiliary input with weights 40 to 43 and 44 to 47. Without weights, the
//! auxiliary input is the backward cell's input. Results: what each cell gives, or with
//! `merge_outputs` one result with both side by side.

use super::lstm_cell::{Anatomy, FloatPart, Layout, Settings};
use super::recurrent::{Place, Sequence};
use super::{Activation, Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

const AUXILIARY: usize = 39;

const FORWARD: Layout = Layout {
    state: 35,
    cell: 36,
    norm: None,
    auxiliary: Some(40),
    ..Layout::UNIDIRECTIONAL
};

const BACKWARD: Layout = Layout {
    input: 18,
    recurrent: 22,
    peephole: 26,
    bias: 29,
    projection: 33,
    state: 37,
    cell: 38,
    norm: None,
    auxiliary: Some(44),
};

/// Attributes of `BIDIRECTIONAL_SEQUENCE_LSTM`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BidirectionalSequenceLstm {
    /// Of the cell gate and the output.
    pub activation: Activation,
    /// The cell state is clipped to it, if above 0.
    pub cell_clip: f32,
    /// What a projection gives is clipped to it, if above 0.
    pub projection_clip: f32,
    /// Whether both cells write one result, side by side.
    pub merge_outputs: bool,
    /// Whether the first dimension is time and the second the batch.
    pub time_major: bool,
    /// Whether products with int8 weights quantize float activations asymmetrically.
    pub asymmetric_quantize_inputs: bool,
}

impl Attributes for BidirectionalSequenceLstm {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_bidirectional_sequence_lstmoptions();
        let options = options.cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            cell_clip: options.cell_clip,
            projection_clip: options.proj_clip,
            merge_outputs: options.merge_outputs,
            time_major: options.time_major,
            asymmetric_quantize_inputs: options.asymmetric_quantize_inputs,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::BidirectionalSequenceLSTMOptions(Box::new(
            tfl::BidirectionalSequenceLSTMOptionsT {
                fused_activation_function: self.activation.code(),
                cell_clip: self.cell_clip,
                proj_clip: self.projection_clip,
                merge_outputs: self.merge_outputs,
                time_major: self.time_major,
                asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
            },
        ))
    }
}

/// The two cells and what they read.
struct Both {
    sequence: Sequence,
    forward: Anatomy,
    backward: Anatomy,
    /// The auxiliary input's depth, 0 without weights for it.
    auxiliary: usize,
    backward_input: usize,
}

impl Operator for BidirectionalSequenceLstm {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let both = self.both(io)?;
        let (forward, backward) = (both.forward.outputs, both.backward.outputs);
        Ok(if self.merge_outputs {
            vec![both.sequence.shape(forward + backward)]
        } else {
            vec![both.sequence.shape(forward), both.sequence.shape(backward)]
        })
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(2).map(|w| w.dtype) {
            Ok(DType::I8) if self.asymmetric_quantize_inputs => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if io.common_dtype(0)? != DType::F32 {
            return Err(io.unsupported(0));
        }
        let Both {
            sequence,
            forward,
            backward,
            auxiliary,
            backward_input,
        } = self.both(io)?;
        let settings = Settings {
            activation: self.activation,
            cell_clip: self.cell_clip,
            projection_clip: self.projection_clip,
            asymmetric: self.asymmetric_quantize_inputs,
        };
        let places = Place::of_two(forward.outputs, backward.outputs, self.merge_outputs);
        let forward = FloatPart::new(io, forward, settings, &sequence, auxiliary)?;
        let backward = FloatPart::new(io, backward, settings, &sequence, auxiliary)?;
        let scratch = forward.scratch(&sequence).max(backward.scratch(&sequence));
        let auxiliary = (auxiliary > 0).then_some(AUXILIARY);
        Ok(Kernel::with_scratch(scratch, move |run| {
            forward.run(run, sequence, false, (0, auxiliary), places[0]);
            backward.run(run, sequence, true, (backward_input, auxiliary), places[1]);
        }))
    }
}

impl BidirectionalSequenceLstm {
    fn both(&self, io: &Signature) -> Result<Both, OpError> {
        let (sequence, depth) = Sequence::of(io.input(0)?, self.time_major)?;
        let mut both = Both {
            sequence,
            forward: Anatomy::of(io, FORWARD, depth)?,
            backward: Anatomy::of(io, BACKWARD, depth)?,
            auxiliary: 0,
            backward_input: 0,
        };
        let depth_of_auxiliary = sequence.auxiliary_depth(io, AUXILIARY)?;
        if io
            .optional_input(FORWARD.auxiliary.unwrap_or_default() + 1)
            .is_some()
        {
            both.auxiliary =
                depth_of_auxiliary.ok_or_else(|| OpError::Missing(format!("input {AUXILIARY}")))?;
        } else if let Some(found) = depth_of_auxiliary {
            if found != depth {
                return Err(OpError::Shape(format!(
                    "auxiliary input of depth {found} for weights of depth {depth}"
                )));
            }
            both.backward_input = AUXILIARY;
        }
        Ok(both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    /// Cells with all gates half open: `c = c / 2 + x / 2`, `h = c / 2`.
    fn operands() -> Vec<Case> {
        let weights = |w| Case::f32([1, 1], [w]).constant();
        let mut operands = vec![Case::f32([1, 2, 1], [4.0, 8.0])];
        for _ in 0..2 {
            operands.extend([0.0, 0.0, 1.0, 0.0].map(weights));
            operands.extend([0.0; 4].map(weights));
            operands.extend([(); 3].map(|()| Case::absent()));
            operands.extend([(); 4].map(|()| Case::f32([1], [0.0]).constant()));
            operands.extend([(); 2].map(|()| Case::absent()));
        }
        operands.extend([(); 4].map(|()| Case::variable::<f32>(DType::F32, [1, 1])));
        operands.extend([(); 9].map(|()| Case::absent()));
        operands
    }

    fn op() -> BidirectionalSequenceLstm {
        BidirectionalSequenceLstm {
            activation: Activation::None,
            cell_clip: 0.0,
            projection_clip: 0.0,
            merge_outputs: true,
            time_major: false,
            asymmetric_quantize_inputs: false,
        }
    }

    #[test]
    fn one_cell_runs_forward_and_the_other_backward() {
        let output = eval(op(), &operands(), Case::result(DType::F32));
        assert_eq!(output.shape, [1, 2, 2]);
        assert_eq!(output.get::<f32>(), [1.0, 2.0, 2.5, 2.0]);
    }

    #[test]
    fn rejects_an_auxiliary_input_of_other_steps() {
        let mut operands = operands();
        operands[AUXILIARY] = Case::f32([1, 3, 1], [0.0; 3]);
        let io = signature(&operands, &[Case::result(DType::F32)]);
        assert!(matches!(op().infer_shapes(&io), Err(OpError::Shape(_))));
    }
}
