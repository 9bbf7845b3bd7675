//! `SQUEEZE`: the same elements without dimensions of 1.
//!
//! Input any shape; the dimensions to drop come from the options, all of 1 where they name none.

use super::movement::{axis, unchanged};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// Attributes of `SQUEEZE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Squeeze {
    /// The dimensions to drop, negative ones counted from the end; none or empty for all of 1.
    pub squeeze_dims: Option<Vec<i32>>,
}

const INPUT: usize = 0;

impl Attributes for Squeeze {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_squeeze_options();
        Ok(Self {
            squeeze_dims: options.and_then(|o| o.squeeze_dims.clone()),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SqueezeOptions(Box::new(tfl::SqueezeOptionsT {
            squeeze_dims: self.squeeze_dims.clone(),
        }))
    }
}

impl Operator for Squeeze {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let shape = &io.input(INPUT)?.shape;
        let dims = self.squeeze_dims.as_deref().unwrap_or(&[]);
        let mut dropped: Vec<bool> = shape.iter().map(|&d| dims.is_empty() && d == 1).collect();
        for &dim in dims {
            let place = axis(dim.into(), shape.len())?;
            if shape[place] != 1 {
                return Err(OpError::Shape(format!(
                    "dimension {dim} of {shape:?} is not 1"
                )));
            }
            dropped[place] = true;
        }
        let kept = shape.iter().zip(dropped).filter(|(_, dropped)| !dropped);
        Ok(vec![kept.map(|(&d, _)| d).collect()])
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
        unchanged(io, INPUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    fn shape(dims: &[i32], input: &[usize]) -> Result<Vec<Shape>, OpError> {
        let io = signature(&[Case::i8(input, [])], &[Case::result(DType::I8)]);
        Squeeze {
            squeeze_dims: Some(dims.to_vec()),
        }
        .infer_shapes(&io)
    }

    #[test]
    fn keeps_the_elements() {
        let output = eval(
            Squeeze::default(),
            &[Case::i8([1, 2, 1], [3, 4])],
            Case::result(DType::I8),
        );
        assert_eq!((output.shape, output.bytes), (vec![2], vec![3, 4]));
    }

    #[test]
    fn drops_the_named_dimensions_or_all() {
        assert_eq!(shape(&[-1, 2], &[1, 2, 1]), Ok(vec![vec![1, 2]]));
        assert_eq!(shape(&[], &[1, 1]), Ok(vec![vec![]]));
    }

    #[test]
    fn rejects_a_dimension_that_is_not_1() {
        assert!(matches!(shape(&[1], &[1, 2]), Err(OpError::Shape(_))));
        assert!(matches!(shape(&[2], &[1, 2]), Err(OpError::Attribute(_))));
    }
}
