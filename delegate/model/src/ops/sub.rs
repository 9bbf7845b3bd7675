//! `SUB`: `output = activation(a - b)`.
//!
//! Operands of any shapes that broadcast to each other. Quantized operands and results may all
//! have scales of their own.

use super::arithmetic::{Plain, Sign, prepare_plain, prepare_sum};
use super::broadcast::{binary_shapes, broadcasts_above_rank_4};
use super::{Activation, Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `SUB`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sub {
    /// Applied to the difference.
    pub activation: Activation,
    /// For int16: shift instead of multiply where all scales are powers of two.
    pub pot_scale_int16: bool,
}

impl Attributes for Sub {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_sub_options().cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            pot_scale_int16: options.pot_scale_int16,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::SubOptions(Box::new(tfl::SubOptionsT {
            fused_activation_function: self.activation.code(),
            pot_scale_int16: self.pot_scale_int16,
        }))
    }
}

impl Plain for Sub {
    fn f32(a: f32, b: f32) -> f32 {
        a - b
    }

    fn i64(a: i64, b: i64) -> i64 {
        a.wrapping_sub(b)
    }
}

impl Operator for Sub {
    fn infer_shapes(&self, io: &Signature) -> Result<Vec<Shape>, OpError> {
        binary_shapes(io)
    }

    fn quant_rule(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn quant_rule_int16(&self) -> Option<QuantRule> {
        QuantRule::calibrated([Role::Activation])
    }

    fn version(&self, io: &Signature) -> i32 {
        match io.input(0) {
            Ok(a) if a.dtype == DType::I16 && !self.pot_scale_int16 => 5,
            Ok(a) if a.dtype == DType::I64 => 4,
            Ok(_) if broadcasts_above_rank_4(io) => 3,
            Ok(a) if a.dtype == DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match prepare_plain::<Self>(io, self.activation)? {
            Some(kernel) => Ok(kernel),
            None => prepare_sum(io, self.activation, self.pot_scale_int16, Sign::Minus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_subtracts_the_second_operand() {
        let operands = [Case::f32([1], [1.0]), Case::f32([2], [3.0, -1.0])];
        let output = eval(Sub::default(), &operands, Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [-2.0, 2.0]);
    }

    #[test]
    fn i8_subtracts_real_values_and_clamps() {
        // 0.5·(3−1) − 0.25·(4+4) = −1, which the output's scale of 0.1 and zero point of 7 store as −3.
        let outputs = |activation, numerics| {
            let a = Case::i8([1], [3]).quantized(0.5, 1);
            let b = Case::i8([1], [4]).quantized(0.25, -4);
            let output = Case::result(DType::I8).quantized(0.1, 7);
            let op = Sub {
                activation,
                ..Sub::default()
            };
            eval_with(numerics, op, &[a, b], &[output])[0].get::<i8>()
        };
        for numerics in [Numerics::Reference, Numerics::Fast] {
            assert_eq!(outputs(Activation::None, numerics), [-3]);
            assert_eq!(outputs(Activation::Relu, numerics), [7]);
        }
    }

    #[test]
    fn i32_wraps_on_overflow() {
        let operands = [Case::i32([1], [i32::MIN]), Case::i32([1], [1])];
        let output = eval(Sub::default(), &operands, Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [i32::MAX]);
    }

    #[test]
    fn rejects_shapes_that_do_not_broadcast() {
        let operands = [Case::f32([2], [0.0; 2]), Case::f32([3], [0.0; 3])];
        let io = signature(&operands, &[Case::result(DType::F32)]);
        assert!(matches!(
            Sub::default().infer_shapes(&io),
            Err(OpError::Shape(_))
        ));
    }
}
