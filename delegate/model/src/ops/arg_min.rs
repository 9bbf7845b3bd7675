//! `ARG_MIN`: the index of the smallest element along an axis; of several, the first.
//!
//! Operand of any shape with that axis, and a constant axis. The result has the other dimensions.

use super::extreme::{index_shapes, prepare_index};
use super::{Attributes, OpError, Operator, QuantRule, Results, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `ARG_MIN`; the result's type is what counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArgMin {
    /// The result's type, as noted by whoever wrote the file.
    pub output_type: tfl::TensorType,
}

impl Attributes for ArgMin {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_arg_min_options().cloned().unwrap_or_default();
        Ok(Self {
            output_type: options.output_type,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::ArgMinOptions(Box::new(tfl::ArgMinOptionsT {
            output_type: self.output_type,
        }))
    }
}

impl Operator for ArgMin {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        index_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        Some(QuantRule {
            roles: vec![Role::Activation, Role::Plain],
            results: Results::Plain,
        })
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::Bool) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.input(0)?.dtype {
            DType::F32 => prepare_index(io, |x: f32, best| x < best),
            DType::I8 => prepare_index(io, |x: i8, best| x < best),
            DType::U8 | DType::Bool => prepare_index(io, |x: u8, best| x < best),
            DType::I32 => prepare_index(io, |x: i32, best| x < best),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn finds_the_first_of_equals_along_any_axis() {
        let input = || Case::i8([2, 3], [5, -7, -7, 4, 1, -7]);
        let index = |axis, dtype| {
            let axis = Case::i32([], [axis]).constant();
            eval(ArgMin::default(), &[input(), axis], Case::result(dtype))
        };
        assert_eq!(index(-1, DType::I32).get::<i32>(), [1, 2]);
        let columns = index(0, DType::I64);
        assert_eq!(columns.shape, [3]);
        assert_eq!(columns.get::<i64>(), [1, 0, 0]);
    }

    #[test]
    fn rejects_an_axis_that_is_not_there_or_is_empty() {
        let infer = |shape: [usize; 2], axis| {
            let input = Case::new::<f32>(DType::F32, shape, &[]);
            let axis = Case::i32([1], [axis]).constant();
            let io = signature(&[input, axis], &[Case::result(DType::I32)]);
            ArgMin::default().infer_shapes(&io)
        };
        assert!(matches!(infer([2, 3], 2), Err(OpError::Shape(_))));
        assert!(matches!(infer([2, 3], -3), Err(OpError::Shape(_))));
        assert!(matches!(infer([2, 0], 1), Err(OpError::Shape(_))));
    }
}
