//! `SPARSE_TO_DENSE`: one element everywhere but at given places.
//!
//! Operands: places (int32 or int64; a scalar or vector of indices, or a row for each place), the result's shape (a
//! constant), the elements at the places (one, or one for each), and the element elsewhere.
//!
//! A place outside is an error where the places are a constant. LiteRT refuses others when it runs; these kernels cannot
//! fail, and leave that element out.

use super::movement::{Places, element_size, fill, integers, read_index, size};
use super::{Attributes, OpError, Operator, Signature, Value};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SPARSE_TO_DENSE`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseToDense {
    /// Kept, but not heeded: places are checked always.
    pub validate_indices: bool,
}

const PLACES: usize = 0;
const SHAPE: usize = 1;
const VALUES: usize = 2;
const DEFAULT: usize = 3;

impl Attributes for SparseToDense {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options
            .as_sparse_to_dense_options()
            .cloned()
            .unwrap_or_default();
        Ok(Self {
            validate_indices: options.validate_indices,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SparseToDenseOptions(Box::new(tfl::SparseToDenseOptionsT {
            validate_indices: self.validate_indices,
        }))
    }
}

/// How many places there are, and of how many indices each.
fn places(value: &Value) -> Result<(usize, usize), OpError> {
    match *value.shape {
        [] => Ok((1, 1)),
        [count] => Ok((count, 1)),
        [count, axes] => Ok((count, axes)),
        _ => Err(OpError::Shape(format!("places of shape {:?}", value.shape))),
    }
}

impl Operator for SparseToDense {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let shape = integers(io, SHAPE, "the shape")?;
        let shape = shape
            .into_iter()
            .map(|d| size(d, "dimension"))
            .collect::<Result<Shape, _>>()?;
        let ((count, axes), values) = (places(io.input(PLACES)?)?, io.input(VALUES)?);
        if axes != shape.len()
            || !(values.shape.is_empty() || values.shape == [count])
            || io.input(DEFAULT)?.len() != 1
        {
            return Err(OpError::Shape(format!(
                "{count} places along {axes} axes, elements of shape {:?}, into {shape:?}",
                values.shape
            )));
        }
        Ok(vec![shape])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(VALUES).map(|values| values.dtype) {
            Ok(DType::I8 | DType::U8) => 3,
            Ok(DType::I64) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (indices, values, output) = (io.input(PLACES)?, io.input(VALUES)?, io.output(0)?);
        let size = element_size(values, output)?;
        element_size(io.input(DEFAULT)?, output)?;
        if !matches!(
            values.dtype,
            DType::F32 | DType::I8 | DType::U8 | DType::I32 | DType::I64
        ) {
            return Err(io.unsupported(VALUES));
        }
        let read = read_index(io, PLACES)?;
        let (count, axes) = places(indices)?;
        let step = if values.shape.is_empty() { 0 } else { size };
        let places = Places::new(&output.shape, axes)?;
        places.check(indices)?;
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            let values = parts.inputs.bytes(VALUES);
            fill(parts.output, parts.inputs.bytes(DEFAULT));
            for slot in 0..count {
                if let Some(place) =
                    places.exact(|axis| read(&parts.inputs, PLACES, slot * axes + axis))
                {
                    parts.output[place * size..][..size]
                        .copy_from_slice(&values[slot * step..][..size]);
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn operands(places: Case, shape: &[i32], values: Case) -> [Case; 4] {
        let shape = Case::i32([shape.len()], shape.iter().copied()).constant();
        [places, shape, values, Case::i32([], [-1])]
    }

    #[test]
    fn sets_elements_at_their_places() {
        let inputs = operands(
            Case::i32([2, 2], [0, 1, 1, 0]),
            &[2, 2],
            Case::i32([2], [5, 6]),
        );
        let op = SparseToDense::default();
        assert_eq!(
            eval(op.clone(), &inputs, Case::result(DType::I32)).get::<i32>(),
            [-1, 5, 6, -1]
        );
        let inputs = operands(Case::i32([2], [0, 7]), &[3], Case::i32([], [5]));
        assert_eq!(
            eval(op, &inputs, Case::result(DType::I32)).get::<i32>(),
            [5, -1, -1]
        );
    }

    #[test]
    fn rejects_constants_outside_and_other_numbers_of_elements() {
        let inputs = operands(Case::i32([], [3]).constant(), &[3], Case::i32([], [5]));
        let mut io = signature(&inputs, &[Case::result(DType::I32)]);
        io.outputs[0].shape = vec![3];
        assert!(matches!(
            SparseToDense::default().prepare(&io),
            Err(OpError::Shape(_))
        ));
        let inputs = operands(Case::i32([2], [0, 1]), &[3], Case::i32([3], [5, 6, 7]));
        let io = signature(&inputs, &[Case::result(DType::I32)]);
        assert!(matches!(
            SparseToDense::default().infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
