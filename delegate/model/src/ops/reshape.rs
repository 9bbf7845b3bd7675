//! `RESHAPE`: the same elements in another shape.
//!
//! Input any shape; the new shape comes from the second operand if it is there, otherwise from
//! the options. One dimension may be -1: what remains.

use super::movement::unchanged;
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `RESHAPE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reshape {
    /// The new shape, where no operand gives it.
    pub new_shape: Option<Vec<i32>>,
}

const INPUT: usize = 0;
const SHAPE: usize = 1;

impl Attributes for Reshape {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_reshape_options();
        Ok(Self {
            new_shape: options.and_then(|o| o.new_shape.clone()),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::ReshapeOptions(Box::new(tfl::ReshapeOptionsT {
            new_shape: self.new_shape.clone(),
        }))
    }
}

impl Operator for Reshape {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let input = io.input(INPUT)?;
        let wanted: Vec<i64> = match (io.optional_input(SHAPE), &self.new_shape) {
            (Some(shape), _) if shape.data.is_some() && shape.shape.len() == 1 => {
                shape.integers()?
            }
            (_, Some(shape)) if shape.as_slice() == [0] => Vec::new(),
            (_, Some(shape)) => shape.iter().map(|&d| i64::from(d)).collect(),
            (Some(_), None) => return Err(OpError::NotConstant("the new shape".into())),
            (None, None) => return Err(OpError::Missing("the new shape".into())),
        };
        let mismatch =
            || OpError::Shape(format!("shape {:?} cannot become {wanted:?}", input.shape));
        let known = wanted
            .iter()
            .filter(|&&d| d != -1)
            .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
            .ok_or_else(mismatch)?;
        let unknown = wanted.iter().filter(|&&d| d == -1).count();
        let rest = match unknown {
            0 if known == input.len() => 0,
            1 if known > 0 && input.len().is_multiple_of(known) => input.len() / known,
            _ => return Err(mismatch()),
        };
        Ok(vec![
            wanted
                .iter()
                .map(|&d| if d == -1 { rest } else { d as usize })
                .collect(),
        ])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        unchanged(io, INPUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn fills_in_the_dimension_that_is_minus_one() {
        let op = Reshape {
            new_shape: Some(vec![3, -1]),
        };
        let input = Case::f32([2, 6], (0..12).map(|v| v as f32));
        let output = eval(op, &[input], Case::result(DType::F32));
        assert_eq!(output.shape, [3, 4]);
        assert_eq!(output.get::<f32>()[11], 11.0);
    }

    #[test]
    fn rejects_another_number_of_elements() {
        let op = Reshape {
            new_shape: Some(vec![5]),
        };
        let io = signature(&[Case::f32([2, 3], [0.0; 6])], &[Case::result(DType::F32)]);
        assert!(matches!(op.infer_shapes(&io), Err(OpError::Shape(_))));
    }

    #[test]
    fn rejects_another_type() {
        let op = Reshape {
            new_shape: Some(vec![4]),
        };
        let mut io = signature(&[Case::i8([2, 2], [0; 4])], &[Case::result(DType::F32)]);
        io.outputs[0].shape = vec![4];
        assert!(matches!(
            op.prepare(&io),
            Err(OpError::UnsupportedType { .. })
        ));
    }
}
