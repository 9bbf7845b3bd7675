//! `UNIQUE`: the distinct elements of a vector in order of appearance, and for each element where its equal is among them.
//!
//! How many there are depends on the elements, so that the input has to be a constant.

use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `UNIQUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Unique {
    /// The type of the indices: int32 or int64.
    pub idx_out_type: DType,
}

const INPUT: usize = 0;
const INDICES: usize = 1;

impl Attributes for Unique {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_unique_options().cloned().unwrap_or_default();
        Ok(Self {
            idx_out_type: DType::from_code(options.idx_out_type),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::UniqueOptions(Box::new(tfl::UniqueOptionsT {
            idx_out_type: self.idx_out_type.code(),
        }))
    }
}

/// The bytes of the distinct elements, and the place of each element's equal among them.
fn distinct(io: &Signature) -> Result<(Vec<u8>, Vec<usize>), OpError> {
    let input = io.input(INPUT)?;
    let supported = matches!(
        input.dtype,
        DType::F32 | DType::I8 | DType::U8 | DType::I16 | DType::I32 | DType::I64
    );
    let (true, Some(size)) = (supported, input.dtype.size()) else {
        return Err(io.unsupported(INPUT));
    };
    let data = input
        .data
        .as_ref()
        .ok_or_else(|| OpError::NotConstant("the input".into()))?;
    let mut places = std::collections::HashMap::new();
    let (mut elements, mut indices) = (Vec::new(), Vec::new());
    for element in data.chunks_exact(size) {
        // Zeros of either sign are equal.
        let negative_zero = input.dtype == DType::F32 && element == (-0.0f32).to_ne_bytes();
        let key = if negative_zero { &[0; 4][..] } else { element };
        let next = places.len();
        indices.push(*places.entry(key).or_insert_with(|| {
            elements.extend_from_slice(element);
            next
        }));
    }
    Ok((elements, indices))
}

impl Operator for Unique {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let [len] = io.input(INPUT)?.shape_n()?;
        let (_, indices) = distinct(io)?;
        Ok(vec![
            vec![indices.iter().max().map_or(0, |last| last + 1)],
            vec![len],
        ])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        io.common_dtype(INPUT)?;
        let (elements, indices) = distinct(io)?;
        let indices: Vec<u8> = match io.output(INDICES)?.dtype {
            DType::I32 => indices
                .iter()
                .flat_map(|&i| (i as i32).to_ne_bytes())
                .collect(),
            DType::I64 => indices
                .iter()
                .flat_map(|&i| (i as i64).to_ne_bytes())
                .collect(),
            dtype => {
                return Err(OpError::UnsupportedType {
                    what: "output 1".into(),
                    dtype,
                });
            }
        };
        Ok(Kernel::new(move |run| {
            run.parts(0).output.copy_from_slice(&elements);
            run.parts(INDICES).output.copy_from_slice(&indices);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval_with, signature};

    #[test]
    fn keeps_the_order_of_appearance() {
        let results = [Case::result(DType::F32), Case::result(DType::I64)];
        let input = Case::f32([5], [2.0, 0.0, 2.0, -0.0, 1.0]).constant();
        let outputs = eval_with(
            Numerics::Fast,
            Unique {
                idx_out_type: DType::I64,
            },
            &[input],
            &results,
        );
        assert_eq!(
            (&*outputs[0].shape, outputs[0].get()),
            (&[3][..], vec![2.0f32, 0.0, 1.0])
        );
        assert_eq!(outputs[1].get::<i64>(), [0, 1, 0, 1, 2]);
    }

    #[test]
    fn rejects_computed_inputs() {
        let io = signature(
            &[Case::i32([1], [0])],
            &[Case::result(DType::I32), Case::result(DType::I32)],
        );
        let error = Unique {
            idx_out_type: DType::I32,
        }
        .infer_shapes(&io)
        .unwrap_err();
        assert!(matches!(error, OpError::NotConstant(_)));
    }
}
