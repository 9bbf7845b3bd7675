//! `SPLIT`: equal parts of its input along an axis.
//!
//! The first operand, a constant, is the axis, counted from the end if negative; the second is
//! split. There are as many results as parts.

use super::movement::{Axis, Copy, axis, integer, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SPLIT`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split {
    /// The number of parts.
    pub num_splits: i32,
}

const AXIS: usize = 0;
const INPUT: usize = 1;

impl Attributes for Split {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_split_options().cloned().unwrap_or_default();
        Ok(Self {
            num_splits: options.num_splits,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SplitOptions(Box::new(tfl::SplitOptionsT {
            num_splits: self.num_splits,
        }))
    }
}

fn place(io: &Signature) -> Result<usize, OpError> {
    axis(integer(io, AXIS, "the axis")?, io.input(INPUT)?.shape.len())
}

/// That the options name as many parts as there are results.
pub(super) fn check_count(count: i32, io: &Signature) -> Result<(), OpError> {
    if count < 1 || usize::try_from(count) != Ok(io.outputs.len()) {
        let results = io.outputs.len();
        return Err(OpError::Attribute(format!(
            "{count} parts for {results} outputs"
        )));
    }
    Ok(())
}

/// A kernel that copies to each result its part of `input`, one after the other along `axis`;
/// an axis that the results do not have is one of 1.
pub(super) fn parts(io: &Signature, input: usize, axis: usize) -> Result<Kernel, OpError> {
    let value = io.input(input)?;
    let from = strides(value)?;
    let mut start = 0;
    let mut copies = Vec::with_capacity(io.outputs.len());
    for output in &io.outputs {
        let mut part = output.clone();
        if part.shape.len() < value.shape.len() {
            part.shape.insert(axis, 1);
        }
        let to = strides(&part)?;
        let axes = (0..from.len()).map(|d| {
            let first = if d == axis { start } else { 0 };
            Axis::starting(part.shape[d], (first, from[d]), (0, to[d]))
        });
        copies.push(Copy::new(value, &part, axes.collect())?);
        start += part.shape[axis] as isize * from[axis];
    }
    Ok(Kernel::new(move |run| {
        for (output, copy) in copies.iter().enumerate() {
            let parts = run.parts::<u8>(output);
            copy.run(parts.inputs.bytes(input), parts.output);
        }
    }))
}

impl Operator for Split {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        check_count(self.num_splits, io)?;
        let (axis, count) = (place(io)?, io.outputs.len());
        let mut shape = io.input(INPUT)?.shape.clone();
        if !shape[axis].is_multiple_of(count) {
            return Err(OpError::Shape(format!(
                "{shape:?} has no {count} parts along axis {axis}"
            )));
        }
        shape[axis] /= count;
        Ok(vec![shape; count])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Plain, Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::I16) => 4,
            Ok(DType::I32) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        parts(io, INPUT, place(io)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval_with, signature};

    fn inputs(axis: i32) -> [Case; 2] {
        [Case::i32([], [axis]).constant(), Case::i8([2, 4], 0..8)]
    }

    #[test]
    fn splits_columns() {
        let results = [Case::result(DType::I8), Case::result(DType::I8)];
        let outputs = eval_with(
            Numerics::Fast,
            Split { num_splits: 2 },
            &inputs(-1),
            &results,
        );
        assert_eq!(outputs[0].get::<i8>(), [0, 1, 4, 5]);
        assert_eq!(outputs[1].get::<i8>(), [2, 3, 6, 7]);
    }

    #[test]
    fn rejects_unequal_parts_and_other_numbers_of_results() {
        let result = Case::result(DType::I8);
        let three = signature(
            &inputs(1),
            &[result.clone(), result.clone(), result.clone()],
        );
        assert!(matches!(
            Split { num_splits: 3 }.infer_shapes(&three),
            Err(OpError::Shape(_))
        ));
        for num_splits in [0, 2, i32::MAX, -1] {
            let shapes = Split { num_splits }.infer_shapes(&three);
            assert!(matches!(shapes, Err(OpError::Attribute(_))));
        }
        let none = signature(&inputs(1), &[]);
        assert!(Split { num_splits: 0 }.infer_shapes(&none).is_err());
    }
}
