//! `SELECT_V2`: `output = x` where the condition holds, otherwise `y`.
//!
//! Operands: the condition, which is bool, `x`, `y`, of any shapes that broadcast to each other.
//! `x`, `y` and the result are of any one type of fixed size; quantized, they share scale and zero
//! point.

use super::broadcast::broadcast_shape;
use super::select_by;
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SELECT_V2` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SelectV2;

no_attributes!(SelectV2, SelectV2Options);

fn output_shape(io: &Signature) -> Result<Shape, OpError> {
    let values = broadcast_shape(&io.input(1)?.shape, &io.input(2)?.shape)?;
    broadcast_shape(&io.input(0)?.shape, &values)
}

impl Operator for SelectV2 {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        Ok(vec![output_shape(io)?])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        select_by::quant_rule()
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        select_by::quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(1) {
            Ok(x) if x.dtype == DType::U32 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let shape = output_shape(io)?;
        let extended = |index| {
            let own = &io.input(index)?.shape;
            let mut extended = vec![1; shape.len() - own.len()];
            extended.extend(own);
            Ok(extended)
        };
        let shapes: [Shape; 3] = [extended(0)?, extended(1)?, extended(2)?];
        select_by::prepare(io, &shape, shapes.each_ref().map(|s| &s[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn bools(shape: impl Into<Shape>, values: &[u8]) -> Case {
        Case::new(DType::Bool, shape, values)
    }

    #[test]
    fn broadcasts_all_three() {
        let operands = [
            bools([2, 1, 1], &[1, 0]),
            Case::i8([3], [1, 2, 3]),
            Case::i8([2, 1], [-1, -2]),
        ];
        let output = eval(SelectV2, &operands, Case::result(DType::I8));
        assert_eq!(output.shape, [2, 2, 3]);
        assert_eq!(
            output.get::<i8>(),
            [1, 2, 3, 1, 2, 3, -1, -1, -1, -2, -2, -2]
        );
    }

    #[test]
    fn takes_a_scalar_for_each_element() {
        let operands = [
            bools([3], &[1, 0, 1]),
            Case::f32([], [5.0]),
            Case::f32([3], [1.0, 2.0, 3.0]),
        ];
        let output = eval(SelectV2, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [5.0, 2.0, 5.0]);
    }

    #[test]
    fn rejects_a_condition_that_is_not_bool() {
        let operands = [1, 2, 3].map(|x| Case::i32([1], [x]));
        let io = signature(&operands, &[Case::result(DType::I32)]);
        assert!(matches!(
            SelectV2.prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
