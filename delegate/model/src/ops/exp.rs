//! `EXP`: `output = e^x`.
//!
//! One operand of any shape: float32, int8 or int16; a quantized result may have a scale of its own.

use bantam_kernels::elementwise::Function;

use super::pointwise::{map_f32, map_real, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `EXP` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Exp;

no_attributes!(Exp, ExpOptions);

impl Operator for Exp {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0).map(|x| x.dtype) {
            Ok(DType::I8 | DType::I16) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map_f32(Function::Exp)),
            DType::I8 | DType::I16 => map_real(io, f32::exp),
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
        let input = Case::f32([3], [0.0, -200.0, 200.0]);
        let output = eval(Exp, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [1.0, 0.0, f32::INFINITY]);
    }

    #[test]
    fn i8_is_a_table() {
        let input = Case::i8([3], [-128, 0, 10]).quantized(0.1, 0);
        let output = eval(Exp, &[input], Case::result(DType::I8).quantized(0.05, -128));
        assert_eq!(output.get::<i8>(), [-128, -108, -74]);
    }
}
