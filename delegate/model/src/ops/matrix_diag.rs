//! `MATRIX_DIAG`: the last axis as the diagonal of square matrices, zeros beside it.
//!
//! Zeros are 0 as it is stored, so that quantized operands need the zero point 0.

use super::movement::element_size;
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `MATRIX_DIAG` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MatrixDiag;

no_attributes!(MatrixDiag, MatrixDiagOptions);

const INPUT: usize = 0;

/// Copies the elements of `diagonal`, of `size` bytes, to the diagonals of the matrices in `output`.
pub(super) fn set_diagonals(
    diagonal: &[u8],
    output: &mut [u8],
    size: usize,
    rows: usize,
    columns: usize,
) {
    let len = rows.min(columns) * size;
    let matrices = output.chunks_exact_mut(rows * columns * size);
    for (matrix, diagonal) in matrices.zip(diagonal.chunks_exact(len)) {
        let places = matrix.chunks_mut((columns + 1) * size);
        for (place, element) in places.zip(diagonal.chunks_exact(size)) {
            place[..size].copy_from_slice(element);
        }
    }
}

impl Operator for MatrixDiag {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let mut shape = io.input(INPUT)?.shape.clone();
        shape.push(
            *shape
                .last()
                .ok_or_else(|| OpError::Shape("a scalar is no diagonal".into()))?,
        );
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::symmetric([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let size = element_size(input, output)?;
        let side = input.shape.last().copied().unwrap_or(0);
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            parts.output.fill(0);
            set_diagonals(parts.inputs.bytes(INPUT), parts.output, size, side, side);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn makes_a_matrix_of_each_row() {
        let output = eval(
            MatrixDiag,
            &[Case::i32([2, 2], [1, 2, 3, 4])],
            Case::result(DType::I32),
        );
        assert_eq!(
            (&*output.shape, output.get()),
            (&[2, 2, 2][..], vec![1i32, 0, 0, 2, 3, 0, 0, 4])
        );
    }

    #[test]
    fn rejects_scalars() {
        let io = signature(&[Case::i8([], [0])], &[Case::result(DType::I8)]);
        assert!(matches!(
            MatrixDiag.infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
