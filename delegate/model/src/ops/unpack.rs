//! `UNPACK`: a result for each index of an axis, without that axis.

use super::movement::axis;
use super::split::{check_count, parts};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `UNPACK`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Unpack {
    /// The number of results.
    pub num: i32,
    /// The axis, counted from the end if negative.
    pub axis: i32,
}

const INPUT: usize = 0;

impl Attributes for Unpack {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_unpack_options().cloned().unwrap_or_default();
        Ok(Self {
            num: options.num,
            axis: options.axis,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::UnpackOptions(Box::new(tfl::UnpackOptionsT {
            num: self.num,
            axis: self.axis,
        }))
    }
}

impl Unpack {
    fn axis(&self, io: &Signature) -> Result<usize, OpError> {
        axis(self.axis.into(), io.input(INPUT)?.shape.len())
    }
}

impl Operator for Unpack {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        check_count(self.num, io)?;
        let (mut shape, count) = (io.input(INPUT)?.shape.clone(), io.outputs.len());
        let len = shape.remove(self.axis(io)?);
        if len != count {
            return Err(OpError::Shape(format!(
                "{count} outputs for an axis of {len}"
            )));
        }
        Ok(vec![shape; count])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::F16 | DType::BF16) => 5,
            Ok(DType::I16) => 4,
            Ok(DType::Bool) => 3,
            Ok(DType::I8 | DType::U8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        parts(io, INPUT, self.axis(io)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval_with, signature};

    #[test]
    fn takes_columns_apart() {
        let results = [Case::result(DType::I8), Case::result(DType::I8)];
        let op = Unpack { num: 2, axis: -1 };
        let outputs = eval_with(Numerics::Fast, op, &[Case::i8([2, 2], 0..4)], &results);
        assert_eq!(
            (&*outputs[0].shape, outputs[0].get()),
            (&[2][..], vec![0i8, 2])
        );
        assert_eq!(outputs[1].get::<i8>(), [1, 3]);
    }

    #[test]
    fn a_vector_becomes_scalars() {
        let op = Unpack { num: 1, axis: 0 };
        let results = [Case::result(DType::I32)];
        let outputs = eval_with(Numerics::Fast, op, &[Case::i32([1], [7])], &results);
        assert_eq!(
            (outputs[0].shape.len(), outputs[0].get::<i32>()),
            (0, vec![7])
        );
    }

    #[test]
    fn rejects_scalars_and_other_numbers_of_results() {
        let results = [Case::result(DType::I8), Case::result(DType::I8)];
        let op = Unpack { num: 2, axis: 0 };
        for input in [Case::i8([3], 0..3), Case::i8([], [1])] {
            assert!(op.infer_shapes(&signature(&[input], &results)).is_err());
        }
    }
}
