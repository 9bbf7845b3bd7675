//! `ADD`: `output = activation(a + b)`.
//!
//! Operands of any shapes that broadcast to each other. Quantized operands and results may all
//! have scales of their own.

use super::arithmetic::{Plain, Sign, prepare_plain, prepare_sum};
use super::broadcast::binary_shapes;
use super::{Activation, Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// Attributes of `ADD`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Add {
    /// Applied to the sum.
    pub activation: Activation,
    /// For int16: shift instead of multiply where all scales are powers of two.
    pub pot_scale_int16: bool,
}

impl Attributes for Add {
    fn read(options: &tfl::BuiltinOptionsT) -> Result<Self, OpError> {
        let options = options.as_add_options().cloned().unwrap_or_default();
        Ok(Self {
            activation: Activation::from_code(options.fused_activation_function),
            pot_scale_int16: options.pot_scale_int16,
        })
    }

    fn write(&self) -> tfl::BuiltinOptionsT {
        tfl::BuiltinOptionsT::AddOptions(Box::new(tfl::AddOptionsT {
            fused_activation_function: self.activation.code(),
            pot_scale_int16: self.pot_scale_int16,
        }))
    }
}

impl Plain for Add {
    fn f32(a: f32, b: f32) -> f32 {
        a + b
    }

    fn i64(a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }
}

impl Operator for Add {
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
            Ok(a) if a.dtype == DType::I16 && a.quantization.is_none() => 5,
            Ok(a) if a.dtype == DType::I64 => 4,
            Ok(a) if a.dtype == DType::I16 && !self.pot_scale_int16 => 3,
            Ok(a) if a.dtype == DType::I8 => 2,
            _ => 1,
        }
    }

    fn prepare(&self, io: &Signature) -> Result<Kernel, OpError> {
        match prepare_plain::<Self>(io, self.activation)? {
            Some(kernel) => Ok(kernel),
            None => prepare_sum(io, self.activation, self.pot_scale_int16, Sign::Plus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Numerics;
    use crate::testing::{Case, eval, eval_with, signature};

    #[test]
    fn f32_adds_each_row_and_clamps() {
        let op = Add {
            activation: Activation::Relu,
            ..Add::default()
        };
        let a = Case::f32([2, 2], [1.0, -2.0, 3.0, 4.0]);
        let b = Case::f32([2], [10.0, -20.0]);
        let output = eval(op, &[a, b], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [11.0, 0.0, 13.0, 0.0]);
    }

    #[test]
    fn i8_adds_real_values_and_saturates() {
        // 0.5·(3−1) + 0.25·(4+4) = 3, which the output's scale of 0.1 and zero point of 7 store as 37.
        for numerics in [Numerics::Reference, Numerics::Fast] {
            let a = Case::i8([3], [3, 127, -128]).quantized(0.5, 1);
            let b = Case::i8([1], [4]).quantized(0.25, -4);
            let output = Case::result(DType::I8).quantized(0.1, 7);
            let output = eval_with(numerics, Add::default(), &[a, b], &[output]);
            assert_eq!(output[0].get::<i8>(), [37, 127, -128]);
        }
    }

    #[test]
    fn i16_shifts_where_scales_are_powers_of_two() {
        let case = |data: [i16; 2], scale| Case::new(DType::I16, [2], &data).quantized(scale, 0);
        let op = Add {
            pot_scale_int16: true,
            ..Add::default()
        };
        let operands = [case([6, 32767], 0.25), case([100, 32767], 1.0)];
        let output = eval(op, &operands, case([0; 2], 1.0));
        assert_eq!(output.get::<i16>(), [102, 32767]);
    }

    #[test]
    fn i32_wraps_on_overflow() {
        let operands = [Case::i32([1], [i32::MAX]), Case::i32([], [1])];
        let output = eval(Add::default(), &operands, Case::result(DType::I32));
        assert_eq!(output.get::<i32>(), [i32::MIN]);
    }

    #[test]
    fn rejects_operands_without_scale_or_of_two_types() {
        let quantized = |case: Case| case.quantized(1.0, 0);
        let prepare = |a, b| {
            let io = signature(&[a, b], &[quantized(Case::result(DType::I8))]);
            Add::default().prepare(&io).unwrap_err()
        };
        let a = || quantized(Case::i8([1], [1]));
        assert!(matches!(
            prepare(a(), Case::i8([1], [1])),
            OpError::Quantization(_)
        ));
        assert!(matches!(
            prepare(a(), Case::f32([1], [1.0])),
            OpError::UnsupportedType { .. }
        ));
    }
}
