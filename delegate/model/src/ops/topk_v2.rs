//! `TOPK_V2`: the largest elements of each row, with their places.
//!
//! Operands: input of at least one dimension, and how many (int16 or int32, a constant). Results: the elements, largest
//! first, and their indices along the last axis (int16 or int32); of equal ones the first comes first, NaN last.

use std::cmp::Ordering;

use super::movement::{integer, size};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `TOPK_V2` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopkV2;

no_attributes!(TopkV2, TopKV2Options);

const INPUT: usize = 0;
const COUNT: usize = 1;
const VALUES: usize = 0;
const INDICES: usize = 1;

fn descending(a: f32, b: f32) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

/// Writes the place of the largest elements of `row` to the front of `order`.
fn select<T: Copy>(row: &[T], order: &mut [u32], count: usize, compare: impl Fn(T, T) -> Ordering) {
    let by_value = |&a: &u32, &b: &u32| compare(row[a as usize], row[b as usize]).then(a.cmp(&b));
    order
        .iter_mut()
        .zip(0..)
        .for_each(|(place, index)| *place = index);
    if count < order.len() {
        order.select_nth_unstable_by(count, by_value);
    }
    order[..count].sort_unstable_by(by_value);
}

fn kernel<T: bytemuck::Pod, I: bytemuck::Pod>(
    io: &Signature,
    compare: impl Fn(T, T) -> Ordering + Copy + Send + Sync + 'static,
    index: impl Fn(u32) -> I + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    let last = |shape: &Shape| shape.last().copied().unwrap_or(0);
    let (len, count) = (
        last(&io.input(INPUT)?.shape),
        last(&io.output(VALUES)?.shape),
    );
    let most = u32::try_from(len)
        .ok()
        .filter(|&len| size_of::<I>() > 2 || len <= 1 << 15);
    if most.is_none() {
        return Err(OpError::Shape(format!(
            "indices of rows of {len} do not fit their type"
        )));
    }
    let scratch = len * size_of::<u32>();
    Ok(Kernel::with_scratch(scratch, move |run| {
        let rows = run.parts::<T>(VALUES).output.len() / count;
        for number in 0..rows {
            let parts = run.parts::<T>(VALUES);
            let order: &mut [u32] = bytemuck::cast_slice_mut(&mut parts.scratch[..scratch]);
            let row = &parts.inputs.get::<T>(INPUT)[number * len..][..len];
            select(row, order, count, compare);
            let values = &mut parts.output[number * count..][..count];
            values
                .iter_mut()
                .zip(&*order)
                .for_each(|(value, &place)| *value = row[place as usize]);
            let parts = run.parts::<I>(INDICES);
            let order: &[u32] = bytemuck::cast_slice(&parts.scratch[..scratch]);
            let indices = &mut parts.output[number * count..][..count];
            indices
                .iter_mut()
                .zip(order)
                .for_each(|(out, &place)| *out = index(place));
        }
    }))
}

fn with_index<T: bytemuck::Pod>(
    io: &Signature,
    compare: impl Fn(T, T) -> Ordering + Copy + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    match io.output(INDICES)?.dtype {
        DType::I32 => kernel(io, compare, |place| place as i32),
        DType::I16 => kernel(io, compare, |place| place as i16),
        dtype => Err(OpError::UnsupportedType {
            what: "output 1".into(),
            dtype,
        }),
    }
}

impl Operator for TopkV2 {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let mut shape = io.input(INPUT)?.shape.clone();
        let count = size(integer(io, COUNT, "the count")?, "count")?;
        match shape.last_mut() {
            Some(last) if count <= *last => *last = count,
            _ => {
                return Err(OpError::Shape(format!(
                    "{count} largest of shape {shape:?}"
                )));
            }
        }
        Ok(vec![shape.clone(), shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let types =
            [io.input(INPUT), io.input(COUNT), io.output(INDICES)].map(|v| v.ok().map(|v| v.dtype));
        match types {
            types if types.contains(&Some(DType::I16)) => 3,
            [Some(DType::I8), ..] => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match io.common_dtype(INPUT)? {
            DType::F32 => with_index(io, descending),
            DType::I8 => with_index(io, |a: i8, b| b.cmp(&a)),
            DType::U8 => with_index(io, |a: u8, b| b.cmp(&a)),
            DType::I16 => with_index(io, |a: i16, b| b.cmp(&a)),
            DType::I32 => with_index(io, |a: i32, b| b.cmp(&a)),
            DType::I64 => with_index(io, |a: i64, b| b.cmp(&a)),
            _ => Err(io.unsupported(INPUT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval_with, signature};

    fn largest(input: Case, count: i32) -> (Case, Vec<i32>) {
        let results = [Case::result(input.dtype), Case::result(DType::I32)];
        let inputs = [input, Case::i32([], [count]).constant()];
        let outputs = eval_with(Numerics::Fast, TopkV2, &inputs, &results);
        (outputs[0].clone(), outputs[1].get())
    }

    #[test]
    fn of_equal_ones_the_first_comes_first() {
        let (values, indices) = largest(Case::i8([2, 4], [3, 9, 3, -1, 5, 5, 5, 5]), 3);
        assert_eq!(
            (&*values.shape, values.get()),
            (&[2, 3][..], vec![9i8, 3, 3, 5, 5, 5])
        );
        assert_eq!(indices, [1, 0, 2, 0, 1, 2]);
    }

    #[test]
    fn nan_comes_last() {
        let (_, indices) = largest(Case::f32([4], [f32::NAN, 1.0, f32::INFINITY, -1.0]), 4);
        assert_eq!(indices, [2, 1, 3, 0]);
    }

    #[test]
    fn rejects_more_than_there_are() {
        for count in [-1, 3] {
            let inputs = [Case::i8([2], [1, 2]), Case::i32([], [count]).constant()];
            let io = signature(
                &inputs,
                &[Case::result(DType::I8), Case::result(DType::I32)],
            );
            assert!(TopkV2.infer_shapes(&io).is_err());
        }
    }
}
