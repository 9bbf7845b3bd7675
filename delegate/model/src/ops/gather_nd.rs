//! `GATHER_ND`: the slices of its input at given places.
//!
//! Operands: input, and indices (int16, int32 or int64) whose last dimension holds a place along the first axes of the
//! input. The result has the other dimensions of the indices, then those of a slice.
//!
//! An index outside is an error where the indices are a constant. LiteRT refuses others when it runs; these kernels
//! cannot fail, and take the nearest that is inside.

use super::movement::{Places, count, element_size, read_index};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `GATHER_ND` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GatherNd;

no_attributes!(GatherNd, GatherNdOptions);

const INPUT: usize = 0;
const INDICES: usize = 1;

/// The dimensions of the indices but the last, and that one: how many axes a place has.
fn dimensions<'a>(input: &Value, indices: &'a Value) -> Result<(&'a [usize], usize), OpError> {
    let split = indices
        .shape
        .split_last()
        .filter(|&(&axes, _)| axes <= input.shape.len() && !input.shape.is_empty());
    let (&axes, outer) = split.ok_or_else(|| {
        OpError::Shape(format!(
            "indices of shape {:?} into shape {:?}",
            indices.shape, input.shape
        ))
    })?;
    Ok((outer, axes))
}

impl Operator for GatherNd {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (input, indices) = (io.input(INPUT)?, io.input(INDICES)?);
        let (outer, axes) = dimensions(input, indices)?;
        Ok(vec![[outer, &input.shape[axes..]].concat()])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Activation, Role::Plain])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let (Ok(input), Ok(indices)) = (io.input(INPUT), io.input(INDICES)) else {
            return 1;
        };
        match input.dtype {
            DType::Bool => 5,
            _ if indices.dtype == DType::I16 => 4,
            DType::I16 => 3,
            DType::String => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (input, indices) = (io.input(INPUT)?, io.input(INDICES)?);
        let size = element_size(input, io.output(0)?)?;
        let (_, axes) = dimensions(input, indices)?;
        let read = read_index(io, INDICES)?;
        let run_len = count(&input.shape[axes..])? * size;
        let places = Places::new(&input.shape, axes)?;
        places.check(indices)?;
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            let input = parts.inputs.bytes(INPUT);
            for (slot, output) in parts.output.chunks_exact_mut(run_len).enumerate() {
                let place = places.nearest(|axis| read(&parts.inputs, INDICES, slot * axes + axis));
                output.copy_from_slice(&input[place * run_len..][..run_len]);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn takes_elements_and_slices() {
        let input = || Case::i8([2, 3], 0..6);
        let elements = eval(
            GatherNd,
            &[input(), Case::i32([2, 2], [1, 0, 0, 2])],
            Case::result(DType::I8),
        );
        assert_eq!((&*elements.shape, elements.get()), (&[2][..], vec![3i8, 2]));
        let rows = eval(
            GatherNd,
            &[input(), Case::i32([2, 1], [1, 1])],
            Case::result(DType::I8),
        );
        assert_eq!(
            (&*rows.shape, rows.get()),
            (&[2, 3][..], vec![3i8, 4, 5, 3, 4, 5])
        );
        let whole = eval(
            GatherNd,
            &[input(), Case::i32([2, 0], [])],
            Case::result(DType::I8),
        );
        assert_eq!(whole.shape, [2, 2, 3]);
    }

    #[test]
    fn takes_the_nearest_of_indices_known_only_when_it_runs() {
        let inputs = [Case::i8([2, 3], 0..6), Case::i32([1, 2], [7, -1])];
        assert_eq!(
            eval(GatherNd, &inputs, Case::result(DType::I8)).get::<i8>(),
            [3]
        );
    }

    #[test]
    fn rejects_constants_outside_and_places_of_too_many_axes() {
        let outside = [Case::i8([2, 3], 0..6), Case::i32([1, 2], [0, 3]).constant()];
        let mut io = signature(&outside, &[Case::result(DType::I8)]);
        io.outputs[0].shape = vec![1];
        assert!(matches!(GatherNd.prepare(&io), Err(OpError::Shape(_))));
        let axes = [Case::i8([2, 3], 0..6), Case::i32([1, 3], [0, 0, 0])];
        let io = signature(&axes, &[Case::result(DType::I8)]);
        assert!(matches!(GatherNd.infer_shapes(&io), Err(OpError::Shape(_))));
    }
}
