//! `ADD_N`: the sum of two or more operands.
//!
//! Operands and result of one shape, float32 or int32; integers wrap.

use bantam_kernels::{Isa, Work};
use bytemuck::{AnyBitPattern, NoUninit};

use super::pointwise::unary_type;
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `ADD_N` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AddN;

no_attributes!(AddN, AddNOptions);

impl Operator for AddN {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        if io.inputs.len() < 2 {
            return Err(OpError::Missing("input 1".into()));
        }
        let first = io.input(0)?;
        for index in 1..io.inputs.len() {
            let other = io.input(index)?;
            if other.shape != first.shape {
                return Err(OpError::Shape(format!(
                    "shape {:?} does not equal {:?}",
                    other.shape, first.shape
                )));
            }
            if other.dtype != first.dtype {
                return Err(io.unsupported(index));
            }
        }
        Ok(vec![first.shape.clone()])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(sum(|a: f32, b: f32| a + b)),
            DType::I32 => Ok(sum(i32::wrapping_add)),
            _ => Err(io.unsupported(0)),
        }
    }
}

fn sum<T>(add: impl Fn(T, T) -> T + Send + Sync + 'static) -> Kernel
where
    T: AnyBitPattern + NoUninit + 'static,
{
    let isa = Isa::best();
    Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        parts.output.copy_from_slice(parts.inputs.get(0));
        for index in 1..parts.inputs.count() {
            isa.run(Accumulate {
                sum: parts.output,
                term: parts.inputs.get::<T>(index),
                add: &add,
            });
        }
    })
}

struct Accumulate<'a, T, F> {
    sum: &'a mut [T],
    term: &'a [T],
    add: &'a F,
}

impl<T: Copy, F: Fn(T, T) -> T> Work for Accumulate<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (sum, &term) in self.sum.iter_mut().zip(self.term) {
            *sum = (self.add)(*sum, term);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn adds_all() {
        let operands = [1.0, 2.0, 4.0].map(|x| Case::f32([2], [x, -x]));
        let output = eval(AddN, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [7.0, -7.0]);
    }

    #[test]
    fn rejects_one_operand_or_two_shapes() {
        let infer = |operands: &[Case]| {
            AddN.infer_shapes(&signature(operands, &[Case::result(DType::F32)]))
        };
        let one = || Case::f32([1], [1.0]);
        assert!(matches!(infer(&[one()]), Err(OpError::Missing(_))));
        assert!(matches!(
            infer(&[one(), Case::f32([1, 1], [1.0])]),
            Err(OpError::Shape(_))
        ));
    }
}
