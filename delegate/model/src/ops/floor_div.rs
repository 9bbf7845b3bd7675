//! `FLOOR_DIV`: `output = floor(a / b)`.
//!
//! Operands of float32, int8, int16 or int32, of any shapes that broadcast to each other; as in
//! LiteRT, scales and zero points play no part. Integers over 0, which LiteRT refuses when it
//! runs, are 0.

use super::broadcast::{binary, binary_shapes, binary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `FLOOR_DIV` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FloorDiv;

no_attributes!(FloorDiv, FloorDivOptions);

impl Operator for FloorDiv {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I8 | DType::I16) => 3,
            Ok(DType::F32) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        macro_rules! integer {
            ($type:ty) => {
                binary(io, |a: $type, b: $type| match a.checked_rem(b) {
                    Some(rest) => a / b - <$type>::from(rest != 0 && (rest < 0) != (b < 0)),
                    None if b == 0 => 0,
                    // The smallest over -1.
                    None => a,
                })
            };
        }
        match binary_type(io)? {
            DType::F32 => binary(io, |a: f32, b: f32| {
                (f64::from(a) / f64::from(b)).floor() as f32
            }),
            DType::I8 => integer!(i8),
            DType::I16 => integer!(i16),
            DType::I32 => integer!(i32),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn rounds_down_for_all_signs() {
        let a = || Case::i32([4], [7, -7, 7, -7]);
        let output = eval(
            FloorDiv,
            &[a(), Case::i32([4], [2, 2, -2, -2])],
            Case::result(DType::I32),
        );
        assert_eq!(output.get::<i32>(), [3, -4, -4, 3]);
        let operands = [Case::f32([2], [7.0, -7.0]), Case::f32([], [2.0])];
        let output = eval(FloorDiv, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [3.0, -4.0]);
    }

    #[test]
    fn does_not_panic_on_what_has_no_quotient() {
        let operands = [Case::i8([2], [-128, 5]), Case::i8([2], [-1, 0])];
        let output = eval(FloorDiv, &operands, Case::result(DType::I8));
        assert_eq!(output.get::<i8>(), [-128, 0]);
    }
}
