//! `NON_MAX_SUPPRESSION_V5`: boxes in the order of their scores, but for those that overlap a better one; hard or soft suppression.
//!
//! Operands as in the module `non_max_suppression`.
//! Results: indices, their scores, and how many are valid; the others are 0.

use super::non_max_suppression as shared;
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `NON_MAX_SUPPRESSION_V5` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NonMaxSuppressionV5;

no_attributes!(NonMaxSuppressionV5, NonMaxSuppressionV5Options);

impl Operator for NonMaxSuppressionV5 {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        shared::shapes(io, true)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        shared::prepare(io, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::tensor::DType;
    use crate::testing::{Case, eval_with, signature};

    fn run(sigma: f32) -> Vec<Case> {
        let boxes = [0.0, 0.0, 2.0, 2.0, 0.0, 1.0, 2.0, 3.0];
        let inputs = [
            Case::f32([2, 4], boxes),
            Case::f32([2], [0.5, 0.9]),
            Case::i32([], [3]).constant(),
            Case::f32([], [1.0]),
            Case::f32([], [0.1]),
            Case::f32([], [sigma]),
        ];
        let results = [DType::I32, DType::F32, DType::I32].map(Case::result);
        eval_with(Numerics::Fast, NonMaxSuppressionV5, &inputs, &results)
    }

    #[test]
    fn soft_suppression_lowers_scores() {
        let hard = run(0.0);
        assert_eq!(
            (hard[0].get::<i32>(), hard[1].get::<f32>()),
            (vec![1, 0, 0], vec![0.9, 0.5, 0.0])
        );
        let soft = run(0.5);
        let lowered = 0.5 * f32::exp(-1.0 / 9.0);
        assert!((soft[1].get::<f32>()[1] - lowered).abs() < 1e-6);
        assert_eq!(soft[2].get::<i32>(), [2]);
    }

    #[test]
    fn rejects_another_type() {
        let integer = Case::i32([], [1]).constant();
        let inputs = [
            Case::f32([0, 4], []),
            Case::f32([0], []),
            integer.clone(),
            integer.clone(),
            integer.clone(),
            integer,
        ];
        let io = signature(
            &inputs,
            &[DType::I32, DType::F32, DType::I32].map(Case::result),
        );
        assert!(matches!(
            NonMaxSuppressionV5.prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
