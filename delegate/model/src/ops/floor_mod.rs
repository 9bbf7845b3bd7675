//! `FLOOR_MOD`: `output = a - b * floor(a / b)`, which has the sign of `b`.
//!
//! Operands of float32, int8, int16, int32 or int64, of any shapes that broadcast to each other;
//! as in LiteRT, scales and zero points play no part. Integers modulo 0, which LiteRT refuses when
//! it runs, are 0.

use super::broadcast::{binary, binary_shapes, binary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `FLOOR_MOD` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FloorMod;

no_attributes!(FloorMod, FloorModOptions);

impl Operator for FloorMod {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I8 | DType::I16) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        macro_rules! integer {
            ($type:ty) => {
                binary(io, |a: $type, b: $type| match a.checked_rem(b) {
                    Some(rest) if rest != 0 && (rest < 0) != (b < 0) => rest + b,
                    Some(rest) => rest,
                    None => 0,
                })
            };
        }
        match binary_type(io)? {
            DType::F32 => binary(io, |a: f32, b: f32| match a % b {
                rest if rest != 0.0 && (rest < 0.0) != (b < 0.0) => rest + b,
                rest => rest,
            }),
            DType::I8 => integer!(i8),
            DType::I16 => integer!(i16),
            DType::I32 => integer!(i32),
            DType::I64 => integer!(i64),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn has_the_sign_of_the_divisor() {
        let a = || Case::i32([4], [7, -7, 7, -7]);
        let output = eval(
            FloorMod,
            &[a(), Case::i32([4], [3, 3, -3, -3])],
            Case::result(DType::I32),
        );
        assert_eq!(output.get::<i32>(), [1, 2, -2, -1]);
        let operands = [Case::f32([2], [7.5, -7.5]), Case::f32([], [2.0])];
        let output = eval(FloorMod, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [1.5, 0.5]);
    }

    #[test]
    fn does_not_panic_on_what_has_no_quotient() {
        let operands = [Case::i8([2], [-128, 5]), Case::i8([2], [-1, 0])];
        let output = eval(FloorMod, &operands, Case::result(DType::I8));
        assert_eq!(output.get::<i8>(), [0, 0]);
    }
}
