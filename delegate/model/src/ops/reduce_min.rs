//! `REDUCE_MIN`: the smallest element over some axes.
//!
//! Input of any shape, axes a constant; the axes vanish, or stay with size 1. Integers are
//! compared as they are stored, so input and result share scale and zero point.

use super::reduction::{self, Reduction};
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `REDUCE_MIN`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReduceMin {
    /// Whether reduced axes stay, with size 1.
    pub keep_dims: bool,
}

const INPUT: usize = 0;

impl Attributes for ReduceMin {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self {
            keep_dims: reduction::read(options),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        reduction::write(self.keep_dims)
    }
}

impl Operator for ReduceMin {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![Reduction::new(io, self.keep_dims)?.shape()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same(reduction::ROLES)
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        reduction::version(io)
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let reduction = Reduction::new(io, self.keep_dims)?;
        let dtype = io.common_dtype(INPUT)?;
        reduction::check_same_quantization(io)?;
        match dtype {
            DType::F32 => {
                Ok(reduction.kernel(f32::INFINITY, |least, x| if x < least { x } else { least }))
            }
            DType::I8 => Ok(reduction.kernel(i8::MAX, i8::min)),
            DType::U8 => Ok(reduction.kernel(u8::MAX, u8::min)),
            DType::I16 => Ok(reduction.kernel(i16::MAX, i16::min)),
            DType::I32 => Ok(reduction.kernel(i32::MAX, i32::min)),
            DType::I64 => Ok(reduction.kernel(i64::MAX, i64::min)),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn takes_the_smallest_of_each_row() {
        let input = Case::f32([2, 3], [3.0, -1.0, 2.0, -5.0, -4.0, -6.0]);
        let axes = Case::i32([1], [-1]).constant();
        let output = eval(
            ReduceMin::default(),
            &[input, axes],
            Case::result(DType::F32),
        );
        assert_eq!(output.get::<f32>(), [-1.0, -6.0]);
    }

    #[test]
    fn rejects_a_result_of_another_scale() {
        let inputs = [
            Case::i8([1], [1]).quantized(0.5, 0),
            Case::i32([1], [0]).constant(),
        ];
        let io = signature(&inputs, &[Case::result(DType::I8).quantized(0.25, 0)]);
        assert!(matches!(
            ReduceMin::default().prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
