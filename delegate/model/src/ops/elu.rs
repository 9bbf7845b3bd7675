//! `ELU`: `output = x` where `x >= 0`, otherwise `e^x - 1`.
//!
//! One operand of any shape: float32 or int8; a quantized result may have a scale of its own.

use bantam_kernels::elementwise::Function;

use super::pointwise::{map_f32, map_real, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `ELU` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Elu;

no_attributes!(Elu);

impl Operator for Elu {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        unary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, _: &Signature) -> i32 {
        1
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match unary_type(io)? {
            DType::F32 => Ok(map_f32(Function::Elu)),
            DType::I8 => map_real(io, |x| if x < 0.0 { x.exp_m1() } else { x }),
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
        let input = Case::f32([3], [0.0, -200.0, 3.0]);
        let output = eval(Elu, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, -1.0, 3.0]);
    }

    #[test]
    fn i8_is_a_table() {
        let input = Case::i8([3], [-128, 0, 10]).quantized(0.1, 0);
        let output = eval(Elu, &[input], Case::result(DType::I8).quantized(0.05, -100));
        assert_eq!(output.get::<i8>(), [-120, -100, -80]);
    }
}
