//! `SELECT`: `output = x` where the condition holds, otherwise `y`.
//!
//! Operands: the condition, `x`, `y`. The condition is bool and has the shape of `x` and `y`, or
//! one element, or one for each index of their first dimension. `x`, `y` and the result are of any
//! one type of fixed size; quantized, they share scale and zero point.

use super::select_by;
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SELECT` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Select;

no_attributes!(Select, SelectOptions);

/// The condition's shape with as many dimensions as the values'.
fn condition_shape(io: &Signature) -> Result<Shape, OpError> {
    let (condition, x, y) = (
        &io.input(0)?.shape,
        &io.input(1)?.shape,
        &io.input(2)?.shape,
    );
    if x != y {
        return Err(OpError::Shape(format!("values of shapes {x:?} and {y:?}")));
    }
    let mut ones = vec![1; x.len()];
    match (&condition[..], ones.first_mut()) {
        (_, _) if condition == x => return Ok(condition.clone()),
        ([], _) => {}
        (&[len], Some(first)) if len == x[0] => *first = len,
        _ => {
            return Err(OpError::Shape(format!(
                "condition of shape {condition:?} for values of shape {x:?}"
            )));
        }
    }
    Ok(ones)
}

impl Operator for Select {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        condition_shape(io)?;
        Ok(vec![io.input(1)?.shape.clone()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        select_by::quant_rule()
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        select_by::quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(1) {
            Ok(x) if x.dtype == DType::U32 => 4,
            Ok(x) if x.shape.len() > 4 => 3,
            Ok(x) if x.dtype == DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let shape = &io.input(1)?.shape;
        select_by::prepare(io, shape, [&condition_shape(io)?, shape, shape])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn bools(shape: impl Into<Shape>, values: &[u8]) -> Case {
        Case::new(DType::Bool, shape, values)
    }

    fn values() -> [Case; 2] {
        [
            Case::i32([2, 2], [1, 2, 3, 4]),
            Case::i32([2, 2], [-1, -2, -3, -4]),
        ]
    }

    #[test]
    fn takes_elements_rows_or_all() {
        let select = |condition| {
            let [x, y] = values();
            eval(Select, &[condition, x, y], Case::result(DType::I32)).get::<i32>()
        };
        assert_eq!(select(bools([2, 2], &[1, 0, 0, 1])), [1, -2, -3, 4]);
        assert_eq!(select(bools([2], &[0, 1])), [-1, -2, 3, 4]);
        assert_eq!(select(bools([], &[0])), [-1, -2, -3, -4]);
    }

    #[test]
    fn rejects_a_condition_that_fits_nothing() {
        let [x, y] = values();
        let io = signature(&[bools([3], &[1; 3]), x, y], &[Case::result(DType::I32)]);
        assert!(matches!(Select.infer_shapes(&io), Err(OpError::Shape(_))));
    }
}
