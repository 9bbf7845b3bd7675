//! `SCATTER_ND`: zeros, with slices added at given places.
//!
//! Operands: indices (int32), whose last dimension holds a place along the first axes of the result; updates, a slice for
//! each place; and the result's shape, a constant. Slices that fall on one place are added: integers wrap, bools are
//! or-ed. What is between is 0 as it is stored, so that quantized operands need the zero point 0.
//!
//! An index outside is an error where the indices are a constant. LiteRT refuses others when it runs; these kernels
//! cannot fail, and leave that slice out.

use super::movement::{Places, count, integers, read_index, size};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `SCATTER_ND` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScatterNd;

no_attributes!(ScatterNd, ScatterNdOptions);

const INDICES: usize = 0;
const UPDATES: usize = 1;
const SHAPE: usize = 2;

/// How many axes a place has, which the indices and updates must fit.
fn axes(indices: &Value, updates: &Value, shape: &[usize]) -> Result<usize, OpError> {
    let mismatch = || {
        let shapes = (&indices.shape, &updates.shape);
        OpError::Shape(format!(
            "indices of shape {:?}, updates of shape {:?} into {shape:?}",
            shapes.0, shapes.1
        ))
    };
    let (&axes, outer) = indices.shape.split_last().ok_or_else(mismatch)?;
    let slice = shape.get(axes..).ok_or_else(mismatch)?;
    match [outer, slice].concat() == updates.shape {
        true => Ok(axes),
        false => Err(mismatch()),
    }
}

fn kernel<T: bytemuck::Pod>(io: &Signature, add: fn(T, T) -> T) -> Result<Kernel, OpError> {
    let (indices, updates, shape) = (io.input(INDICES)?, io.input(UPDATES)?, &io.output(0)?.shape);
    let axes = axes(indices, updates, shape)?;
    let read = read_index(io, INDICES)?;
    let len = count(&shape[axes..])?;
    let places = Places::new(shape, axes)?;
    places.check(indices)?;
    Ok(Kernel::new(move |run| {
        let parts = run.parts::<T>(0);
        parts.output.fill(T::zeroed());
        for (slot, update) in parts.inputs.get::<T>(UPDATES).chunks_exact(len).enumerate() {
            let place = places.exact(|axis| read(&parts.inputs, INDICES, slot * axes + axis));
            let Some(place) = place else { continue };
            for (sum, &update) in parts.output[place * len..].iter_mut().zip(update) {
                *sum = add(*sum, update);
            }
        }
    }))
}

impl Operator for ScatterNd {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let shape = integers(io, SHAPE, "the shape")?;
        let shape = shape
            .into_iter()
            .map(|d| size(d, "dimension"))
            .collect::<Result<Shape, _>>()?;
        axes(io.input(INDICES)?, io.input(UPDATES)?, &shape)?;
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::symmetric([Role::DistinctPlaces, Role::Activation, Role::Plain])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        if io.input(INDICES)?.dtype != DType::I32 {
            return Err(io.unsupported(INDICES));
        }
        match io.common_dtype(UPDATES)? {
            DType::F32 => kernel::<f32>(io, |a, b| a + b),
            DType::I8 => kernel(io, i8::wrapping_add),
            DType::U8 => kernel(io, u8::wrapping_add),
            DType::Bool => kernel::<u8>(io, |a, b| u8::from(a != 0 || b != 0)),
            DType::I32 => kernel(io, i32::wrapping_add),
            DType::I64 => kernel(io, i64::wrapping_add),
            _ => Err(io.unsupported(UPDATES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(indices: Case, updates: Case, shape: &[i32]) -> [Case; 3] {
        [
            indices,
            updates,
            Case::i32([shape.len()], shape.iter().copied()).constant(),
        ]
    }

    #[test]
    fn adds_slices_that_meet() {
        let inputs = operands(
            Case::i32([2, 1], [1, 1]),
            Case::i32([2, 2], [1, 2, 3, 4]),
            &[3, 2],
        );
        assert_eq!(
            eval(ScatterNd, &inputs, Case::result(DType::I32)).get::<i32>(),
            [0, 0, 4, 6, 0, 0]
        );
    }

    #[test]
    fn leaves_out_places_outside_that_are_known_only_when_it_runs() {
        let inputs = operands(
            Case::i32([3, 1], [2, -1, 0]),
            Case::f32([3], [1.0, 2.0, 3.0]),
            &[2],
        );
        assert_eq!(
            eval(ScatterNd, &inputs, Case::result(DType::F32)).get::<f32>(),
            [3.0, 0.0]
        );
    }

    #[test]
    fn rejects_constants_outside_and_updates_of_another_shape() {
        let inputs = operands(Case::i32([1, 1], [2]).constant(), Case::i8([1], [1]), &[2]);
        let mut io = signature(&inputs, &[Case::result(DType::I8)]);
        io.outputs[0].shape = vec![2];
        assert!(matches!(ScatterNd.prepare(&io), Err(OpError::Shape(_))));
        let inputs = operands(Case::i32([1, 1], [0]), Case::i8([2], [1, 2]), &[2]);
        let io = signature(&inputs, &[Case::result(DType::I8)]);
        assert!(matches!(
            ScatterNd.infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
