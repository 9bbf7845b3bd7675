//! `NON_MAX_SUPPRESSION_V4`: boxes in the order of their scores, but for those that overlap a better one; hard suppression.
//!
//! Operands as in the module `non_max_suppression`.
//! Results: indices, and how many are valid; the others are 0.

use super::non_max_suppression as shared;
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `NON_MAX_SUPPRESSION_V4` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NonMaxSuppressionV4;

no_attributes!(NonMaxSuppressionV4, NonMaxSuppressionV4Options);

impl Operator for NonMaxSuppressionV4 {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        shared::shapes(io, false)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        shared::prepare(io, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::tensor::DType;
    use crate::testing::{Case, eval_with, signature};

    fn operands(scores: Case, most: Case) -> [Case; 5] {
        let boxes = [0.0, 0.0, 2.0, 2.0, 0.0, 0.1, 2.0, 2.1, 5.0, 5.0, 4.0, 4.0];
        [
            Case::f32([3, 4], boxes),
            scores,
            most,
            Case::f32([], [0.5]),
            Case::f32([], [0.1]),
        ]
    }

    #[test]
    fn leaves_out_what_overlaps_a_better_box() {
        let inputs = operands(
            Case::f32([3], [0.5, 0.9, 0.7]),
            Case::i32([], [4]).constant(),
        );
        let results = [Case::result(DType::I32), Case::result(DType::I32)];
        let outputs = eval_with(Numerics::Fast, NonMaxSuppressionV4, &inputs, &results);
        assert_eq!(outputs[0].get::<i32>(), [1, 2, 0, 0]);
        assert_eq!(
            (outputs[1].shape.len(), outputs[1].get::<i32>()),
            (0, vec![2])
        );
    }

    #[test]
    fn rejects_computed_numbers_and_missing_scores() {
        let infer = |inputs: &[Case]| {
            let results = [Case::result(DType::I32), Case::result(DType::I32)];
            NonMaxSuppressionV4.infer_shapes(&signature(inputs, &results))
        };
        let computed = infer(&operands(Case::f32([3], [0.0; 3]), Case::i32([], [4])));
        assert!(matches!(computed, Err(OpError::NotConstant(_))));
        let missing = infer(&operands(
            Case::f32([2], [0.0; 2]),
            Case::i32([], [4]).constant(),
        ));
        assert!(matches!(missing, Err(OpError::Shape(_))));
    }
}
