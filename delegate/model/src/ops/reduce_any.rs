//! `REDUCE_ANY`: whether any element over some axes is true.
//!
//! Input of bool, axes a constant; the axes vanish, or stay with size 1.

use super::reduction::{self, Reduction};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `REDUCE_ANY`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReduceAny {
    /// Whether reduced axes stay, with size 1.
    pub keep_dims: bool,
}

const INPUT: usize = 0;

impl Attributes for ReduceAny {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        Ok(Self {
            keep_dims: reduction::read(options),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        reduction::write(self.keep_dims)
    }
}

impl Operator for ReduceAny {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![Reduction::new(io, self.keep_dims)?.shape()])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.common_dtype(INPUT)? {
            DType::Bool => Ok(Reduction::new(io, self.keep_dims)?
                .kernel(0, |a: u8, x| u8::from(a != 0 || x != 0))),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(dtype: DType) -> [Case; 2] {
        [
            Case::new(dtype, [2, 3], &[0u8, 1, 0, 1, 1, 1]),
            Case::i32([1], [1]).constant(),
        ]
    }

    #[test]
    fn reduces_rows() {
        let output = eval(
            ReduceAny::default(),
            &operands(DType::Bool),
            Case::result(DType::Bool),
        );
        assert_eq!((&*output.shape, &*output.bytes), (&[2][..], &[1, 1][..]));
    }

    #[test]
    fn rejects_other_types() {
        let io = signature(&operands(DType::U8), &[Case::result(DType::U8)]);
        assert!(matches!(
            ReduceAny::default().prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
