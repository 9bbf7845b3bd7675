//! `SHAPE`: the dimensions of its input, as integers.
//!
//! All shapes are known when a model is planned, so that the result is a constant, and so is
//! what is computed from it.

use super::{Attributes, OpError, Operator, QuantRule, Results, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SHAPE`.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapeOf {
    /// The type of the result: int32 or int64.
    pub out_type: DType,
}

const INPUT: usize = 0;

impl Attributes for ShapeOf {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_shape_options().cloned().unwrap_or_default();
        Ok(Self {
            out_type: DType::from_code(options.out_type),
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::ShapeOptions(Box::new(tfl::ShapeOptionsT {
            out_type: self.out_type.code(),
        }))
    }
}

impl ShapeOf {
    fn unsupported(&self, io: &Signature) -> OpError {
        let dtype = io.output(0).map_or(self.out_type, |output| output.dtype);
        OpError::UnsupportedType {
            what: "output".into(),
            dtype,
        }
    }
}

impl Operator for ShapeOf {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        match io.output(0)?.dtype {
            DType::I32 | DType::I64 => Ok(vec![vec![io.input(INPUT)?.shape.len()]]),
            _ => Err(self.unsupported(io)),
        }
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        Some(QuantRule {
            roles: vec![Role::Activation],
            results: Results::Plain,
        })
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        self.quant_rule()
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        let dimensions = self.fold(io).ok_or_else(|| self.unsupported(io))?;
        Ok(Kernel::new(move |run| {
            run.parts(0).output.copy_from_slice(&dimensions)
        }))
    }

    fn fold(&self, io: &Signature) -> Option<Vec<u8>> {
        let shape = &io.optional_input(INPUT)?.shape;
        let bytes = |dimension: &usize| -> Option<Vec<u8>> {
            match io.output(0).ok()?.dtype {
                DType::I32 => Some(i32::try_from(*dimension).ok()?.to_ne_bytes().into()),
                DType::I64 => Some(i64::try_from(*dimension).ok()?.to_ne_bytes().into()),
                _ => None,
            }
        };
        Some(
            shape
                .iter()
                .map(bytes)
                .collect::<Option<Vec<_>>>()?
                .concat(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn returns_the_dimensions() {
        let input = Case::i8([2, 3], 0..6);
        let op = |out_type| ShapeOf { out_type };
        let output = eval(
            op(DType::I32),
            std::slice::from_ref(&input),
            Case::result(DType::I32),
        );
        assert_eq!(output.get::<i32>(), [2, 3]);
        let output = eval(op(DType::I64), &[input], Case::result(DType::I64));
        assert_eq!(output.get::<i64>(), [2, 3]);
    }

    #[test]
    fn a_scalar_has_no_dimensions() {
        let op = ShapeOf {
            out_type: DType::I32,
        };
        assert_eq!(
            eval(op, &[Case::f32([], [1.0])], Case::result(DType::I32)).shape,
            [0]
        );
    }

    #[test]
    fn rejects_a_result_that_is_no_integer() {
        let io = signature(&[Case::i8([1], [0])], &[Case::result(DType::F32)]);
        let shape = ShapeOf {
            out_type: DType::F32,
        }
        .infer_shapes(&io);
        assert!(matches!(shape, Err(OpError::UnsupportedType { .. })));
    }
}
