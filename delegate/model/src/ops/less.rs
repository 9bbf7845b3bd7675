//! `LESS`: whether `a < b`.
//!
//! Operands of any shapes that broadcast to each other: float32, int32, int64, int16 without scales, or
//! quantized int8 and uint8, whose scales may
//! differ. The result is bool.

use super::broadcast::binary_shapes;
use super::comparison::{self, prepare_order};
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `LESS` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Less;

no_attributes!(Less, LessOptions);

impl Operator for Less {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        comparison::quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I16) => 3,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        prepare_order::<Self>(io)
    }
}

impl comparison::Compare for Less {
    #[inline(always)]
    fn compare<T: PartialOrd>(a: T, b: T) -> bool {
        a < b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_compares_each_with_a_scalar() {
        let operands = [Case::f32([3], [-2.0, 1.0, 3.0]), Case::f32([], [1.0])];
        let output = eval(Less, &operands, Case::result(DType::Bool));
        assert_eq!(output.bytes, [1, 0, 0]);
    }

    #[test]
    fn i8_compares_real_values() {
        let a = Case::i8([3], [4, 5, 6]).quantized(0.5, 1);
        let b = Case::i8([3], [9, 9, 9]).quantized(0.25, 1);
        let output = eval(Less, &[a, b], Case::result(DType::Bool));
        assert_eq!(output.bytes, [1, 0, 0]);
    }
}
