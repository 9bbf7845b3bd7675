//! `GELU`: `x` times the standard normal distribution at `x`.
//!
//! One operand of any shape: float32, int8, uint8 or int16; a quantized result may have a scale of
//! its own.

use bantam_kernels::elementwise::Function;

use super::pointwise::{map_f32, map_real, unary_shapes, unary_type};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `GELU`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gelu {
    /// Whether the distribution is taken to be `(1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`.
    pub approximate: bool,
}

impl Attributes for Gelu {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_gelu_options().cloned().unwrap_or_default();
        Ok(Self {
            approximate: options.approximate,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::GeluOptions(Box::new(tfl::GeluOptionsT {
            approximate: self.approximate,
        }))
    }
}

impl Operator for Gelu {
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
            Ok(DType::I8 | DType::U8) => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match (unary_type(io)?, self.approximate) {
            (DType::F32, false) => Ok(map_f32(Function::Gelu)),
            (DType::F32, true) => Ok(map_f32(Function::GeluTanh)),
            (_, false) => map_real(io, gelu),
            (_, true) => map_real(io, gelu_tanh),
        }
    }
}

/// By `erfc`, which cancels nothing far to the left.
fn gelu(x: f32) -> f32 {
    0.5 * x * libm::erfcf(x * -std::f32::consts::FRAC_1_SQRT_2)
}

fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    const INPUT: [f32; 4] = [-1.0, 0.0, 1.0, 20.0];
    const OUTPUT: [f32; 4] = [-0.158_655_26, 0.0, 0.841_344_8, 20.0];

    #[test]
    fn f32_values() {
        for (approximate, tolerance) in [(false, 1e-6), (true, 1e-3)] {
            let input = Case::f32([4], INPUT);
            let output = eval(Gelu { approximate }, &[input], Case::result(DType::F32));
            let pairs = output.get::<f32>().into_iter().zip(OUTPUT);
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= tolerance));
        }
    }

    #[test]
    fn i8_is_a_table() {
        for approximate in [false, true] {
            let input = Case::i8([4], [-128, -10, 0, 127]).quantized(0.1, 0);
            let output = Case::result(DType::I8).quantized(0.1, -100);
            let output = eval(Gelu { approximate }, &[input], output);
            assert_eq!(output.get::<i8>(), [-100, -102, -100, 27]);
        }
    }

    #[test]
    fn rejects_int32() {
        let io = signature(&[Case::i32([1], [1])], &[Case::result(DType::I32)]);
        let kernel = Gelu::default().prepare(&io);
        assert!(matches!(kernel, Err(OpError::UnsupportedType { .. })));
    }
}
