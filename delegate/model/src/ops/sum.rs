//! `SUM`: the sum over some axes.
//!
//! Input of any shape, axes a constant; the axes vanish, or stay with size 1. Sums of int32 and
//! int64 wrap.

use super::reduction::{self, Reduction};
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SUM`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sum {
    /// Whether reduced axes stay, with size 1.
    pub keep_dims: bool,
}

const INPUT: usize = 0;

impl Attributes for Sum {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self {
            keep_dims: reduction::read(options),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        reduction::write(self.keep_dims)
    }
}

impl Operator for Sum {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![Reduction::new(io, self.keep_dims)?.shape()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated(reduction::ROLES)
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::same(reduction::ROLES)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.optional_input(INPUT).map(|v| v.dtype) {
            Some(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let reduction = Reduction::new(io, self.keep_dims)?;
        match io.common_dtype(INPUT)? {
            DType::F32 => Ok(reduction.kernel(0.0f32, |sum, x| sum + x)),
            DType::I32 => Ok(reduction.kernel(0i32, i32::wrapping_add)),
            DType::I64 => Ok(reduction.kernel(0i64, i64::wrapping_add)),
            DType::I8 | DType::U8 | DType::I16 => reduction.quantized_sum(io, false),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn int32_wraps() {
        let input = Case::i32([2, 2], [i32::MAX, 5, 1, 6]);
        let axes = Case::i32([1], [0]).constant();
        let output = eval(Sum::default(), &[input, axes], Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [i32::MIN, 11]);
    }

    #[test]
    fn int8_saturates() {
        let input = Case::i8([2, 2], [100, 100, 3, -1]).quantized(0.5, 1);
        let axes = Case::i32([1], [1]).constant();
        let output = Case::result(DType::I8).quantized(0.5, -1);
        assert_eq!(
            eval(Sum::default(), &[input, axes], output).get::<i8>(),
            [127, -1]
        );
    }

    #[test]
    fn rejects_types_without_a_kernel() {
        let inputs = [
            Case::new::<u8>(DType::Bool, [1], &[1]),
            Case::i32([1], [0]).constant(),
        ];
        let io = signature(&inputs, &[Case::result(DType::Bool)]);
        assert!(matches!(
            Sum::default().prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
