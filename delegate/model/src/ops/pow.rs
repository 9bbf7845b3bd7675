//! `POW`: `output = a^b`.
//!
//! Operands of float32 or int32, of any shapes that broadcast to each other. Integers wrap; to a
//! power below 0, which LiteRT refuses when it runs, they are 0.

use super::broadcast::{binary, binary_shapes, binary_type};
use super::{Attributes, OpError, Operator, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `POW` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pow;

no_attributes!(Pow, PowOptions);

impl Operator for Pow {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match binary_type(io)? {
            DType::F32 => binary(io, f32::powf),
            DType::I32 => binary(io, |a: i32, b: i32| {
                u32::try_from(b).map_or(0, |b| a.wrapping_pow(b))
            }),
            _ => Err(io.unsupported(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_values() {
        let operands = [Case::f32([2], [2.0, 9.0]), Case::f32([2], [3.0, 0.5])];
        let output = eval(Pow, &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [8.0, 3.0]);
    }

    #[test]
    fn i32_to_a_power_below_0_is_0() {
        let operands = [Case::i32([1], [-3]), Case::i32([3], [3, 0, -1])];
        let output = eval(Pow, &operands, Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [-27, 1, 0]);
    }
}
