//! `LSTM`: one step of an LSTM cell.
//!
//! The full kernel has the operands of UNIDIRECTIONAL_SEQUENCE_LSTM, with an input
//! `[batch, inputs]`. The basic one has 0 input `[batch, inputs]`, 1 previous output
//! `[batch, cells]`, 2 weights `[4 cells, inputs + cells]`, 3 bias `[4 cells]`, 4 previous cell
//! state `[batch, cells]`, gates in the order input, cell, forget, output; its results are the
//! output, the cell state, and two that LiteRT uses as scratch: the operands side by side and the
//! gates' sums. It copies output and cell state back to operands 1 and 4 where they are variables.
//! It comes in float and with uint8 activations; see `lstm_basic.rs`.

use super::lstm_basic::Basic;
use super::lstm_cell::{
    Anatomy, Layout, Settings, prepare_float, quant_intermediates, quant_obstacle, quant_rule,
};
use super::lstm_integer::prepare_integer;
use super::recurrent::Sequence;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, signature};

    #[test]
    fn rejects_kernels_that_do_not_exist() {
        let io = signature(&[Case::f32([1, 1], [2.0])], &[]);
        let op = Lstm {
            kernel: 7,
            ..Lstm::default()
        };
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Attribute(_))));
        assert!(op.quant_rule().is_none());
    }
}
