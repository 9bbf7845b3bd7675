//! `HARD_SWISH`: `output = x * min(6, max(0, x + 3)) / 6`.
//!
//! One operand of any shape. A quantized result may have a scale of its own, but not one below
//! 1/128 of the operand's.

use bantam_kernels::elementwise::Function;
use bantam_kernels::requantize::{
    Multiplier, rounding_divide_by_pot_i16, saturating_rounding_doubling_high_mul_i16,
};

use super::pointwise::{
    limits, map_f32, map_quantized, multiplier, parameters, unary_shapes, unary_type,
};
use super::{Attributes, OpError, Operator, QuantRule, Role, Signature};
use crate::cpu::Kernel;
use crate::schema::tfl;
use crate::tensor::{DType, Shape};

/// `HARD_SWISH` has no attributes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HardSwish;

no_attributes!(HardSwish, HardSwishOptions);

impl Operator for HardSwish {
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
            DType::F32 => Ok(map_f32(Function::HardSwish)),
            DType::I8 | DType::U8 => prepare_quantized(io),
            _ => Err(io.unsupported(0)),
        }
    }
}

/// LiteRT's fixed point in 16 bits; the same in all its kernels.
fn prepare_quantized(io: &Signature) -> Result<Kernel, OpError> {
    let (min, max) = limits(unary_type(io)?).ok_or_else(|| io.unsupported(0))?;
    let input = parameters(io.input(0)?)?;
    let output = parameters(io.output(0)?)?;
    // The operand is shifted left by 7; 3.0 is 2^15 of the steps that saturate.
    let fine_scale = 1.0 / 128.0 * input.scale;
    let to_output = multiplier(f64::from(fine_scale / output.scale))?;
    let to_gate = multiplier(f64::from(fine_scale / (3.0 / 32768.0)))?;
    if to_output.exponent > 0 {
        return Err(OpError::Quantization(format!(
            "output scale {} is below 1/128 of the input's {}",
            output.scale, input.scale
        )));
    }
    let output_factor = reduce(to_output);
    let gate_factor = reduce(to_gate);
    map_quantized(io, move |x| {
        let fine = ((x - input.zero_point) << 7) as i16;
        let y = saturating_rounding_doubling_high_mul_i16(fine, output_factor);
        let mut gate = fine;
        if to_gate.exponent > 0 {
            gate = saturating_shl(gate, to_gate.exponent - 1);
        }
        gate = saturating_rounding_doubling_high_mul_i16(gate, gate_factor);
        if to_gate.exponent > 0 {
            gate = saturating_shl(gate, 1);
        } else {
            gate = rounding_divide_by_pot_i16(gate, -to_gate.exponent);
        }
        let gate = (i32::from(gate) + (1 << 15)) >> 1;
        // Rounded towards zero, unlike the others.
        let y = (gate * i32::from(y) / (1 << 15)) as i16;
        let y = rounding_divide_by_pot_i16(y, -to_output.exponent);
        (i32::from(y) + output.zero_point).clamp(min, max)
    })
}

/// The significand in 16 bits.
fn reduce(multiplier: Multiplier) -> i16 {
    match multiplier.value {
        value if value >= i32::MAX - (1 << 15) => i16::MAX,
        value => ((value + (1 << 15)) >> 16) as i16,
    }
}

fn saturating_shl(x: i16, amount: i32) -> i16 {
    let shifted = i64::from(x) << amount.min(32);
    shifted.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, eval, signature};

    #[test]
    fn f32_is_zero_below_and_identity_above() {
        let input = Case::f32([4], [-4.0, 0.0, 1.5, 5.0]);
        let output = eval(HardSwish, &[input], Case::result(DType::F32));
        assert_eq!(output.get::<f32>(), [0.0, 0.0, 1.125, 5.0]);
    }

    #[test]
    fn i8_is_zero_below_and_identity_above() {
        let input = Case::i8([4], [-128, 0, 20, 127]).quantized(0.05, 0);
        let output = eval(
            HardSwish,
            &[input],
            Case::result(DType::I8).quantized(0.05, -8),
        );
        assert_eq!(output.get::<i8>(), [-8, -8, 5, 119]);
    }

    #[test]
    fn saturates_for_any_scale() {
        let input = Case::i8([3], [-128, 0, 127]).quantized(1e30, 0);
        let output = eval(
            HardSwish,
            &[input],
            Case::result(DType::I8).quantized(1e30, 0),
        );
        assert_eq!(output.get::<i8>(), [0, 0, 127]);
    }

    #[test]
    fn rejects_an_output_scale_far_below_the_input_scale() {
        let input = Case::i8([1], [1]).quantized(1.0, 0);
        let io = signature(&[input], &[Case::result(DType::I8).quantized(0.001, 0)]);
        assert!(matches!(
            HardSwish.prepare(&io),
            Err(OpError::Quantization(_))
        ));
    }
}
