//! `REVERSE_SEQUENCE`: the first elements of each sequence in reverse order.
//!
//! Operands: input, and how many elements of each sequence to reverse (int32 or int64), one for each batch. LiteRT refuses
//! a length beyond the sequence when it runs; these kernels cannot fail, and reverse the whole sequence.

use super::movement::{axis, count, element_size, read_index};
use super::pointwise::unary_shapes;
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `REVERSE_SEQUENCE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReverseSequence {
    /// The axis along which sequences run.
    pub seq_dim: i32,
    /// The axis of the batches.
    pub batch_dim: i32,
}

const INPUT: usize = 0;
const LENGTHS: usize = 1;

impl Attributes for ReverseSequence {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_reverse_sequence_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            seq_dim: options.seq_dim,
            batch_dim: options.batch_dim,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::ReverseSequenceOptions(Box::new(tfl::ReverseSequenceOptionsT {
            seq_dim: self.seq_dim,
            batch_dim: self.batch_dim,
        }))
    }
}

impl Operator for ReverseSequence {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, lengths) = (io.input(INPUT)?, io.input(LENGTHS)?);
        let (sequence, batch) = (
            axis(self.seq_dim.into(), input.shape.len())?,
            axis(self.batch_dim.into(), input.shape.len())?,
        );
        if sequence == batch || lengths.shape != [input.shape[batch]] {
            return Err(OpError::Shape(format!(
                "lengths of shape {:?} for batches along {batch}, sequences along {sequence} of {:?}",
                lengths.shape, input.shape
            )));
        }
        if !matches!(
            input.dtype,
            DType::F32 | DType::U8 | DType::I16 | DType::I32 | DType::I64
        ) {
            return Err(io.unsupported(INPUT));
        }
        if lengths.dtype == DType::I16 {
            return Err(io.unsupported(LENGTHS));
        }
        let read = read_index(io, LENGTHS)?;
        let last = sequence.max(batch);
        let run_len = count(&input.shape[last + 1..])? * element_size(input, io.output(0)?)?;
        // What the number of a run holds of either axis: how many runs one step takes, and the steps.
        let place = |axis: usize| Ok((count(&input.shape[axis + 1..=last])?, input.shape[axis]));
        let ((step, len), (batch_step, batches)) = (place(sequence)?, place(batch)?);
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            let input = parts.inputs.bytes(INPUT);
            for (run, output) in parts.output.chunks_exact_mut(run_len).enumerate() {
                let at = run / step % len;
                let reversed = read(&parts.inputs, LENGTHS, run / batch_step % batches)
                    .clamp(0, len as i64) as usize;
                let from = if at < reversed {
                    run + (reversed - 1) * step - 2 * (at * step)
                } else {
                    run
                };
                output.copy_from_slice(&input[from * run_len..][..run_len]);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn reverses_the_start_of_each_sequence() {
        let inputs = [Case::i32([2, 4], 0..8), Case::i32([2], [3, 9])];
        let op = ReverseSequence {
            seq_dim: 1,
            batch_dim: 0,
        };
        assert_eq!(
            eval(op, &inputs, Case::result(DType::I32)).get::<i32>(),
            [2, 1, 0, 3, 7, 6, 5, 4]
        );
        let inputs = [Case::i32([3, 2], 0..6), Case::i32([2], [2, 0])];
        let op = ReverseSequence {
            seq_dim: 0,
            batch_dim: 1,
        };
        assert_eq!(
            eval(op, &inputs, Case::result(DType::I32)).get::<i32>(),
            [2, 1, 0, 3, 4, 5]
        );
    }

    #[test]
    fn rejects_one_axis_for_both_and_missing_lengths() {
        let prepare = |seq_dim, lengths| {
            let io = signature(
                &[Case::i32([2, 4], 0..8), lengths],
                &[Case::result(DType::I32)],
            );
            ReverseSequence {
                seq_dim,
                batch_dim: 0,
            }
            .prepare(&io)
        };
        assert!(matches!(
            prepare(0, Case::i32([2], [1, 1])),
            Err(OpError::Shape(_))
        ));
        assert!(matches!(
            prepare(1, Case::i32([1], [1])),
            Err(OpError::Shape(_))
        ));
    }
}
