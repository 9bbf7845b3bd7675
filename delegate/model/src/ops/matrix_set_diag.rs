//! `MATRIX_SET_DIAG`: its input, matrices in the last two axes, with other diagonals.
//!
//! The second operand holds the diagonals, as long as the shorter side. Both and the result share scale and zero point.

use super::matrix_diag::set_diagonals;
use super::movement::element_size;
use super::pointwise::unary_shapes;
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `MATRIX_SET_DIAG` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MatrixSetDiag;

no_attributes!(MatrixSetDiag, MatrixSetDiagOptions);

const INPUT: usize = 0;
const DIAGONAL: usize = 1;

impl Operator for MatrixSetDiag {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (input, diagonal) = (&io.input(INPUT)?.shape, &io.input(DIAGONAL)?.shape);
        match &**input {
            [outer @ .., rows, columns] if *diagonal == [outer, &[*rows.min(columns)]].concat() => {
                unary_shapes(io)
            }
            _ => Err(OpError::Shape(format!(
                "diagonals of shape {diagonal:?} in shape {input:?}"
            ))),
        }
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, diagonal, output) = (io.input(INPUT)?, io.input(DIAGONAL)?, io.output(0)?);
        let size = element_size(input, output)?;
        element_size(diagonal, output)?;
        let [.., rows, columns] = *input.shape else {
            return Err(OpError::Shape(format!(
                "no matrices in shape {:?}",
                input.shape
            )));
        };
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            parts.output.copy_from_slice(parts.inputs.bytes(INPUT));
            set_diagonals(
                parts.inputs.bytes(DIAGONAL),
                parts.output,
                size,
                rows,
                columns,
            );
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn sets_diagonals_of_wide_and_tall_matrices() {
        let run = |shape: [usize; 2]| {
            let inputs = [Case::i32(shape, [0; 6]), Case::i32([2], [7, 8])];
            eval(MatrixSetDiag, &inputs, Case::result(DType::I32)).get::<i32>()
        };
        assert_eq!(run([2, 3]), [7, 0, 0, 0, 8, 0]);
        assert_eq!(run([3, 2]), [7, 0, 0, 8, 0, 0]);
    }

    #[test]
    fn rejects_diagonals_of_another_length() {
        let io = signature(
            &[Case::i8([2, 3], [0; 6]), Case::i8([3], [0; 3])],
            &[Case::result(DType::I8)],
        );
        assert!(matches!(
            MatrixSetDiag.infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
