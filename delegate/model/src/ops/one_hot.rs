//! `ONE_HOT`: a new axis that is "on" at the index and "off" elsewhere.
//!
//! Operands: indices (int32 or int64), the length of the axis (a constant), the "on" and the "off" element. An index
//! outside is "off" everywhere.

use super::movement::{axis, count, element_size, integer, read_index, size};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `ONE_HOT`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OneHot {
    /// The new axis, -1 for the last.
    pub axis: i32,
}

const INDICES: usize = 0;
const DEPTH: usize = 1;
const ON: usize = 2;
const OFF: usize = 3;

impl Attributes for OneHot {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_one_hot_options().cloned().unwrap_or_default();
        Ok(Self { axis: options.axis })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::OneHotOptions(Box::new(tfl::OneHotOptionsT { axis: self.axis }))
    }
}

impl OneHot {
    fn axis(&self, io: &Signature) -> Result<usize, OpError> {
        axis(self.axis.into(), io.input(INDICES)?.shape.len() + 1)
    }
}

impl Operator for OneHot {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let mut shape = io.input(INDICES)?.shape.clone();
        shape.insert(
            self.axis(io)?,
            size(integer(io, DEPTH, "the depth")?, "depth")?,
        );
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Plain, Role::Plain, Role::Activation])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (indices, on, off) = (io.input(INDICES)?, io.input(ON)?, io.input(OFF)?);
        let size = element_size(on, io.output(0)?)?;
        element_size(off, on)?;
        if on.len() != 1 || off.len() != 1 {
            let shapes = (&on.shape, &off.shape);
            return Err(OpError::Shape(format!(
                "elements of shapes {:?} and {:?}",
                shapes.0, shapes.1
            )));
        }
        if !matches!(indices.dtype, DType::I32 | DType::I64) {
            return Err(io.unsupported(INDICES));
        }
        let read = read_index(io, INDICES)?;
        let axis = self.axis(io)?;
        let (depth, inner) = (io.output(0)?.shape[axis], count(&indices.shape[axis..])?);
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            let (on, off) = (parts.inputs.bytes(ON), parts.inputs.bytes(OFF));
            for (place, output) in parts.output.chunks_exact_mut(size).enumerate() {
                let (outer, column, at) =
                    (place / inner / depth, place / inner % depth, place % inner);
                let index = read(&parts.inputs, INDICES, outer * inner + at);
                output.copy_from_slice(if index == column as i64 { on } else { off });
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(indices: Case, depth: i32) -> [Case; 4] {
        let depth = Case::i32([], [depth]).constant();
        [indices, depth, Case::i8([], [7]), Case::i8([], [-1])]
    }

    #[test]
    fn marks_the_index_along_either_axis() {
        let output = eval(
            OneHot { axis: -1 },
            &operands(Case::i32([2], [2, 5]), 3),
            Case::result(DType::I8),
        );
        assert_eq!(
            (&*output.shape, output.get()),
            (&[2, 3][..], vec![-1i8, -1, 7, -1, -1, -1])
        );
        let output = eval(
            OneHot { axis: 0 },
            &operands(Case::i32([2], [1, 0]), 2),
            Case::result(DType::I8),
        );
        assert_eq!(output.get::<i8>(), [-1, 7, 7, -1]);
    }

    #[test]
    fn rejects_negative_depths_and_axes_outside() {
        let io = |depth| {
            signature(
                &operands(Case::i32([1], [0]), depth),
                &[Case::result(DType::I8)],
            )
        };
        assert!(OneHot { axis: -1 }.infer_shapes(&io(-1)).is_err());
        assert!(OneHot { axis: 2 }.infer_shapes(&io(1)).is_err());
    }
}
