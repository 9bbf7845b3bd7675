//! `WHERE`: the places of the elements that are not 0.
//!
//! Result: a row of indices (int64) for each, in order. How many there are depends on the elements, so that the input has
//! to be a constant.

use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `WHERE` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Where;

no_attributes!(Where, WhereOptions);

const INPUT: usize = 0;

/// The indices of each place, one after the other.
fn places(io: &Signature) -> Result<Vec<i64>, OpError> {
    let input = io.input(INPUT)?;
    let data = input
        .data
        .as_ref()
        .ok_or_else(|| OpError::NotConstant("the input".into()))?;
    let size = match input.dtype {
        DType::Bool | DType::I8 | DType::U8 => 1,
        DType::F32 | DType::I32 | DType::U32 => 4,
        DType::I64 => 8,
        _ => return Err(io.unsupported(INPUT)),
    };
    let is_zero = |element: &[u8]| {
        let negative_zero = input.dtype == DType::F32 && element == (-0.0f32).to_ne_bytes();
        negative_zero || element.iter().all(|&byte| byte == 0)
    };
    let mut places = Vec::new();
    for (place, _) in data
        .chunks_exact(size)
        .enumerate()
        .filter(|(_, element)| !is_zero(element))
    {
        let start = places.len();
        let mut rest = place;
        for &len in input.shape.iter().rev() {
            places.push((rest % len) as i64);
            rest /= len;
        }
        places[start..].reverse();
    }
    Ok(places)
}

impl Operator for Where {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let rank = io.input(INPUT)?.shape.len();
        if rank == 0 {
            return Err(OpError::Shape("a scalar has no places".into()));
        }
        Ok(vec![vec![places(io)?.len() / rank, rank]])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(INPUT).map(|input| input.dtype) {
            Ok(DType::Bool) => 1,
            _ => 2,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.output(0)?.dtype {
            DType::I64 => {
                let places = places(io)?;
                Ok(Kernel::new(move |run| {
                    run.parts(0).output.copy_from_slice(&places)
                }))
            }
            dtype => Err(OpError::UnsupportedType {
                what: "output 0".into(),
                dtype,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn lists_places_in_order() {
        let input = Case::f32([2, 3], [0.0, 1.0, -0.0, f32::NAN, 0.0, -2.0]).constant();
        let output = eval(Where, &[input], Case::result(DType::I64));
        assert_eq!(
            (&*output.shape, output.get()),
            (&[3, 2][..], vec![0i64, 1, 1, 0, 1, 2])
        );
    }

    #[test]
    fn rejects_scalars_and_computed_inputs() {
        let infer = |input| Where.infer_shapes(&signature(&[input], &[Case::result(DType::I64)]));
        assert!(matches!(
            infer(Case::i32([], [1]).constant()),
            Err(OpError::Shape(_))
        ));
        assert!(matches!(
            infer(Case::i32([1], [1])),
            Err(OpError::NotConstant(_))
        ));
    }
}
