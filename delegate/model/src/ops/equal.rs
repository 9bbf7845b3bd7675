//! `EQUAL`: whether `a == b`.
//!
//! Operands of any shapes that broadcast to each other: bool, float32, int32, int64, or quantized int8, uint8 and
//! int16, whose scales may
//! differ. The result is bool.

use super::broadcast::binary_shapes;
use super::comparison::{self, prepare_equality};
use super::{Attributes, OpError, Operator, QuantRule, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `EQUAL` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Equal;

no_attributes!(Equal, EqualOptions);

impl Operator for Equal {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        comparison::quant_rule()
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        comparison::quant_rule()
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I16) => 5,
            Ok(DType::I8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        prepare_equality::<Self>(io)
    }
}

impl comparison::Compare for Equal {
    #[inline(always)]
    fn compare<T: PartialOrd>(a: T, b: T) -> bool {
        a == b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval};

    #[test]
    fn f32_compares_each_with_a_scalar() {
        let operands = [Case::f32([3], [-2.0, 1.0, 3.0]), Case::f32([], [1.0])];
        let output = eval(Equal, &operands, Case::result(DType::Bool));
        assert_eq!(output.bytes, [0, 1, 0]);
    }

    #[test]
    fn i8_compares_real_values() {
        let a = Case::i8([3], [4, 5, 6]).quantized(0.5, 1);
        let b = Case::i8([3], [9, 9, 9]).quantized(0.25, 1);
        let output = eval(Equal, &[a, b], Case::result(DType::Bool));
        assert_eq!(output.bytes, [0, 1, 0]);
    }
}
