//! `LSTM`: one step of an LSTM cell.
//!
//! The full kernel has the operands of UNIDIRECTIONAL_SEQUENCE_LSTM, with an input
//! `[batch, inputs]`. The basic one has 0 input `[batch, inputs]`, 1 previous output
//! `[batch, cells]`, 2 weights `[4 cells, inputs + cells]`, 3 bias `[4 cells]`, 4 previous cell
//! state `[batch, cells]`, gates in the order input, cell, forget, output; its results are the
//! output, the cell state, and two that LiteRT uses as scratch: the operands side by side and the
//! gates' sums. It copies output and cell state back to operands 1 and 4 where they are variables.

use bantam_kernels::{Isa, ProductF32};

use super::lstm_cell::{
    Anatomy, Layout, Settings, prepare_float, quant_intermediates, quant_obstacle, quant_rule,
};
use super::lstm_integer::prepare_integer;
use super::recurrent::{
    Sequence, check_sizes, constant, room, sigmoid, take, tanh, vector,
};
use super::{Activation, Attributes, Intermediate, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `LSTM`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lstm {
    /// Of the cell gate and the output.
    pub activation: Activation,
    /// The cell state is clipped to it, if above 0.
    pub cell_clip: f32,
    /// What a projection gives is clipped to it, if above 0.
    pub projection_clip: f32,
    /// Which of the two kernels, by its number in the format: 0 is full, 1 is basic.
    pub kernel: i8,
    /// Whether products with int8 weights quantize float activations asymmetrically.
    pub asymmetric_quantize_inputs: bool,
}

impl Attributes for Lstm {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_lstmoptions().cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            cell_clip: options.cell_clip,
            projection_clip: options.proj_clip,
            kernel: options.kernel_type.0,
            asymmetric_quantize_inputs: options.asymmetric_quantize_inputs,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::LSTMOptions(Box::new(tfl::LSTMOptionsT {
            fused_activation_function: self.activation.code(),
            cell_clip: self.cell_clip,
            proj_clip: self.projection_clip,
            kernel_type: tfl::LSTMKernelType(self.kernel),
            asymmetric_quantize_inputs: self.asymmetric_quantize_inputs,
        }))
    }
}

impl Operator for Lstm {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        if self.is_basic()? {
            let Basic {
                batch,
                inputs,
                cells,
            } = Basic::of(io)?;
            return Ok(vec![
                vec![batch, cells],
                vec![batch, cells],
                vec![batch, inputs + cells],
                vec![batch, 4 * cells],
            ]);
        }
        let (anatomy, sequence) = anatomy(io)?;
        Ok(vec![vec![sequence.batch, anatomy.outputs]])
    }

    fn intermediate_shapes(&self, io: &Signature) -> Vec<Shape> {
        match (self.is_basic(), anatomy(io)) {
            (Ok(false), Ok((anatomy, sequence))) => anatomy.intermediate_shapes(sequence.rows()),
            _ => Vec::new(),
        }
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        quant_rule(self.activation).filter(|_| self.is_basic() == Ok(false))
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
            _ if self.kernel == tfl::LSTMKernelType::BASIC.0 => 2,
            (Ok(DType::F32), Ok(DType::I8)) if self.asymmetric_quantize_inputs => 4,
            (Ok(DType::F32), Ok(DType::I8)) => 3,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if self.is_basic()? {
            return Basic::of(io)?.prepare(io);
        }
        let (anatomy, sequence) = anatomy(io)?;
        let settings = Settings {
            activation: self.activation,
            cell_clip: self.cell_clip,
            projection_clip: self.projection_clip,
            asymmetric: self.asymmetric_quantize_inputs,
        };
        match io.common_dtype(0)? {
            DType::F32 => prepare_float(io, anatomy, settings, sequence),
            DType::I8 if io.intermediates.len() == 5 => {
                prepare_integer(io, &anatomy, &settings, sequence)
            }
            DType::I8 => Err(OpError::Attribute(format!(
                "{} intermediates where the integer kernel has 5",
                io.intermediates.len()
            ))),
            _ => Err(io.unsupported(0)),
        }
    }
}

impl Lstm {
    fn is_basic(&self) -> Result<bool, OpError> {
        match tfl::LSTMKernelType(self.kernel) {
            tfl::LSTMKernelType::FULL => Ok(false),
            tfl::LSTMKernelType::BASIC => Ok(true),
            other => Err(OpError::Attribute(format!("LSTM kernel {}", other.0))),
        }
    }
}

fn anatomy(io: &Signature) -> Result<(Anatomy, Sequence), OpError> {
    let (sequence, depth) = Sequence::single(io.input(0)?)?;
    Ok((Anatomy::of(io, Layout::UNIDIRECTIONAL, depth)?, sequence))
}

/// The sizes of the basic kernel.
#[derive(Clone, Copy)]
struct Basic {
    batch: usize,
    inputs: usize,
    cells: usize,
}

