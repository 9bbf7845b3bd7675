//! `GATHER`: the slices of its input at given indices of an axis.
//!
//! Operands: input, indices (int16, int32 or int64). With `batch_dims`, the first dimensions of
//! both are the same, and each batch has its own indices. The result has the input's shape with
//! the axis replaced by the other dimensions of the indices.
//!
//! An index outside is an error where the indices are a constant. LiteRT refuses others when it
//! runs; these kernels cannot fail, and take the nearest index that is inside.

use super::movement::{axis, count, element_size, read_index};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `GATHER`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gather {
    /// The axis of the input, counted from the end if negative.
    pub axis: i32,
    /// How many first dimensions are batches, counted from the indices' end if negative.
    pub batch_dims: i32,
}

const INPUT: usize = 0;
const INDICES: usize = 1;

impl Attributes for Gather {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_gather_options().cloned().unwrap_or_default();
        Ok(Self {
            axis: options.axis,
            batch_dims: options.batch_dims,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::GatherOptions(Box::new(tfl::GatherOptionsT {
            axis: self.axis,
            batch_dims: self.batch_dims,
        }))
    }
}

impl Gather {
    /// The axis and the number of batch dimensions.
    fn dimensions(&self, input: &Value, indices: &Value) -> Result<(usize, usize), OpError> {
        let axis = axis(self.axis.into(), input.shape.len())?;
        let rank = indices.shape.len();
        let from_end = if self.batch_dims < 0 { rank as i64 } else { 0 };
        let batches = usize::try_from(i64::from(self.batch_dims) + from_end)
            .ok()
            .filter(|&batches| batches <= axis && batches <= rank)
            .ok_or_else(|| {
                let batches = self.batch_dims;
                OpError::Attribute(format!("{batches} batch dimensions of {rank}, axis {axis}"))
            })?;
        if input.shape[..batches] != indices.shape[..batches] {
            let shapes = (&input.shape, &indices.shape);
            return Err(OpError::Shape(format!(
                "batches of {:?} and {:?} differ",
                shapes.0, shapes.1
            )));
        }
        Ok((axis, batches))
    }
}

impl Operator for Gather {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (input, indices) = (io.input(INPUT)?, io.input(INDICES)?);
        let (axis, batches) = self.dimensions(input, indices)?;
        let parts = [
            &input.shape[..axis],
            &indices.shape[batches..],
            &input.shape[axis + 1..],
        ];
        Ok(vec![parts.concat()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let (Ok(input), Ok(indices)) = (io.input(INPUT), io.input(INDICES)) else {
            return 1;
        };
        match input.dtype {
            DType::I4 => 7,
            _ if indices.dtype == DType::I16 => 6,
            _ if self.batch_dims != 0 => 5,
            DType::I16 => 4,
            DType::Bool => 3,
            DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, indices) = (io.input(INPUT)?, io.input(INDICES)?);
        let size = element_size(input, io.output(0)?)?;
        let (axis, batch_dims) = self.dimensions(input, indices)?;
        let too_large = || OpError::Shape(format!("shape {:?} is too large", input.shape));
        let outer = count(&input.shape[batch_dims..axis])?;
        let len = input.shape[axis];
        let run_len = count(&input.shape[axis + 1..])?
            .checked_mul(size)
            .ok_or_else(too_large)?;
        let each = count(&indices.shape[batch_dims..])?;
        let block = run_len.checked_mul(len).ok_or_else(too_large)?;
        if len == 0 {
            return Err(OpError::Shape(format!(
                "axis {axis} of {:?} is empty",
                input.shape
            )));
        }
        let read = read_index(io, INDICES)?;
        if indices.data.is_some() {
            let outside = |&index: &i64| usize::try_from(index).map_or(true, |i| i >= len);
            if let Some(index) = indices.integers()?.into_iter().find(outside) {
                return Err(OpError::Shape(format!("index {index} of an axis of {len}")));
            }
        }
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            let input = parts.inputs.bytes(INPUT);
            // A block holds all slices of one batch and outer index; the result has none if any
            // count is 0, and then nothing is prepared.
            for (slot, output) in parts.output.chunks_exact_mut(run_len).enumerate() {
                let (place, slot) = (slot / each, slot % each);
                let index = read(&parts.inputs, INDICES, place / outer * each + slot);
                let index = index.clamp(0, len as i64 - 1) as usize;
                output.copy_from_slice(&input[place * block + index * run_len..][..run_len]);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn takes_columns() {
        let inputs = [Case::i8([2, 3], 0..6), Case::i32([2], [2, 0])];
        let output = eval(
            Gather {
                axis: -1,
                batch_dims: 0,
            },
            &inputs,
            Case::result(DType::I8),
        );
        assert_eq!(
            (&*output.shape, output.get()),
            (&[2, 2][..], vec![2i8, 0, 5, 3])
        );
    }

    #[test]
    fn each_batch_has_its_indices() {
        let indices = Case::new(DType::I64, [2, 1], &[1i64, 0]);
        let inputs = [Case::i8([2, 2, 2], 0..8), indices];
        let output = eval(
            Gather {
                axis: 2,
                batch_dims: 1,
            },
            &inputs,
            Case::result(DType::I8),
        );
        assert_eq!(
            (&*output.shape, output.get()),
            (&[2, 2, 1][..], vec![1i8, 3, 4, 6])
        );
    }

    #[test]
    fn clamps_indices_known_only_when_it_runs() {
        let inputs = [
            Case::i8([3], 0..3),
            Case::new(DType::I16, [2], &[-5i16, 300]),
        ];
        let output = eval(Gather::default(), &inputs, Case::result(DType::I8));
        assert_eq!(output.get::<i8>(), [0, 2]);
    }

    #[test]
    fn rejects_constants_outside_and_batches_past_the_axis() {
        for index in [-1, 3] {
            let inputs = [Case::i8([3], 0..3), Case::i32([1], [index]).constant()];
            let mut io = signature(&inputs, &[Case::result(DType::I8)]);
            io.outputs[0].shape = vec![1];
            assert!(matches!(
                Gather::default().prepare(&io),
                Err(OpError::Shape(_))
            ));
            let op = Gather {
                axis: 0,
                batch_dims: 1,
            };
            assert!(matches!(op.infer_shapes(&io), Err(OpError::Attribute(_))));
        }
    }
}
