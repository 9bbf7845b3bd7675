//! What `ARG_MAX` and `ARG_MIN` share.

use bytemuck::{AnyBitPattern, NoUninit};

use super::{OpError, Signature};
use crate::cpu::Kernel;
use crate::tensor::{DType, Shape, element_count};

const INPUT: usize = 0;
const AXIS: usize = 1;

/// The axis to search along, which the operand has and which is not empty.
fn axis(io: &Signature) -> Result<usize, OpError> {
    let shape = &io.input(INPUT)?.shape;
    let axes = io.input(AXIS)?.integers()?;
    let &[axis] = &*axes else {
        return Err(OpError::Shape(format!(
            "{} axes instead of one",
            axes.len()
        )));
    };
    let wrapped = if axis < 0 {
        axis.wrapping_add(shape.len() as i64)
    } else {
        axis
    };
    usize::try_from(wrapped)
        .ok()
        .filter(|&axis| shape.get(axis).is_some_and(|&len| len > 0))
        .ok_or_else(|| OpError::Shape(format!("no element along axis {axis} of shape {shape:?}")))
}

/// The operand's shape without the axis.
pub(super) fn index_shapes(io: &Signature) -> Result<Vec<Shape>, OpError> {
    let mut shape = io.input(INPUT)?.shape.clone();
    shape.remove(axis(io)?);
    Ok(vec![shape])
}

/// The index of the first element that no later one beats, as int32 or int64.
pub(super) fn prepare_index<T: AnyBitPattern>(
    io: &Signature,
    beats: impl Fn(T, T) -> bool + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    match io.output(0)?.dtype {
        DType::I32 => index_as(io, beats, |index| index as i32),
        DType::I64 => index_as(io, beats, |index| index as i64),
        dtype => Err(OpError::UnsupportedType {
            what: "output 0".into(),
            dtype,
        }),
    }
}

fn index_as<T: AnyBitPattern, I: AnyBitPattern + NoUninit>(
    io: &Signature,
    beats: impl Fn(T, T) -> bool + Send + Sync + 'static,
    index: impl Fn(usize) -> I + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    let axis = axis(io)?;
    let shape = &io.input(INPUT)?.shape;
    let len = shape[axis];
    let inner = element_count(&shape[axis + 1..]).unwrap_or(0).max(1);
    Ok(Kernel::new(move |run| {
        let parts = run.parts::<I>(0);
        let blocks = parts.inputs.get::<T>(INPUT).chunks_exact(len * inner);
        for (block, out) in blocks.zip(parts.output.chunks_exact_mut(inner)) {
            for (column, out) in out.iter_mut().enumerate() {
                let mut best = 0;
                for row in 1..len {
                    if beats(block[row * inner + column], block[best * inner + column]) {
                        best = row;
                    }
                }
                *out = index(best);
            }
        }
    }))
}