impl Basic {
    fn of(io: &Signature) -> Result<Self, OpError> {
        let [batch, inputs] = io.input(0)?.shape_n()?;
        let [_, cells] = io.input(1)?.shape_n()?;
        for index in [1, 4] {
            let shape = &io.input(index)?.shape;
            if *shape != [batch, cells] {
                return Err(OpError::Shape(format!(
                    "state {index} of shape {shape:?} where {:?} is needed",
                    [batch, cells]
                )));
            }
        }
        let [rows, depth] = io.input(2)?.shape_n()?;
        check_sizes(&[rows, depth])?;
        if Some(rows) != cells.checked_mul(4) || Some(depth) != inputs.checked_add(cells) {
            return Err(OpError::Shape(format!(
                "weights of {rows} x {depth} do not match {inputs} inputs and {cells} cells"
            )));
        }
        Ok(Self {
            batch,
            inputs,
            cells,
        })
    }

    fn prepare(self, io: &Signature) -> Result<Kernel, OpError> {
        let Self {
            batch,
            inputs,
            cells,
        } = self;
        for index in [0, 1, 4] {
            if io.input(index)?.dtype != DType::F32 {
                return Err(io.unsupported(index));
            }
        }
        for (index, output) in io.outputs.iter().enumerate() {
            if output.dtype != DType::F32 {
                return Err(OpError::UnsupportedType {
                    what: format!("output {index}"),
                    dtype: output.dtype,
                });
            }
        }
        let (rows, depth) = (4 * cells, inputs + cells);
        let weights: Vec<f32> = constant(io, 2, DType::F32, &[rows, depth])?.constant()?;
        let bias: Vec<f32> = vector(io, 3, DType::F32, rows)?;
        let clamp = (f32::NEG_INFINITY, f32::INFINITY);
        let product = ProductF32::new(Isa::best(), (rows, depth), &weights, Some(&bias), clamp);
        let kept = [io.variable(1).ok(), io.variable(4).ok()];
        let scratch = [cells, cells, depth, rows].map(|n| room::<f32>(batch.saturating_mul(n)));
        let scratch = scratch.into_iter().fold(0, usize::saturating_add);
        Ok(Kernel::with_scratch(scratch, move |run| {
            let threads = run.threads;
            let parts = run.parts::<f32>(0);
            let [output, state, joined, sums] = self.split(parts.scratch);
            for (row, joined) in joined.chunks_exact_mut(depth).enumerate() {
                let (x, h) = joined.split_at_mut(inputs);
                x.copy_from_slice(&parts.inputs.get(0)[row * inputs..][..inputs]);
                h.copy_from_slice(&parts.inputs.get(1)[row * cells..][..cells]);
            }
            product.run(batch, joined, sums, threads);
            let previous: &[f32] = parts.inputs.get(4);
            for (unit, ((output, state), &previous)) in
                output.iter_mut().zip(state).zip(previous).enumerate()
            {
                let gate = |number: usize| sums[unit / cells * rows + number * cells + unit % cells];
                *state = sigmoid(gate(0)) * tanh(gate(1)) + sigmoid(gate(2)) * previous;
                *output = sigmoid(gate(3)) * tanh(*state);
            }
            for (index, slot) in [Some(0), Some(1), Some(2), Some(3), kept[0], kept[1]]
                .into_iter()
                .enumerate()
            {
                let Some(slot) = slot else { continue };
                let parts = run.parts::<f32>(slot);
                let values = &self.split(parts.scratch)[index % 4];
                if parts.output.len() == values.len() {
                    parts.output.copy_from_slice(values);
                }
            }
        }))
    }

    /// Output, cell state, the operands side by side, and the gates' sums.
    fn split(self, mut scratch: &mut [u8]) -> [&mut [f32]; 4] {
        let Self {
            batch,
            inputs,
            cells,
        } = self;
        [cells, cells, inputs + cells, 4 * cells].map(|n| take(&mut scratch, batch * n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval_with, signature};
    use crate::Numerics;

    fn basic(weights: Case) -> (Lstm, Vec<Case>) {
        let op = Lstm {
            kernel: tfl::LSTMKernelType::BASIC.0,
            ..Lstm::default()
        };
        let operands = vec![
            Case::f32([1, 1], [2.0]),
            Case::f32([1, 1], [0.5]),
            weights.constant(),
            Case::f32([4], [0.0; 4]).constant(),
            Case::f32([1, 1], [3.0]),
        ];
        (op, operands)
    }

    #[test]
    fn basic_kernel_gives_output_state_and_what_they_are_made_of() {
        let weights = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        let (op, operands) = basic(Case::f32([4, 2], weights));
        let results = [(); 4].map(|()| Case::result(DType::F32));
        let results = eval_with(Numerics::default(), op, &operands, &results);
        let state = 0.5 * 3f32.tanh() + 0.5 * 3.0;
        for (result, want) in results.iter().zip([&[0.5 * state.tanh()][..], &[state]]) {
            let got = result.get::<f32>();
            assert!((got[0] - want[0]).abs() < 1e-6, "{got:?} {want:?}");
        }
        assert_eq!(results[2].get::<f32>(), [2.0, 0.5]);
        assert_eq!(results[3].get::<f32>(), [0.0, 3.0, 0.0, 0.0]);
    }

    #[test]
    fn rejects_weights_that_do_not_match_and_kernels_that_do_not_exist() {
        let (op, operands) = basic(Case::f32([4, 3], [0.0; 12]));
        let io = signature(&operands, &[]);
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Shape(_))));
        let op = Lstm {
            kernel: 7,
            ..Lstm::default()
        };
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Attribute(_))));
        assert!(op.quant_rule().is_none());
    }
}
