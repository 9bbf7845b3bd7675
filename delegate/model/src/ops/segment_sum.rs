//! `SEGMENT_SUM`: the sums of neighbouring rows.
//!
//! Operands: data (float32 or int32), and for each row the number of its segment, a constant: from 0 up, by steps of at
//! most 1. The result has a row for each segment. Sums of int32 wrap.

use super::movement::{count, integers};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SEGMENT_SUM` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SegmentSum;

no_attributes!(SegmentSum, SegmentSumOptions);

const DATA: usize = 0;
const SEGMENTS: usize = 1;

/// The segment of each row.
fn segments(io: &Signature) -> Result<Vec<usize>, OpError> {
    let shape = &io.input(DATA)?.shape;
    let ids = integers(io, SEGMENTS, "the number of segments")?;
    if shape.first() != Some(&ids.len()) {
        return Err(OpError::Shape(format!(
            "{} segment numbers for shape {shape:?}",
            ids.len()
        )));
    }
    let mut previous = 0;
    for (row, &id) in ids.iter().enumerate() {
        if !(previous..=previous + i64::from(row > 0)).contains(&id) {
            return Err(OpError::Shape(format!(
                "segment {id} of row {row} after {previous}"
            )));
        }
        previous = id;
    }
    Ok(ids.into_iter().map(|id| id as usize).collect())
}

fn kernel<T: bytemuck::Pod>(io: &Signature, add: fn(T, T) -> T) -> Result<Kernel, OpError> {
    let segments = segments(io)?;
    let len = count(&io.input(DATA)?.shape[1..])?;
    Ok(Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        parts.output.fill(T::zeroed());
        for (row, &segment) in parts.inputs.get::<T>(DATA).chunks_exact(len).zip(&segments) {
            for (sum, &x) in parts.output[segment * len..].iter_mut().zip(row) {
                *sum = add(*sum, x);
            }
        }
    }))
}

impl Operator for SegmentSum {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let segments = segments(io)?.last().map_or(0, |last| last + 1);
        let mut shape = io.input(DATA)?.shape.clone();
        shape[0] = segments;
        Ok(vec![shape])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.common_dtype(DATA)? {
            DType::F32 => kernel::<f32>(io, |a, b| a + b),
            DType::I32 => kernel(io, i32::wrapping_add),
            _ => Err(io.unsupported(DATA)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(segments: [i32; 3]) -> [Case; 2] {
        [Case::i32([3, 2], 1..7), Case::i32([3], segments).constant()]
    }

    #[test]
    fn adds_rows_of_a_segment() {
        let output = eval(SegmentSum, &operands([0, 0, 1]), Case::result(DType::I32));
        assert_eq!(
            (&*output.shape, output.get()),
            (&[2, 2][..], vec![4i32, 6, 5, 6])
        );
    }

    #[test]
    fn rejects_segments_out_of_order() {
        for segments in [[1, 1, 2], [0, 2, 2], [0, 1, 0], [-1, 0, 0]] {
            let io = signature(&operands(segments), &[Case::result(DType::I32)]);
            assert!(
                matches!(SegmentSum.infer_shapes(&io), Err(OpError::Shape(_))),
                "{segments:?}"
            );
        }
    }
}
