//! `EMBEDDING_LOOKUP`: rows of a table.
//!
//! Operands: indices (int32, a vector) and the table, whose first dimension they count. The result has the table's type,
//! or is float32 where the table is int8, symmetric, with one scale or one for each row.
//!
//! An index outside is an error where the indices are a constant. LiteRT refuses others when it runs; these kernels
//! cannot fail, and take the nearest row.

use super::movement::{count, element_size, read_index};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `EMBEDDING_LOOKUP` has no attributes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EmbeddingLookup;

no_attributes!(EmbeddingLookup);

const INDICES: usize = 0;
const TABLE: usize = 1;

impl Operator for EmbeddingLookup {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        let [indices] = io.input(INDICES)?.shape_n()?;
        let mut shape = io.input(TABLE)?.shape.clone();
        if shape.len() < 2 {
            return Err(OpError::Shape(format!(
                "table of shape {shape:?} has no rows"
            )));
        }
        shape[0] = indices;
        Ok(vec![shape])
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::same([Role::Plain, Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        let per_row = |q: &crate::quant::Quantization| q.scale.len() > 1;
        match io.input(TABLE) {
            Ok(table) if table.quantization.as_ref().is_some_and(per_row) => 4,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let (indices, table, output) = (io.input(INDICES)?, io.input(TABLE)?, io.output(0)?);
        if indices.dtype != DType::I32 {
            return Err(io.unsupported(INDICES));
        }
        let read = read_index(io, INDICES)?;
        let (rows, row_len) = (table.shape[0], count(&table.shape[1..])?);
        if rows == 0 {
            return Err(OpError::Shape(format!(
                "table of shape {:?} has no rows",
                table.shape
            )));
        }
        if indices.data.is_some() {
            let outside = |&index: &i64| usize::try_from(index).map_or(true, |i| i >= rows);
            if let Some(index) = indices.integers()?.into_iter().find(outside) {
                return Err(OpError::Shape(format!(
                    "index {index} of a table of {rows} rows"
                )));
            }
        }
        let row = move |index: i64| index.clamp(0, rows as i64 - 1) as usize;
        if (table.dtype, output.dtype) == (DType::I8, DType::F32) {
            let scales = table.quantization()?.symmetric_scales(rows)?.to_vec();
            return Ok(Kernel::new(move |run| {
                let parts = run.parts::<f32>(0);
                let table = parts.inputs.get::<i8>(TABLE);
                for (slot, output) in parts.output.chunks_exact_mut(row_len).enumerate() {
                    let row = row(read(&parts.inputs, INDICES, slot));
                    let scale = scales[if scales.len() == 1 { 0 } else { row }];
                    for (output, &q) in output.iter_mut().zip(&table[row * row_len..]) {
                        *output = f32::from(q) * scale;
                    }
                }
            }));
        }
        let row_len = row_len * element_size(table, output)?;
        Ok(Kernel::new(move |run| {
            let parts = run.parts::<u8>(0);
            let table = parts.inputs.bytes(TABLE);
            for (slot, output) in parts.output.chunks_exact_mut(row_len).enumerate() {
                let row = row(read(&parts.inputs, INDICES, slot));
                output.copy_from_slice(&table[row * row_len..][..row_len]);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    fn table() -> Case {
        Case::i8([3, 2], [1, -2, 3, -4, 5, -6])
    }

    #[test]
    fn copies_rows() {
        let output = eval(
            EmbeddingLookup,
            &[Case::i32([2], [2, 0]), table()],
            Case::result(DType::I8),
        );
        assert_eq!(output.get::<i8>(), [5, -6, 1, -2]);
    }

    #[test]
    fn dequantizes_with_the_scale_of_the_row() {
        let table = table().quantized_per_axis(0, [0.5, 1.0, 2.0]).constant();
        let output = eval(
            EmbeddingLookup,
            &[Case::i32([3], [0, 2, 9]), table],
            Case::result(DType::F32),
        );
        assert_eq!(output.get::<f32>(), [0.5, -1.0, 10.0, -12.0, 10.0, -12.0]);
    }

    #[test]
    fn rejects_asymmetric_tables_and_constants_outside() {
        let prepare = |index: Case, table: Case| {
            let io = signature(&[index, table], &[Case::result(DType::F32)]);
            EmbeddingLookup.prepare(&io)
        };
        let asymmetric = prepare(Case::i32([1], [0]), table().quantized(0.5, 3));
        assert!(matches!(asymmetric, Err(OpError::Quantization(_))));
        let outside = prepare(Case::i32([1], [3]).constant(), table().quantized(0.5, 0));
        assert!(matches!(outside, Err(OpError::Shape(_))));
    }
}
