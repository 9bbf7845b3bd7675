//! `BROADCAST_ARGS`: the shape that two shapes broadcast to.
//!
//! Both operands are vectors of int32 or int64, aligned at their last element; of each pair the result has the one that
//! is not 1. Shapes that do not fit each other are an error where they are constants; of others the first one counts.

use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `BROADCAST_ARGS` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BroadcastArgs;

no_attributes!(BroadcastArgs);

fn lengths(io: &Signature) -> Result<[usize; 2], OpError> {
    let [a] = io.input(0)?.shape_n()?;
    let [b] = io.input(1)?.shape_n()?;
    Ok([a, b])
}

/// Pairs of the last elements of both, from the last on; 1 where a vector is too short.
fn pairs<T: Copy>(one: T, a: &[T], b: &[T]) -> impl Iterator<Item = (T, T)> {
    let len = a.len().max(b.len());
    let from_end =
        move |shape: &[T], i: usize| shape.len().checked_sub(i + 1).map_or(one, |i| shape[i]);
    (0..len).map(move |i| (from_end(a, i), from_end(b, i)))
}

fn kernel<T: bytemuck::Pod + PartialEq + Send + Sync>(one: T) -> Kernel {
    Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        let pairs = pairs(one, parts.inputs.get(0), parts.inputs.get(1));
        for (output, (a, b)) in parts.output.iter_mut().rev().zip(pairs) {
            *output = if a == one { b } else { a };
        }
    })
}

impl Operator for BroadcastArgs {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let [a, b] = lengths(io)?;
        Ok(vec![vec![a.max(b)]])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (a, b) = (io.input(0)?, io.input(1)?);
        if a.data.is_some() && b.data.is_some() {
            let (a, b) = (a.integers()?, b.integers()?);
            if pairs(1, &a, &b).any(|(a, b)| a != b && a != 1 && b != 1) {
                return Err(OpError::Shape(format!(
                    "shapes {a:?} and {b:?} do not broadcast to each other"
                )));
            }
        }
        if b.dtype != a.dtype {
            return Err(io.unsupported(1));
        }
        match io.common_dtype(0)? {
            DType::I32 => Ok(kernel(1i32)),
            DType::I64 => Ok(kernel(1i64)),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn aligns_at_the_end() {
        let inputs = [Case::i32([2], [1, 5]), Case::i32([3], [7, 3, 1])];
        assert_eq!(
            eval(BroadcastArgs, &inputs, Case::result(DType::I32)).get::<i32>(),
            [7, 3, 5]
        );
        let long = |data: &[i64]| Case::new(DType::I64, [data.len()], data).constant();
        let output = eval(
            BroadcastArgs,
            &[long(&[4, 1]), long(&[])],
            Case::result(DType::I64),
        );
        assert_eq!(output.get::<i64>(), [4, 1]);
    }

    #[test]
    fn rejects_constants_that_do_not_fit() {
        let inputs = [
            Case::i32([1], [2]).constant(),
            Case::i32([1], [3]).constant(),
        ];
        let io = signature(&inputs, &[Case::result(DType::I32)]);
        assert!(matches!(BroadcastArgs.prepare(&io), Err(OpError::Shape(_))));
    }
}
