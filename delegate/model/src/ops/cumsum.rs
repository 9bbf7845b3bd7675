//! `CUMSUM`: the running sum along an axis.
//!
//! Input of float32, int32 or int64; the second operand, a constant, is the axis. Sums of integers wrap.

use super::movement::{axis, count, integer};
use super::pointwise::unary_shapes;
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `CUMSUM`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cumsum {
    /// Whether an element leaves itself out of its sum.
    pub exclusive: bool,
    /// Whether sums run from the end.
    pub reverse: bool,
}

const INPUT: usize = 0;
const AXIS: usize = 1;

impl Attributes for Cumsum {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_cumsum_options().cloned().unwrap_or_default();
        Ok(Self {
            exclusive: options.exclusive,
            reverse: options.reverse,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::CumsumOptions(Box::new(tfl::CumsumOptionsT {
            exclusive: self.exclusive,
            reverse: self.reverse,
        }))
    }
}

impl Cumsum {
    fn kernel<T>(&self, io: &Signature, add: fn(T, T) -> T) -> Result<Kernel, OpError>
    where
        T: bytemuck::Pod + Send + Sync,
    {
        let shape = &io.input(INPUT)?.shape;
        let axis = axis(integer(io, AXIS, "the axis")?, shape.len())?;
        let (len, inner) = (shape[axis], count(&shape[axis + 1..])?);
        let Self { exclusive, reverse } = *self;
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<T>(0);
            let blocks = parts.inputs.get::<T>(INPUT).chunks_exact(len * inner);
            for (input, output) in blocks.zip(parts.output.chunks_exact_mut(len * inner)) {
                for step in 0..len {
                    let row = |step: usize| (if reverse { len - 1 - step } else { step }) * inner;
                    let at = row(step);
                    for i in 0..inner {
                        let before = if step > 0 {
                            output[row(step - 1) + i]
                        } else {
                            T::zeroed()
                        };
                        output[at + i] = match (exclusive, step) {
                            (false, _) => add(before, input[at + i]),
                            (true, 0) => before,
                            (true, _) => add(before, input[row(step - 1) + i]),
                        };
                    }
                }
            }
        }))
    }
}

impl Operator for Cumsum {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.common_dtype(INPUT)? {
            DType::F32 => self.kernel::<f32>(io, |a, b| a + b),
            DType::I32 => self.kernel(io, i32::wrapping_add),
            DType::I64 => self.kernel(io, i64::wrapping_add),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn sums(exclusive: bool, reverse: bool, axis: i32) -> Vec<i32> {
        let inputs = [
            Case::i32([2, 3], [1, 2, 3, 4, 5, 6]),
            Case::i32([], [axis]).constant(),
        ];
        eval(
            Cumsum { exclusive, reverse },
            &inputs,
            Case::result(DType::I32),
        )
        .get()
    }

    #[test]
    fn runs_both_ways_with_and_without_the_element() {
        assert_eq!(sums(false, false, 1), [1, 3, 6, 4, 9, 15]);
        assert_eq!(sums(true, false, -1), [0, 1, 3, 0, 4, 9]);
        assert_eq!(sums(false, true, 1), [6, 5, 3, 15, 11, 6]);
        assert_eq!(sums(true, true, 0), [4, 5, 6, 0, 0, 0]);
    }

    #[test]
    fn rejects_axes_outside() {
        let inputs = [Case::i32([2], [1, 2]), Case::i32([], [1]).constant()];
        let io = signature(&inputs, &[Case::result(DType::I32)]);
        assert!(matches!(
            Cumsum::default().prepare(&io),
            Err(OpError::Attribute(_))
        ));
    }
}
