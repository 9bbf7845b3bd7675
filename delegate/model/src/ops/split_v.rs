//! `SPLIT_V`: parts of given sizes of its input along an axis.
//!
//! Operands: input, sizes, axis; the last two are constants. One size may be -1: what remains.

use super::movement::{axis, integer, integers, size};
use super::split::{check_count, parts};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SPLIT_V`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SplitV {
    /// The number of parts.
    pub num_splits: i32,
}

const INPUT: usize = 0;
const SIZES: usize = 1;
const AXIS: usize = 2;

impl Attributes for SplitV {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_split_voptions().cloned().unwrap_or_default();
        Ok(Self {
            num_splits: options.num_splits,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SplitVOptions(Box::new(tfl::SplitVOptionsT {
            num_splits: self.num_splits,
        }))
    }
}

fn place(io: &Signature) -> Result<usize, OpError> {
    axis(integer(io, AXIS, "the axis")?, io.input(INPUT)?.shape.len())
}

impl Operator for SplitV {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        check_count(self.num_splits, io)?;
        let axis = place(io)?;
        let shape = &io.input(INPUT)?.shape;
        let wanted = integers(io, SIZES, "the sizes")?;
        let given = wanted.iter().filter(|&&len| len != -1);
        let taken = given.clone().try_fold(0usize, |sum, &len| {
            sum.checked_add(size(len, "size")?)
                .ok_or_else(|| OpError::Shape("sizes too large".into()))
        })?;
        let rest = shape[axis].checked_sub(taken);
        let (true, Some(rest)) = (wanted.len() == io.outputs.len(), rest) else {
            return Err(OpError::Shape(format!(
                "{wanted:?} do not split {shape:?} at axis {axis}"
            )));
        };
        if wanted.len() - given.count() > 1 || (rest > 0 && !wanted.contains(&-1)) {
            return Err(OpError::Shape(format!(
                "{wanted:?} do not split {shape:?} at axis {axis}"
            )));
        }
        let part = |&len: &i64| {
            let mut part = shape.clone();
            part[axis] = if len == -1 { rest } else { len as usize };
            part
        };
        Ok(wanted.iter().map(part).collect())
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
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

    fn inputs(sizes: &[i32]) -> [Case; 3] {
        let sizes = Case::i32([sizes.len()], sizes.iter().copied()).constant();
        [Case::i8([2, 4], 0..8), sizes, Case::i32([], [1]).constant()]
    }

    #[test]
    fn splits_by_sizes_and_what_remains() {
        let results = [
            Case::result(DType::I8),
            Case::result(DType::I8),
            Case::result(DType::I8),
        ];
        let op = SplitV { num_splits: 3 };
        let outputs = eval_with(Numerics::Fast, op, &inputs(&[1, -1, 0]), &results);
        assert_eq!(outputs[0].get::<i8>(), [0, 4]);
        assert_eq!(outputs[1].get::<i8>(), [1, 2, 3, 5, 6, 7]);
        assert_eq!(outputs[2].shape, [2, 0]);
    }

    #[test]
    fn rejects_sizes_that_do_not_add_up() {
        let results = [Case::result(DType::I8), Case::result(DType::I8)];
        for sizes in [
            &[1, 2][..],
            &[4, 1],
            &[-1, -1],
            &[-2, 6],
            &[5, -1],
            &[1, 1, 2],
        ] {
            let io = signature(&inputs(sizes), &results);
            assert!(
                SplitV { num_splits: 2 }.infer_shapes(&io).is_err(),
                "{sizes:?}"
            );
        }
    }
}
