//! `BIDIRECTIONAL_SEQUENCE_RNN`: `h = activation(W x + R h + b)` over a sequence, in one cell
//! forward in time and in another backward.
//!
//! Operands: 0 input; of the forward cell 1 to 4 and of the backward cell 5 to 8 what 1 to 4 are
//! for UNIDIRECTIONAL_SEQUENCE_RNN; 9 an auxiliary input with weights 10 and 11. Without weights,
//! the auxiliary input is the backward cell's input. Results: what each cell gives, or with
//! `merge_outputs` one result with both side by side.
//!
//! LiteRT's kernel differs where it has slips: batch-major, it gives the backward cell the first
//! input in any case; time-major, it steps through the auxiliary input by the first input's depth,
//! and its hybrid form runs over the sequence as often as the sequence is long.

use super::recurrent::{Place, Sequence};
use super::rnn_cell::{Cell, Layout, Settings, version};
use super::{Activation, Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

const AUXILIARY: usize = 9;

const FORWARD: Layout = Layout {
    weights: 1,
    auxiliary: 10,
};

const BACKWARD: Layout = Layout {
    weights: 5,
    auxiliary: 11,
};

/// Attributes of `BIDIRECTIONAL_SEQUENCE_RNN`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BidirectionalSequenceRnn {
    /// Of the results.
    pub activation: Activation,
    /// Whether the first dimension is time and the second the batch.
    pub time_major: bool,
    /// Whether both cells write one result, side by side.
    pub merge_outputs: bool,
    /// Whether products with int8 weights quantize float activations asymmetrically.
    pub asymmetric_quantize_inputs: bool,
}

impl Attributes for BidirectionalSequenceRnn {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_bidirectional_sequence_rnnoptions();
        let options = options.cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            time_major: options.time_major,
            merge_outputs: options.merge_outputs,
            asymmetric_quantize_inputs: options.asymmetric_quantize_inputs,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::BidirectionalSequenceRNNOptions(Box::new(
            tfl::BidirectionalSequenceRNNOptionsT {
                fused_activation_function: self.activation.code(),
                time_major: self.time_major,
                merge_outputs: self.merge_outputs,
                asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
            },
        ))
    }
}

impl Operator for BidirectionalSequenceRnn {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (sequence, _) = Sequence::of(io.input(0)?, self.time_major)?;
        let (forward, backward) = (FORWARD.units(io)?, BACKWARD.units(io)?);
        Ok(if self.merge_outputs {
            let merged = forward.checked_add(backward);
            let merged = merged.ok_or_else(|| OpError::Shape("units overflow".into()))?;
            vec![sequence.shape(merged)]
        } else {
            vec![sequence.shape(forward), sequence.shape(backward)]
        })
    }

    fn version(&self, io: &Signature) -> i32 {
        version(io, self.asymmetric_quantize_inputs)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if io.common_dtype(0)? != DType::F32 {
            return Err(io.unsupported(0));
        }
        let (sequence, depth) = Sequence::of(io.input(0)?, self.time_major)?;
        let auxiliary = sequence.auxiliary_depth(io, AUXILIARY)?;
        let has_weights = io.optional_input(FORWARD.auxiliary).is_some();
        let backward_input = match (auxiliary, has_weights) {
            (Some(found), false) if found != depth => {
                return Err(OpError::Shape(format!(
                    "auxiliary input of depth {found} for weights of depth {depth}"
                )));
            }
            (Some(_), false) => AUXILIARY,
            (None, true) => return Err(OpError::Missing(format!("input {AUXILIARY}"))),
            _ => 0,
        };
        let auxiliary = auxiliary.filter(|_| has_weights);
        let settings = Settings {
            activation: self.activation,
            asymmetric: self.asymmetric_quantize_inputs,
        };
        let cell = |layout| {
            let depths = (depth, auxiliary.unwrap_or(0));
            Cell::new(io, layout, settings, &sequence, depths)
        };
        let (forward, backward) = (cell(FORWARD)?, cell(BACKWARD)?);
        let units = (FORWARD.units(io)?, BACKWARD.units(io)?);
        let places = Place::of_two(units.0, units.1, self.merge_outputs);
        let scratch = forward.scratch(&sequence).max(backward.scratch(&sequence));
        let auxiliary = auxiliary.map(|_| AUXILIARY);
        Ok(Kernel::with_scratch(scratch, move |run| {
            forward.run(run, sequence, false, (0, auxiliary), places[0]);
            backward.run(run, sequence, true, (backward_input, auxiliary), places[1]);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Numerics;
    use crate::testing::{Case, eval, eval_with};

    fn operands(auxiliary: Case) -> Vec<Case> {
        let cell = || {
            [
                Case::f32([1, 1], [1.0]).constant(),
                Case::f32([1, 1], [1.0]).constant(),
                Case::f32([1], [0.0]).constant(),
                Case::variable::<f32>(DType::F32, [1, 1]),
            ]
        };
        let mut operands = vec![Case::f32([1, 3, 1], [1.0, 2.0, 4.0])];
        operands.extend(cell().into_iter().chain(cell()));
        operands.extend([auxiliary, Case::absent(), Case::absent()]);
        operands
    }

    #[test]
    fn one_cell_runs_forward_and_the_other_backward() {
        let op = BidirectionalSequenceRnn::default();
        let results = [(); 2].map(|()| Case::result(DType::F32));
        let results = eval_with(Numerics::default(), op, &operands(Case::absent()), &results);
        assert_eq!(results[0].get::<f32>(), [1.0, 3.0, 7.0]);
        assert_eq!(results[1].get::<f32>(), [7.0, 6.0, 4.0]);
    }

    #[test]
    fn merged_results_stand_side_by_side() {
        let op = BidirectionalSequenceRnn {
            merge_outputs: true,
            ..BidirectionalSequenceRnn::default()
        };
        let other = Case::f32([1, 3, 1], [0.0, 0.0, 1.0]);
        let output = eval(op, &operands(other), Case::result(DType::F32));
        assert_eq!(output.shape, [1, 3, 2]);
        assert_eq!(output.get::<f32>(), [1.0, 1.0, 3.0, 1.0, 7.0, 1.0]);
    }
}
