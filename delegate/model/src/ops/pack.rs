//! `PACK`: its inputs, all of one shape, along a new axis.
//!
//! The axis counts in the result. Scales and zero points of inputs and result are equal.

use super::movement::{Axis, Copy, axis, scale_and_zero_point, strides};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `PACK`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pack {
    /// The number of inputs.
    pub values_count: i32,
    /// The new axis, counted from the end if negative.
    pub axis: i32,
}

impl Attributes for Pack {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_pack_options().cloned().unwrap_or_default();
        Ok(Self {
            values_count: options.values_count,
            axis: options.axis,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::PackOptions(Box::new(tfl::PackOptionsT {
            values_count: self.values_count,
            axis: self.axis,
        }))
    }
}

impl Pack {
    fn axis(&self, io: &Signature) -> Result<usize, OpError> {
        axis(self.axis.into(), io.input(0)?.shape.len() + 1)
    }
}

impl Operator for Pack {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let count = io.inputs.len();
        if usize::try_from(self.values_count) != Ok(count) {
            let values = self.values_count;
            return Err(OpError::Attribute(format!(
                "{values} values for {count} inputs"
            )));
        }
        let mut shape = io.input(0)?.shape.clone();
        for index in 1..count {
            let other = &io.input(index)?.shape;
            if *other != shape {
                return Err(OpError::Shape(format!(
                    "shapes {shape:?} and {other:?} differ"
                )));
            }
        }
        shape.insert(self.axis(io)?, count);
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|input| input.dtype) {
            Ok(DType::U32) => 4,
            Ok(DType::I16) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let axis = self.axis(io)?;
        let output = io.output(0)?;
        let mut to = strides(output)?;
        let step = to.remove(axis);
        let mut copies = Vec::with_capacity(io.inputs.len());
        for index in 0..io.inputs.len() {
            let input = io.input(index)?;
            let (of, wanted) = (scale_and_zero_point(input), scale_and_zero_point(output));
            if of != wanted {
                return Err(OpError::Quantization(format!(
                    "input {index} has {of:?} where the output has {wanted:?}"
                )));
            }
            let from = strides(input)?;
            let place = Axis::starting(1, (0, 0), (index as isize * step, 0));
            let axes = (0..from.len()).map(|d| Axis::linear(input.shape[d], from[d], to[d]));
            copies.push(Copy::new(input, output, axes.chain([place]).collect())?);
        }
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            for (index, copy) in copies.iter().enumerate() {
                copy.run(parts.inputs.bytes(index), parts.output);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn stacks_along_either_end() {
        let inputs = [Case::i8([2], [1, 2]), Case::i8([2], [3, 4])];
        for (axis, expected) in [(0, [1, 2, 3, 4]), (-1, [1, 3, 2, 4])] {
            let op = Pack {
                values_count: 2,
                axis,
            };
            assert_eq!(
                eval(op, &inputs, Case::result(DType::I8)).get::<i8>(),
                expected
            );
        }
    }

    #[test]
    fn scalars_become_a_vector() {
        let inputs = [Case::i32([], [1]), Case::i32([], [2])];
        let output = eval(
            Pack {
                values_count: 2,
                axis: 0,
            },
            &inputs,
            Case::result(DType::I32),
        );
        assert_eq!(
            (output.shape.clone(), output.get::<i32>()),
            (vec![2], vec![1, 2])
        );
    }

    #[test]
    fn rejects_other_shapes_and_counts() {
        let inputs = [Case::i8([2], [1, 2]), Case::i8([1], [3])];
        let io = signature(&inputs, &[Case::result(DType::I8)]);
        let infer = |values_count| {
            Pack {
                values_count,
                axis: 0,
            }
            .infer_shapes(&io)
        };
        assert!(matches!(infer(2), Err(OpError::Shape(_))));
        assert!(matches!(infer(3), Err(OpError::Attribute(_))));
    }
}
