//! `BITCAST`: the same bytes as elements of another type.
//!
//! Smaller elements add a last dimension, larger ones take up one of the right length.

use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::Shape;

/// `BITCAST` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bitcast;

no_attributes!(Bitcast, BitcastOptions);

const INPUT: usize = 0;

impl Operator for Bitcast {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let (input, output) = (io.input(INPUT)?, io.output(0)?);
        let unsupported = |what: &str, dtype| OpError::UnsupportedType {
            what: what.into(),
            dtype,
        };
        let from = input
            .dtype
            .size()
            .ok_or_else(|| unsupported("input 0", input.dtype))?;
        let to = output
            .dtype
            .size()
            .ok_or_else(|| unsupported("output 0", output.dtype))?;
        let mut shape = input.shape.clone();
        if from > to {
            shape.push(from / to);
        } else if from < to && shape.pop() != Some(to / from) {
            return Err(OpError::Shape(format!(
                "shape {:?} of {} does not end in {} for {}",
                input.shape,
                input.dtype,
                to / from,
                output.dtype
            )));
        }
        Ok(vec![shape])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, _: &Signature) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|run| {
            let parts = run.parts::<u8>(0);
            parts.output.copy_from_slice(parts.inputs.bytes(INPUT));
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn splits_and_joins_elements() {
        let bytes = eval(
            Bitcast,
            &[Case::i32([2], [1, 256])],
            Case::result(DType::I8),
        );
        assert_eq!(
            (&*bytes.shape, bytes.get()),
            (&[2, 4][..], vec![1i8, 0, 0, 0, 0, 1, 0, 0])
        );
        let whole = eval(
            Bitcast,
            &[Case::i8([1, 4], [0, 1, 0, 0])],
            Case::result(DType::I32),
        );
        assert_eq!((&*whole.shape, whole.get()), (&[1][..], vec![256i32]));
        let same = eval(Bitcast, &[Case::f32([], [1.0])], Case::result(DType::I32));
        assert_eq!(same.get::<i32>(), [0x3f80_0000]);
    }

    #[test]
    fn rejects_a_last_dimension_of_another_length() {
        for shape in [vec![3], vec![]] {
            let io = signature(
                &[Case {
                    shape,
                    ..Case::i8([1], [0])
                }],
                &[Case::result(DType::I32)],
            );
            assert!(matches!(Bitcast.infer_shapes(&io), Err(OpError::Shape(_))));
        }
    }
}
