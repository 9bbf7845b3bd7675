//! `FILL`: one element, in every place of a given shape.
//!
//! Operands: the shape, a constant, and the element, of any type; its scale and zero point are the result's.

use super::movement::{element_size, fill, integers, scale_and_zero_point, size};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `FILL` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fill;

no_attributes!(Fill, FillOptions);

const SHAPE: usize = 0;
const ELEMENT: usize = 1;

impl Operator for Fill {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let shape = integers(io, SHAPE, "the shape")?;
        Ok(vec![
            shape
                .into_iter()
                .map(|d| size(d, "dimension"))
                .collect::<Result<_, _>>()?,
        ])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Plain, Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(ELEMENT).map(|element| element.dtype) {
            Ok(DType::F16) => 4,
            Ok(DType::I8 | DType::I16) => 3,
            Ok(DType::Bool | DType::String) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (element, output) = (io.input(ELEMENT)?, io.output(0)?);
        element_size(element, output)?;
        if element.len() != 1 {
            return Err(OpError::Shape(format!(
                "an element of shape {:?}",
                element.shape
            )));
        }
        let (of, wanted) = (scale_and_zero_point(element), scale_and_zero_point(output));
        if of != wanted {
            return Err(OpError::Quantization(format!(
                "the element has {of:?} where the output has {wanted:?}"
            )));
        }
        Ok(Kernel::new(|run| {
            let parts = run.parts::<u8>(0);
            fill(parts.output, parts.inputs.bytes(ELEMENT));
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn fills_with_an_element_known_only_when_it_runs() {
        let inputs = [Case::i32([2], [2, 2]).constant(), Case::f32([], [1.5])];
        let output = eval(Fill, &inputs, Case::result(DType::F32));
        assert_eq!(
            (&*output.shape, output.get()),
            (&[2, 2][..], vec![1.5f32; 4])
        );
    }

    #[test]
    fn rejects_negative_dimensions_and_several_elements() {
        let io = |dimension, element| {
            signature(
                &[Case::i32([1], [dimension]).constant(), element],
                &[Case::result(DType::I8)],
            )
        };
        let negative = Fill.infer_shapes(&io(-1, Case::i8([], [1])));
        assert!(matches!(negative, Err(OpError::Attribute(_))));
        let several = Fill.prepare(&io(1, Case::i8([2], [1, 2])));
        assert!(matches!(several, Err(OpError::Shape(_))));
    }
}
