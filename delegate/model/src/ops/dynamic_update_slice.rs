//! `DYNAMIC_UPDATE_SLICE`: its input with a block replaced.
//!
//! Operands: input, update (of the same rank, nowhere larger), and where the update starts along each axis (int32 or
//! int64), moved so that it lies inside.

use super::movement::{Axis, Copy, element_size, read_index, strides};
use super::pointwise::unary_shapes;
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `DYNAMIC_UPDATE_SLICE` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DynamicUpdateSlice;

no_attributes!(DynamicUpdateSlice, DynamicUpdateSliceOptions);

const INPUT: usize = 0;
const UPDATE: usize = 1;
const START: usize = 2;

impl Operator for DynamicUpdateSlice {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (input, update, start) = (io.input(INPUT)?, io.input(UPDATE)?, io.input(START)?);
        let fits = update
            .shape
            .iter()
            .zip(&input.shape)
            .all(|(update, input)| update <= input);
        if update.shape.len() != input.shape.len() || !fits || start.shape != [input.shape.len()] {
            return Err(OpError::Shape(format!(
                "update of shape {:?} at {} indices in shape {:?}",
                update.shape,
                start.len(),
                input.shape
            )));
        }
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let dtype = |index| io.input(index).map(|input| input.dtype);
        match (dtype(INPUT), dtype(START)) {
            (Ok(DType::BF16), _) => 6,
            (Ok(DType::I16), _) => 4,
            (Ok(DType::F16), _) => 3,
            (_, Ok(DType::I64)) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, update, output) = (io.input(INPUT)?, io.input(UPDATE)?, io.output(0)?);
        let size = element_size(input, output)?;
        if update.dtype != input.dtype {
            return Err(io.unsupported(UPDATE));
        }
        let read = read_index(io, START)?;
        let (from, to) = (strides(update)?, strides(output)?);
        let axes = (0..from.len()).map(|d| Axis::linear(update.shape[d], from[d], to[d]));
        let copy = Copy::new(update, output, axes.collect())?;
        // How far the update can be moved along each axis, and the bytes of one step.
        let room: Vec<(i64, usize)> = (0..from.len())
            .map(|d| {
                (
                    (output.shape[d] - update.shape[d]) as i64,
                    to[d] as usize * size,
                )
            })
            .collect();
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            parts.output.copy_from_slice(parts.inputs.bytes(INPUT));
            let update = parts.inputs.bytes(UPDATE);
            let steps = room.iter().enumerate();
            let start: usize = steps
                .map(|(d, &(room, step))| {
                    read(&parts.inputs, START, d).clamp(0, room) as usize * step
                })
                .sum();
            if !update.is_empty() {
                copy.run(update, &mut parts.output[start..]);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(update: Case, start: [i32; 2]) -> [Case; 3] {
        [
            Case::i8([2, 3], [1, 2, 3, 4, 5, 6]),
            update,
            Case::i32([2], start),
        ]
    }

    #[test]
    fn replaces_a_block() {
        let update = || Case::i8([2, 1], [-1, -2]);
        let output = eval(
            DynamicUpdateSlice,
            &operands(update(), [0, 1]),
            Case::result(DType::I8),
        );
        assert_eq!(output.get::<i8>(), [1, -1, 3, 4, -2, 6]);
        let output = eval(
            DynamicUpdateSlice,
            &operands(update(), [-7, 9]),
            Case::result(DType::I8),
        );
        assert_eq!(output.get::<i8>(), [1, 2, -1, 4, 5, -2]);
    }

    #[test]
    fn an_empty_update_changes_nothing() {
        let output = eval(
            DynamicUpdateSlice,
            &operands(Case::i8([0, 1], []), [9, 9]),
            Case::result(DType::I8),
        );
        assert_eq!(output.get::<i8>(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn rejects_updates_that_are_too_large() {
        for shape in [vec![2, 4], vec![2]] {
            let update = Case {
                shape,
                ..Case::i8([1], [0])
            };
            let io = signature(&operands(update, [0, 0]), &[Case::result(DType::I8)]);
            assert!(matches!(
                DynamicUpdateSlice.infer_shapes(&io),
                Err(OpError::Shape(_))
            ));
        }
    }
}
