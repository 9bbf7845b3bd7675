//! `ZEROS_LIKE`: zeros in the shape of its input; known when a model is planned.

use super::pointwise::unary_shapes;
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `ZEROS_LIKE` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ZerosLike;

no_attributes!(ZerosLike, ZerosLikeOptions);

const INPUT: usize = 0;

impl Operator for ZerosLike {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        match io.common_dtype(INPUT)? {
            DType::F32 | DType::I32 | DType::I64 => unary_shapes(io),
            _ => Err(io.unsupported(INPUT)),
        }
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, _: &Signature) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|run| run.parts::<u8>(0).output.fill(0)))
    }

    fn fold(&self, io: &Signature) -> Option<Vec<u8>> {
        let output = io.output(0).ok()?;
        Some(vec![0; output.dtype.byte_len(&output.shape)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn has_the_shape_of_its_input() {
        let output = eval(
            ZerosLike,
            &[Case::i32([1, 2], [3, 4])],
            Case::result(DType::I32),
        );
        assert_eq!((&*output.shape, output.get()), (&[1, 2][..], vec![0i32, 0]));
    }

    #[test]
    fn rejects_types_without_a_kernel() {
        let io = signature(&[Case::i8([1], [0])], &[Case::result(DType::I8)]);
        assert!(matches!(
            ZerosLike.infer_shapes(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
